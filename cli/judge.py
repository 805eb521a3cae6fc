"""Judging priors, and training the classifier that helps in it."""

import json
import sys

from rich.console import Console
from rich.table import Table

from ..evaluation.classifier import load_classifier
from ..evaluation.judging import judge, judge_calls
from ..evaluation.train_classifier import train_classifier
from ..priors.loading import load
from ..priors.photos import has_split, read_photos
from .photos import make_folder
from .pictures import save, save_text
from .progress import call_progress


def judge_prior(prior, photos, folder, val, classifier, samples, guidance, steps, ancestral, seed, device):
    """Measure a prior, print a table, and write judgement.json, samples.png and nearest.png to `folder`."""
    if samples < 2 or steps < 1:
        raise ValueError("Judging takes at least 2 samples, each of at least 1 step.")
    if val is None and not has_split(photos, "val"):
        raise ValueError("Judging needs photos that were not trained on too: give their folder with --val.")
    judge_of = load_classifier(classifier) if classifier else load_classifier()
    loaded = load(prior, device)
    known = read_photos(photos, loaded.size, "train", say)
    held_out = read_photos(val, loaded.size, skip=say) if val else read_photos(photos, loaded.size, "val", say)
    make_folder(folder)
    with call_progress(Console(stderr=True)) as bar:
        task = bar.add_task(f"Judging {prior}", total=judge_calls(samples, steps, len(held_out)))
        numbers, pictures = judge(
            loaded,
            known,
            held_out,
            judge_of,
            samples,
            guidance,
            steps,
            seed,
            lambda: bar.advance(task),
            ancestral,
        )
    for name, picture in pictures.items():
        save(picture, folder / name)
    save_text(json.dumps(numbers, indent=2) + "\n", folder / "judgement.json")
    for table in tables(numbers):
        Console().print(table)
    print(f"Written to {folder}: {', '.join([*pictures, 'judgement.json'])}.")


def tables(numbers):
    """What was measured, for people."""
    noise = table("Held-out photos", "timestep", "error of ε", "PSNR denoised")
    for t, level in numbers["levels"].items():
        noise.add_row(str(t), f"{level['error']:.4f}", f"{level['psnr']:.2f} dB")
    drawn = f"{numbers['samples']} samples"
    if numbers["guidance"] is not None:
        drawn += f" at guidance {numbers['guidance']:g}"
    found = table(drawn, "", "")
    for what, distance in numbers["fd"].items():
        found.add_row(f"FD, {what}", f"{distance:.3f}")
    for what, share in numbers["agreement"].items():
        if share is not None:
            found.add_row(f"of the class asked for, {what}", f"{100 * share:.1f} %")
    near = table(
        "Distance to the nearest training photo, 5th percentile and median", "in", "samples", "held-out photos"
    )
    for what, each in numbers["nearest"].items():
        near.add_row(what, *(f"{each[of]['5th percentile']:.4f}  {each[of]['median']:.4f}" for of in each))
    return noise, found, near


def table(title, *columns):
    made = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if i else "left")
    return made


def train_judge(photos, output, epochs, seed):
    """Train a classifier, and print how well it knows photos that it has not seen."""
    if epochs < 1:
        raise ValueError("Training takes at least 1 epoch.")
    if not has_split(photos, "val"):
        raise ValueError(f"{photos} has no CREDITS.csv with a split 'val', so the accuracy could not be measured.")
    with call_progress(Console(stderr=True), "steps") as bar:

        def watch(steps):
            task = bar.add_task("Training", total=len(steps))
            for step in steps:
                yield step
                bar.advance(task)

        about = train_classifier(photos, output, epochs, seed=seed, watch=watch, tell=say)
    ranks = table("Fréchet distance of damaged held-out photos, from weak to strong", "damage", *"12345")
    for damage, distances in about["severities"].items():
        ranks.add_row(damage, *(f"{distance:.3f}" for distance in distances))
    Console().print(ranks)
    print(f"{output} knows {100 * about['accuracy']:.1f} % of the held-out photos.")


def say(sentence):
    print(sentence, file=sys.stderr)
