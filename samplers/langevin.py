"""Annealed Langevin updates at one noise level: they move a noisy state towards likely pictures of that level."""

import math
import warnings

import torch

from .checks import one_level_or_descending
from .ode import prepare, report


def langevin(
    model,
    x,
    sigmas,
    extra_args=None,
    callback=None,
    disable=None,
    *,
    noise_sampler,
    step,
    updates,
    blocks=1,
    decay=0.8,
    temperature=1.0,
    noiseless_last=True,
    clip=None,
):
    """`updates` Langevin updates at the level sigmas[0], the first, or only one, of a path in decode order.

    In VP, with the paper's step e and score = -eps / sigma_vp (Algorithm 1 of CODE, its sign corrected):

        x + e score + sqrt(2 e T) z,   in VE   x - e (1 + s^2) / s eps + sqrt(2 e (1 + s^2) T) z

    step: e, a VP step; ValueError unless 0 < e < 2 sigma_vp^2, beyond which the updates diverge; a warning above a
    quarter of that. blocks: the updates are dealt out evenly over this many annealing blocks, and e is multiplied by
    `decay` after each. noiseless_last: end each block with one more update without noise. temperature: T, 1 samples the
    level's distribution, 0 climbs it. noise_sampler(x, step) gives the noise of a numbered update. clip(x, sigma), if
    given, acts before each network call. Network calls: updates + blocks (see `langevin_calls`).
    """
    x, s, denoise, clip = prepare(model, x, sigmas, extra_args, clip, check=one_level_or_descending)
    s = s[0]
    check_updates(s, step, updates, blocks, decay, temperature)
    if advice := large_step(step, s):
        warnings.warn(advice, stacklevel=2)
    drawn = calls = 0
    for block, noisy in enumerate(block_sizes(updates, blocks)):
        e = step * decay**block
        share, diffusion = e * (1 + s**2) / s**2, math.sqrt(2 * e * (1 + s**2) * temperature)
        for k in range(noisy + noiseless_last):
            x = clip(x, s)
            denoised = denoise(x, 0)
            report(callback, calls, x, s, denoised)
            # x - e (1 + s^2) / s eps, in one operation
            x = torch.lerp(x, denoised, share)
            if k < noisy:
                x = x + diffusion * noise_sampler(x, drawn)
                drawn += 1
            calls += 1
    return x


def block_sizes(updates, blocks):
    """`updates` dealt out evenly over at most `blocks` non-empty blocks, the first ones taking one more."""
    if updates < 0 or blocks < 1:
        raise ValueError("Langevin takes 0 or more updates in at least 1 block.")
    return [n for n in (updates // blocks + (i < updates % blocks) for i in range(blocks)) if n]


def langevin_calls(updates, blocks=1, noiseless_last=True):
    """How many network calls `langevin` makes: N, and one more for each block that ends without noise."""
    return updates + noiseless_last * len(block_sizes(updates, blocks))


def check_updates(sigma, step, updates, blocks=1, decay=0.8, temperature=1.0):
    """ValueError where `langevin` cannot work with these at the VE level sigma.

    On a Gaussian of variance v updates of the VP step e have the stationary variance v / (1 - e / 2v) and diverge from
    e = 2v; the smallest v that a level can have is its noise, sigma_vp^2 = sigma^2 / (1 + sigma^2).
    """
    block_sizes(updates, blocks)
    if not 0 < step < 2 * _vp_noise(sigma):
        raise ValueError(
            f"The Langevin step {step:g} is unstable at this depth: take one above 0 and below {_safe(sigma)}."
        )
    if not 0 < decay <= 1:
        raise ValueError(f"The decay of the Langevin step is {decay:g}: take one above 0 and up to 1.")
    if not temperature >= 0:
        raise ValueError(f"The temperature of the Langevin noise is {temperature:g}: take 0 or more.")


def large_step(step, sigma):
    """A sentence of advice where a stable step is above a quarter of the limit and leaves visible noise, else None."""
    if step > 0.5 * _vp_noise(sigma):
        return f"The Langevin step {step:g} is large for this depth and leaves noise: below {_safe(sigma)} is safe."
    return None


def _vp_noise(sigma):
    return sigma**2 / (1 + sigma**2)


def _safe(sigma):
    return f"{0.5 * _vp_noise(sigma):.3g}"
