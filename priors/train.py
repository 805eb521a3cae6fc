"""Train a prior on photos: a class-conditional DDPM (Ho et al. 2020) that can be stopped and resumed at any moment.

A folder of training holds checkpoint.pt, curve.csv, sheets/ and prior/, the model as it is loaded and shipped. What a
step draws depends on nothing but (seed, step), so that a resumed run follows the curve of one that was never stopped.
"""

import copy
import io
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DModel
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch.nn.functional import mse_loss
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..samplers.noise_levels import NoiseLevels, linear_betas
from .export import curve, export, mean, named, png, sheet, write
from .grow import grow, grown_config
from .loading import Prior, device_of, load
from .photos import coloured, cropped, has_split, order, read_photos, resized, seed_for

CHECKPOINT, SAVE_AFTER = "checkpoint.pt", 40  # seconds, so that a minute is the most that is lost
NULL_RATE = 0.15
SNR_GAMMA = 5
WARM_UP, FLOOR = 200, 0.02
LONGEST_AVERAGE = 0.9999
LEVELS, PER_LEVEL = range(50, 1000, 100), 50


@dataclass(frozen=True)
class Architecture:
    """A UNet2DModel with attention in its lower half, and how it likes to be trained."""

    channels: tuple[int, ...]
    layers: int
    dropout: float
    batch: int
    rate: float

    def config(self, size, classes):
        """The config of a network for pictures of `size`; the last of its class embeddings means no class."""
        lower = len(self.channels) // 2
        upper = len(self.channels) - lower
        if size % 2 ** (len(self.channels) - 1):
            raise ValueError(f"The size {size} cannot be halved {len(self.channels) - 1} times: take a multiple of 8.")
        return {
            "sample_size": size,
            "block_out_channels": self.channels,
            "layers_per_block": self.layers,
            "dropout": self.dropout,
            "down_block_types": ["DownBlock2D"] * upper + ["AttnDownBlock2D"] * lower,
            "up_block_types": ["AttnUpBlock2D"] * lower + ["UpBlock2D"] * upper,
            "norm_num_groups": 8,
            "attention_head_dim": 32,
            "num_class_embeds": len(classes) + 1 if classes else None,
        }


ARCHITECTURES = {
    "small": Architecture((32, 64, 128, 192), layers=1, dropout=0.0, batch=32, rate=5e-4),  # 7.25 M, for a CPU
    "large": Architecture((64, 128, 128, 192), layers=2, dropout=0.1, batch=128, rate=4e-4),  # 13.2 M, for a GPU
}


@dataclass(frozen=True)
class Length:
    """How long to train: a number of steps, which repeats exactly, or minutes of the clock."""

    steps: int | None
    minutes: float | None

    def __post_init__(self):
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("Say how long to train: either --minutes 120, or --steps 20000.")
        if not (self.steps or self.minutes or 0) > 0:
            raise ValueError("The training has no length: give more minutes, or more steps.")

    def share(self, step, seconds):
        """The share of the training that is behind, up to 1."""
        return min(1.0, step / self.steps if self.minutes is None else seconds / 60 / self.minutes)


