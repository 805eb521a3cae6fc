"""Solvers that bring a picture back: each way up undoes its way down, in `ode`'s convention and VE coordinates.

`fixed_point` and `exact_dpmpp` find, going up, the states from which Euler and DPM-Solver++(2M) come down to where they
were; they return x, and any decode by those two comes back. EDICT, BDIA and O-BELM follow a pair of states, which a
single picture cannot replace: they return (x, Companion) and take the companion back to turn round. A path that ends in
0 returns the denoised picture, and no companion; nothing leads back from there.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch

from .checks import noise_path
from .ode import dpmpp_2m, euler, prepare, report, to_eps


@dataclass(frozen=True)
class Companion:
    """The second state of a pair.

    state: like x, in VE coordinates, at the level `sigma`; `beside` is the level of x. solver: the solver that it
    belongs to, with its setting. levels: the noise levels of the whole inversion in decode order, without 0.
    """

    state: torch.Tensor
    sigma: float
    beside: float
    solver: str
    levels: tuple[float, ...]


def fixed_point(model, x, sigmas, extra_args=None, callback=None, disable=None, *, clip=None, iterations=2, memory=3):
    """Implicit DDIM inversion (AIDI, FPI): going up, y = x + (s_next - s) eps(y, s_next), from which Euler comes back.

    iterations: network calls a step going up, on average; steps that multiply sigma more get more of them. memory: how
    many of the last are mixed by Anderson acceleration, 0 for the plain iteration. Going down it is Euler. `clip` acts
    on the state of each level, and what it moves does not come back.
    """
    if not _rises(sigmas):
        return euler(model, x, sigmas, extra_args, callback, clip=clip)
    x, s, denoise, clip = prepare(model, x, sigmas, extra_args, clip)
    last = eps = None
    for i, calls in enumerate(shares(s, iterations)):
        x, h = clip(x, s[i]), s[i + 1] - s[i]
        denoised = None

        def implicit(y, i=i, x=x, h=h):
            nonlocal denoised
            denoised = denoise(y, i + 1)
            return x + h * to_eps(y, s[i + 1], denoised)

        y = anderson(implicit, _extrapolated(x, s, i, eps, last), calls, memory)
        report(callback, i, x, s[i], denoised)
        last, eps = eps, (y - x) / h
        x = y
    return x


def exact_dpmpp(model, x, sigmas, extra_args=None, callback=None, disable=None, *, clip=None, iterations=2):
    """The inverse of DPM-Solver++(2M) (Hong et al. 2024): going up, the states from which `dpmpp_2m` comes back.

        x = s / s_next y + (1 - s / s_next) (D + c (D - D_above)),   D = model(y, s_next)

    D_above belongs to the state that comes next, so all are found together, in sweeps over the path: the first has a
    trapezoid for D + c (D - D_above), the others c (D - D_above) of the sweep before. iterations: network calls a step
    in all, shared out to sweeps of 1, 2, 3, 3, ... It keeps two states for each level. Going down it is `dpmpp_2m`.
    clip: only there.
    """
    if not _rises(sigmas):
        return dpmpp_2m(model, x, sigmas, extra_args, callback, clip=clip)
    if clip is not None:
        raise ValueError("The inverse of DPM-Solver++ cannot clip on its way up: leave the clip out.")
    left = _counted(iterations)
    x, s, denoise, _ = prepare(model, x, sigmas, extra_args)
    steps = [math.log(b / a) for a, b in pairwise(s)]
    states, bends, calls = [x], None, 0
    while left:
        calls = min(calls + 1, 3, left)
        left -= calls
        states, data = _sweep(denoise, s, states, bends, calls, None if left else callback)
        c = [step / (2 * above) for step, above in pairwise(steps)]
        bends = [w * (d - above) for w, (d, above) in zip(c, pairwise(data), strict=True)] + [0.0]
    return states[-1]


def _sweep(denoise, s, states, bends, calls, callback):
    """The states of all levels and D of each above the first, from those of the last sweep and its c (D - D_above)."""
    found, data, last, eps = states[:1], [], None, None
    for i in range(len(s) - 1):
        x, denoised = found[-1], None

        def implicit(y, i=i, x=x):
            nonlocal denoised
            denoised = target = denoise(y, i + 1)
            if bends is not None:
                target = denoised + bends[i]
            elif 0 < i < len(s) - 2:
                # dpmpp_2m's own first step, the last one here, does not bend
                target = (denoised + data[-1]) / 2
            return x + (s[i + 1] - s[i]) * to_eps(y, s[i + 1], target)

        guess = _extrapolated(x, s, i, eps, last) if bends is None else states[i + 1] + (x - states[i])
        y = anderson(implicit, guess, calls, memory=2)
        report(callback, i, x, s[i], denoised)
        last, eps = eps, to_eps(y, s[i + 1], denoised)
        found.append(y)
        data.append(denoised)
    return found, data


def edict(model, x, sigmas, extra_args=None, callback=None, disable=None, *, companion=None, fresh=False, mixing=0.93):
    """EDICT (Wallace et al. 2023): two states, each moved by the noise seen in the other, then mixed. Two calls a step.

        x += h eps(y),  y += h eps(x),  x = p x + (1 - p) y,  y = p y + (1 - p) x,   h = s_next - s

    Both eps are asked at the noisier level; on odd steps of the decode y moves first. Going up the same, undone in
    reverse order. mixing: p, from 0.9 to 1. Returns (x, Companion). fresh: going down without a companion, from y = x.
    """
    if not 0.9 <= mixing <= 1:
        raise ValueError(f"EDICT's mixing is {mixing:g}: take 0.9 to 1, below which undoing it loses all precision.")
    solver, p = f"EDICT with mixing {mixing:g}", mixing
    sigmas, path = _followed(solver, x, sigmas, companion, fresh)
    x, s, denoise, _ = prepare(model, x, sigmas, extra_args)
    pair = [x, x if companion is None else companion.state.to(x)]
    for i, (here, there) in enumerate(pairwise(s)):
        if there == 0:
            return _denoised(denoise, callback, i, pair[0], here), None
        noisier, high, low, h = i + (there > here), max(here, there), min(here, there), there - here
        # the network is told the noisier level: a state of the other comes at the scale of its x_vp
        scale = math.sqrt((1 + high**2) / (1 + low**2))
        seen, x = None, pair[0]

        def eps(z, noisier=noisier, high=high):
            nonlocal seen
            seen = denoise(z, noisier)
            return to_eps(z, high, seen)

        first = path.index(high) % 2
        second = 1 - first
        if there < here:
            pair[first] = pair[first] + h * eps(pair[second])
            pair[second] = pair[second] + h * eps(scale * pair[first])
            pair[0] = p * pair[0] + (1 - p) * pair[1]
            pair[1] = p * pair[1] + (1 - p) * pair[0]
        else:
            pair[1] = (pair[1] - (1 - p) * pair[0]) / p
            pair[0] = (pair[0] - (1 - p) * pair[1]) / p
            pair[second] = pair[second] + h * eps(scale * pair[first])
            pair[first] = pair[first] + h * eps(pair[second])
        report(callback, i, x, here, seen)
    return pair[0], Companion(pair[1], s[-1], s[-1], solver, path)


def bdia(model, x, sigmas, extra_args=None, callback=None, disable=None, *, companion=None, fresh=False, gamma=1.0):
    """BDIA-DDIM (Zhang et al. 2023): DDIM's step, and what its step back to the last state missed. One call a step.

        x + h eps + w (x_last - (x - g eps)),   h = s_next - s,  g = s - s_last,  w = gamma a_last / a_next going down

    Going up 1 / gamma takes the place of gamma, and errors grow by it at every step. Returns (x, Companion), the
    companion one level behind. fresh: going down without one, from a step of Euler's; only so may gamma be below 0.92.
    """
    if not 0 < gamma <= 1:
        raise ValueError(f"BDIA's gamma is {gamma:g}: take 0.92 to 1.")
    rising = _rises(sigmas)
    if gamma < 0.92 and (rising or companion is not None):
        raise ValueError(
            f"BDIA with gamma {gamma:g} cannot invert, as errors grow by 1 / gamma at every step: take 0.92 to 1."
        )
    share = 1 / gamma if rising else gamma

    def step(last, x, eps, s_last, s, s_next):
        h, g, w = s_next - s, s - s_last, share * math.sqrt((1 + s_next**2) / (1 + s_last**2))
        return x + h * eps + w * (last - (x - g * eps))

    return _two_step(f"BDIA with gamma {gamma:g}", step, model, x, sigmas, extra_args, callback, companion, fresh)


def belm(model, x, sigmas, extra_args=None, callback=None, disable=None, *, companion=None, fresh=False):
    """O-BELM (Wang et al. 2024), second order, the same formula both ways. One call a step.

        x + h (1 + h / g) eps + (h / g)^2 (x_last - x),   h = s_next - s,  g = s - s_last

    Returns (x, Companion), the companion one level behind. fresh: going down without one, from a step of Euler's.
    """

    def step(last, x, eps, s_last, s, s_next):
        h, g = s_next - s, s - s_last
        return x + h * (1 + h / g) * eps + (h / g) ** 2 * (last - x)

    return _two_step("O-BELM", step, model, x, sigmas, extra_args, callback, companion, fresh)


def _two_step(solver, step, model, x, sigmas, extra_args, callback, companion, fresh):
    """Follow x_next = step(last, x, eps, s_last, s, s_next); the first step is Euler's, or to the companion's state."""
    sigmas, path = _followed(solver, x, sigmas, companion, fresh)
    x, s, denoise, _ = prepare(model, x, sigmas, extra_args)
    last, s_last, first = None, None, 0
    if companion is not None:
        last, s_last = companion.state.to(x), companion.sigma
        if s_last == s[1]:
            # turned round: the next state is known
            last, x, s_last, first = x, last, s[0], 1
    for i in range(first, len(s) - 1):
        denoised = denoise(x, i)
        report(callback, i, x, s[i], denoised)
        if s[i + 1] == 0:
            return denoised, None
        eps = to_eps(x, s[i], denoised)
        moved = x + (s[i + 1] - s[i]) * eps if last is None else step(last, x, eps, s_last, s[i], s[i + 1])
        last, x, s_last = x, moved, s[i]
    return x, Companion(last, s_last, s[-1], solver, path)


def _followed(solver, x, sigmas, companion, fresh):
    """(the sigmas to follow, the levels of the whole inversion in decode order), or ValueError: they must fit."""
    levels = noise_path(sigmas)
    if companion is None:
        if levels[0] > levels[1] and not fresh:
            raise ValueError(
                f"{solver.split()[0]} comes back only with the companion of its inversion: connect it, or decode with "
                "a solver that has none."
            )
        return sigmas, tuple(sorted((s for s in levels if s > 0), reverse=True))
    if companion.solver != solver:
        raise ValueError(f"The companion belongs to {companion.solver}, not to {solver}: decode as it was inverted.")
    if companion.state.shape != x.shape:
        raise ValueError("The companion is that of another picture or batch: take the one of the latent's inversion.")
    path = companion.levels
    # sigmas may have been rounded on their way here: the inversion's own are followed
    places = [min(range(len(path)), key=lambda k: abs(path[k] - s)) for s in levels if s > 0]
    if (
        any(abs(path[k] / s - 1) > 1e-4 for k, s in zip(places, levels, strict=False))
        or places not in (list(range(places[0], places[-1] + 1)), list(range(places[0], places[-1] - 1, -1)))
        or path[places[0]] != companion.beside
    ):
        raise ValueError("The companion belongs to other noise levels: decode with the SIGMAS that its inversion took.")
    zero = [0.0] * (levels[-1] == 0)
    return torch.tensor([path[k] for k in places] + zero, dtype=torch.float64), path


def _denoised(denoise, callback, i, x, sigma):
    denoised = denoise(x, i)
    report(callback, i, x, sigma, denoised)
    return denoised


def _rises(sigmas):
    levels = noise_path(sigmas)
    return levels[0] < levels[1]


def _counted(iterations):
    if iterations < 1 or iterations != int(iterations):
        raise ValueError(f"iterations is {iterations:g}: take a whole number of at least 1.")
    return int(iterations)


def _extrapolated(x, s, i, eps, last):
    """A guess of the state at s[i + 1]: Euler's step with eps carried on along log sigma."""
    if eps is None:
        return x
    if last is not None:
        eps = eps + math.log(s[i + 1] / s[i]) / math.log(s[i] / s[i - 1]) * (eps - last)
    return x + (s[i + 1] - s[i]) * eps


