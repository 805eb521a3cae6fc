"""The photos that a prior is trained on: found in a folder, read as squares, then cropped, flipped and coloured."""

import csv
import hashlib
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

# names each file, and if one likes its class, its split ("train" or "val", then also its folder) and whom to credit
TABLE = "CREDITS.csv"
SMALLEST_CROP = 0.8
# exponents of brightness, and of each colour on its own: a change of exposure, and of the light's colour
TONE, TINT = 0.15, 0.05


@dataclass(frozen=True)
class Photos:
    """pictures: (N, 3, side, side), uint8. labels: (N,), the place of each one's class in `classes`, or behind all.

    table: the CREDITS.csv that names them, or None.
    """

    pictures: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    table: Path | None = None

    def __len__(self):
        return len(self.pictures)

    def to(self, device):
        return replace(self, pictures=self.pictures.to(device), labels=self.labels.to(device))


def read_photos(folder, size, split="train", skip=print, watch=lambda results, total: results):
    """The Photos of a folder for a model of `size` pixels, kept at twice that, so that a crop has every detail.

    The classes are the folder's sub-folders, or those that its CREDITS.csv names; a photo of none has the label behind
    the last. skip: told in a sentence of each photo that cannot be used. watch(results, total): wraps the reading.
    Raises ValueError or OSError with one sentence.
    """
    squares, classes = [], []
    files = listed(Path(folder), split)
    with ThreadPoolExecutor() as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's: of a large picture, of odd EXIF
        results = pool.map(lambda file: _square_or_reason(file[0], size), files)
        for (path, name), result in zip(files, watch(results, len(files)), strict=True):
            if isinstance(result, str):
                skip(f"{path} is skipped: {result}.")
            else:
                squares.append(result)
                classes.append(name)
    if not squares:
        raise ValueError(f"{folder} has no photo that can be used: put pictures in it, or in a sub-folder a class.")
    count = Counter(classes)
    names = sorted({name for _, name in files} - {None})
    for name in names:
        if split == "train" and count[name] < 2:
            found = "one photo" if count[name] else "no photo that can be used"
            raise ValueError(f"The class {name!r} of {folder} has {found}: give it more, or take it out.")
    places = {None: len(names)} | {name: i for i, name in enumerate(names)}
    return Photos(
        torch.from_numpy(np.stack(squares)).movedim(-1, 1).contiguous(),
        torch.tensor([places[name] for name in classes]),
        tuple(names),
        Path(folder) / TABLE if (Path(folder) / TABLE).is_file() else None,
    )


def has_split(folder, split):
    """Whether the folder's table names photos of this split."""
    return (Path(folder) / TABLE).is_file() and bool(_tabled(Path(folder), split))


def listed(folder, split="train"):
    """[(picture file, name of its class or None), ...] in a fixed order."""
    if not folder.is_dir():
        raise ValueError(f"There is no folder {str(folder)!r}: give the one that has the photos.")
    if (folder / TABLE).is_file():
        return _tabled(folder, split)
    Image.init()
    endings = {ending for ending, kind in Image.EXTENSION.items() if kind in Image.OPEN}
    inside = (file.relative_to(folder) for file in sorted(folder.rglob("*")) if file.suffix.lower() in endings)
    return [
        (folder / file, file.parts[0] if len(file.parts) > 1 else None)
        for file in inside
        if not any(part.startswith(".") for part in file.parts)
    ]


def _tabled(folder, split):
    table = folder / TABLE
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table} is no table in UTF-8 that can be read: {error}.") from None
    if not rows or "file" not in rows[0]:
        raise ValueError(f"{table} has no column 'file': name the photos in it, or take the table out of the folder.")
    return [
        (folder / (row.get("split") or "") / row["file"], row.get("class") or None)
        for row in rows
        if row["file"] and (row.get("split") or "train") == split
    ]