class Training:
    """All that changes while training, which is what a checkpoint holds, and what was asked for in the beginning.

    asked: plain values, among them size, classes, batch, rate, seed and the network's config. validations: {step:
    {timestep: error}}.
    """

    def __init__(self, asked, device, precision="auto", weights=None):
        """weights: a state_dict in place of random weights."""
        self.asked, self.device, self.autocast = asked, device, mixed_precision(device, precision)
        self.size, self.classes = asked["size"], tuple(asked["classes"])
        torch.manual_seed(seed_for(asked["seed"], "weights"))
        network = UNet2DModel.from_config(asked["config"])
        if weights is not None:
            network.load_state_dict(weights)
        self.network = network.to(device, memory_format=torch.channels_last).train()
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), asked["rate"], betas=(0.9, 0.99), weight_decay=1e-3
        )
        self.levels = NoiseLevels(linear_betas()).to(device)
        self.alpha_bar = self.levels.alpha_bar(torch.arange(1000, device=device)).float()
        self.weights = min_snr_weights(self.alpha_bar)
        self.step, self.seconds, self.looked_at = 0, 0.0, 0
        self.losses, self.unread, self.validations = [], [], {}

    @property
    def parameters(self):
        return sum(weight.numel() for weight in self.network.parameters())

    def state(self):
        """A dictionary of tensors and plain values, which torch loads without running code."""
        self.read_losses()
        return {
            "asked": json.dumps(self.asked),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            **{name: getattr(self, name) for name in ("step", "seconds", "looked_at", "validations")},
        }

    @classmethod
    def resumed(cls, state, device, precision="auto"):
        """The training whose `state` this is, on any device."""
        training = cls(json.loads(state["asked"]), device, precision)
        for name in ("network", "average", "optimizer"):
            getattr(training, name).load_state_dict(state[name])
        training.losses = state["losses"].tolist()
        for name in ("step", "seconds", "looked_at", "validations"):
            setattr(training, name, state[name])
        return training

    def learn(self, photos, share):
        """One step of AdamW on the weighted squared error of the predicted noise, `share` of the training behind."""
        # all chance of this step, that of dropout too
        torch.manual_seed(seed_for(self.asked["seed"], "step", self.step))
        cooling = 0.5 * (1 + math.cos(math.pi * share))
        for group in self.optimizer.param_groups:
            group["lr"] = self.asked["rate"] * min(1, (self.step + 1) / WARM_UP) * (FLOOR + (1 - FLOOR) * cooling)
        rows = order(len(photos), self.asked["batch"], self.asked["seed"], self.step).to(self.device)
        # colours are changed less and less: those learnt last are the photos' own
        x = 2 * coloured(cropped(photos.pictures[rows], self.size), cooling) - 1
        labels = without_class(photos.labels[rows], len(self.classes)) if self.classes else None
        t = even_timesteps(len(x), self.device)
        loss = (self.weights[t] * self.errors(self.network, x, t, labels, torch.randn_like(x))).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        update_average(self.average, self.network, self.step)
        self.step += 1
        self.unread.append(loss.detach())

    def errors(self, network, x, t, labels, noise):
        """(batch,) mean squared errors of the noise predicted in sqrt(alpha_bar) x + sqrt(1 - alpha_bar) noise."""
        alpha_bar = self.alpha_bar[t].view(-1, 1, 1, 1)
        noisy = alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise
        with self.autocast:
            predicted = network(noisy.contiguous(memory_format=torch.channels_last), t, labels).sample
        return mse_loss(predicted.float(), noise, reduction="none").mean((1, 2, 3))

    def read_losses(self):
        """Fetch the losses from the device. Raises ValueError where the training has blown up."""
        if self.unread:
            self.losses += torch.stack(self.unread).tolist()
            self.unread = []
        if self.losses and not math.isfinite(self.losses[-1]):
            raise ValueError(f"The loss is no number at step {self.step}: train in another folder with a lower --rate.")

    @torch.inference_mode()
    def validate(self, photos):
        """The averaged network's error without a class at ten timesteps, each on up to 50 photos, always the same."""
        chance = torch.Generator().manual_seed(0)
        errors = {}
        for level in LEVELS:
            rows = torch.randperm(len(photos), generator=chance)[:PER_LEVEL].to(self.device)
            x = 2 * resized(photos.pictures[rows], self.size) - 1
            noise = torch.randn(x.shape, generator=chance).to(self.device)
            t = torch.full((len(x),), level, device=self.device)
            labels = torch.full_like(t, len(self.classes)) if self.classes else None
            errors[level] = self.errors(self.average, x, t, labels, noise).mean().item()
        self.validations[self.step] = errors

    def prior(self):
        """The averaged network as a Prior."""
        return Prior(
            name="training",
            network=self.average,
            levels=self.levels,
            prediction="epsilon",
            schedule="linear, 1000 steps",
            size=self.size,
            channels=3,
            classes=self.classes,
            null=len(self.classes) if self.classes else None,
            dtype=torch.float32,
            device=self.device,
        )

    def summary(self):
        """The step, the mean loss of the last hundred, and the newest error on held-out photos, in words."""
        self.read_losses()
        words = f"Step {self.step:,}: loss {mean(self.losses[-100:]):.4f}"
        if self.validations:
            words += f", held out {mean(self.validations[max(self.validations)].values()):.4f}"
        return words


def without_class(labels, null):
    """The labels, with about 15 % of them changed to the null class."""
    return torch.where(torch.rand(len(labels), device=labels.device) < NULL_RATE, null, labels)


def min_snr_weights(alpha_bar):
    """min(SNR, 5) / SNR at each timestep (Hang et al. 2023): else the last grains of noise, where most of the error
    lies and little can be seen, would take most of the training."""
    snr = alpha_bar / (1 - alpha_bar)
    return (SNR_GAMMA / snr).clamp(max=1)


