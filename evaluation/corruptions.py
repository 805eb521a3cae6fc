"""Seeded damage to pictures, (B, C, H, W) in [-1, 1] in and out. Picture i of a batch is damaged with seed + i."""

import torch


def gaussian_noise(pictures, strength=0.6, seed=0):
    """Add normal noise of standard deviation `strength`, and clamp."""
    noise = _each(pictures, seed, lambda picture, draw: torch.randn(picture.shape, generator=draw))
    return (pictures + strength * noise).clamp(-1, 1)


def mask_pixels(pictures, fraction=0.4, seed=0):
    """Replace a fraction of the pixels, each by a random colour of its own."""
    channels, height, width = pictures.shape[1:]
    drawn = _each(pictures, seed, lambda picture, draw: torch.rand(1 + channels, height, width, generator=draw))
    return torch.where(drawn[:, :1] < fraction, 2 * drawn[:, 1:] - 1, pictures)


def mask_blocks(pictures, fraction=0.2, cells=8, value=0.0, seed=0):
    """Fill a fraction of the cells of a `cells` x `cells` grid with `value`."""

    def holes(picture, draw):
        hit = torch.zeros(cells * cells)
        hit[torch.randperm(cells * cells, generator=draw)[: round(fraction * cells * cells)]] = 1
        return torch.nn.functional.interpolate(hit.view(1, 1, cells, cells), picture.shape[-2:])[0]

    return torch.where(_each(pictures, seed, holes) > 0, torch.full_like(pictures, value), pictures)


def contrast(pictures, factor=0.3, seed=0):
    """Pull every pixel towards the picture's mean: mean + factor * (pixel - mean). Nothing is drawn."""
    mean = pictures.mean((1, 2, 3), keepdim=True)
    return mean + factor * (pictures - mean)


CORRUPTIONS = {
    "gaussian_noise": gaussian_noise,
    "mask_pixels": mask_pixels,
    "mask_blocks": mask_blocks,
    "contrast": contrast,
}


def _each(pictures, seed, draw_for):
    """draw_for(picture, generator) for each picture with its own generator, stacked."""
    drawn = [draw_for(picture, torch.Generator().manual_seed((seed + i) % 2**64)) for i, picture in enumerate(pictures)]
    return torch.stack(drawn).to(pictures)
