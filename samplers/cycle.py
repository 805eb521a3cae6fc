"""Cycle-SDE: a picture's own noise is kept while its condition, or its state, is changed (2311.01410, Algorithm 5).

A path is recorded up from the picture by adding noise, and followed down twice at once: the source branch stays on the
record whatever the network says of it, the target branch moves by what the network says differently of it.
"""

import math
from itertools import pairwise

import torch

from .ode import prepare, report, to_eps
from .sde import down_and_up, sde_path
from .trajectory import Trajectory


def record_markov(x, levels, noise_sampler):
    """Y_i+1 = Y_i + sqrt(s_i+1^2 - s_i^2) w: noise is added step by step (eq. 7 of the paper, in VE)."""
    for k, (s, s_next) in enumerate(pairwise(levels)):
        x = x + math.sqrt(s_next**2 - s**2) * noise_sampler(x, k)
        yield s_next, x


def record_independent(x, levels, noise_sampler):
    """Y_i = x + s_i w_i, each with noise of its own: edit-friendly DDPM inversion (Huberman-Spiegelglas et al. 2024).

    The noise of its steps varies more than a sampler's, and that of neighbours is opposed: an edit keeps more.
    """
    for k, s in enumerate(levels[1:]):
        yield s, x + s * noise_sampler(x, k)


def record_posterior(x, levels, noise_sampler, eta=1.0):
    """Y_n = x + s_n w, and down from there by q(x_i-1 | x_i, x): CycleDiffusion (Wu & De la Torre 2023).

    eta: how much of each step is noise; at 1 the path is as likely as one of `record_markov`, at 0 straight.
    """
    y = x + levels[-1] * noise_sampler(x, 0)
    yield levels[-1], y
    for k in range(len(levels) - 2, 0, -1):
        down, up = down_and_up(levels[k + 1], levels[k], eta)
        y = x + down * to_eps(y, levels[k + 1], x) + up * noise_sampler(x, len(levels) - 1 - k)
        yield levels[k], y


RECORDS = {"markov": record_markov, "independent": record_independent, "posterior": record_posterior}


def record(x, sigmas, noise_sampler, kind="markov", eta=1.0):
    """The Trajectory of noised states of the pictures x at each of `sigmas`, a decode path; x itself at the last.

    x: (B, C, H, W). kind: a name in RECORDS. eta: of the kind "posterior", see `cycle_sde`. noise_sampler(x, k) gives
    the k-th noise. No network is called. Raises ValueError where the kind is unknown or the path does not descend.
    """
    if kind not in RECORDS:
        raise ValueError(f"The record {kind!r} is unknown: take one of {', '.join(RECORDS)}.")
    levels = sde_path(sigmas, eta)[::-1]
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    path = Trajectory(x)
    path.reached(levels[0], x)
    options = {"eta": eta} if kind == "posterior" else {}
    for s, y in RECORDS[kind](x, levels, noise_sampler, **options):
        path.reached(s, y)
    return path


def cycle_sde(
    model,
    x,
    sigmas,
    extra_args=None,
    callback=None,
    disable=None,
    *,
    path,
    source=None,
    eta=1.0,
    mask=None,
    recorded_noise=False,
):
    """Cycle-SDE from the states x at sigmas[0] down, beside the recorded `path` Y (Algorithm 5, in its delta form).

        x_i-1 = Y_i-1 + r (x - Y) + (1 - r) (x0(x | target) - x0(Y | source)),   r = s_down / s

    That is the step with the noise that takes Y_i to Y_i-1, which cancels: where x is Y and the conditions are the
    same, x stays Y to the bit, at any guidance. x0: as `model` and `source` see it, denoisers of the target and the
    source condition, called in turn on states of one shape; without a `source`, `model` sees both in one batch, the
    target's first, and `extra_args` hold both conditions.

    path: a Trajectory with the states at all of `sigmas`, from `record`, or from an inversion with eta 0: then this is
    direct inversion (Ju et al. 2024), which makes DDIM come back under any guidance. x: path.states[sigmas[0]], or
    what was made of it. sigmas: descending; a last 0 ends in the picture. eta: 1 is the paper's, where s_down =
    s_i-1^2 / s_i; 0 is the ODE. mask: broadcastable to x, where it is 0 each state is reset to Y, where 1 left;
    between, it says how much is left in all. recorded_noise: take the noise out of Y and add it again, as the paper's
    code does, which loses digits.

    Network calls: 2 a step, or 1 of twice the batch. Raises ValueError where the path lacks a level.
    """
    x, s, denoise, _ = prepare(both_of(model, source), x, sigmas, extra_args, check=lambda path: sde_path(path, eta))
    recorded = path.at(s)
    if mask is not None:
        mask = mask ** (1 / (len(s) - 1))
    for i in range(len(s) - 1):
        y, y_next = (state.to(x, non_blocking=True) for state in recorded[i : i + 2])
        target, from_source = denoise(torch.cat([x, y]), i).chunk(2)
        report(callback, i, x, s[i], target)
        down, up = down_and_up(s[i], s[i + 1], eta)
        if recorded_noise and up > 0:
            noise = (y_next - from_source - down * to_eps(y, s[i], from_source)) / up
            x = target + down * to_eps(x, s[i], target) + up * noise
        else:
            x = y_next + torch.lerp(target - from_source, x - y, down / s[i])
        if mask is not None:
            x = torch.lerp(y_next, x, mask)
    return x


def both_of(model, source):
    """A denoiser of two batches in one: `model` for the first, `source` for the second, if there is one."""
    if source is None:
        return lambda x, sigma, **conditioning: model(x, _twice(sigma), **conditioning)

    def denoise(x, sigma, **conditioning):
        first, second = x.chunk(2)
        # both contiguous and of one shape, so that equal states give equal bits
        return torch.cat([model(first, sigma, **conditioning), source(second, sigma, **conditioning)])

    return denoise


def _twice(sigma):
    return torch.cat([sigma, sigma])
