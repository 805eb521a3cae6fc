"""Stochastic samplers in VE coordinates: the ancestral step, and SDEdit, the baseline that CODE is compared with."""

import math

from .checks import descending
from .ode import prepare, report, to_eps


def sde_path(sigmas, eta=1.0):
    """The levels of a path in decode order as floats, or ValueError, also for an eta outside [0, 1]."""
    if not 0 <= eta <= 1:
        raise ValueError(f"The eta is {eta:g}: take 0, the ODE, to 1, the SDE.")
    return descending(sigmas)


def down_and_up(sigma, sigma_next, eta=1.0):
    """(s_down, s_up) of a step from sigma to sigma_next: the noise that is kept of the state's, and what is new.

        s_up = eta s_next sqrt(1 - s_next^2 / s^2),   s_down^2 = s_next^2 - s_up^2

    eta = 1 is DDPM with the small variance, where s_down = s_next^2 / s; eta = 0 is DDIM.
    """
    up = eta * sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2)
    return math.sqrt(sigma_next**2 - up**2), up


def ancestral_step(x, denoised, sigma, sigma_next, noise, eta=1.0):
    """One step of DDPM's reverse process from sigma down to sigma_next (eq. 12 and 16 of Song et al. 2021, in VE).

        denoised + s_down eps + s_up z

    eta = 1 is DDPM with the small variance, k-diffusion's euler_ancestral and SDE-DPM-Solver++(1); eta = 0 is DDIM.
    See `down_and_up`.
    """
    down, up = down_and_up(sigma, sigma_next, eta)
    return denoised + down * to_eps(x, sigma, denoised) + up * noise


def sdedit(
    model,
    x,
    sigmas,
    extra_args=None,
    callback=None,
    disable=None,
    *,
    noise_sampler,
    mask=None,
    repeats=1,
    eta=1.0,
):
    """SDEdit (Meng et al. 2022): noise the picture x to sigmas[0], then sample down the path with ancestral steps.

    x: clean pictures, (B, C, H, W). sigmas: descending, of any stride; a last 0 gives the denoised picture. mask:
    broadcastable to x, 1 where the picture is kept: there the state is set to x + sigma n at each level reached, n the
    same throughout a repeat, and to x itself at 0; between 0 and 1 it says how much is kept in all. repeats: the result
    is the next start. noise_sampler(x, step) gives the noise of a numbered draw. Network calls: repeats *
    (len(sigmas) - 1).
    """
    if repeats < 1:
        raise ValueError("SDEdit takes at least 1 repeat.")
    picture, s, denoise, _ = prepare(model, x, sigmas, extra_args, check=descending)
    if mask is not None:
        # each step takes its share
        mask = 1 - (1 - mask) ** (1 / (len(s) - 1))
    drawn = 0
    for repeat in range(repeats):
        start = noise_sampler(picture, drawn)
        drawn += 1
        x = picture + s[0] * start
        for i in range(len(s) - 1):
            denoised = denoise(x, i)
            report(callback, repeat * (len(s) - 1) + i, x, s[i], denoised)
            if s[i + 1] > 0:
                x = ancestral_step(x, denoised, s[i], s[i + 1], noise_sampler(x, drawn), eta)
                drawn += 1
            else:
                x = denoised
            if mask is not None:
                x = mask * (picture + s[i + 1] * start) + (1 - mask) * x
        picture = x
    return x
