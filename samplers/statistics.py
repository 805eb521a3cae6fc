"""What a model's estimates on the way up the ODE say about a picture: statistics that damage shifts."""

from bisect import bisect_right
from itertools import accumulate, pairwise

import torch
from torch.nn.functional import avg_pool2d, interpolate

from .noise import START, seeded_noise
from .ode import prepare, to_eps

BANDS = 3
# of eps-hat and of x0-hat: bands and the rest below them, and three numbers more each
STATISTICS = 2 * (BANDS + 1 + 3)
SMALLEST = 1e-4
POWERS = 4


def read(model, x, sigmas, extra_args=None, *, seed=0):
    """Statistics of eps-hat and x0-hat at each level of a short encoding, (B, n, STATISTICS), float32 on x's device.

    x: pictures (B, C, H, W), at least 8 pixels a side, in the range of clean data, which are noised to the first level
    as they are for encoding. sigmas: n VE levels, ascending; the steps between are Euler's. n network calls.

    Of eps-hat, which is white noise of variance 1 where the model knows what it sees: the spread at each scale, how
    evenly its sizes are distributed, and the correlation of neighbours across and down. Of x0-hat: the spread at each
    scale, over all, the mean, and the colourfulness. Spreads are logarithms, so that differences are ratios.
    """
    x, levels, denoise, _ = prepare(model, x, sigmas, extra_args)
    x = x + levels[0] * seeded_noise(seed, START)(x, 0)
    found = []
    for i, sigma in enumerate(levels):
        x0 = denoise(x, i)
        eps = to_eps(x, sigma, x0)
        found.append(torch.cat([_noise_statistics(eps), _picture_statistics(x0)], 1))
        if i + 1 < len(levels):
            x = x + (levels[i + 1] - sigma) * eps
    return torch.stack(found, 1).float()


def _noise_statistics(eps):
    power = eps.square().mean((1, 2, 3)).clamp(min=SMALLEST**2)
    evenness = (eps.abs().mean((1, 2, 3)).clamp(min=SMALLEST) / power.sqrt()).log()
    across = (eps[..., 1:] * eps[..., :-1]).mean((1, 2, 3)) / power
    down = (eps[..., 1:, :] * eps[..., :-1, :]).mean((1, 2, 3)) / power
    return torch.stack([*_spreads(eps), evenness, across, down], 1)


def _picture_statistics(x0):
    colour = (x0.amax(1) - x0.amin(1)).mean((1, 2))
    return torch.stack([*_spreads(x0), _log(x0.std((1, 2, 3))), x0.mean((1, 2, 3)), _log(colour)], 1)


def _spreads(x):
    """The log of the root mean square of the detail at each scale, finest first, and of what is left, each (B,)."""
    spreads = []
    for _ in range(BANDS):
        coarse = avg_pool2d(x, 2, ceil_mode=True)
        spreads.append(_log((x - interpolate(coarse, x.shape[-2:])).square().mean((1, 2, 3)).sqrt()))
        x = coarse
    return [*spreads, _log(x.square().mean((1, 2, 3)).sqrt())]


def _log(spread):
    return spread.clamp(min=SMALLEST).log()


def normality(x):
    """What tells x, (B, ..., H, W), from white noise: (mean, spread, kurtosis, spectrum), floats.

    Of normals these are 0, 1, 3 and all 1. spectrum: the mean power in each of POWERS equal bands of frequency, coarse
    to fine, up to half a cycle a pixel; a band that a small picture does not have is left out.
    """
    x = x.float()
    mean, spread = x.mean(), x.std(unbiased=False)
    kurtosis = ((x - mean) / spread.clamp(min=SMALLEST)).pow(4).mean()
    power = torch.fft.fft2(x, norm="ortho").abs().square().flatten(0, -3).mean(0)
    across, down = (torch.fft.fftfreq(side, device=x.device).abs() for side in (x.shape[-1], x.shape[-2]))
    band = (2 * POWERS * torch.maximum(down[:, None], across)).long().clamp(max=POWERS - 1)
    spectrum = [power[band == k].mean() for k in range(POWERS) if (band == k).any()]
    mean, spread, kurtosis, *spectrum = torch.stack([mean, spread, kurtosis, *spectrum]).tolist()
    return mean, spread, kurtosis, spectrum


def where_most_grows(levels, errors):
    """The shortest stretch (from, to) of a path over which more than half of the growth of errors lies, or None.

    levels, errors: floats, an error for each level of the path.
    """
    grown = [0.0, *accumulate(max(0.0, after - before) for before, after in pairwise(errors))]
    half = grown[-1] / 2
    ends = ((i, bisect_right(grown, start + half)) for i, start in enumerate(grown))
    stretches = [(i, end) for i, end in ends if end < len(grown)]
    if not half or not stretches:
        return None
    i, end = min(stretches, key=lambda stretch: stretch[1] - stretch[0])
    return levels[i], levels[end]
