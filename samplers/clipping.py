"""Confidence-based clipping, CBC: a noisy state is held inside the interval where clean data plus noise must lie."""

import math


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


class ConfidenceClip:
    """Confidence-based clipping as a solver's `clip`: called with (x, sigma) before each network call while encoding.

    eta: how many standard deviations of noise are believed, 0 or more; smaller clips more. low, high: the range of
    clean data, numbers or tensors of one entry a channel, (C, 1, 1). `clipped`: True where any call so far has moved a
    value, a bool tensor like x (None before the first call).
    """

    def __init__(self, eta=1.0, low=-1.0, high=1.0):
        if not eta >= 0:
            raise ValueError(f"The clip's eta is {eta:g}: take 0 or more, or no clip.")
        self.eta, self.low, self.high, self.clipped = eta, low, high, None

    def __call__(self, x, sigma):
        inside = confidence_clip(x, sigma, self.eta, self.low, self.high)
        moved = inside != x
        self.clipped = moved if self.clipped is None else self.clipped | moved
        return inside