def even_timesteps(count, device):
    """(count,) random timesteps, spread evenly over the 1,000 (Kingma et al. 2021), so that the loss is less noisy."""
    evenly = (torch.rand(1, device=device) + torch.arange(count, device=device) / count) % 1
    return (1000 * evenly).long().clamp(max=999)


@torch.no_grad()
def update_average(average, network, step):
    """Move the averaged weights towards the network's: over the last tenth or so of the steps, 10,000 at most."""
    decay = min(LONGEST_AVERAGE, (1 + step) / (10 + step))
    get_ema_multi_avg_fn(decay)(list(average.parameters()), list(network.parameters()), None)


def mixed_precision(device, precision):
    """The autocast to bfloat16 of "bf16", or of "auto" where the device computes with it; without effect for "fp32"."""
    able = {
        "auto": device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported(),
        "bf16": True,
        "fp32": False,
    }
    if precision not in able:
        raise ValueError(f"The precision {precision!r} is unknown: take one of {', '.join(able)}.")
    return torch.autocast(device.type, torch.bfloat16, enabled=bool(able[precision]))


def train(
    folder,
    output,
    *,
    minutes=None,
    steps=None,
    size=None,
    architecture=None,
    batch=None,
    rate=None,
    seed=None,
    init=None,
    val=None,
    every=1000,
    device="auto",
    precision="auto",
):
    """Train on the photos of `folder`, or go on from the checkpoint in `output`; the folder of the finished prior.

    The options are those of `confident-ode priors train`. Raises ValueError or OSError with one sentence.
    """
    folder, output, length = Path(folder), Path(output), Length(steps, minutes)
    for name, value in (("size", size), ("batch", batch), ("rate", rate), ("every", every)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} is {value:g}: take a number above 0.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = device_of(device)
    mixed_precision(device, precision)
    given = {"architecture": architecture, "size": size, "batch": batch, "rate": rate, "seed": seed, "init": init}
    begun = output / CHECKPOINT
    if begun.exists():
        state = read_checkpoint(begun)
        asked = json.loads(state["asked"])
        check_same(asked, given, begun)
    else:
        state = None
        asked, start = plan(given, device)

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with progress_bar(console) as progress:
        photos, held_out = read_both(folder, val, asked["size"], progress)
        if asked["classes"] not in (None, list(photos.classes)):
            raise ValueError(
                f"{begun if state else init} knows {named(asked['classes'])}, and {folder} has "
                f"{named(photos.classes)}: train on the same classes, or anew in another folder."
            )
        if state:
            training = Training.resumed(state, device, precision)
        else:
            asked["classes"] = list(photos.classes)
            if init is None:
                asked["config"] = ARCHITECTURES[asked["architecture"]].config(asked["size"], photos.classes)
            training = Training(
                asked, device, precision, start and first_weights(start, asked, photos, precision, progress)
            )
        state = start = None  # copies of the weights that are not needed any more
        console.print(
            f"{len(photos):,} photos with {named(photos.classes)}; {training.parameters / 1e6:.2f} M parameters on "
            f"{device.type}; from step {training.step:,} on"
        )
        make_folder(output / "sheets")
        follow(training, length, photos.to(device), held_out and held_out.to(device), output, every, progress)
    return output / "prior"


def read_both(folder, val, size, progress):
    """(photos to train on, held-out photos or None); each that cannot be used is named in a line."""

    def read(place, split="train"):
        def watch(results, total):
            return progress.track(results, total, description=f"Reading {place}")

        photos = read_photos(place, size, split, progress.console.print, watch)
        progress.remove_task(progress.task_ids[-1])
        return photos

    if val is not None:
        return read(folder), read(val)
    return read(folder), read(folder, "val") if has_split(folder, "val") else None


