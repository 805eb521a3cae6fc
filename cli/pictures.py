"""Pictures in and out: any file that Pillow reads, fitted to a prior's square, and files written whole."""

import contextlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from ..samplers.windows import whole_shape

SMALLEST = 8
FITS = ("crop", "pad", "stretch", "whole")
MOST_WHOLE = 512
FILTER = Image.Resampling.LANCZOS


def read(path):
    """The first frame of a picture file, upright, RGB, transparency over white.

    Raises OSError or ValueError with one sentence: not there, no picture, damaged, too large, under 8 pixels a side.
    """
    path = Path(path)
    if not path.exists():
        raise OSError(f"{path} is not there.")
    if path.is_dir():
        raise OSError(f"{path} is a folder: give the pictures in it.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's: of a large picture, of odd EXIF
            with Image.open(path) as image:
                image.load()
                picture = rgb(ImageOps.exif_transpose(image))
    except PermissionError:
        raise OSError(f"{path} may not be read: its permissions forbid it.") from None
    except Image.UnidentifiedImageError:
        raise ValueError(f"{path} is not a picture that can be read.") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path} has more pixels than is safe to open: make it smaller first.") from None
    except Exception:  # a damaged file makes Pillow's decoders fail in many ways
        raise ValueError(f"{path} is damaged or cut off: the picture cannot be read to its end.") from None
    if min(picture.size) < SMALLEST:
        width, height = picture.size
        raise ValueError(f"{path} is {width}×{height} pixels: it takes at least {SMALLEST} a side.")
    return picture


def rgb(image):
    """A picture of any mode as 8-bit RGB: 16 bits scaled down, transparency over white."""
    if image.mode.startswith("I") or image.mode == "F":
        grey = np.asarray(image, dtype=np.float64)
        white = 65535 if image.mode != "F" else 1 if grey.max() <= 1 else 255
        return Image.fromarray(np.uint8((grey * (255 / white)).round().clip(0, 255))).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


@dataclass(frozen=True)
class Fit:
    """How a picture of `size` (width, height) was fitted to a prior, and what its own shape is in what came of it."""

    how: str
    size: tuple[int, int]
    box: tuple[int, int, int, int]
    shape: tuple[int, int]

    def undo(self, image):
        """A fitted picture in the shape of the original: the border cut away, or the aspect ratio given back."""
        inside = image.crop(self.box)
        return inside if inside.size == self.shape else inside.resize(self.shape, FILTER)


def fit(image, size, how="crop", channels=3, most=MOST_WHOLE):
    """(tensor, Fit): a picture as (1, channels, size, size) in [-1, 1], float32, and what undoes the fitting.

    how: "crop" cuts the centre square, "pad" keeps all of it and continues its edges, "stretch" squeezes it square.
    "whole" keeps its own size, (1, channels, H, W), as far as its sides are `size` to `most` pixels, else ValueError
    where its proportions do not allow that.
    """
    check_fit(how)
    square = (0, 0, size, size)
    if how == "crop":
        fitted = Fit(how, image.size, square, (size, size))
        pixels = np.asarray(ImageOps.fit(image, (size, size), FILTER))
    elif how == "stretch":
        # back to the aspect ratio with no side under `size`, so that nothing restored is lost
        shortest = min(image.size)
        fitted = Fit(how, image.size, square, tuple(round(side * size / shortest) for side in image.size))
        pixels = np.asarray(image.resize((size, size), FILTER))
    elif how == "pad":
        width, height = (max(1, round(side * size / max(image.size))) for side in image.size)
        left, top = (size - width) // 2, (size - height) // 2
        fitted = Fit(how, image.size, (left, top, left + width, top + height), (width, height))
        border = ((top, size - height - top), (left, size - width - left), (0, 0))
        pixels = np.pad(np.asarray(image.resize((width, height), FILTER)), border, mode="edge")
    else:
        shape = whole_shape(image.size, size, most)
        fitted = Fit(how, image.size, (0, 0, *shape), shape)
        pixels = np.asarray(image if shape == image.size else image.resize(shape, FILTER))
    if channels == 1:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    return to_tensor(pixels), fitted


def check_fit(how):
    """ValueError where there is no such fit."""
    if how not in FITS:
        raise ValueError(f"The fit {how!r} is unknown: take one of {', '.join(FITS)}.")


def to_tensor(pixels):
    """An RGB image, or (H, W, C) in 0 ... 255, as (1, C, H, W) in [-1, 1], float32."""
    return torch.from_numpy(np.asarray(pixels, dtype=np.float32)).permute(2, 0, 1)[None] / 127.5 - 1


def to_image(picture):
    """(C, H, W) or (1, C, H, W) in [-1, 1], clamped, as an 8-bit RGB image."""
    pixels = (picture.reshape(picture.shape[-3:]).float().clamp(-1, 1) + 1) * 127.5
    pixels = pixels.round().byte().cpu().permute(1, 2, 0).expand(-1, -1, 3)
    return Image.fromarray(pixels.contiguous().numpy())


@contextlib.contextmanager
def written_whole(path):
    """A binary file to write, which takes the name `path` only when all of it is there.

    Whatever comes between, Ctrl-C too, leaves nothing behind. Raises OSError with one sentence.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    except OSError as failed:
        raise OSError(f"{path} could not be written: {(failed.strerror or str(failed)).lower()}.") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def save(image, path):
    """Write a picture as PNG, whole or not at all."""
    with written_whole(path) as file:
        image.save(file, "PNG")


def save_text(text, path):
    """Write a text in UTF-8, whole or not at all; bytes of a file's name that are no UTF-8 are escaped as in JSON."""
    with written_whole(path) as file:
        file.write(text.encode(errors="backslashreplace"))
