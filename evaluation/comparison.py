"""Pictures beside their references, with PSNR and SSIM to them: a sheet to look at and a report to read."""

import math

from PIL import Image

from .metrics import psnr, ssim
from .sheets import Cell, contact_sheet

MOST_ROWS = 8
LARGEST = 512
SSIM_NEEDS = 8


def comparison(references, candidates):
    """(sheet, report): an RGB image with a row for each reference, and a line of text for each.

    references: (B, H, W, 3) in [0, 1], on the CPU. candidates: pairs (name, pictures like references), a column each.
    SSIM is left out under 8 pixels a side. The sheet has the first 8 rows, of pictures made at most 512 pixels a side.
    """
    count = len(references)
    names = [name for name, _ in candidates]
    scores = list(zip(*(scored(pictures, references) for _, pictures in candidates), strict=True))
    rows = [
        [
            Cell(to_image(references[i])),
            *(Cell(to_image(p[i]), (s,)) for (_, p), s in zip(candidates, row, strict=True)),
        ]
        for i, row in enumerate(scores[:MOST_ROWS])
    ]
    title = f"The first {MOST_ROWS} of {count} pictures; {count - MOST_ROWS} are left out" if count > MOST_ROWS else ""
    labels = [str(i + 1) for i in range(len(rows))] if count > 1 else ()
    sheet = contact_sheet(["reference", *names], rows, title, labels)
    return sheet, "\n".join(
        f"{f'picture {i + 1}: ' if count > 1 else ''}{'; '.join(map('{} {}'.format, names, row))}"
        for i, row in enumerate(scores)
    )


def scored(pictures, references):
    """PSNR and SSIM of each picture, (B, H, W, 3) in [0, 1], in words."""
    pictures, references = (2 * x.movedim(-1, 1) - 1 for x in (pictures, references))
    words = [f"{ratio:.2f} dB" if math.isfinite(ratio) else "identical" for ratio in psnr(pictures, references)]
    if min(pictures.shape[2:]) < SSIM_NEEDS:
        return words
    return [f"{word}, SSIM {like:.3f}" for word, like in zip(words, ssim(pictures, references), strict=True)]


def to_image(picture):
    """(H, W, 3) in [0, 1] as an 8-bit image, at most LARGEST a side."""
    image = Image.fromarray((picture * 255).round().byte().numpy())
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return image
