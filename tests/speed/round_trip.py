"""How well an inversion comes back: PSNR of encode and decode to t=500 by solver, spacing and network calls.

No clip, no added noise, no thresholding, no class; the round trip ends at the level where it began.
usage: python tests/speed/round_trip.py PHOTO...
"""

import sys
from statistics import mean

import torch
from confident_ode.cli.pictures import fit, read
from confident_ode.evaluation.metrics import psnr
from confident_ode.priors.loading import load
from confident_ode.samplers.exact import EXACT, PAIRED, exact_calls
from confident_ode.samplers.noise_levels import decode_path
from confident_ode.samplers.ode import SOLVERS, network_calls
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

DEPTH, CALLS, SPACINGS = 500, (24, 50, 100), ("linspace", "karras")
METHODS = [*((solver, {}) for solver in SOLVERS), ("ab2", {"variable": "sigma"}), *((solver, {}) for solver in EXACT)]


@torch.inference_mode()
def main(photos):
    prior = load("flowers32")
    model = prior.model(threshold=False)
    pictures = torch.cat([fit(read(photo), prior.size)[0] for photo in photos])
    labels = prior.conditioning(None, len(pictures))
    table = Table(title=f"PSNR in dB of a round trip to t={DEPTH}, {len(pictures)} photos", box=SIMPLE_HEAD)
    table.add_column("solver")
    for calls in CALLS:
        for spacing in SPACINGS:
            table.add_column(f"{calls} calls, {spacing}", justify="right")
    for solver, options in track(METHODS, transient=True):
        row = []
        for calls in CALLS:
            for spacing in SPACINGS:
                down = path_of(prior.levels, solver, calls, spacing)
                back = up_and_down(solver, model, pictures, down, labels, options)
                row.append(f"{mean(psnr(back, pictures)):.1f}")
        table.add_row(" ".join([solver, *options.values()]), *row)
    Console().print(table)


def up_and_down(solver, model, pictures, path, labels, options):
    method = EXACT.get(solver) or SOLVERS[solver]
    top = method(model, pictures, path.flip(0), labels, **options)
    if solver not in PAIRED:
        return method(model, top, path, labels, **options)
    top, companion = top
    return method(model, top, path, labels, companion=companion)[0]


def path_of(levels, solver, calls, spacing):
    """The longest path on which a solver needs at most `calls` network calls up and down together."""
    paths = (decode_path(levels, DEPTH, steps, spacing) for steps in range(calls // 2, 0, -1))
    return next(path for path in paths if round_trip_calls(solver, path) <= calls)


def round_trip_calls(solver, path):
    of = exact_calls if solver in EXACT else network_calls
    return of(solver, path.flip(0)) + of(solver, path)


if __name__ == "__main__":
    main(sys.argv[1:])
