"""Train the classifier that judges pictures: on photos as they are, turned, cropped and mirrored, never damaged."""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import save as serialized
from torch.nn.functional import affine_grid, cross_entropy, grid_sample
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..priors.photos import coloured, order, read_photos, resized, seed_for
from ..priors.train import mixed_precision
from .classifier import CONFIG, WEIGHTS, Classifier, agreement, class_names
from .frechet import severities

BATCH, RATE, DECAY, WARM_UP = 64, 2e-3, 0.05, 100
SMOOTHING = 0.1
SMALLEST, WIDEST, TURN = 0.45, 1.3, 15  # side of a crop, its aspect, degrees


def train_classifier(folder, output, epochs=60, size=64, seed=0, watch=lambda steps: steps, tell=print):
    """Train on the photos of `folder`, write config.json and model.safetensors to `output`; what the config says of it.

    folder: as for a prior, with classes; those of the split "val" are held out, and say how well it does.
    watch(steps): wraps the loop. tell: is told each photo that is skipped. Raises ValueError or OSError with one
    sentence.
    """
    photos, held_out = (read_photos(folder, size, split, tell) for split in ("train", "val"))
    if len(photos.classes) < 2:
        raise ValueError(f"{folder} has no two classes to tell apart: give each a sub-folder.")
    torch.manual_seed(seed_for(seed, "classifier"))
    network = Classifier(photos.classes, size).to(memory_format=torch.channels_last).train()
    average = AveragedModel(network, multi_avg_fn=growing_average, use_buffers=True).eval()
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    steps = epochs * len(photos) // BATCH
    precision = mixed_precision(torch.device("cpu"), "auto")
    known = photos.labels < len(photos.classes)
    pictures, labels = photos.pictures[known], photos.labels[known]
    for step in watch(range(steps)):
        torch.manual_seed(seed_for(seed, "classifier", step))
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = order(len(pictures), BATCH, seed, step)
        x = varied(pictures[rows], size)
        with precision:
            logits = network(x.contiguous(memory_format=torch.channels_last))
        cross_entropy(logits.float(), labels[rows], label_smoothing=SMOOTHING).backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(network)
    classifier, unseen = average.module, 2 * resized(held_out.pictures, size) - 1
    about = {
        "accuracy": agreement(classifier, unseen, class_names(held_out)),
        "severities": severities(classifier, unseen),
        "epochs": epochs,
        "seed": seed,
    }
    save(classifier, output, about)
    return about


def growing_average(average, new, count):
    """Over the last tenth of the steps or so, 500 at most, in place."""
    get_ema_multi_avg_fn(min(0.998, (1 + count.item()) / (10 + count.item())))(average, new, count)


def varied(pictures, size):
    """uint8 (B, 3, S, S) -> (B, 3, size, size) in [-1, 1]: random crops, turned, stretched, mirrored, in other light.

    What damages look like is left out, so that the features tell damaged from undamaged.
    """
    chance = torch.rand(6, len(pictures))
    side = SMALLEST + (1 - SMALLEST) * chance[0]
    stretch = WIDEST ** (chance[1] - 0.5)
    angle = torch.deg2rad(TURN * (2 * chance[2] - 1))
    mirror = torch.where(chance[3] < 0.5, -1, 1)
    width, height = (side * stretch).clamp(max=1), (side / stretch).clamp(max=1)
    # the centre moves as far as the crop leaves room
    x, y = ((1 - width) * (2 * chance[4] - 1), (1 - height) * (2 * chance[5] - 1))
    rows = (
        torch.stack([mirror * width * angle.cos(), -height * angle.sin(), x], 1),
        torch.stack([mirror * width * angle.sin(), height * angle.cos(), y], 1),
    )
    grid = affine_grid(torch.stack(rows, 1), (len(pictures), 3, size, size), align_corners=False)
    crops = grid_sample(pictures / 255, grid, padding_mode="reflection", align_corners=False).clamp(0, 1)
    return 2 * coloured(crops, 1.0) - 1


def save(classifier, output, about):
    """Write the classifier's weights in fp16, and its config with what is said `about` it."""
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    halves = (weight.half() if weight.is_floating_point() else weight for weight in classifier.state_dict().values())
    weights = {name: half.contiguous() for name, half in zip(classifier.state_dict(), halves, strict=True)}
    (output / WEIGHTS).write_bytes(serialized(weights))
    config = {"classes": classifier.classes, "size": classifier.size, "channels": classifier.channels, **about}
    (output / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
