"""How much time CODE takes beside its network: `make bench`.

For each batch size, in turn and several times: CODE as the command line runs it (200 steps up, 200 Langevin calls, 200
steps down, clip and thresholding on), and a loop of as many calls of the bare network on the same shapes. On a CPU the
ratio is the whole time of a CODE run to the part of it spent in network calls, so that both see the same machine; on a
GPU, where calls return early, it is CODE to the loop. Medians over the rounds.
"""

import argparse
import platform
import statistics
import time
from dataclasses import replace

import torch
from confident_ode.evaluation.restoring import plan, run
from confident_ode.evaluation.settings import Settings
from confident_ode.priors.loading import load
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

SETTINGS = Settings(depth=0.5, steps=200, updates=196, blocks=4, solver="euler", spacing="linspace", step_size=1e-3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="flowers32")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    prior = load(options.prior, device)
    table = Table(box=SIMPLE_HEAD, title=f"{prior.name} on {device_name(device)}, torch {torch.__version__}")
    for column in ("batch", "network calls", "CODE, s", "in the network, s", "ratio", "network alone, s"):
        table.add_column(column, justify="right")
    for batch in options.batch:
        pictures = torch.rand(batch, prior.channels, prior.size, prior.size) * 2 - 1
        calls = plan(prior, SETTINGS).calls
        network_alone(prior, pictures, 20, device)
        rounds = [
            (*code(prior, pictures, device), network_alone(prior, pictures, calls, device))
            for _ in track(range(options.rounds), f"batch {batch}", transient=True)
        ]
        whole, inside, alone = (statistics.median(each[i] for each in rounds) for i in range(3))
        ratio = statistics.median(w / (i if device == "cpu" else a) for w, i, a in rounds)
        inside = f"{inside:.2f}" if device == "cpu" else "-"
        table.add_row(str(batch), str(calls), f"{whole:.2f}", inside, f"{ratio:.3f}", f"{alone:.2f}")
    Console().print(table)


class Timed:
    """A network that adds up the seconds spent in its calls (on a CPU, where a call ends when it returns)."""

    def __init__(self, network):
        self.network, self.seconds = network, 0.0

    def __call__(self, *args, **kwargs):
        start = time.perf_counter()
        out = self.network(*args, **kwargs)
        self.seconds += time.perf_counter() - start
        return out


def code(prior, pictures, device):
    """Seconds of a whole restoration, and of the network calls in it."""
    network = Timed(prior.network)
    whole = timed(lambda: run(replace(prior, network=network), pictures, SETTINGS), device)
    return whole, network.seconds


@torch.inference_mode()
def network_alone(prior, pictures, calls, device):
    """Seconds of `calls` bare network calls."""
    x, labels = pictures.to(device), prior.conditioning(None, len(pictures))
    timesteps = torch.full((len(x),), 100.0, device=device)

    def loop():
        for _ in range(calls):
            prior.network(x, timesteps, **labels)

    return timed(loop, device)


def timed(work, device):
    """Seconds until `work()` is done on the device."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def device_name(device):
    """The device in words."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