def shares(levels, iterations):
    """How many iterations each step of an ascending path gets, `iterations` on average and at least one.

    With the eigenvalues of eps' in [0, 1 / s], Anderson's error falls like ((r - 1) / (r + 1))^k, r^2 = s_next / s: the
    next call always goes to the step that is left with the largest.
    """
    counts = [1] * (len(levels) - 1)
    rates = [math.log((b**0.5 - a**0.5) / (b**0.5 + a**0.5)) for a, b in pairwise(levels)]
    for _ in range((_counted(iterations) - 1) * len(counts)):
        counts[max(range(len(counts)), key=lambda i: counts[i] * rates[i])] += 1
    return counts


def anderson(g, x, iterations, memory):
    """x = g(x), by `iterations` evaluations of g and Anderson acceleration (Walker & Ni 2011), each picture by itself.

    The differences of the residuals g(x) - x are made orthogonal from the newest on; one that adds nothing, as where a
    flat picture has converged, counts for nothing.
    """
    tried = []
    for _ in range(iterations):
        image = g(x)
        tried = [*tried, (image, image - x)][-memory - 1 :]
        x, residual, columns = *tried[-1], []
        for (image, r), (image_before, r_before) in zip(reversed(tried[1:]), reversed(tried[:-1]), strict=True):
            change, moved = r - r_before, image - image_before
            size = _dot(change, change)
            for earlier, earlier_moved, norm in columns:
                weight = _dot(earlier, change) / norm
                change, moved = change - weight * earlier, moved - weight * earlier_moved
            norm = _dot(change, change)
            adds = norm > 1e-6 * size
            columns.append((adds * change, adds * moved, torch.where(adds, norm, 1.0)))
        for change, moved, norm in columns:
            weight = _dot(change, residual) / norm
            x, residual = x - weight * moved, residual - weight * change
    return x


def _dot(a, b):
    return (a * b).flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))


EXACT = {"fixed_point": fixed_point, "exact_dpmpp": exact_dpmpp, "edict": edict, "bdia": bdia, "belm": belm}
# those that return (x, Companion), and come down only with it
PAIRED = ("edict", "bdia", "belm")


def exact_calls(solver, sigmas, companion=None, iterations=2):
    """How many network calls EXACT[solver] makes on a path, in its direction."""
    steps, to_zero = len(sigmas) - 1, bool(sigmas[-1] == 0)
    if solver == "edict":
        return 2 * steps - to_zero
    if solver in PAIRED:
        # a companion one level ahead is a step that is already made
        ahead = companion is not None and math.isclose(companion.sigma, float(sigmas[1]), rel_tol=1e-4)
        return steps - ahead
    return steps * iterations if sigmas[0] < sigmas[-1] else steps
