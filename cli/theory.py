"""The theory of "SDE beats ODE" in two figures and two tables: what the ODE and the SDE make of a wrong start."""

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..evaluation.theory import DATA, STEPS, Gaussian, exact_sde, from_priors, kept, kl, kl_along
from ..samplers.noise_levels import NoiseLevels, decode_path, linear_betas
from .photos import make_folder
from .pictures import written_whole

ODE, SDE, COARSE, TRUTH, START = "#c8553d", "#2b7a8a", "#8cc3cd", "#1b1b1f", "#b9b9c1"
COLOURS = {"ODE": ODE, "SDE": SDE}
LEVELS = NoiseLevels(linear_betas())
# as spread as the pixels of a picture in [-1, 1]
PIXELS = Gaussian(0.0, 0.5)
DEPTHS = [100 * i for i in range(1, 10)] + [999]
FEW, MANY = 20, 100
BARS = 80


def draw_theory(folder, count=20_000, seed=0):
    """Write theory-kl.png and theory-priors.png into `folder`, and print their numbers.

    count: samples from each start. Raises ValueError where there are none, OSError where the folder cannot be used.
    """
    if count < 1:
        raise ValueError(f"{count} samples cannot be drawn: take at least 1.")
    make_folder(folder)
    found = from_priors(count, MANY, seed)
    for name, figure in {"theory-kl": kl_figure(), "theory-priors": priors_figure(found)}.items():
        with written_whole(folder / f"{name}.png") as file:
            figure.savefig(file, format="png", dpi=110)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(kl_table())
    console.print(priors_table(found))
    console.print(f"{folder}: theory-kl.png, theory-priors.png")


def shifted(data, sigma):
    """The right start at sigma with its mean two standard deviations off: 2 nats."""
    right = data.noised(sigma)
    return right._replace(mean=right.mean + 2 * right.std)


def path_from(depth, steps):
    return decode_path(LEVELS, depth, steps)


def kl_of(kind, steps, depth=999):
    """The levels of a path, and the KL of the shifted start at each."""
    sigmas = path_from(depth, steps)
    return sigmas.tolist(), kl_along(STEPS[kind], PIXELS, shifted(PIXELS, sigmas[0].item()), sigmas)


def left_of(kind, steps, depth):
    """How much of the KL of the shifted start at `depth` is there at the end."""
    _, along = kl_of(kind, steps, depth)
    return along[-1] / along[0]


