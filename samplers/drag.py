"""SDE-Drag and ODE-Drag: what is at source points is carried to target points, step by step (2311.01410, Algorithm 1).

A drag step carries the picture up to a noise level, copies the window round each source onto the one round its target,
perturbs the source, and comes back: by noise and Cycle-SDE, or along the ODE both ways. A point is (x, y) in pixels of
the state, from 0 to its width or height, a pair (source, target), and a move the part of a pair that one step makes.
"""

import math

import torch

from .cycle import cycle_sde, record
from .noise_levels import ve_to_vp, vp_to_ve
from .ode import SOLVERS, counting_on, network_calls
from .restore import encode_path
from .trajectory import Trajectory

KINDS = ("sde", "ode")
ORDERS = ("at once", "in turn")


def drag_count(distance):
    """m = ceil(D / 2), at least 1: how many steps a drag over a distance of D pixels is divided into."""
    return max(1, math.ceil(distance / 2))


def moves_of(pairs, order="at once"):
    """[[move of each pair], ...], a list for each drag step: the pairs all `at once`, or `in turn`.

    A pair whose target is its source moves nothing and is left out. Raises ValueError for an unknown order.
    """
    if order not in ORDERS:
        raise ValueError(f"The order {order!r} is unknown: take one of {', '.join(ORDERS)}.")
    pairs = [(source, target) for source, target in pairs if tuple(source) != tuple(target)]
    groups = [[pair] for pair in pairs] if order == "in turn" else [pairs] if pairs else []
    steps = []
    for group in groups:
        m = drag_count(max(math.dist(*pair) for pair in group))
        steps += [[(_between(*pair, k / m), _between(*pair, (k + 1) / m)) for pair in group] for k in range(m)]
    return steps


def _between(source, target, share):
    return tuple(round(s + (t - s) * share, 9) for s, t in zip(source, target, strict=True))


def check_drag(pairs, shape, radius):
    """ValueError where a point lies outside a state of `shape` (..., H, W), or a window of `radius` does not fit in."""
    height, width = shape[-2:]
    if not 1 <= radius <= min(height, width) // 2:
        raise ValueError(
            f"A window of radius {radius} does not fit into {width}x{height}: take a radius from 1 to "
            f"{min(height, width) // 2}."
        )
    for source, target in pairs:
        for x, y in (source, target):
            if not (0 <= x <= width and 0 <= y <= height):
                raise ValueError(
                    f"The point ({x:g}, {y:g}) lies outside the picture: take x from 0 to {width} and y from 0 to "
                    f"{height}."
                )


def window(source, target, size, radius):
    """(low, high, whole, rest) along one axis of a move: target pixels low to high - 1, and how far they come.

    The pixels are those within `radius` of the target, less what would reach out of 0 to `size` there or at the source,
    `whole` pixels before; `rest` is the part of the way that is no whole pixel, in [-0.5, 0.5].
    """
    way = target - source
    whole, centre = math.floor(way + 0.5), math.floor(target + 0.5)
    return max(centre - radius, 0, whole), min(centre + radius, size, size + whole), whole, way - whole


def copied(state, picture, move, radius):
    """(patch, place, origin): what a move brings, (B, C, h, w), and where to and from, as indices of `state`.

    The noise moves by whole pixels, so that it stays white, and the `picture` under it, linearly interpolated, by what
    is left.
    """
    source, target = move
    axes = [window(source[i], target[i], state.shape[-1 - i], radius) for i in (1, 0)]
    place = (..., *(slice(low, high) for low, high, _, _ in axes))
    origin = (..., *(slice(low - whole, high - whole) for low, high, whole, _ in axes))
    under = picture
    for dim, (low, high, whole, rest) in zip((-2, -1), axes, strict=True):
        under = _interpolated(under, dim, low - whole, high - whole, rest)
    return state[origin] + (under - picture[origin]), place, origin


def _interpolated(x, dim, low, high, rest):
    pixels = torch.arange(low, high, device=x.device)
    near = x.index_select(dim, pixels)
    if rest == 0:
        return near
    beside = (pixels - int(math.copysign(1, rest))).clamp(0, x.shape[dim] - 1)
    return torch.lerp(near, x.index_select(dim, beside), abs(rest))


def copy_paste(state, picture, sigma, moves, noise_sampler, radius=5, alpha=1.1, beta=0.3):
    """The `state` at `sigma` after the moves, eq. 12 of the paper in VE; `picture` is what it was made of.

        x[source] = beta x[source] + sqrt(1 - beta^2) sqrt(1 + sigma^2) z,   x[target] = alpha x[source]

    All is read from the state as it came, and what is copied covers what is perturbed. noise_sampler(x, k) gives the z
    of move k.
    """
    x = state.clone()
    copies = [copied(state, picture, move, radius) for move in moves]
    for k, (_, _, origin) in enumerate(copies):
        patch = ve_to_vp(state[origin], sigma)
        x[origin] = vp_to_ve(beta * patch + math.sqrt(1 - beta**2) * noise_sampler(state, k)[origin], sigma)
    for patch, place, _ in copies:
        x[place] = alpha * patch
    return x


