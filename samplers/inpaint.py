"""Inpainting by replacement, with the ODE or the SDE, of first or second order (2311.01410, F.1)."""

import math
from itertools import count

import torch

from .ode import extrapolated, prepare, report
from .sde import ancestral_step, sde_path

# (order, eta): Inpaint-SDE and -ODE of the paper, and their second orders
INPAINTERS = {"ddpm": (1, 1.0), "sde_dpmpp_2m": (2, 1.0), "ddim": (1, 0.0), "dpmpp_2m": (2, 0.0)}


def inpaint(
    model,
    x,
    sigmas,
    extra_args=None,
    callback=None,
    disable=None,
    *,
    mask,
    noise_sampler,
    solver="ddpm",
    fixed_noise=False,
    repeats=1,
):
    """Fill in the pictures x where mask is 1, from noise at sigmas[0] down; where it is 0 they stay to the bit.

    Before each network call the state is held to the noised picture, x <- m x + (1 - m) (picture + s n), then follows a
    step of `solver`, a name in INPAINTERS: "ddpm" and "sde_dpmpp_2m" add noise, "ddim" and "dpmpp_2m" do not.

    x: clean pictures, (B, C, H, W); where the mask is 1 they count only as much as sigmas[0] lets through. sigmas:
    descending; a last 0 ends in the picture. mask: broadcastable to x; between 0 and 1 it says how much of a change is
    left in all. fixed_noise: n is the same throughout, as in the paper's code and ComfyUI, rather than fresh at each
    level, which lies nearer to the true conditional. repeats: steps at each level, with noise added between to return
    to it, which lets the new part take more notice of the old (RePaint, Lugmayr et al. 2022). noise_sampler(x, k) gives
    the k-th noise. Network calls: repeats a step, but 1 on a step to 0. Raises ValueError for an unknown solver or less
    than 1 repeat.
    """
    if solver not in INPAINTERS:
        raise ValueError(f"The inpainting solver {solver!r} is unknown: take one of {', '.join(INPAINTERS)}.")
    if repeats < 1:
        raise ValueError("Inpainting takes at least 1 step at each level.")
    order, eta = INPAINTERS[solver]
    picture, s, denoise, _ = prepare(model, x, sigmas, extra_args, check=sde_path)
    share = mask ** (1 / (inpaint_calls(s, repeats) + 1))
    first, draws = noise_sampler(picture, 0), count(1)

    def fresh():
        return noise_sampler(picture, next(draws))

    x, last, calls = picture + s[0] * first, None, 0
    for i in range(len(s) - 1):
        for repeat in range(repeats if s[i + 1] > 0 else 1):
            if repeat:
                x = x + math.sqrt(s[i] ** 2 - s[i + 1] ** 2) * fresh()
            x = torch.lerp(picture + s[i] * (first if fixed_noise else fresh()), x, share)
            denoised = denoise(x, i)
            report(callback, calls, x, s[i], denoised)
            calls += 1
            if s[i + 1] > 0:
                data = extrapolated(denoised, last, s, i) if order == 2 else denoised
                x = ancestral_step(x, data, s[i], s[i + 1], fresh() if eta else 0.0, eta)
            else:
                x = denoised
        last = denoised
    return torch.lerp(picture + s[-1] * first, x, share)


def inpaint_calls(sigmas, repeats=1):
    """How many network calls `inpaint` makes on a decode path."""
    steps, to_zero = len(sigmas) - 1, bool(sigmas[-1] == 0)
    return repeats * (steps - to_zero) + to_zero
