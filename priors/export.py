"""What a training leaves behind: its curve, sheets of samples, and the prior as it is loaded and shipped."""

import contextlib
import copy
import csv
import io
import json
import os
import shutil
from collections import Counter

import torch
from diffusers import DDPMScheduler
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from safetensors import SafetensorError

from .loading import load
from .sampling import sample

ROW = 100
SHARD = "14900KB"
CARD = """---
library_name: diffusers
pipeline_tag: unconditional-image-generation
tags: [ddpm, pixel-space]
---

# {name}

A diffusion model of {size}×{size} pictures, trained on {count:,} photos.

![Samples, not chosen](samples.png)

**What it is.** A diffusers `UNet2DModel` of {parameters:.2f} M parameters.
It predicts ε for RGB pictures in [-1, 1], on DDPM's schedule (linear betas 1e-4 … 0.02, 1,000 steps).
It knows {classes}.{null}

**Data.** {count:,} photos{counts}.{credits}

**Training.** {step:,} steps of {batch} pictures, {minutes:.0f} minutes, seed {seed}.
Kept is the moving average of the weights, in float16.{started}

![The loss, and the error on held-out photos](curve.png)
{held_out}
**Samples.** `samples.png` shows the noise of seed 0 after 40 steps of DPM-Solver++(2M){guidance}.
"""


def sheet(prior, autocast, columns=4, steps=40, guidance=2.0):
    """Samples as one image, a row for each class (of eight at most, or four rows of none), always from seed 0."""
    rows = min(8, len(prior.classes)) or 4
    labels = [i * len(prior.classes) // rows for i in range(rows) for _ in range(columns)]
    with autocast:
        return tiled(sample(prior, labels, steps, guidance), columns)


def tiled(pictures, columns):
    """Pictures (N, 3, H, W) in [-1, 1], N a multiple of `columns`, side by side as one RGB image."""
    grid = pictures.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    return Image.fromarray((127.5 * (grid.clamp(-1, 1) + 1)).round().byte().numpy())


def png(image):
    """The bytes of a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def curve(training):
    """CSV: step, mean loss since the row before, and the error on held-out photos, in all and at each timestep."""
    checked = training.validations
    levels = list(checked[max(checked)]) if checked else []
    steps = sorted({*range(ROW, training.step, ROW), *checked, training.step})
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["step", "loss", *(["held_out", *(f"t{level}" for level in levels)] if levels else [])])
    for last, step in zip([0, *steps[:-1]], steps, strict=True):
        errors = list(checked.get(step, {}).values())
        numbers = [mean(training.losses[last:step]), *([mean(errors), *errors] if errors else [])]
        table.writerow([step, *(f"{number:.6f}" for number in numbers)])
    return file.getvalue()


def chart(table):
    """The PNG of a picture of `curve`: the loss of training, and the error on held-out photos at each timestep."""
    rows = list(csv.DictReader(io.StringIO(table)))
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    steps, losses = [int(row["step"]) for row in rows], [float(row["loss"]) for row in rows]
    axes.plot(steps, losses, "k", lw=1, label="loss, weighted")
    checked = [row for row in rows if row.get("held_out")]
    levels = [name for name in rows[0] if name.startswith("t")] if checked else []
    for i, level in enumerate(levels):
        steps, errors = [int(row["step"]) for row in checked], [float(row[level]) for row in checked]
        axes.plot(steps, errors, ".-", color=colormaps["viridis"](i / len(levels)), lw=0.8, label=f"held out, {level}")
    axes.set(xlabel="step", ylabel="mean squared error of ε", yscale="log")
    axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else float("nan")


def named(classes):
    """ "the classes a, b" or "no classes"."""
    return f"the classes {', '.join(classes)}" if classes else "no classes"


def export(training, photos, samples, folder):
    """Write the averaged network as a prior in diffusers' layout, fp16 safetensors in shards, to `folder`.

    samples: the bytes of samples.png. It is loaded once to see that it is whole, and takes the place of an older one
    only then. Raises OSError with one sentence.
    """
    made, old = (folder.with_name(f".{folder.name}-{state}") for state in ("new", "old"))
    network = copy.deepcopy(training.average).half().to(memory_format=torch.contiguous_format)
    index = {
        "_class_name": "DDPMPipeline",
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
    }
    if training.classes:
        index["id2label"] = dict(enumerate(training.classes))
    try:
        for left_over in (made, old):
            shutil.rmtree(left_over, ignore_errors=True)
        made.mkdir()
        network.save_pretrained(made / "unet", max_shard_size=SHARD)
        DDPMScheduler().save_pretrained(made / "scheduler")
        (made / "model_index.json").write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n", "utf-8")
        (made / "README.md").write_text(card(training, photos, folder.resolve().parent.name), "utf-8")
        table = curve(training)
        (made / "curve.csv").write_text(table, "utf-8")
        (made / "curve.png").write_bytes(chart(table))
        (made / "samples.png").write_bytes(samples)
        if photos.table is not None:
            shutil.copyfile(photos.table, made / photos.table.name)
        for shard in (made / "unet").iterdir():
            shard.chmod(0o644)  # safetensors writes for the owner alone
        load(made)
        if folder.exists():
            folder.rename(old)
        made.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as failed:
        shutil.rmtree(made, ignore_errors=True)
        raise unwritten(folder, failed) from None


def card(training, photos, name):
    """A model card of what the training knows; what the photos show, and their licence, their owner adds."""
    count = Counter(photos.labels.tolist())
    counts = ", ".join(f"{count[i]:,} of {label}" for i, label in enumerate(photos.classes))
    held_out, start = "", training.asked["init"]
    if training.validations:
        errors = training.validations[max(training.validations)]
        rows = (errors, ["---"] * len(errors), [f"{error:.4f}" for error in errors.values()])
        table = "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
        held_out = f"\n**Held-out photos.** Mean squared ε-error without a class, by timestep:\n\n{table}\n"
    return CARD.format(
        name=name,
        size=training.size,
        count=len(photos),
        parameters=training.parameters / 1e6,
        classes=named(training.classes),
        null="\nThe last row of the class embedding is the null class, seen in 15 % of the training." if counts else "",
        counts=f": {counts}" if counts else "",
        credits=f"\n`{photos.table.name}` says whom to credit." if photos.table else "",
        step=training.step,
        batch=training.asked["batch"],
        minutes=training.seconds / 60,
        seed=training.asked["seed"],
        held_out=held_out,
        started=f"\nIt started from `{os.path.basename(start)}`." if start else "",
        guidance=" with guidance 2, a row a class" if counts else "",
    )


def write(path, content):
    """Write a file of bytes whole or not at all. Raises OSError with one sentence."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as failed:
        with contextlib.suppress(OSError):
            part.unlink()
        raise unwritten(path, failed) from None


def unwritten(path, failed):
    """An OSError that says what to do where a file of a training could not be written."""
    number = getattr(failed, "errno", None)
    reason = os.strerror(number).lower() if number else " ".join(str(failed).split()).rstrip(".")
    return OSError(f"{path} could not be written ({reason}): make room, then run the same command to go on.")
