"""The figures of a benchmark, by matplotlib: realism against fidelity, convergence, and bars for every damage."""

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from .benchmark import COLUMNS, MEASURES, interval

COLOURS = colormaps["tab10"].colors
MARKERS = "sDv^P*X<>hdp"
DRAWN = 100  # resamples that a band is made of


def tradeoff(found, families):
    """FD-flowers over the distance from the input, the paper's Figure 5, of {method: statistics}.

    families: {title: names}, drawn as dots with a regression of second degree and one standard deviation of it; other
    methods are drawn with their 95 % intervals.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    places = {name: [each[key].numpy() for key in ("l2_to_input", "fd")] for name, each in found.items()}
    for (title, names), colour in zip(families.items(), _colours(), strict=False):
        x, y = (np.stack(each, 1) for each in zip(*(places[name] for name in names), strict=True))
        axes.plot(x[0], y[0], "o", color=colour, ms=4, label=title)
        if len(names) > 2:
            _regression(axes, x, y, colour)
    alone = [name for name in found if not any(name in names for names in families.values())]
    for i, name in enumerate(alone):
        (x, *around), (y, *above) = (interval(found[name][key]) for key in ("l2_to_input", "fd"))
        bars = {"xerr": [[x - around[0]], [around[1] - x]], "yerr": [[y - above[0]], [above[1] - y]]}
        grey = str(0.55 * i / len(alone))
        axes.errorbar(x, y, **bars, fmt=MARKERS[i % len(MARKERS)], ms=5, capsize=2, lw=0.6, color=grey, label=name)
    axes.set(xlabel="L2 to the input (smaller is more faithful)", ylabel="FD-flowers (smaller is more real)")
    axes.legend(fontsize="x-small", ncols=2)
    return figure


def _colours():
    return iter(COLOURS)


def _regression(axes, x, y, colour):
    """The parabola through the first row of x and y, (W, n), and a standard deviation of those of the others."""
    along = np.linspace(x[0].min(), x[0].max(), 60)
    curves = np.array([np.polyval(np.polyfit(*row, 2), along) for row in zip(x[:DRAWN], y[:DRAWN], strict=True)])
    spread = curves[1:].std(0)
    axes.plot(along, curves[0], color=colour, lw=1.2)
    axes.fill_between(along, curves[0] - spread, curves[0] + spread, color=colour, alpha=0.15, lw=0)


def over_calls(found, calls, families):
    """PSNR and FD-flowers over the network calls of {method: statistics}, families as lines and the others as marks.

    calls: {method: mean}; methods without any are left out. families: {title: names}.
    """
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    members = {name for names in families.values() for name in names}
    groups = {**families, **{name: [name] for name in found if name not in members and calls[name]}}
    for axes, key in zip(figure.subplots(1, 2), ("psnr_to_clean", "fd"), strict=True):
        for i, (title, names) in enumerate(groups.items()):
            names = sorted(names, key=calls.get)
            middle, low, high = zip(*(interval(found[name][key]) for name in names), strict=True)
            x, colour = [calls[name] for name in names], COLOURS[i % len(COLOURS)]
            mark = "o-" if title in families else MARKERS[i % len(MARKERS)]
            axes.plot(x, middle, mark, ms=4, color=colour, label=title)
            axes.vlines(x, low, high, color=colour, lw=0.6)
        axes.set(xscale="log", xlabel="network calls of a result", ylabel=COLUMNS[key][0])
    figure.legend(*axes.get_legend_handles_labels(), fontsize="x-small", ncols=5, loc="outside lower center")
    return figure


def convergence(found, members, setting):
    """FD-flowers and the distance from the input over a setting, the paper's Figure 6; members: {name: its value}."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), ("fd", "l2_to_input"), strict=True):
        middle, low, high = zip(*(interval(found[name][key]) for name in members), strict=True)
        axes.plot([*members.values()], middle, "o-", color=COLOURS[0], ms=4)
        axes.fill_between([*members.values()], low, high, color=COLOURS[0], alpha=0.15, lw=0)
        axes.set(xlabel=setting.replace("_", " "), ylabel=COLUMNS[key][0])
    return figure


def bars(measured, damages, key, minus=None):
    """A bar for each damage and method, of the means of a measure; minus: a method whose mean is taken off."""
    names = [name for name in measured if name != minus]
    means = {name: measured[name].scores[key].mean((0, 2)).numpy() for name in measured}
    figure = Figure(figsize=(8, 1 + len(damages) * (0.12 + 0.07 * len(names))), layout="constrained")
    axes = figure.subplots()
    rows, height = np.arange(len(damages)), 0.8 / len(names)
    for i, (name, colour) in enumerate(zip(names, COLOURS * len(names), strict=False)):
        lengths = means[name] - (means[minus] if minus else 0)
        axes.barh(rows + (i - len(names) / 2 + 0.5) * height, lengths, height, color=colour, label=name)
    axes.set_yticks(rows, damages, fontsize="x-small")
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.axvline(0, color="black", lw=0.8)
    axes.set(xlabel=MEASURES[key][0] + (f", minus {minus}" if minus else ""))
    axes.legend(fontsize="x-small", ncols=min(4, len(names)), loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure
