"""Chance for pictures: each has a generator of its own, so that its damage does not depend on its neighbours."""

import torch


def each(pictures, seed, draw_for):
    """draw_for(picture, generator) for each of (B, ...), picture i with seed + i, stacked."""
    drawn = [draw_for(picture, torch.Generator().manual_seed((seed + i) % 2**64)) for i, picture in enumerate(pictures)]
    return torch.stack(drawn).to(pictures)
