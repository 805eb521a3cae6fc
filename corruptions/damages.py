"""Seeded damage to pictures, (B, C, H, W) in [-1, 1] in and out. Picture i of a batch is damaged with seed + i.

Strengths named severity 5 are those of ImageNet-C (Hendrycks and Dietterich 2019) and of CODE's masks, whose pictures
have 256 pixels a side: what is measured in pixels is given here as a share of the side.
"""

import io
import math
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import conv2d, interpolate, pad

from .drawing import each


def gaussian_noise(pictures, strength=0.6, seed=0):
    """Add normal noise of standard deviation `strength`, and clamp."""
    noise = each(pictures, seed, lambda picture, draw: torch.randn(picture.shape, generator=draw))
    return (pictures + strength * noise).clamp(-1, 1)


def mask_pixels(pictures, fraction=0.4, seed=0):
    """Replace a fraction of the pixels, each by a random colour of its own."""
    channels, height, width = pictures.shape[1:]
    drawn = each(pictures, seed, lambda picture, draw: torch.rand(1 + channels, height, width, generator=draw))
    return torch.where(drawn[:, :1] < fraction, 2 * drawn[:, 1:] - 1, pictures)


def mask_blocks(pictures, fraction=0.2, cells=8, value=0.0, seed=0):
    """Fill a fraction of the cells of a `cells` x `cells` grid with `value`."""

    def holes(picture, draw):
        hit = torch.zeros(cells * cells)
        hit[torch.randperm(cells * cells, generator=draw)[: round(fraction * cells * cells)]] = 1
        return torch.nn.functional.interpolate(hit.view(1, 1, cells, cells), picture.shape[-2:])[0]

    return torch.where(each(pictures, seed, holes) > 0, torch.full_like(pictures, value), pictures)


def contrast(pictures, factor=0.3, seed=0):
    """Pull every pixel towards the picture's mean: mean + factor * (pixel - mean). Nothing is drawn."""
    mean = pictures.mean((1, 2, 3), keepdim=True)
    return mean + factor * (pictures - mean)


def speckle_noise(pictures, strength=0.6, seed=0):
    """Add normal noise in proportion to the light of each value, and clamp."""
    noise = each(pictures, seed, lambda picture, draw: torch.randn(picture.shape, generator=draw))
    return (pictures + (pictures + 1) * strength * noise).clamp(-1, 1)


def impulse_noise(pictures, fraction=0.27, seed=0):
    """Set a fraction of the values to black or white, each channel on its own: salt and pepper."""
    drawn = each(pictures, seed, lambda picture, draw: torch.rand(2, *picture.shape, generator=draw))
    return torch.where(drawn[:, 0] < fraction, (2 * drawn[:, 1] - 1).sign(), pictures)


def gaussian_blur(pictures, sigma=6 / 256, seed=0):
    """Blur with a Gaussian of `sigma` times the longer side. Nothing is drawn."""
    width = max(0.1, sigma * max(pictures.shape[-2:]))
    reach = min(math.ceil(4 * width), min(pictures.shape[-2:]) - 1)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1).to(pictures) ** 2) / (2 * width**2))
    kernel = (kernel / kernel.sum()).repeat(pictures.shape[1], 1, 1, 1)
    padded = pad(pictures, (reach,) * 4, mode="reflect")
    blurred = conv2d(padded, kernel, groups=len(kernel))
    return conv2d(blurred, kernel.mT, groups=len(kernel)).clamp(-1, 1)


def pixelate(pictures, factor=0.25, seed=0):
    """Bring the picture to `factor` of its size and back, in squares. Nothing is drawn."""
    size = pictures.shape[-2:]
    small = [max(1, round(factor * side)) for side in size]
    return interpolate(interpolate(pictures, small, mode="area"), size, mode="nearest-exact")


def jpeg(pictures, quality=7, seed=0):
    """Save as JPEG, from 1 (worst) to 95, and open again. Nothing is drawn."""

    def saved(picture):
        shown = ((picture + 1) * 127.5).round().byte().movedim(0, -1).cpu().numpy()
        file = io.BytesIO()
        Image.fromarray(shown if len(picture) == 3 else shown[..., 0]).save(file, "JPEG", quality=quality)
        opened = torch.from_numpy(np.array(Image.open(file), dtype=np.float32)).reshape(shown.shape)
        return opened.movedim(-1, 0) / 127.5 - 1

    return torch.stack([saved(picture) for picture in pictures]).to(pictures)


