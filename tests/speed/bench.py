"""How fast CODE is beside its network alone, the authors' code, diffusers' DDIM and ComfyUI's KSampler: `make bench`.

Each contender makes as many calls of the same network, in turns, so that a busy machine slows all alike. CODE runs as
the command line runs it, with clip, thresholding and updates. Numbers are medians over the rounds [least, most].

time / network: a contender's time over that of its network calls; on a GPU, where a call returns early, over that of
the network alone. CODE to it: network calls a second of CODE over the contender's, at the contender's precision and at
CODE's fastest; in the row of KSampler, of ODE Decode. Peak memory is that of tensors beyond what was held before.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from comfyui import server
from confident_ode.evaluation.restoring import plan
from confident_ode.priors.train import mixed_precision
from rich.box import MARKDOWN
from rich.console import Console
from rich.progress import track
from rich.table import Table
from speed.clock import Taken, beside, taken
from speed.contenders import ALL_ON, ALONE, AUTHORS, contenders
from speed.networks import NAMES, RANDOM, network
from speed.profiled import findings, profiled

COLUMNS = (
    "network",
    "batch",
    "precision",
    "contender",
    "time / network",
    "CODE to it",
    "CODE at its best to it",
    "peak memory / KSampler's",
    "network calls a second",
)


def main(arguments=None):
    options = parsed(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # what would take a CPU an hour
    spared = {RANDOM} if device.type == "cpu" and not options.full else set()
    cells = [(name, batch) for name in options.network for batch in options.batch if name not in spared or batch == 1]
    # wider than a log file's 80 columns
    console = Console() if sys.stdout.isatty() else Console(width=200)
    say = lambda *lines: console.print(*lines, sep="\n  ", markup=False, highlight=False, soft_wrap=True)  # noqa: E731
    say(f"{device_name(device)}, torch {torch.__version__}, {options.rounds} rounds")
    if options.profile:
        for cell in cells:
            say(*profile_of(*cell, options, device))
        return
    works, rows = contenders(options.official), []
    for name, batch in track(cells, "CODE and others", console=console, transient=True):
        rows += rows_of(name, batch, works, options, device, official=batch == 1 and name not in spared)
    missing = server.missing()
    if not missing:
        rows += comfyui_rows([cell for cell in cells if cell[0] not in spared], options)
    table = Table(*COLUMNS, box=MARKDOWN)
    for row in sorted(rows, key=lambda row: cells.index((row[0], row[1]))):
        table.add_row(*map(str, row))
    console.print(table)
    if missing:
        say(f"KSampler: skipped, {missing}")
    if not options.official:
        say("the authors' code: skipped, --official names no checkout of github.com/vita-epfl/CODE")
    for name in spared.intersection(options.network):
        say(f"{name}: on a CPU batch 1 alone, without the authors' code and ComfyUI, but for --full")


def parsed(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", default=NAMES, help=f"names or folders of priors, and {RANDOM}")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=["fp32", "bf16", "auto"], default="auto", help="ComfyUI's is fp32")
    parser.add_argument("--steps", type=int, help="up and down, and as many updates, for a quick look")
    parser.add_argument("--official", metavar="PATH", help="a checkout of github.com/vita-epfl/CODE: batch 1, fp32")
    parser.add_argument("--full", action="store_true", help=f"on a CPU, all of {RANDOM}, which takes hours")
    parser.add_argument("--profile", action="store_true", help="a torch.profiler of CODE instead")
    return parser.parse_args(arguments)


def settings_for(name, batch, steps, device):
    """ALL_ON; on a CPU with as many steps and updates as end in seconds."""
    if steps:
        return replace(ALL_ON, steps=steps, updates=steps, blocks=1)
    if device.type == "cpu" and name == RANDOM:
        return replace(ALL_ON, steps=2, updates=1, blocks=1)
    return replace(ALL_ON, steps=12, updates=28) if device.type == "cpu" and batch > 4 else ALL_ON


def case(name, batch, options, device):
    """(prior, pictures, settings) of a cell of the table."""
    prior = network(name, device)
    pictures = torch.rand(batch, prior.channels, prior.size, prior.size, generator=torch.Generator().manual_seed(0))
    return prior, pictures * 2 - 1, settings_for(name, batch, options.steps, device)


def rows_of(name, batch, works, options, device, official):
    """The rows of a cell: all at the precision asked for, and beside the authors' code, if `official`, in fp32."""
    prior, pictures, settings = case(name, batch, options, device)
    official = official and AUTHORS in works
    precisions = dict.fromkeys([precision_of(device, options.precision), *["fp32"] * official])
    lanes = [(p, work) for p in precisions for work in works if work != AUTHORS or (official and p == "fp32")]

    def drive(precision, work, settings):
        with mixed_precision(device, precision):
            return taken(
                lambda: works[work](prior, pictures, settings), prior.network, plan(prior, settings).calls, device
            )

    # to warm up: a GPU with all that is asked for, and on a CPU the network
    for precision, work in lanes if device.type == "cuda" else [lane for lane in lanes if lane[1] == ALONE]:
        drive(precision, work, settings if device.type == "cuda" else replace(settings, steps=1, updates=0))
    rounds = [{lane: drive(*lane, settings) for lane in lanes} for _ in range(options.rounds)]
    fastest = min(precisions, key=lambda precision: median(each[precision, "CODE"].per_call for each in rounds))
    return [
        row(
            name,
            batch,
            *lane,
            [beside(device, each[lane], each[lane[0], ALONE]) for each in rounds],
            [each[lane].per_call / each[lane[0], "CODE"].per_call for each in rounds],
            [each[lane].per_call / each[fastest, "CODE"].per_call for each in rounds],
            None,
            [1 / each[lane].per_call for each in rounds],
        )
        for lane in lanes
    ]


