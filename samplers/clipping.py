"""Confidence-based clipping, CBC: a noisy state is held inside the interval where clean data plus noise must lie."""

import math

import torch

from . import fused

ROOM = 256  # calls


def confidence_interval(sigma, eta=1.0, low=-1.0, high=1.0):
    """[low - eta * sigma, high + eta * sigma], sigma the VE level: where x0 + sigma n lies for x0 in [low, high].

    In VP it is +-(sqrt(alpha_bar) + eta * sqrt(1 - alpha_bar)) for pixels in [-1, 1]: the clip after Proposition 1 of
    CODE (2408.12418). low, high: numbers, or tensors that broadcast to a state, one entry a channel for latents. eta is
    at least 0.
    """
    return low - eta * sigma, high + eta * sigma


def confidence_clip(x, sigma, eta=1.0, low=-1.0, high=1.0):
    """clamp(x, *confidence_interval(sigma, eta, low, high)), in the dtype of x."""
    low, high = confidence_interval(sigma, eta, low, high)
    return x.clamp(min=low).clamp(max=high).to(x.dtype)


def coverage(x0, sigma, eta=1.0, low=-1.0, high=1.0):
    """P(x0 + sigma n inside the interval) = Phi(eta + (high - x0) / sigma) - Phi(-eta - (x0 - low) / sigma).

    At least Phi(eta) - Phi(-eta) = erf(eta / sqrt(2)) for any x0 in [low, high]: Proposition 1 of CODE. All numbers.
    """
    return _normal_cdf(eta + (high - x0) / sigma) - _normal_cdf(-eta - (x0 - low) / sigma)


def _normal_cdf(z):
    return 0.5 * math.erfc(-z / math.sqrt(2))


def quantile_range(x0, outside=0.0):
    """(low, high) of each picture and channel of clean data x0, (B, C, ...): two tensors (B, C, 1, ...).

    outside: the share of values to leave below low and above high each, at least 0 and below 0.5; 0 takes all.
    """
    if not 0 <= outside < 0.5:
        raise ValueError(f"The share {outside:g} of values to leave outside is none: take 0 or more, and below 0.5.")
    values = x0.flatten(2).sort(2).values
    place = outside * (values.shape[2] - 1)
    below, weight = math.floor(place), place - math.floor(place)
    shape = (*x0.shape[:2], *[1] * (x0.ndim - 2))
    ends = (torch.lerp(v[..., below], v[..., min(below + 1, v.shape[2] - 1)], weight) for v in (values, values.flip(2)))
    return tuple(end.view(shape) for end in ends)


def observation_range(x0, width):
    """(x0 - width, x0 + width): holds every value within `width` of clean data x0, (B, C, ...)."""
    if not width >= 0:
        raise ValueError(f"The width {width:g} round the observation is negative: take 0 or more.")
    return x0 - width, x0 + width


class ConfidenceClip:
    """Confidence-based clipping as a solver's `clip`: called with (x, sigma) before each network call.

    eta: how many standard deviations of noise are believed, 0 or more; smaller clips more. low, high: the range of
    clean data: numbers, such as -1 and 1 for pixels, or tensors on the device of the states that broadcast to them:
    (C, 1, 1) for each channel, those of `quantile_range` for each picture too, of `observation_range` for each value.

    What it moved, to be read after the run: `times`, how many calls moved a value, an int16 tensor like x (None before
    the first); `sigmas`, the level of each call; `shares`, which share of each picture it moved, (calls, B).
    """

    def __init__(self, eta=1.0, low=-1.0, high=1.0):
        if not eta >= 0:
            raise ValueError(f"The clip's eta is {eta:g}: take 0 or more, or no clip.")
        self.eta, self.low, self.high = eta, low, high
        self.times, self.sigmas, self._counts = None, [], None

    def __call__(self, x, sigma):
        if self.times is None:
            self.times = torch.zeros(x.shape, dtype=torch.int16, device=x.device)
        if len(self.sigmas) % ROOM == 0:
            # in one piece: a small tensor kept from each call would keep the memory between large ones from reuse
            more = x.new_zeros(ROOM, len(x), dtype=torch.int32)
            self._counts = more if self._counts is None else torch.cat([self._counts, more])
        self.sigmas.append(sigma)
        call = len(self.sigmas) - 1
        return fused.clip_step(x, self.low, self.high, self.eta * sigma, self.times, self._counts, call)

    @property
    def shares(self):
        return None if self.times is None else self._counts[: len(self.sigmas)] / self.times[0].numel()

    @property
    def clipped(self):
        """True where any call so far has moved a value, a bool tensor like x; None before the first."""
        return None if self.times is None else self.times > 0

    def heat(self):
        """The share of the calls so far that moved each value, float32 in [0, 1] like x: a heat map by channel."""
        return self.times / len(self.sigmas)
