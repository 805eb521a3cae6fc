"""A small classifier of photos. Its features stand in for Inception's where there is no network to fetch that from."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import interpolate

FLOWERS = Path(__file__).parent / "flowers"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
FEATURES = 64


class Classifier(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] -> logits (B, classes): a residual network (He et al. 2016) of 64 features.

    classes: names. size: the side that pictures are brought to, whatever theirs is. channels: of each stage; all but
    the first halve the side, and the stem does too.
    """

    def __init__(self, classes, size=64, channels=(32, 64, 96, 128), dropout=0.2):
        super().__init__()
        self.classes, self.size, self.channels = tuple(classes), size, tuple(channels)
        widths = [channels[0], *channels]
        self.stem = nn.Sequential(*_convolution(3, channels[0], 5, 2), nn.ReLU())
        self.stages = nn.Sequential(
            *(
                nn.Sequential(Residual(before, after, 1 if i == 0 else 2), Residual(after, after))
                for i, (before, after) in enumerate(zip(widths, channels, strict=False))
            )
        )
        self.neck = nn.Sequential(*_convolution(channels[-1], FEATURES, 1), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(FEATURES, len(self.classes)))

    def features(self, pictures):
        """(B, 64): the means over the picture of what the last convolution finds, at least 0."""
        if pictures.shape[-2:] != (self.size, self.size):
            pictures = interpolate(pictures, (self.size, self.size), mode="bilinear", antialias=True)
        return self.neck(self.stages(self.stem(pictures))).mean((2, 3))

    def forward(self, pictures):
        return self.head(self.features(pictures))


class Residual(nn.Module):
    """x + f(x), f two convolutions, with a convolution of 1 x 1 on x where the shape changes."""

    def __init__(self, before, after, stride=1):
        super().__init__()
        self.change = nn.Sequential(*_convolution(before, after, 3, stride), nn.ReLU(), *_convolution(after, after))
        same = before == after and stride == 1
        self.keep = nn.Identity() if same else nn.Sequential(*_convolution(before, after, 1, stride))

    def forward(self, x):
        return torch.relu(self.keep(x) + self.change(x))


def _convolution(before, after, kernel=3, stride=1):
    return nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(after)


def load_classifier(folder=FLOWERS, device="cpu"):
    """The Classifier in a folder with its config.json and model.safetensors, in float32 for use, on `device`.

    Raises ValueError with one sentence. No code from the folder is run.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        classifier = Classifier(config["classes"], config["size"], config["channels"])
        weights = load_file(folder / WEIGHTS)
        classifier.load_state_dict({name: weight.float() for name, weight in weights.items()})
    except FileNotFoundError as missing:
        raise ValueError(f"{folder} is no classifier: {Path(missing.filename).name} is missing.") from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError):
        raise ValueError(f"{folder} is a damaged classifier: train it anew, or fetch it again.") from None
    return classifier.to(device).eval().requires_grad_(False)


@torch.inference_mode()
def in_batches(function, pictures, batch=100):
    """function(pictures) without much memory: of a batch at a time, joined on the CPU."""
    return torch.cat([function(part).cpu() for part in pictures.split(batch)])


def agreement(classifier, pictures, names):
    """The share of pictures whose class the classifier finds to be the one named; None where it knows none of them."""
    if not set(names) & set(classifier.classes):
        return None
    found = in_batches(classifier, pictures).argmax(1).tolist()
    return sum(classifier.classes[i] == name for i, name in zip(found, names, strict=True)) / len(names)


def class_names(photos):
    """The class of each photo by name, "" for none."""
    return [(*photos.classes, "")[i] for i in photos.labels.tolist()]
