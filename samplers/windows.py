"""Pictures larger than a model: it denoises overlapping windows, whose estimates are averaged at every call."""

import math
from functools import lru_cache

import torch


def windowed(model, size, at_once, overlap=0.5):
    """A denoiser of states (B, C, H, W), H and W at least `size`, by a `model` of states (B, C, size, size).

    At each call x0-hat is the mean of the model's over all windows that hold a pixel (cf. MultiDiffusion, Bar-Tal et
    al. 2023), each weighted by sin^2(pi (i + 1/2) / size) along both sides, so that a window fades out where the next
    takes over. For a model that works pixel by pixel this is what the model itself would say.

    A state of the model's own size goes to it as it is.

    overlap: the least share of a side that neighbours share, at least 0 and below 1. at_once: how many windows of all
    items are given to the model together; tensors among the conditioning, (B, ...), are repeated for each. Raises
    ValueError where a state is smaller than a window. A network(x, timestep, ...) that predicts eps or v may stand for
    the model: pixel by pixel x0-hat depends on these in a straight line, so that their mean gives its mean.
    """
    if not 0 <= overlap < 1 or at_once < 1:
        raise ValueError("Windows take an overlap of at least 0 and below 1, and at least 1 at once.")
    fades = lru_cache(maxsize=4)(_fades)

    def denoise(x, sigma, **conditioning):
        height, width = x.shape[-2:]
        if min(height, width) < size:
            raise ValueError(f"The picture is {width}×{height} and the model's is {size}×{size}: enlarge it to that.")
        if height == width == size:
            return model(x, sigma, **conditioning)
        rows, columns = (positions(side, size, overlap) for side in (height, width))
        down, across = (fades(side, size, overlap, x.device, x.dtype) for side in (height, width))
        windows = [(i, j, item) for i in range(len(rows)) for j in range(len(columns)) for item in range(len(x))]
        x0 = torch.zeros_like(x)
        for first in range(0, len(windows), at_once):
            chosen = windows[first : first + at_once]
            given = {name: _of_items(value, chosen) for name, value in conditioning.items()}
            seen = torch.stack([_window(x[item], rows[i], columns[j], size) for i, j, item in chosen])
            denoised = model(seen, _of_items(sigma, chosen), **given)
            for (i, j, item), picture in zip(chosen, denoised, strict=True):
                _window(x0[item], rows[i], columns[j], size).addcmul_(picture, down[i][:, None] * across[j])
        return x0

    return denoise


def positions(side, size, overlap=0.5):
    """Where the windows of a side start: evenly, the first at 0, the last ending at `side`."""
    count = 1 + math.ceil((side - size) / max(1, math.floor(size * (1 - overlap))))
    return [round(k * (side - size) / max(1, count - 1)) for k in range(count)]


def whole_shape(own, least, most):
    """The (width, height) nearest to a picture's own in its proportions, with no side under `least` or over `most`."""
    scale = max(min(1, most / max(own)), least / min(own))
    shape = tuple(round(side * scale) for side in own)
    if max(shape) > most:
        raise ValueError(
            f"The picture is {own[0]}x{own[1]}, whose shape does not go into sides of {least} to {most} pixels: take a "
            "larger max side, or fit crop."
        )
    return shape


def windows_of(shape, size, overlap=0.5):
    """How many windows there are of a picture of shape (..., H, W)."""
    return len(positions(shape[-2], size, overlap)) * len(positions(shape[-1], size, overlap))


def _fades(side, size, overlap, device, dtype):
    """The weights of each window along a side, (windows, size); those of all windows at a pixel sum to 1."""
    bump = torch.sin(math.pi * (torch.arange(size, dtype=torch.float64) + 0.5) / size) ** 2
    places = positions(side, size, overlap)
    total = bump.new_zeros(side)
    for place in places:
        total[place : place + size] += bump
    fades = torch.stack([bump / total[place : place + size] for place in places])
    # there is no float64 on every device
    return fades.to(device, dtype, non_blocking=True)


def _window(picture, top, left, size):
    return picture[:, top : top + size, left : left + size]


def _of_items(value, windows):
    """The entries of a (B, ...) tensor that belong to `windows`; anything else as it is."""
    return torch.stack([value[item] for _, _, item in windows]) if isinstance(value, torch.Tensor) else value
