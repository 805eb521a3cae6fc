"""CODE: Confident ODE Editing (2408.12418), Algorithms 1 to 3, composed of the ODE, the clip and Langevin updates."""

from itertools import pairwise

import torch

from .checks import descending, finite
from .langevin import check_updates, langevin, langevin_calls, safe_step, vp_noise
from .noise import LANGEVIN, START, item_seeds, seeded_noise
from .ode import SOLVERS, counting_on, network_calls


def restore(
    model,
    x,
    sigmas,
    extra_args=None,
    callback=None,
    disable=None,
    *,
    seed=0,
    step,
    updates,
    blocks=4,
    decay=0.8,
    temperature=1.0,
    noiseless_last=True,
    mode="absolute",
    stop_at=0.0,
    levels=None,
    scale="none",
    clip=None,
    langevin_clip=None,
    decode_clip=None,
    solver="ab2",
    encoder=None,
    corrector=None,
    samples=1,
    start_noise=True,
):
    """Restore damaged pictures: encode x up the ODE to sigmas[0], decode, and move it by Langevin updates on the way.

    x: (B, C, H, W) in the range of clean data. sigmas: the decode path, descending from the depth; a last 0 returns the
    denoised picture, without it the state at the last level is returned. seed: result i draws with seed + i, or a list
    of one seed for each. samples: results for each picture from one encoding; sample j of picture i is i * samples + j.
    start_noise: start from x + sigma_min n, as the network has seen it, rather than from x.

    levels: the VE sigmas of the path at which updates take place, each with `updates` of them (see `update_levels`);
    None: at the depth. Where sigmas[0] is none of them, decoding starts from the deepest latent and updates on the way.
    The solver starts afresh after each. step, updates, blocks, decay, temperature, noiseless_last, mode, stop_at:
    see `langevin`; with 0 updates there are none. scale: how `step` changes from level to level, a name in STEP_SCALES.

    clip, langevin_clip, decode_clip: each a clip(x, sigma) such as a `ConfidenceClip`, used while encoding, in the
    updates, and while decoding. solver: a name in SOLVERS. encoder: encoder(x, sigma), the denoiser to encode with
    where it is not `model`: guidance and a label belong to the way down. corrector: a denoiser like `model` to update
    with where it is not `model`. So dynamic thresholding, which belongs to a denoiser, is chosen for each part.

    Returns (B * samples, C, H, W), float32, or float64 if given. Raises ValueError where that is not finite. Network
    calls: `restore_calls`.
    """
    if solver not in SOLVERS:
        raise ValueError(f"The solver {solver!r} is unknown: take one of {', '.join(SOLVERS)}.")
    if samples < 1:
        raise ValueError("Restoring takes at least 1 sample for each picture.")
    parts = decode_parts(sigmas, levels if updates else (), scale)
    if updates:
        check_parts(parts, step, updates, blocks, decay, temperature, mode, stop_at)
    solve, up, extra_args = SOLVERS[solver], encode_path(sigmas), extra_args or {}
    seeds = item_seeds(seed, len(x) * samples)
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if start_noise:
        x = x + up[0].item() * seeded_noise(seeds[::samples], START)(x, 0)

    x = solve(encoder or model, x, up, None if encoder else extra_args, callback, clip=clip)
    x, extra_args = _repeated(x, samples), {name: _repeated(value, samples) for name, value in extra_args.items()}
    noise_sampler, drawn, done = seeded_noise(seeds, LANGEVIN), 0, len(up) - 1
    for path, factor in parts:
        if factor:
            x = langevin(
                corrector or model,
                x,
                path,
                extra_args,
                counting_on(callback, done),
                noise_sampler=noise_sampler.shifted(drawn),
                step=step * factor,
                updates=updates,
                blocks=blocks,
                decay=decay,
                temperature=temperature,
                noiseless_last=noiseless_last,
                clip=langevin_clip,
                mode=mode,
                stop_at=stop_at,
            )
            drawn, done = drawn + updates, done + langevin_calls(updates, blocks, noiseless_last)
        if len(path) > 1:
            x = solve(model, x, path, extra_args, counting_on(callback, done), clip=decode_clip)
            done += len(path) - 1
    return finite(x, "The restored picture")


