"""The demonstration: one photo, damaged in several ways, restored with CODE and with SDEdit at its best depth."""

import sys
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path

import torch
from PIL import Image
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..corruptions.damages import CORRUPTIONS
from ..evaluation.metrics import psnr, ssim
from ..evaluation.restoring import plan, run, run_sdedit
from ..evaluation.settings import Settings
from ..evaluation.sheets import Cell, contact_sheet
from ..priors.loading import load
from .photos import make_folder, spare
from .pictures import fit, read, save, to_image
from .progress import call_progress

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Row:
    """One damage: pictures (1, C, H, W) in [-1, 1], how deep SDEdit went, and the cost of the restoration."""

    name: str
    damaged: torch.Tensor
    code: torch.Tensor
    sdedit: torch.Tensor
    sdedit_depth: float
    nfe: int
    seconds: float


def demo(image, label, settings_file, folder):
    """Write the contact sheet of the demonstration into `folder` and print its table.

    image: a picture file, None for the built-in photo. label: what it shows, None for the settings' own where the photo
    is the built-in one. Raises ValueError or OSError with one sentence.
    """
    config = read_settings(settings_file)
    prior = load(config["prior"], "auto")
    photo = built_in_photo() if image is None else read(image)
    label = label or (config.get("label") if image is None else None)
    original, _ = fit(photo, prior.size, channels=prior.channels)
    make_folder(folder)
    sheet = folder / "demo.png"
    spare([image] if image else [], sheet)

    rows = restored_rows(prior, original, config, label)
    save(sheet_of(original, rows), sheet)
    console = Console()
    console.print(table_of(original, rows))
    console.print(f"The pictures are in {sheet}.", highlight=False, markup=False, soft_wrap=True)


def read_settings(path):
    """The TOML file as a dictionary; OSError or ValueError where it is none, or says what cannot be done."""
    try:
        config = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}.") from None
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror.lower()}.") from None
    for key, kind in (("prior", str), ("sdedit_depths", list), ("damage", list)):
        if not config.get(key) or not isinstance(config[key], kind):
            raise ValueError(f"{path} has no {key}, or not in the form of the file that comes along.")
    for table in (config, *config["damage"]):
        if not isinstance(table, dict) or not isinstance(table.get("code", {}), dict):
            raise ValueError(f"{path} has a damage or code that is no table: write [[damage]] and [code].")
    return {**config, "damage": [checked_damage(damage, path) for damage in config["damage"]]}


def checked_damage(damage, path):
    """The damage, by the name of its kind where it has none of its own, or ValueError where it cannot be done."""
    kind, options = damage.get("kind"), damage.get("options", {})
    if kind not in CORRUPTIONS:
        raise ValueError(f"{path} names the damage {kind!r}: take one of {', '.join(CORRUPTIONS)}.")
    try:
        CORRUPTIONS[kind](torch.zeros(1, 3, 8, 8), **options, seed=0)
    except (TypeError, ValueError, RuntimeError):
        known = ", ".join(list(signature(CORRUPTIONS[kind]).parameters)[1:-1])
        raise ValueError(f"{path} gives {kind} the options {options}: what it takes is {known}, as numbers.") from None
    return {**damage, "name": str(damage.get("name", kind))}


def built_in_photo():
    """The photo of a dahlia that scikit-learn ships (CC BY 2.0, see CREDITS.md)."""
    try:
        from sklearn.datasets import load_sample_image
    except ImportError:
        raise ValueError('The built-in photo comes with scikit-learn: pip install "confident-ode[demo]".') from None
    return Image.fromarray(load_sample_image("flower.jpg"))


def restored_rows(prior, original, config, label):
    """A Row for each damage of the settings, with a progress bar over all network calls."""
    seed, depths = config.get("seed", 0), config["sdedit_depths"]
    jobs = [
        (damage, code_settings({**config.get("code", {}), **damage.get("code", {})}, label, seed))
        for damage in config["damage"]
    ]
    rivals = [[replace(settings, sdedit=True, sdedit_depth=depth) for depth in depths] for _, settings in jobs]
    plans = [[plan(prior, rival) for rival in row] for row in rivals]
    total = sum(row[0].calls + sum(p.all_calls - p.calls for p in row) for row in plans)
    rows = []
    with call_progress(Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        for (damage, settings), row, planned in zip(jobs, rivals, plans, strict=True):
            bar.update(task, description=damage["name"])
            damaged = CORRUPTIONS[damage["kind"]](original, **damage.get("options", {}), seed=seed)
            code = run(prior, damaged, settings, lambda: bar.advance(task))
            edited = [
                run_sdedit(prior, damaged, rival, p.sdedit_sigmas, lambda: bar.advance(task)).pictures
                for rival, p in zip(row, planned, strict=True)
            ]
            best = max(range(len(depths)), key=lambda i: psnr(edited[i], original)[0])
            rows.append(Row(damage["name"], damaged, code.pictures, edited[best], depths[best], code.nfe, code.seconds))
    return rows


def code_settings(values, label, seed):
    """Settings of a damage: one sample, and a label only where there is guidance, which needs a label."""
    if values.get("method", "code") != "code":
        raise ValueError("The demonstration shows CODE beside SDEdit: leave the method out of its settings.")
    guided = label is not None and values.get("guidance", 1.0) != 1
    pull = {"label": label} if guided else {"guidance": 1.0}
    return Settings.of({**values, **pull, "seed": seed, "samples": 1})


def sheet_of(original, rows):
    """A row for each damage: original, damaged, CODE, SDEdit, with PSNR and SSIM to the original under each."""

    def scored(pictures, *lines):
        return Cell(to_image(pictures), (score(pictures, original), *lines))

    return contact_sheet(
        ["Original", "Damaged", "CODE", "SDEdit"],
        [
            [
                Cell(to_image(original)),
                scored(row.damaged),
                scored(row.code, f"{row.nfe} network calls"),
                scored(row.sdedit, f"best depth {row.sdedit_depth:g}"),
            ]
            for row in rows
        ],
        "Restored, with PSNR and SSIM to the original",
        [row.name for row in rows],
    )


def table_of(original, rows):
    """The same numbers as a table."""
    table = Table(title="PSNR in dB / SSIM to the original", box=SIMPLE_HEAD, collapse_padding=True)
    for column in ("damage", "damaged", "CODE", "SDEdit", "at depth", "calls", "s"):
        table.add_column(column, justify="left" if column == "damage" else "right")
    for row in rows:
        scores = (score(pictures, original, "{:.1f} / {:.2f}") for pictures in (row.damaged, row.code, row.sdedit))
        table.add_row(escape(row.name), *scores, f"{row.sdedit_depth:g}", str(row.nfe), f"{row.seconds:.1f}")
    return table


def score(pictures, original, form="{:.1f} dB, SSIM {:.2f}"):
    """PSNR and SSIM to the original."""
    return form.format(psnr(pictures, original)[0], ssim(pictures, original)[0])