def _square_or_reason(path, size):
    """The centre square of a picture file, (2 size, 2 size, 3) in uint8, or in words why it is of no use."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            if min(width, height) < size:
                return f"it is {width}×{height} pixels, and the model {size}×{size}"
            if image.mode.startswith(("I", "F")):
                return "its pixels have more than 8 bits"
            image.draft("RGB", (4 * size, 4 * size))  # large JPEGs are decoded small, which is many times quicker
            image = ImageOps.exif_transpose(image)
            if image.has_transparency_data:
                layer = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            return np.asarray(ImageOps.fit(image.convert("RGB"), (2 * size, 2 * size), Image.Resampling.LANCZOS))
    except FileNotFoundError:
        return "it is not there"
    except Image.UnidentifiedImageError:
        return "it is not a picture that can be read"
    except Image.DecompressionBombError:
        return "it has more pixels than is safe to open"
    except Exception:  # a damaged file makes Pillow's decoders fail in many ways
        return "it is damaged, or may not be read"


def resized(pictures, size, left=0.0, top=0.0, side=None):
    """uint8 (B, 3, S, S) -> float32 (B, 3, size, size) in [0, 1], of the square `side` at (left, top) in each.

    left, top, side: in pixels, numbers or tensors (B,); without a side it is all of the picture. The filter is
    Lanczos', as it is where a photo is fitted to restore it.
    """
    whole = pictures.shape[-1]
    boxes = torch.stack([torch.as_tensor(edge, device=pictures.device).expand(len(pictures)) for edge in (left, top)])
    side = torch.as_tensor(whole if side is None else side, device=pictures.device).expand(len(pictures))
    columns, rows = (_lanczos(start, side, whole, size) for start in boxes)
    return torch.einsum("brh,bchw,bsw->bcrs", rows, pictures / 255, columns).clamp(0, 1)


def _lanczos(start, length, whole, size):
    """(B, size, whole): the weights of `whole` pixels in each of `size` pixels that span `length` from `start` on."""
    scale = (length / size)[:, None, None]
    pixel = torch.arange(size, device=start.device)[:, None] + 0.5
    source = torch.arange(whole, device=start.device) + 0.5
    distance = (source - start[:, None, None] - pixel * scale) / scale.clamp(min=1)
    weights = torch.where(distance.abs() < 3, torch.sinc(distance) * torch.sinc(distance / 3), 0)
    return weights / weights.sum(-1, keepdim=True)


def cropped(pictures, size):
    """uint8 (B, 3, S, S) -> (B, 3, size, size) in [0, 1]: random squares of at least 0.8 of the side, half mirrored."""
    chance = torch.rand(3, len(pictures), device=pictures.device)
    whole = pictures.shape[-1]
    side = whole * (SMALLEST_CROP + (1 - SMALLEST_CROP) * chance[0])
    crops = resized(pictures, size, (whole - side) * chance[1], (whole - side) * chance[2], side)
    mirror = torch.rand(len(crops), 1, 1, 1, device=crops.device) < 0.5
    return torch.where(mirror, crops.flip(-1), crops)


def coloured(pictures, strength):
    """(B, 3, H, W) in [0, 1] in other light: x^g, with g near 1 for the picture and nearer for each colour.

    Black and white stay what they are, so that nothing is clipped that the photo did not clip.
    """
    spread = torch.rand(2, len(pictures), 3, 1, 1, device=pictures.device) * 2 - 1
    return pictures ** (strength * (TONE * spread[0, :, :1] + TINT * spread[1])).exp()


def order(count, batch, seed, step):
    """(batch,): which of `count` photos a step takes: each one once a round, every round in an order of its own."""
    places = torch.arange(step * batch, (step + 1) * batch)
    rounds = {int(lap): _shuffled(count, seed, int(lap)) for lap in (places // count).unique()}
    return torch.stack([rounds[place // count][place % count] for place in places.tolist()])


def _shuffled(count, seed, lap):
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed_for(seed, "order", lap)))


def seed_for(seed, *names):
    """A seed that depends on `seed` and what it is for, and is unlike that of its neighbours."""
    # 32 bits are all that torch's generator for the CPU takes
    return int.from_bytes(hashlib.sha256(repr((seed, *names)).encode()).digest()[:4], "big")