def restore_calls(sigmas, updates, blocks=4, solver="ab2", levels=None, noiseless_last=True):
    """How many network calls `restore` makes on the decode path `sigmas`, at most where updates may stop early."""
    calls = network_calls(solver, encode_path(sigmas))
    for path, factor in decode_parts(sigmas, levels if updates else ()):
        calls += langevin_calls(updates, blocks, noiseless_last) if factor else 0
        calls += network_calls(solver, path) if len(path) > 1 else 0
    return calls


def encode_path(sigmas):
    """The path up for a decode path: the same levels reversed, without a last 0."""
    return (sigmas[:-1] if sigmas[-1] == 0 else sigmas).flip(0)


# what `step` is multiplied by at the level i of n above 0 of a decode path, i = 0 at the depth
STEP_SCALES = {
    # the same at each
    "none": lambda path, i: 1.0,
    # 1 at the depth, 100 at the cleanest, geometrically by steps of the path: the paper's, whose path steps evenly in t
    "geometric": lambda path, i: 100 ** (i / max(1, len(path) - 1)),
    # sigma_vp over that of the cleanest, so that a deeper level takes the larger step: ODEdit's
    "sigma": lambda path, i: (vp_noise(path[i]) / vp_noise(path[-1])) ** 0.5,
}


def decode_parts(sigmas, levels=None, scale="none"):
    """The decode path cut at its update levels: pairs (path, factor of the step at path[0] or None for no updates).

    levels: VE sigmas of the path above 0, in any order; None: its first. A path of one level is an update at the end.
    """
    path = descending(sigmas)
    if scale not in STEP_SCALES:
        raise ValueError(f"The scale {scale!r} is unknown: take one of {', '.join(STEP_SCALES)}.")
    above_zero = path[:-1] if path[-1] == 0 else path
    levels = path[:1] if levels is None else torch.as_tensor(levels).flatten().tolist()
    places = {_place(above_zero, level) for level in levels}
    cuts = sorted({0, *places})
    return [
        (sigmas[first : last + 1], STEP_SCALES[scale](above_zero, first) if first in places else None)
        for first, last in pairwise([*cuts, len(path) - 1])
    ]


def _place(path, level):
    """The index of a VE sigma in a path, within the precision of float32."""
    place = min(range(len(path)), key=lambda i: abs(path[i] - level))
    if not abs(path[place] - level) <= 1e-6 * path[place]:
        raise ValueError(
            f"The update level sigma {level:g} is not on the decode path: take levels of the path, above 0."
        )
    return place


def update_levels(sigmas, count, shallowest):
    """`count` levels of the decode path to update at, (count,), evenly by steps of the path, first and last included.

    The first is the depth sigmas[0], the last the cleanest that is not below the VE sigma `shallowest`, above 0; those
    between lie at the index rounded from an even division of the steps. A count of 1 is the depth alone.
    """
    last = sum(s >= shallowest for s in descending(sigmas)) - 1
    if not shallowest > 0 or last + 1 < count or count < 1:
        raise ValueError(
            f"The path has {last + 1} levels down to sigma {shallowest:g}, which does not do for {count}: take fewer "
            "levels, more steps, or a cleaner sigma above 0."
        )
    return sigmas[torch.linspace(0, last, count).round().long()]


def tightest(parts, mode="absolute"):
    """(sigma, factor) of the update level of `decode_parts` that allows the smallest step, or None without one."""
    levels = [(path[0].item(), factor) for path, factor in parts if factor]
    return min(levels, key=lambda level: safe_step(level[0], mode) / level[1], default=None)


def check_parts(parts, step, updates, blocks=4, decay=0.8, temperature=1.0, mode="absolute", stop_at=0.0):
    """`check_updates` at the update level of `decode_parts` that allows the smallest step."""
    if level := tightest(parts, mode):
        check_updates(level[0], step, updates, blocks, decay, temperature, mode, level[1], stop_at)


def _repeated(value, samples):
    return value.repeat_interleave(samples, 0) if isinstance(value, torch.Tensor) and samples > 1 else value
