"""The demonstration: one photo, damaged in several ways, restored with CODE and with SDEdit at its best depth."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..evaluation.corruptions import CORRUPTIONS
from ..evaluation.metrics import psnr, ssim
from ..priors.loading import load
from .photos import make_folder
from .pictures import fit, read, save, to_image
from .progress import call_progress
from .restore import plan, run, run_sdedit
from .settings import Settings
from .sheets import Cell, contact_sheet

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
    prior = load(config["prior"], "cuda" if torch.cuda.is_available() else "cpu")
    photo = built_in_photo() if image is None else read(image)
    label = label or (config.get("label") if image is None else None)
    original, _ = fit(photo, prior.size, channels=prior.channels)
    make_folder(folder)

    rows = restored_rows(prior, original, config, label)
    sheet = folder / "demo.png"
    save(sheet_of(original, rows), sheet)
    console = Console()
    console.print(table_of(original, rows))
    console.print(f"The pictures are in {sheet}.", highlight=False, soft_wrap=True)


def read_settings(path):
    """The TOML file as a dictionary, or ValueError where it is none or names a damage that there is not."""
    try:
        config = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}.") from None
    for key in ("prior", "sdedit_depths", "damage"):
        if not config.get(key):
            raise ValueError(f"{path} has no {key}: see the file that comes along.")
    for damage in config["damage"]:
        if damage.get("kind") not in CORRUPTIONS:
            raise ValueError(f"{path} names the damage {damage.get('kind')!r}: take one of {', '.join(CORRUPTIONS)}.")
    return config


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
    """Settings of a damage: a label only where there is guidance, and guidance only where there is a label."""
    guided = label is not None and values.get("guidance", 1.0) != 1
    return Settings.of(
        {**values, "label": label, "seed": seed} if guided else {**values, "guidance": 1.0, "seed": seed}
    )


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
        "PSNR and SSIM to the original",
        [row.name for row in rows],
    )


def table_of(original, rows):
    """The same numbers as a table."""
    table = Table(title="PSNR in dB and SSIM, to the original", box=SIMPLE_HEAD)
    for column in ("damage", "damaged", "CODE", "SDEdit", "at depth", "calls", "s"):
        table.add_column(column, justify="left" if column == "damage" else "right")
    for row in rows:
        scores = (score(pictures, original) for pictures in (row.damaged, row.code, row.sdedit))
        table.add_row(row.name, *scores, f"{row.sdedit_depth:g}", str(row.nfe), f"{row.seconds:.1f}")
    return table


def score(pictures, original):
    """PSNR and SSIM to the original."""
    return f"{psnr(pictures, original)[0]:.1f} dB  {ssim(pictures, original)[0]:.2f}"
