"""CODE: Confident ODE Editing (2408.12418), Algorithm 1, composed of the ODE, the clip and the Langevin updates."""

import torch

from .checks import descending, finite
from .langevin import check_updates, langevin, langevin_calls
from .noise import LANGEVIN, START, item_seeds, seeded_noise
from .ode import SOLVERS, network_calls


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
    clip=None,
    solver="ab2",
    encoder=None,
    samples=1,
    start_noise=True,
):
    """Restore damaged pictures: encode x up the ODE to sigmas[0], move it there by Langevin updates, decode.

    x: (B, C, H, W) in the range of clean data. sigmas: the decode path, descending from the depth; a last 0 returns the
    denoised picture, without it the state at the last level is returned. seed: result i draws with seed + i, or a list
    of one seed for each. samples: results for each picture from one encoding; sample j of picture i is i * samples + j.
    step, updates, blocks, decay, temperature: see `langevin`; with 0 updates there are none. clip: a `ConfidenceClip`,
    used while encoding. solver: a name in SOLVERS. encoder: encoder(x, sigma), the denoiser to encode with where it is
    not `model`: guidance and a label belong to the way down. start_noise: start from x + sigma_min n, as the network
    has seen it, rather than from x.

    Returns (B * samples, C, H, W), float32, or float64 if given. Raises ValueError where that is not finite. Network
    calls: `restore_calls`.
    """
    descending(sigmas)
    if solver not in SOLVERS:
        raise ValueError(f"The solver {solver!r} is unknown: take one of {', '.join(SOLVERS)}.")
    if samples < 1:
        raise ValueError("Restoring takes at least 1 sample for each picture.")
    if updates:
        check_updates(sigmas[0].item(), step, updates, blocks, decay, temperature)
    solve, up, extra_args = SOLVERS[solver], encode_path(sigmas), extra_args or {}
    seeds = item_seeds(seed, len(x) * samples)
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if start_noise:
        x = x + up[0].item() * seeded_noise(seeds[::samples], START)(x, 0)

    x = solve(encoder or model, x, up, None if encoder else extra_args, callback, clip=clip)
    x, extra_args = _repeated(x, samples), {name: _repeated(value, samples) for name, value in extra_args.items()}
    if updates:
        noise_sampler = seeded_noise(seeds, LANGEVIN)
        x = langevin(
            model,
            x,
            sigmas,
            extra_args,
            _counting_on(callback, len(up) - 1),
            noise_sampler=noise_sampler,
            step=step,
            updates=updates,
            blocks=blocks,
            decay=decay,
            temperature=temperature,
        )
    done = len(up) - 1 + langevin_calls(updates, blocks)
    x = solve(model, x, sigmas, extra_args, _counting_on(callback, done))
    return finite(x, "The restored picture")


def restore_calls(sigmas, updates, blocks=4, solver="ab2"):
    """How many network calls `restore` makes on the decode path `sigmas`."""
    return network_calls(solver, encode_path(sigmas)) + langevin_calls(updates, blocks) + network_calls(solver, sigmas)


def encode_path(sigmas):
    """The path up for a decode path: the same levels reversed, without a last 0."""
    return (sigmas[:-1] if sigmas[-1] == 0 else sigmas).flip(0)


def _repeated(value, samples):
    return value.repeat_interleave(samples, 0) if isinstance(value, torch.Tensor) and samples > 1 else value


def _counting_on(callback, done):
    """The callback of a later part, whose steps count on from `done`."""
    return callback and (lambda report: callback({**report, "i": report["i"] + done}))
