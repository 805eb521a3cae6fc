"""What the samplers refuse, in one sentence each. All of it runs before or after a loop, never inside."""

import math
from itertools import pairwise

import torch


def noise_path(sigmas):
    """The levels of `sigmas` as floats, or ValueError unless they are finite, at least two, and strictly monotone.

    Zero may only end a descending path: at zero noise the ODE's right side is 0/0, so no path can start there.
    """
    levels = sigmas.tolist() if sigmas.ndim == 1 else []
    if len(levels) < 2:
        raise ValueError("The noise levels must be a list of at least two sigmas.")
    if not all(math.isfinite(s) and s >= 0 for s in levels):
        raise ValueError("The noise levels hold an infinite, negative or undefined sigma: choose less depth.")
    rises = [b > a for a, b in pairwise(levels)]
    falls = [b < a for a, b in pairwise(levels)]
    if not (all(rises) or all(falls)):
        raise ValueError("The noise levels must rise all the way (encoding) or fall all the way (decoding).")
    if levels[0] == 0:
        raise ValueError("Encoding cannot start at sigma 0: start at the model's first trained level instead.")
    return levels


def descending(sigmas):
    """`noise_path`, or ValueError unless it is in decode order."""
    levels = noise_path(sigmas)
    if levels[0] < levels[1]:
        raise ValueError("The noise levels must be in decode order, from the deepest to the cleanest: flip them.")
    return levels


def one_level_or_descending(sigmas):
    """The levels of a path in decode order, or of a single one, for what acts at the first level only."""
    if sigmas.numel() != 1:
        return descending(sigmas)
    if not 0 < sigmas.item() < math.inf:
        raise ValueError(f"The noise level is {sigmas.item():g}: take a finite one above 0.")
    return sigmas.flatten().tolist()


def finite(x, what):
    """x, or ValueError where it holds NaN or infinity."""
    if not torch.isfinite(x).all():
        raise ValueError(f"{what} holds NaN or infinity: run the network in float32, take smaller steps or less depth.")
    return x
