"""DiffEdit's mask: where two conditions disagree about a noised picture (2210.11427; F.3 of 2311.01410)."""

import torch

from .checks import one_level_or_descending
from .ode import prepare, report, to_eps


def disagreement(model, x, sigmas, extra_args=None, callback=None, disable=None, *, source, noise_sampler, maps=10):
    """mean |eps(x + s n | target) - eps(x + s n | source)| over `maps` draws of n and the channels: (B, 1, H, W).

    x: clean pictures, (B, C, H, W). sigmas: the level s alone, or a path that starts with it; the paper takes half the
    timesteps. model, source: denoisers of the target and the source, with their guidance. noise_sampler(x, k) gives the
    k-th n. Network calls: 2 * maps. Raises ValueError for less than 1 map.
    """
    if maps < 1:
        raise ValueError("DiffEdit's mask takes at least 1 map.")
    x, s, denoise, _ = prepare(model, x, sigmas, extra_args, check=one_level_or_descending)
    _, _, denoise_source, _ = prepare(source, x, sigmas, extra_args, check=one_level_or_descending)
    total = 0
    for k in range(maps):
        noised = x + s[0] * noise_sampler(x, k)
        target, from_source = denoise(noised, 0), denoise_source(noised, 0)
        report(callback, k, noised, s[0], target)
        total = total + to_eps(from_source, s[0], target).abs()
    return total.mean(1, keepdim=True) / maps


def mask_from(difference, ratio=3.0, threshold=0.5, grow=0, blur=0.0):
    """The mask of a `disagreement` M, (B, 1, H, W), 1 where to edit: min(M, m) > threshold m, m = ratio mean(M).

    grow: pixels by which it is widened. blur: the standard deviation in pixels by which its edge is then made soft, so
    that it lies between 0 and 1. Where the conditions do not disagree at all, it is empty.
    """
    most = ratio * difference.mean((1, 2, 3), keepdim=True)
    mask = (difference.minimum(most) > threshold * most).to(difference.dtype)
    if grow:
        mask = torch.nn.functional.max_pool2d(mask, 2 * grow + 1, 1, grow)
    return _blurred(mask, blur) if blur else mask


def _blurred(mask, std):
    reach = max(1, round(3 * std))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).to(mask) / std) ** 2)
    weights = weights / weights.sum()
    for shape, pad in (((1, 1, -1, 1), (0, 0, reach, reach)), ((1, 1, 1, -1), (reach, reach, 0, 0))):
        padded = torch.nn.functional.pad(mask, pad, mode="replicate")
        mask = torch.nn.functional.conv2d(padded, weights.view(shape))
    return mask.clamp(0, 1)