def plan(given, device):
    """(asked, prior): what a new training is told beside the photos, and what it starts from, or None."""
    name = given["architecture"] or ("large" if device.type == "cuda" else "small")
    if name not in ARCHITECTURES:
        raise ValueError(f"The architecture {name!r} is unknown: take one of {', '.join(ARCHITECTURES)}.")
    usual = ARCHITECTURES[name]
    asked = {
        "architecture": name,
        "size": given["size"] or 64,
        "batch": given["batch"] or usual.batch,
        "rate": given["rate"] or usual.rate,
        "seed": given["seed"] or 0,
        "init": given["init"],
        "config": None,
        "classes": None,
    }
    if given["init"] is None:
        usual.config(asked["size"], ())  # refuses a size at once
        return asked, None
    if given["architecture"]:
        raise ValueError("--init brings a network of its own: leave --architecture out.")
    prior = load(given["init"], device)
    if (prior.prediction, prior.schedule, prior.channels) != ("epsilon", "linear, 1000 steps", 3):
        raise ValueError(f"{given['init']} cannot be trained on: it must predict eps in RGB, on 1,000 linear betas.")
    if prior.conditional and prior.null is None:
        raise ValueError(f"{given['init']} cannot be trained on: it has classes and no null class.")
    size = given["size"] or prior.size
    if size not in (prior.size, 2 * prior.size):
        raise ValueError(
            f"{given['init']} is of {prior.size}×{prior.size} pixels: leave --size out, or grow it with --size "
            f"{2 * prior.size}."
        )
    config = {name: value for name, value in prior.network.config.items() if not name.startswith("_")}
    config = config if size == prior.size else grown_config(config)
    asked |= {"architecture": None, "size": size, "config": config, "classes": list(prior.classes)}
    return asked, prior


def first_weights(prior, asked, photos, precision, progress):
    """The weights that a training starts from: those of a prior, grown first where it is of half the size."""
    if asked["size"] == prior.size:
        return prior.network.state_dict()

    def watch(steps):
        return progress.track(steps, description=f"Growing {prior.name} to {asked['size']}×{asked['size']}")

    autocast = mixed_precision(prior.device, precision)
    return grow(prior.network, prior.levels, photos.to(prior.device), autocast, asked["seed"], watch).state_dict()


def check_same(asked, given, checkpoint):
    """ValueError where an option says other than what the checkpoint was begun with."""
    for name, value in given.items():
        if value is not None and value != asked[name]:
            raise ValueError(
                f"{checkpoint} was begun with {name} {asked[name]}, not {value}: leave --{name} out to go on, or train "
                "in another folder."
            )


def follow(training, length, photos, held_out, output, every, progress):
    """Train to the end: a checkpoint at least once a minute, and a look every `every` steps and at the end."""
    task = progress.add_task("", total=1.0)
    start, first, before = time.monotonic(), training.step, training.seconds
    saved, shown, learning = start, start, 0.0

    def pace():
        return f"{(training.step - first) * training.asked['batch'] / max(learning, 1e-9):.1f} pictures/s"

    while True:
        training.seconds = before + time.monotonic() - start
        share = length.share(training.step, training.seconds)
        unseen = training.looked_at < training.step or not (output / "prior").is_dir()
        if unseen and (share == 1 or (training.step and training.step % every == 0)):
            save(training, output)
            progress.update(task, completed=share, description=f"Step {training.step:,}: drawing samples")
            look(training, photos, held_out, output)
            progress.console.print(f"{training.summary()}, {pace()}")
            save(training, output)
            saved = time.monotonic()
        if share == 1:
            return
        if time.monotonic() - saved > SAVE_AFTER:
            save(training, output)
            saved = time.monotonic()
        now = time.monotonic()
        training.learn(photos, share)
        if now - shown > 1:
            progress.update(task, completed=share, description=f"{training.summary()}, {pace()}")
            shown = now
        learning += time.monotonic() - now


def look(training, photos, held_out, output):
    """Measure the error on held-out photos; write the curve, a sheet of samples and the prior as it is now."""
    if held_out is not None:
        training.validate(held_out)
    training.read_losses()
    samples = png(sheet(training.prior(), training.autocast))
    write(output / "sheets" / f"{training.step:08}.png", samples)
    write(output / "curve.csv", curve(training).encode())
    export(training, photos, samples, output / "prior")
    training.looked_at = training.step


def save(training, output):
    """Write the checkpoint, whole or not at all."""
    file = io.BytesIO()
    torch.save(training.state(), file)
    write(output / CHECKPOINT, file.getbuffer())


def read_checkpoint(path):
    """The dictionary in a checkpoint, of tensors and plain values: no code from the file is run."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        json.loads(state["asked"])
        return state
    except OSError as failed:
        raise OSError(f"{path} cannot be read: {os.strerror(failed.errno).lower()}.") from None
    except Exception:  # a cut-off file makes torch fail in many ways
        raise ValueError(f"{path} is damaged, or no checkpoint of this trainer: train in another folder.") from None


def make_folder(path):
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as failed:
        raise OSError(f"The folder {path} cannot be made: {os.strerror(failed.errno).lower()}.") from None


def progress_bar(console):
    """A bar with what is done, in words and per cent, and the time left; on a terminal only, gone when it is done."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
