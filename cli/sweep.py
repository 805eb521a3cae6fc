"""One setting at several values: photos, damaged as in the demonstration, restored with each, and compared."""

from statistics import mean

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch.nn.functional import interpolate

from ..corruptions.damages import CORRUPTIONS
from ..evaluation.automatic import most_calls, run_chosen
from ..evaluation.metrics import psnr, ssim
from ..evaluation.presets import AUTO, PRESETS
from ..evaluation.restoring import plan, run
from ..evaluation.settings import Settings
from ..evaluation.sheets import Cell, contact_sheet
from ..priors.loading import load
from .demo import read_settings
from .photos import make_folder, spare
from .pictures import fit, read, save, to_image
from .progress import call_progress

READ = {
    int: (int, "whole numbers"),
    float: (float, "numbers"),
    bool: ({"true": True, "false": False}.__getitem__, "true or false"),
    str: (str, "names"),
}


def sweep(photos, vary, settings_file, folder):
    """Print the mean PSNR and SSIM to the original for each damage and value, and write a sheet of the first photo.

    vary: "name=value,value,...", a setting of `restore`, or priors. photos: picture files, undamaged, cropped to the
    (largest) prior's size. Every damage starts from the same settings, those of [code] in the file. Raises ValueError
    or OSError.
    """
    config = read_settings(settings_file)
    name, values = parsed(vary)
    base = {**config.get("code", {}), "seed": config.get("seed", 0)}
    settings = [settings_with(name, value, base) for value in values]
    one = None if name == "prior" else load(config["prior"], "auto")
    priors = [one or load(value, "auto") for value in values]
    ways = [run_chosen if (name, value) == ("preset", AUTO) else run_one for value in values]
    calls = [
        most_calls(prior, each) if way is run_chosen else plan(prior, each).calls
        for prior, each, way in zip(priors, settings, ways, strict=True)
    ]
    make_folder(folder)
    sheet = folder / f"sweep_{name}.png"
    spare(photos, sheet)
    largest = max(priors, key=lambda prior: prior.size)
    originals = torch.cat([fit(read(photo), largest.size, channels=largest.channels)[0] for photo in photos])

    table = Table(title=f"PSNR in dB and SSIM to the original, {len(originals)} photos", box=SIMPLE_HEAD)
    for column in ("damage", "damaged", *(f"{name} {value}" for value in values)):
        table.add_column(column, justify="left" if column == "damage" else "right")
    rows = []
    with call_progress(Console(stderr=True)) as bar:
        task = bar.add_task("", total=len(config["damage"]) * sum(calls))
        for damage in config["damage"]:
            bar.update(task, description=damage["name"])
            damaged = CORRUPTIONS[damage["kind"]](originals, **damage.get("options", {}), seed=base["seed"])
            restored = [
                at_size(prior, damaged, each, lambda: bar.advance(task), way)
                for prior, each, way in zip(priors, settings, ways, strict=True)
            ]
            scores = [score(pictures, originals) for pictures in (damaged, *restored)]
            table.add_row(escape(damage["name"]), *scores)
            rows.append([Cell(to_image(pictures[0])) for pictures in (originals, damaged, *restored)])
    columns = ["Original", "Damaged", *(f"{name} {value}" for value in values)]
    save(contact_sheet(columns, rows, labels=[damage["name"] for damage in config["damage"]]), sheet)
    console = Console()
    console.print(table)
    console.print(f"The first photo is in {sheet}.", highlight=False, markup=False, soft_wrap=True)


def settings_with(name, value, base):
    """The Settings with one value. A preset stands alone, as the settings that it is compared by would hide it."""
    if name == "preset":
        return Settings.of({**PRESETS.get(value, {}), "seed": base["seed"]})
    return Settings.of(base if name == "prior" else {**base, name: value})


def run_one(prior, pictures, settings, on_call):
    result = run(prior, pictures, settings, on_call)
    return result.pictures, result.nfe


def at_size(prior, damaged, settings, on_call, way=run_one):
    """The pictures restored at the prior's size and brought back to their own, so that priors can be compared."""
    size = damaged.shape[-2:]
    if size == (prior.size, prior.size):
        return way(prior, damaged, settings, on_call)[0]
    small = interpolate(damaged, (prior.size, prior.size), mode="bicubic", antialias=True).clamp(-1, 1)
    return interpolate(way(prior, small, settings, on_call)[0], size, mode="bicubic").clamp(-1, 1)


def parsed(vary):
    """("eta", [0.6, 1.0]) of "eta=0.6,1.0", with the type that the setting's default has, but depths as they are."""
    name, found, listed = vary.partition("=")
    named = dict.fromkeys(("depth", "shallowest", "start", "prior", "preset"), str)
    kind = named.get(name, type(getattr(Settings(), name, None)))
    if not found or kind not in READ:
        raise ValueError(f"{vary!r} is no setting with values: write, say, eta=0.6,1,1.7.")
    read_value, what = READ[kind]
    unknown = [value for value in listed.split(",") if name == "preset" and value not in (AUTO, *PRESETS)]
    if unknown:
        raise ValueError(f"The preset {unknown[0]!r} is unknown: take some of {', '.join((AUTO, *PRESETS))}.")
    try:
        return name, [read_value(value) for value in listed.split(",")]
    except (KeyError, ValueError):
        raise ValueError(f"{listed!r} does not fit {name}: give {what}, with commas between.") from None


def score(pictures, originals):
    """The mean PSNR and SSIM over the photos, and over the samples of each."""
    originals = originals.repeat_interleave(len(pictures) // len(originals), 0)
    return f"{mean(psnr(pictures, originals)):.2f}  {mean(ssim(pictures, originals)):.3f}"