def drag_step(
    model,
    x,
    sigmas,
    extra_args=None,
    callback=None,
    disable=None,
    *,
    moves,
    noise_sampler,
    kind="sde",
    radius=5,
    alpha=1.1,
    beta=0.3,
    mask=None,
    solver="ab2",
):
    """The pictures x, (B, C, H, W), after one drag step: a list of `moves_of`, at sigmas[0].

    sigmas: descending, the last taken for the picture's own. kind: "sde" adds noise and comes back by Cycle-SDE, "ode"
    inverts and decodes with `solver`. radius: of a window, in pixels. alpha: what a copy is multiplied by. beta: how
    much is left of a source. mask: broadcastable to x, 1 may change, 0 stays to the bit, see `cycle_sde`.
    noise_sampler(x, k): a z for each move, then those of the record. Raises ValueError for an unknown kind, or a
    beta outside [0, 1].
    """
    if kind not in KINDS:
        raise ValueError(f"The kind {kind!r} is unknown: take one of {', '.join(KINDS)}.")
    if not 0 <= beta <= 1:
        raise ValueError(f"The beta is {beta:g}: take 0, which leaves nothing at a source, to 1.")
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    top = sigmas[0].item()
    pasted = {"radius": radius, "alpha": alpha, "beta": beta}
    if kind == "sde":
        path = record(x, sigmas, lambda x, k: noise_sampler(x, len(moves) + k))
        start = copy_paste(path.states[top], x, top, moves, noise_sampler, **pasted)
        return cycle_sde(model, start, sigmas, _for_both(extra_args), callback, path=path, mask=mask)
    up, path = encode_path(sigmas), Trajectory(x)
    state = path.reached(top, SOLVERS[solver](model, x, up, extra_args, path.before(callback)))
    start = copy_paste(state, x, top, moves, noise_sampler, **pasted)
    held = None if mask is None else path.keep(mask, resets=len(sigmas) - 1)
    # as Cycle-SDE does it, after each step and not before the first
    clip = held and (lambda x, sigma: x if sigma == top else held(x, sigma))
    down = SOLVERS[solver](model, start, sigmas, extra_args, counting_on(callback, len(up) - 1), clip=clip)
    return held(down, sigmas[-1].item()) if held else down


def _for_both(extra_args):
    """The conditioning of a batch for Cycle-SDE, which sees source and target in one."""
    return {k: torch.cat([v, v]) if isinstance(v, torch.Tensor) else v for k, v in (extra_args or {}).items()}


def drag(
    model,
    x,
    sigmas,
    extra_args=None,
    callback=None,
    disable=None,
    *,
    pairs,
    noise_sampler,
    order="at once",
    radius=5,
    on_step=None,
    **options,
):
    """SDE-Drag, or ODE-Drag: the pictures x, (B, C, H, W), with what is at each source carried to its target.

    pairs: [(source, target), ...]; without one that moves, the result is x. order: see `moves_of`. on_step(x) is given
    the picture after each drag step. Other options as for `drag_step`, network calls as `drag_calls` says. Raises
    ValueError where a point lies outside, or the window does not fit in.
    """
    check_drag(pairs, x.shape, radius)
    for k, moves in enumerate(moves_of(pairs, order)):
        x = drag_step(
            model,
            x,
            sigmas,
            extra_args,
            counting_on(callback, k * drag_reports(sigmas, options.get("kind", "sde"))),
            moves=moves,
            noise_sampler=numbered_from(noise_sampler, k * drag_draws(pairs, sigmas)),
            radius=radius,
            **options,
        )
        if on_step is not None:
            on_step(x)
    return x


def numbered_from(noise_sampler, first):
    """`noise_sampler` with its draws numbered on from `first`."""
    return lambda x, k: noise_sampler(x, first + k)


def drag_draws(pairs, sigmas):
    """How many draws of noise are set aside for a drag step."""
    return len(pairs) + len(sigmas)


def drag_reports(sigmas, kind="sde"):
    """How often a drag step calls its callback."""
    return (len(sigmas) - 1) * (2 if kind == "ode" else 1)


def drag_calls(steps, sigmas, kind="sde", solver="ab2"):
    """Network calls of so many drag steps; those of an SDE see the batch twice."""
    if kind == "sde":
        return steps * (len(sigmas) - 1)
    return steps * (network_calls(solver, encode_path(sigmas)) + network_calls(solver, sigmas))


def guidance_ramp(sigmas, start=1.0, end=3.0):
    """scale(sigma), (B,) like sigma: `start` at the cleanest of the levels, `end` at the deepest, evenly between.

    sigmas: a path, in either direction, as the model is given them. For a guidance whose scale is a function of sigma.
    """
    levels = sigmas.sort().values
    between, scales = (levels[1:] + levels[:-1]) / 2, torch.linspace(start, end, len(levels))

    def scale(sigma):
        nearest = torch.searchsorted(between.to(sigma, non_blocking=True), sigma)
        return scales.to(sigma, non_blocking=True)[nearest]

    return scale
