"""What each quirk of the CODE authors' public code does to pictures, in numbers and on a sheet.

python -m confident_ode.evaluation.quirks PHOTOS [sheet.png]    PHOTOS: a folder as for training, with a split "val"
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ..corruptions.damages import gaussian_noise, mask_pixels
from ..priors.export import tiled
from ..priors.loading import load
from ..priors.photos import read_photos, resized
from ..samplers.noise import seeded_noise
from ..samplers.official import QUIRKS, Official, official_code
from .examples import FOLDER
from .metrics import psnr
from .sheets import Cell, contact_sheet

PRIOR, COUNT, SHOWN = "flowers32", 8, "sunflower-1"
DAMAGES = {"heavy noise": gaussian_noise, "random pixels": mask_pixels}
# updates at about t = 190, a step of 1e-4 that their factor makes 4.1e-3
SETTINGS = Official(latent=40, step=1e-4, updates=40, from_deepest=False)
SINGLE = replace(SETTINGS, updates=SETTINGS.blocks)
VARIANTS = {
    "the authors' code": SETTINGS,
    **{f"without {quirk}": replace(SETTINGS, mended=(quirk,)) for quirk in QUIRKS if quirk != "single update"},
    "without any": replace(SETTINGS, mended=tuple(QUIRKS)),
    "with the notebook's second noise": replace(SETTINGS, noise_twice=True),
    "4 updates in 4 blocks": SINGLE,
    "… without single update": replace(SINGLE, mended=("single update",)),
}
DRAWN = list(VARIANTS)[:8]


def main(folder, sheet=None):
    """Print PSNR to the clean photos and to the damaged ones, and the variation, for each variant; draw a sheet."""
    prior = load(PRIOR)
    photos = read_photos(Path(folder), prior.size, "val").pictures
    clean = 2 * resized(photos[len(photos) // 2 :: len(photos) // 2 // COUNT][:COUNT], prior.size) - 1
    shown = torch.from_numpy(np.array(Image.open(FOLDER / f"{SHOWN}.png"))).movedim(-1, 0)[None]
    clean = torch.cat([clean, 2 * resized(shown, prior.size) - 1])
    damaged = {name: damage(clean) for name, damage in DAMAGES.items()}
    restored = {name: run(prior, torch.cat(list(damaged.values())), each) for name, each in track(VARIANTS.items())}

    table = Table("", *(f"{name}: to clean, to input, TV" for name in DAMAGES), "calls")
    table.add_row("clean", *[f"{variation(clean[:-1]):.3f}"] * 2)
    table.add_row("damaged", *(row(pictures, clean, pictures) for pictures in damaged.values()))
    for name, pictures in restored.items():
        parts = zip(pictures.chunk(len(DAMAGES)), damaged.values(), strict=True)
        table.add_row(name, *(row(part, clean, seen) for part, seen in parts), str(VARIANTS[name].calls))
    Console().print(table)
    if sheet:
        rows = [
            [cell(damaged[damage]), *(cell(restored[name].chunk(len(DAMAGES))[i]) for name in DRAWN)]
            for i, damage in enumerate(DAMAGES)
        ]
        contact_sheet(["Damaged", *(name.capitalize() for name in DRAWN)], rows, labels=list(DAMAGES)).save(sheet)


@torch.inference_mode()
def run(prior, pictures, settings):
    """The pictures as the authors' code restores them, without a class."""
    conditioning = prior.conditioning(None, len(pictures))
    return official_code(
        lambda x, t: prior.network(x, t, **conditioning).sample,
        pictures,
        prior.levels.alpha_bar(torch.arange(len(prior.levels))),
        settings,
        noise_sampler=seeded_noise(0),
    )


def row(pictures, clean, damaged):
    """The means over the photos, the last picture left out, which is for the sheet."""
    scores = [psnr(pictures[:-1].clamp(-1, 1), other[:-1]) for other in (clean, damaged)]
    return ", ".join([*(f"{np.mean(score):.2f}" for score in scores), f"{variation(pictures[:-1]):.3f}"])


def variation(pictures):
    """The mean absolute difference of neighbours, down and across."""
    return sum(pictures.diff(dim=dim).abs().mean().item() for dim in (-1, -2))


def cell(pictures):
    return Cell(tiled(pictures[-1:], 1))


if __name__ == "__main__":
    main(*sys.argv[1:])
