"""Calibrating a prior for the automatic mode."""

from dataclasses import replace

from rich.console import Console

from ..evaluation.calibrating import calibrate, calibrate_calls
from ..evaluation.classifier import load_classifier
from ..priors.calibration import FILE
from ..priors.loading import find, layout, load, mark
from ..priors.photos import read_photos
from ..priors.train import mixed_precision
from .judge import say, table
from .photos import make_folder
from .progress import call_progress


def calibrate_prior(prior, photos, folder, classifier, read_from, restored, seed, device, precision):
    """Calibrate a prior, print what was found, and write it to `folder`, or beside the prior if that is None."""
    loaded = load(prior, device)
    autocast = mixed_precision(loaded.device, precision)
    judge_of = load_classifier(classifier, loaded.device) if classifier else load_classifier(device=loaded.device)
    known = read_photos(photos, loaded.size, "train", say)
    beside = find(prior, "*.safetensors")
    folder = folder or beside
    make_folder(folder)
    with call_progress(Console(stderr=True)) as bar:
        task = bar.add_task(f"Calibrating {prior}", total=calibrate_calls(loaded, read_from, restored))
        found, numbers = calibrate(
            loaded, known, judge_of, read_from, restored, seed, autocast, on_call=lambda: bar.advance(task)
        )
    replace(found, weights=mark(layout(beside)[0])).save(folder)
    for each in tables(numbers):
        Console().print(each)
    print(f"Written to {folder / FILE}: confident-ode restore PHOTO -o DIR --prior {prior} --preset auto")


def tables(numbers):
    """What was measured, for people."""
    quality = table("Restored with", "one preset for all", "PSNR to clean, dB", "FD-flowers")
    for name, found in numbers["quality"].items():
        quality.add_row("chosen for each" if name == "chosen" else name, f"{found['psnr']:.2f}", f"{found['fd']:.3f}")
    chosen = table("Chosen for each", "looks like", "told apart", "restored with")
    for kind, name in numbers["choices"].items():
        chosen.add_row(kind, f"{100 * numbers['told apart'][kind]:.0f} %", name)
    return quality, chosen
