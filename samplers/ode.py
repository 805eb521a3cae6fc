"""The probability-flow ODE dx/dsigma = eps(x, sigma), up (encoding) and down (decoding), in VE coordinates.

Every solver is method(model, x, sigmas, extra_args=None, callback=None, disable=None, *, clip=None): `sigmas` rise or
fall strictly, start above 0, and may end in 0, on which a solver returns the denoised picture. `clip(x, sigma)` acts on
the state before each network call. `callback` gets {"x", "i", "sigma", "sigma_hat", "denoised"} once a step; `disable`
belongs to the convention and is not used: nothing is printed here. The state is float32, or float64 if given.
"""

import math

import torch

from . import fused
from .checks import noise_path


def prepare(model, x, sigmas, extra_args=None, clip=None, check=noise_path):
    """What a loop needs: the state in working precision, the levels as floats, and the model at level i of a path.

    Returns x, levels, denoise(x, i) and clip(x, sigma). All that must come from the device is fetched here, once.
    """
    levels = check(sigmas)
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if x.is_cuda:
        fused.check(x.device)
    rows = levels_for(x, sigmas)
    extra_args = extra_args or {}
    return x, levels, lambda x, i: model(x, rows[i], **extra_args), clip or (lambda x, sigma: x)


def levels_for(x, sigmas):
    """For each level of a path its sigma for each item of x, (B,), on the device of x."""
    return sigmas.to(x, non_blocking=True)[:, None].repeat(1, len(x)).unbind()


def to_eps(x, sigma, denoised):
    """eps = (x - denoised) / sigma: the noise that the model sees in x, and the ODE's derivative dx/dsigma."""
    return (x - denoised) / sigma


def report(callback, i, x, sigma, denoised):
    """Call `callback`, if there is one, with k-diffusion's dictionary."""
    if callback is not None:
        callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})


def counting_on(callback, done):
    """The callback of a later part of a run, whose steps count on from `done`."""
    return callback and (lambda state: callback({**state, "i": state["i"] + done}))


def euler(model, x, sigmas, extra_args=None, callback=None, disable=None, *, clip=None, convention="source"):
    """DDIM: x + (s_next - s) eps(x, s) (eq. 13 of Song et al. 2021, Euler's method in VE). One call a step.

    convention: "source" evaluates the network at the level it starts from, as CODE and ComfyUI do; "target" at the
    level it goes to, as prompt-to-prompt and diffusers' DDIMInverseScheduler do when inverting. A step to 0 has no
    target level and takes the source.
    """
    if convention not in ("source", "target"):
        raise ValueError(f"The convention {convention!r} is unknown: take 'source' or 'target'.")
    x, s, denoise, clip = prepare(model, x, sigmas, extra_args, clip)
    for i in range(len(s) - 1):
        x = clip(x, s[i])
        if convention == "target" and s[i + 1] > 0:
            # at the target's scale, where x_vp is what it was
            y = x * math.sqrt((1 + s[i + 1] ** 2) / (1 + s[i] ** 2))
            denoised = x - s[i] * to_eps(y, s[i + 1], denoise(y, i + 1))
        else:
            denoised = denoise(x, i)
        report(callback, i, x, s[i], denoised)
        # x + (s_next - s) eps, in one operation
        x = torch.lerp(x, denoised, 1 - s[i + 1] / s[i])
    return x


def heun(model, x, sigmas, extra_args=None, callback=None, disable=None, *, clip=None):
    """Heun's second-order method: Algorithm 1 of Karras et al. (2022). Two calls a step, one on a step to 0."""
    x, s, denoise, clip = prepare(model, x, sigmas, extra_args, clip)
    for i in range(len(s) - 1):
        x = clip(x, s[i])
        denoised = denoise(x, i)
        report(callback, i, x, s[i], denoised)
        if s[i + 1] == 0:
            return denoised
        h = s[i + 1] - s[i]
        y, eps = fused.ode_step(x, denoised, s[i], h)
        y = clip(y, s[i + 1])
        x = fused.heun_step(x, eps, y, denoise(y, i + 1), s[i + 1], h)
    return x


def ab2(
    model, x, sigmas, extra_args=None, callback=None, disable=None, *, clip=None, variable="log sigma", start="heun"
):
    """Two-step Adams-Bashforth with variable steps: eps, extrapolated from the last two levels. One call a step.

        x + (s_next - s) eps + w (eps - eps_last),   w = int_s^s_next (u(r) - u(s)) dr / (u(s) - u(s_last))

    variable: u, in which eps is taken to be linear, "log sigma" or "sigma" (w = h^2 / 2 h_last). start: the first step,
    "heun" (one call more) or "euler".
    """
    if variable not in _AB2_WEIGHTS or start not in ("heun", "euler"):
        raise ValueError("AB2 takes the variable 'log sigma' or 'sigma' and the start 'heun' or 'euler'.")
    weight = _AB2_WEIGHTS[variable]
    x, s, denoise, clip = prepare(model, x, sigmas, extra_args, clip)
    last = None
    for i in range(len(s) - 1):
        x = clip(x, s[i])
        denoised = denoise(x, i)
        report(callback, i, x, s[i], denoised)
        if s[i + 1] == 0:
            return denoised
        h, w = s[i + 1] - s[i], weight(s[i - 1], s[i], s[i + 1]) if i else 0.0
        y, eps = fused.ode_step(x, denoised, s[i], h, last, w)
        if i == 0 and start == "heun":
            y = clip(y, s[i + 1])
            y = fused.heun_step(x, eps, y, denoise(y, i + 1), s[i + 1], h)
        x, last = y, eps
    return x


_AB2_WEIGHTS = {
    "sigma": lambda last, s, to: (to - s) ** 2 / (2 * (s - last)),
    "log sigma": lambda last, s, to: (to * math.log(to / s) - (to - s)) / math.log(s / last),
}


def dpmpp_2m(model, x, sigmas, extra_args=None, callback=None, disable=None, *, clip=None):
    """DPM-Solver++(2M): two steps, data prediction, log sigma; Algorithm 2 of Lu et al. (2022). One call a step."""
    x, s, denoise, clip = prepare(model, x, sigmas, extra_args, clip)
    last = None
    for i in range(len(s) - 1):
        x = clip(x, s[i])
        denoised = denoise(x, i)
        report(callback, i, x, s[i], denoised)
        if s[i + 1] == 0:
            return denoised
        ratio = s[i + 1] / s[i]
        x = ratio * x + (1 - ratio) * extrapolated(denoised, last, s, i)
        last = denoised
    return x


def extrapolated(denoised, last, s, i):
    """x0-hat in the middle of the step i of a path s above 0, linear in log sigma; without a `last`, as it is."""
    if last is None:
        return denoised
    return denoised + math.log(s[i + 1] / s[i]) / (2 * math.log(s[i] / s[i - 1])) * (denoised - last)


SOLVERS = {"euler": euler, "heun": heun, "ab2": ab2, "dpmpp_2m": dpmpp_2m}


def network_calls(solver, sigmas):
    """How many network calls SOLVERS[solver] makes on a path, with its default options."""
    steps, to_zero = len(sigmas) - 1, bool(sigmas[-1] == 0)
    if solver == "heun":
        return 2 * steps - to_zero
    return steps + (solver == "ab2" and steps > to_zero)