def brightness(pictures, added=0.5, seed=0):
    """Raise the value (of hue, saturation, value) by `added`, on a scale of 0 to 1, up to 1. Nothing is drawn."""
    colours = (pictures + 1) / 2
    value = colours.amax(1, keepdim=True)
    # black has no hue: it becomes grey
    lit = torch.where(value > 0, colours / value.clamp(min=1e-6), torch.ones_like(colours))
    return 2 * lit * (value + added).clamp(max=1) - 1


def fog(pictures, thickness=3.0, decay=1.4, seed=0):
    """Mix with white clouds, and dim so that the lightest stays as it is.

    decay: by how much the clouds weaken from one scale to the next finer one, by half; 2 is smoother.
    """
    clouds = each(pictures, seed, lambda picture, draw: _clouds(picture.shape[-2:], decay, draw))
    colours = (pictures + 1) / 2
    lightest = colours.amax((1, 2, 3), keepdim=True)
    return 2 * ((colours + thickness * clouds) * lightest / (lightest + thickness)).clamp(0, 1) - 1


def _clouds(size, decay, draw):
    """(1, H, W) in [0, 1]: noise whose amplitude falls with frequency as that of a plasma fractal does."""
    height, width = size
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))
    frequency[0, 0] = math.inf
    noise = torch.fft.rfft2(torch.randn(size, generator=draw))
    clouds = torch.fft.irfft2(noise * frequency ** -(1 + math.log2(decay)), s=size)
    return ((clouds - clouds.min()) / (clouds.max() - clouds.min()).clamp(min=1e-6))[None]


def mask_pixels_alike(pictures, fraction=0.4, seed=0):
    """Replace a fraction of the pixels by one random colour: CODE's masking_random_color."""
    channels, height, width = pictures.shape[1:]
    hit = each(pictures, seed, lambda picture, draw: torch.rand(1, height, width, generator=draw)) < fraction
    colour = each(pictures, seed + 2**32, lambda picture, draw: torch.rand(channels, 1, 1, generator=draw))
    return torch.where(hit, 2 * colour - 1, pictures)


def mask_columns(pictures, fraction=0.4, seed=0):
    """Replace a fraction of the columns, in each channel on its own, by a random value: masking_vline_random_color."""
    channels, _, width = pictures.shape[1:]
    drawn = each(pictures, seed, lambda picture, draw: torch.rand(2, channels, 1, width, generator=draw))
    return torch.where(drawn[:, 0] < fraction, 2 * drawn[:, 1] - 1, pictures)


CORRUPTIONS = {
    function.__name__: function
    for function in (
        gaussian_noise,
        speckle_noise,
        impulse_noise,
        gaussian_blur,
        pixelate,
        jpeg,
        contrast,
        brightness,
        fog,
        mask_pixels,
        mask_pixels_alike,
        mask_columns,
        mask_blocks,
    )
}

# twelve damages of four families, of severity 2 and 5
MILD = {
    "noise": {
        "gaussian noise": partial(gaussian_noise, strength=2 * 0.12),
        "speckle noise": partial(speckle_noise, strength=0.2),
        "impulse noise": partial(impulse_noise, fraction=0.06),
    },
    "detail": {
        "gaussian blur": partial(gaussian_blur, sigma=2 / 256),
        "pixelate": partial(pixelate, factor=0.5),
        "jpeg": partial(jpeg, quality=18),
    },
    "colour": {
        "contrast": partial(contrast, factor=0.3),
        "fog": partial(fog, thickness=2.0, decay=2.0),
        "brightness": partial(brightness, added=0.2),
    },
    "masks": {
        "pixels of one colour": partial(mask_pixels_alike, fraction=0.16),
        "columns": partial(mask_columns, fraction=0.16),
        "blocks": partial(mask_blocks, fraction=0.16),
    },
}
SEVERE = {
    "noise": {
        "gaussian noise": partial(gaussian_noise, strength=2 * 0.38),
        "speckle noise": speckle_noise,
        "impulse noise": impulse_noise,
    },
    "detail": {"gaussian blur": gaussian_blur, "pixelate": pixelate, "jpeg": jpeg},
    "colour": {"contrast": partial(contrast, factor=0.05), "fog": fog, "brightness": brightness},
    "masks": {
        "pixels of one colour": mask_pixels_alike,
        "columns": mask_columns,
        "blocks": partial(mask_blocks, fraction=0.4),
    },
}