def kl_figure():
    """KL while the noise falls, and what is left of it at the end over the depth of the start."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for axes, draw in zip(figure.subplots(1, 2), (_draw_falling, _draw_left), strict=True):
        axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e6ea", lw=0.6)
        draw(axes)
    return figure


def _draw_falling(axes):
    sigma_start, end = LEVELS.sigma(999).item(), LEVELS.sigma(0).item()
    start = shifted(PIXELS, sigma_start)
    axes.plot(*kl_of("ODE", FEW), "o-", color=ODE, ms=4, lw=1.5)
    axes.plot(*kl_of("SDE", FEW), "o", color=COARSE, ms=5, label=f"SDE, {FEW} steps")
    axes.plot(*kl_of("SDE", MANY), "o", color=SDE, ms=4, markevery=4, label=f"SDE, {MANY} steps")
    sigmas = torch.logspace(*torch.tensor([sigma_start, end]).log10().tolist(), 200).tolist()
    exact = [kl(exact_sde(PIXELS, start, sigma_start, sigma), PIXELS.noised(sigma)) for sigma in sigmas]
    axes.plot(sigmas, exact, color=TRUTH, lw=1, ls="--", label="SDE, closed form: 2 ρ²")
    axes.annotate(f"ODE, {FEW} steps: the error stays", (1, 2), (0, -8), "data", "offset points", color=ODE, va="top")
    axes.set(xscale="log", title="The ODE keeps an error, the SDE forgets it", ylim=(1e-5, 8))
    axes.set(xlabel="noise level σ, from noise to picture", ylabel="error: KL divergence, in nats")
    axes.invert_xaxis()
    axes.legend(frameon=False, loc="lower left")


def _draw_left(axes):
    shares = [depth / 1000 for depth in DEPTHS]
    axes.plot(shares, [left_of("ODE", MANY, depth) for depth in DEPTHS], "o-", color=ODE, ms=5, lw=1.5)
    axes.plot(
        shares, [left_of("SDE", MANY, depth) for depth in DEPTHS], "o", color=SDE, ms=5, label=f"SDE, {MANY} steps"
    )
    along = range(20, 1000, 5)
    end = LEVELS.sigma(0).item()
    exact = [kept(PIXELS, LEVELS.sigma(t).item(), end) for t in along]
    axes.plot([t / 1000 for t in along], exact, color=TRUTH, lw=1, ls="--", label="SDE, closed form: ρ²")
    axes.annotate("ODE: all of it", (0.55, 1), (0, -8), "data", "offset points", color=ODE, va="top")
    axes.set(title="What is left of the error in the picture", ylim=(5e-6, 4))
    axes.set(xlabel="depth of the start, as a share of the schedule", ylabel="error at the end, of that at the start")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axes.legend(frameon=False, loc="lower left")


def priors_figure(found):
    """A column for each start: its histogram over the right one, and what each sampler made of it over the data."""
    figure = Figure(figsize=(13, 6.6), layout="constrained")
    grid = figure.subplots(1 + len(COLOURS), len(found), sharey="row")
    x = torch.linspace(-6, 6, 601, dtype=torch.float64)
    right = torch.exp(-0.5 * x**2) / (2 * torch.pi) ** 0.5
    for column, (name, outcome) in zip(grid.T, found.items(), strict=True):
        column[0].set_title(name, fontsize=12)
        _histogram(column[0], outcome.start, START, 6, x, right)
        for axes, (kind, colour) in zip(column[1:], COLOURS.items(), strict=True):
            made = outcome.made[kind]
            _histogram(axes, made, colour, 4, x, DATA.density(x))
            off = f"off by {DATA.distance(made):.2f}"
            axes.text(0.03, 0.95, off, transform=axes.transAxes, va="top", color=colour, weight="bold")
    for axes, name in zip(grid[:, 0], ("the start", "the ODE makes", "the SDE makes"), strict=True):
        axes.set_ylabel(name, fontsize=13)
    grid[0, 0].set_ylim(0, 1)
    for axes in grid[1:, 0]:
        axes.set_ylim(0, 1.1)
    figure.get_layout_engine().set(hspace=0.08)
    figure.supxlabel(
        "\nLine: what is right (above the N(0, 1) that noise is, below the data). Bars: samples, cut off at the frame. "
        "Off by: the mean distance that samples would have to move (Wasserstein-1).",
        fontsize=10,
    )
    return figure


def _histogram(axes, samples, colour, end, x, density):
    """Bars between -end and end, which are a density of all samples, those outside too; and a density at x."""
    counts, edges = np.histogram(samples, BARS, (-end, end))
    axes.stairs(counts / len(samples) * BARS / (2 * end), edges, fill=True, color=colour)
    axes.plot(x, density, color=TRUTH, lw=1.3)
    axes.set(xlim=(-end, end), xticks=[-end, -end / 2, 0, end / 2, end], yticks=[])
    axes.spines[["top", "right", "left"]].set_visible(False)


def kl_table():
    """KL at the end of 2 nats at the start, from several depths."""
    table = Table(title="KL in nats at the end, of 2 at the start", box=SIMPLE_HEAD)
    for name in ("depth", f"ODE, {MANY} steps", f"SDE, {FEW} steps", f"SDE, {MANY} steps", "SDE, exact"):
        table.add_column(name, justify="right")
    for depth in (200, 400, 600, 800, 999):
        exact = 2 * kept(PIXELS, LEVELS.sigma(depth).item(), LEVELS.sigma(0).item())
        ends = [kl_of(kind, steps, depth)[1][-1] for kind, steps in (("ODE", MANY), ("SDE", FEW), ("SDE", MANY))]
        table.add_row(f"{depth / 1000:g}", *(f"{end:.3g}" for end in (*ends, exact)))
    return table


def priors_table(found):
    """The Wasserstein-1 distance of what each sampler makes of each start."""
    table = Table(title="Wasserstein-1 distance of the samples to the data", box=SIMPLE_HEAD)
    table.add_column("start")
    for kind in COLOURS:
        table.add_column(kind, justify="right")
    for name, outcome in found.items():
        table.add_row(name, *(f"{DATA.distance(outcome.made[kind]):.3f}" for kind in COLOURS))
    return table