def comfyui_rows(cells, options):
    """The rows of KSampler and ODE Decode, measured by ComfyUI's own interpreter."""
    steps = [settings_for(*cell, options.steps, torch.device("cpu")).steps for cell in cells]
    asked = {"rounds": options.rounds, "cells": [[*cell, n] for cell, n in zip(cells, steps, strict=True)]}
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as base:
        done = subprocess.run(
            [server.PYTHON, here / "in_comfyui.py", json.dumps(asked), base],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(server.COMFYUI), str(here.parent)])},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    rows = []
    for cell, (times, memory, device) in zip(cells, json.loads(done.stdout.splitlines()[-1]), strict=True):
        rounds = {work: [Taken(*each) for each in taken] for work, taken in times.items()}
        alone, decode = rounds[ALONE], rounds["ODE Decode"]
        for work in ("KSampler", "ODE Decode"):
            mine = rounds[work]
            rows.append(
                row(
                    *cell,
                    "fp32",
                    f"ComfyUI's {work}" if work == "KSampler" else "our ODE Decode",
                    [beside(torch.device(device), *pair) for pair in zip(mine, alone, strict=True)],
                    [it.per_call / ours.per_call for it, ours in zip(mine, decode, strict=True)],
                    None,
                    memory[work] / memory["KSampler"],
                    [1 / it.per_call for it in mine],
                )
            )
    return rows


def row(name, batch, precision, contender, ratios, equal, best, memory, speeds):
    """A row's texts, of the values in each round; None where there are none."""
    return (
        name,
        batch,
        precision,
        contender,
        spread(ratios, 3),
        spread(equal, 2),
        spread(best, 2) if best else "",
        f"{memory:.3f}" if memory else "",
        spread(speeds, 2),
    )


def spread(values, digits):
    """median [least, most]"""
    least, most = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return f"{median(values):.{digits}f}" + f" [{least}, {most}]" * (len(values) > 1)


def profile_of(name, batch, options, device):
    prior, pictures, settings = case(name, batch, options, device)
    with mixed_precision(device, options.precision):
        events = profiled(prior, pictures, settings).events()
    return [f"{name}, batch {batch}, {precision_of(device, options.precision)}", *findings(events, device)]


def precision_of(device, asked):
    """fp32 or bf16: what `mixed_precision` makes of what is asked for."""
    with mixed_precision(device, asked):
        return "bf16" if torch.is_autocast_enabled(device.type) else "fp32"


def device_name(device):
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
