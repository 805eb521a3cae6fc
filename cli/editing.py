"""Editing with the SDE beside editing with the ODE, on photos: a report with tables, curves and a sheet of pictures."""

from dataclasses import replace
from itertools import product

import torch
from matplotlib.figure import Figure as Drawing
from rich.console import Console

from ..evaluation.benchmark import PER_FEATURE, resamples
from ..evaluation.classifier import FEATURES, in_batches, load_classifier
from ..evaluation.editing import (
    COLUMNS,
    DEPTHS,
    FEW,
    GUIDANCES,
    HOLES,
    KINDS,
    NOISES,
    ORDERS,
    RETURN_STEPS,
    RETURNS,
    Editor,
    Judge,
    curve_of,
    equal_faithfulness,
    inpaint_differences,
    measured,
    measured_calls,
)
from ..evaluation.frechet import Gaussian
from ..evaluation.report import Figure, Heading, Table, Text, markdown
from ..evaluation.sheets import Cell, contact_sheet
from ..priors.export import write
from ..priors.loading import load
from ..samplers.ode import SOLVERS
from .bench import command, read_all, sides, where
from .photos import make_folder
from .pictures import save, save_text, to_image
from .progress import call_progress

COLOURS = {"ODE": "#c8553d", "SDE": "#2b7a8a"}
RESAMPLES = 300
ROWS = 6
ALT = "Inpainting by the SDE minus by the ODE, and FD-flowers of edits over their distance from the source"
OF_INPAINTING, OF_TRANSLATING = ("fd", "psnr", "features"), ("fd", "l2", "psnr", "ssim", "features", "success")


def measure_edits(photos, folder, prior, count, inpaint_steps, steps, guidance, solver, seed, split, device, precision):
    """Measure editing on photos, print the tables, and write editing.md, editing.png and pictures.png to `folder`.

    photos: a folder as for `bench`. inpaint_steps: "25,50,100". Raises ValueError or OSError with one sentence.
    """
    counts = steps_listed(inpaint_steps)
    if solver not in SOLVERS:
        raise ValueError(f"The solver {solver!r} is unknown: take one of {', '.join(SOLVERS)}.")
    if count < 2 or steps < 10 or seed < 0:
        raise ValueError("Measuring edits takes at least 2 photos, 10 steps, and a seed of at least 0.")
    loaded = load(prior, device, precision)
    pictures, labels, known = gathered(photos, split, loaded, count)
    targets = another_class(labels, len(loaded.classes))
    make_folder(folder)
    with call_progress(Console(stderr=True)) as bar:
        editor = Editor(
            loaded, *(each.to(loaded.device) for each in (pictures, labels, targets)), guidance, seed, solver=solver
        )
        batches = -(-count // editor.batch)
        task = bar.add_task(f"Editing {count} photos", total=batches * measured_calls(counts, steps, solver))
        editor = replace(editor, on_call=lambda: bar.advance(task))
        judge = judge_of(pictures, targets, loaded.classes, known)
        exact = editor if precision == "fp32" else replace(editor, prior=load(prior, device))
        found = measured(editor, judge, exact, counts, steps)
    lead = Text(
        f"{command()}: {loaded.name}, {loaded.size}×{loaded.size}; {count} photos{where(photos, split)}, and "
        f"{len(known)} others are what is real."
    )
    drawn = Figure(curves(found, counts), ALT, "editing.png")
    text = markdown([lead, *report(found, drawn, counts, steps, guidance, solver, count)])
    write(folder / drawn.name, drawn.png)
    save(sheet(found), folder / "pictures.png")
    save_text(text, folder / "editing.md")
    print(text)
    print(f"Written to {folder}: editing.md, editing.png, pictures.png.")


def steps_listed(text):
    """[25, 50, 100] of "25,50,100"."""
    try:
        steps = [int(each) for each in text.split(",")]
    except ValueError:
        steps = []
    if not steps or min(steps) < 2 or sorted(set(steps)) != steps:
        raise ValueError(f"{text!r} are no steps to fill in with: give numbers of at least 2 that rise, as 25,50,100.")
    return steps


def gathered(folder, split, prior, count):
    """(pictures (count, 3, S, S) in [-1, 1], their places in the prior's classes, other photos uint8)."""
    if prior.null is None or len(prior.classes) < 2 or prior.channels != 3:
        raise ValueError(f"{prior.name} is no prior of RGB pictures with classes and a null class, which edits take.")
    files, others = sides(folder, split)
    of_class = {path.name: name for path, name in files if name in prior.classes}
    if len(of_class) < count:
        raise ValueError(
            f"{folder} has {len(of_class)} photos to edit of the classes {', '.join(prior.classes)}, and {count} are "
            "wanted: take a smaller --count."
        )
    names, pictures = read_all([file for file in files if file[0].name in of_class], prior.size)
    if len(names) < count:
        raise ValueError(f"{len(names)} of the photos can be used, and {count} are wanted: take a smaller --count.")
    chosen = torch.arange(count) * len(names) // count
    labels = torch.tensor([prior.classes.index(of_class[names[i]]) for i in chosen.tolist()])
    _, known = read_all(others, prior.size)
    return pictures[chosen] / 127.5 - 1, labels, known


def another_class(labels, count):
    """For each label another one, all of them about as often."""
    return (labels + 1 + torch.arange(len(labels)) % (count - 1)) % count


def judge_of(pictures, targets, classes, known):
    """The Judge of edits of pictures into targets, places in `classes`; known: real photos, uint8."""
    classifier = load_classifier()
    of_targets = None
    if set(classes) <= set(classifier.classes):
        of_targets = torch.tensor([classifier.classes.index(name) for name in classes])[targets]
    real = Gaussian(in_batches(lambda some: classifier.features(some / 127.5 - 1), known))
    return Judge(pictures, classifier, real, resamples(len(pictures), RESAMPLES), of_targets)


def report(found, drawn, inpaint_steps, steps, guidance, solver, count):
    """The parts of the report; drawn: its Figure."""
    few = (
        f" That is the distance of {count} photos, of which it takes {PER_FEATURE * FEATURES} to mean much: compare "
        "within a table only."
    )
    return [
        Text(
            "Smaller FD-flowers is more real, smaller L2 and a larger PSNR more faithful; intervals are 95 % of "
            f"{RESAMPLES} resamples of the photos. FD-flowers of the photos themselves is {found.photos['fd'][0]:.3f}."
            f"{few if count < PER_FEATURE * FEATURES else ''}"
        ),
        drawn,
        Heading("Inpainting (Tables 2 and 5)"),
        Text(
            "From noise alone, with the class of the photo and no guidance. PSNR is that of what was filled in; "
            "features is the distance to the photo in the classifier's features, where the paper has LPIPS. SDE − ODE "
            "is on the same photos, masks and noise to start from."
        ),
        *(part for hole in HOLES for part in inpaint_parts(found, hole, inpaint_steps)),
        *(part for what in DEPTHS for part in translate_parts(found, what, steps, guidance, solver)),
        Heading("What comes back unchanged (Table 3)"),
        Text(
            f"PSNR in dB of {min(count, FEW)} photos, up the whole schedule and down again in {RETURN_STEPS} "
            "steps each, guided to their class both ways, in float32."
        ),
        Table(list(return_rows(found))),
        Heading("Time (Table 7)"),
        Text("Seconds for a picture, the least of three rounds in which both take turns."),
        Table(list(time_rows(found))),
    ]


def inpaint_parts(found, hole, steps):
    yield Text(f"**{hole.capitalize()}**, {HOLES[hole]:.0%} of the photo:")
    head = ["", *(f"{COLUMNS[key][0]}, {count} steps" for key in OF_INPAINTING for count in steps)]
    pairs = product(ORDERS, NOISES)
    yield Table([head, *(row for pair in pairs for row in inpaint_rows(found, hole, *pair, steps))])


def inpaint_rows(found, hole, order, noise, steps):
    """A row for the ODE, one for the SDE, one for what is between them."""
    for kind in KINDS:
        each = [found.inpainted.get((hole, order, noise, kind, count)) for count in steps]
        cells = (number(of[key][0], key) if of else "" for key in OF_INPAINTING for of in each)
        yield [f"{kind}, {order}, {noise}", *cells]
    differences = {key: inpaint_differences(found, hole, order, noise, key) for key in OF_INPAINTING}
    cells = (between(differences[key].get(count), key) for key in OF_INPAINTING for count in steps)
    yield ["SDE − ODE", *cells]


def translate_parts(found, what, steps, guidance, solver):
    columns = [key for key in OF_TRANSLATING if key in next(iter(found.translated.values()))]
    yield Heading(f"{what}: one flower into another (Table {6 if what == 'DDIB' else 8})")
    yield Text(
        f"{steps} steps for the whole schedule, each way, the ODE by {solver}; guidance {guidance:g} towards the new "
        "class and 1 from the old. Success is the share that the classifier takes for the new class."
    )
    rows = [
        [f"{fraction:g}", kind, *(number(found.translated[what, kind, fraction][key][0], key) for key in columns)]
        for fraction in DEPTHS[what]
        for kind in KINDS
    ]
    yield Table([["t0", "", *(COLUMNS[key][0] for key in columns)], *rows])
    equal = equal_faithfulness(found, what)
    if not equal:
        yield Text("At no depth is the SDE as far from the source as the ODE is at some.")
        return
    yield Text("At equal faithfulness, the SDE at each depth against the ODE between its depths:")
    head = ["t0 of the SDE", "L2", "FD of the SDE", "of the ODE", "SDE − ODE", "success, SDE − ODE"]
    yield Table(
        [
            head,
            *(
                [
                    f"{fraction:g}",
                    number(distance, "l2"),
                    *(number(fd, "fd") for fd in both),
                    between(difference, "fd"),
                    between(success, "success"),
                ]
                for fraction, distance, *both, difference, success in equal
            ),
        ]
    )


def return_rows(found):
    yield ["", *(f"guidance {guidance:g}" for guidance in GUIDANCES)]
    for how in RETURNS:
        values = [found.returned[how, guidance] for guidance in GUIDANCES]
        yield [how, *("to the bit" if value == float("inf") else f"{value:.2f}" for value in values)]


def time_rows(found):
    whats = list(dict.fromkeys(what for what, _ in found.seconds))
    yield ["", *whats]
    for kind in reversed(KINDS):
        yield [kind, *(f"{found.seconds[what, kind]:.3f}" for what in whats)]


def number(value, name):
    return f"{value:.{COLUMNS[name][1]}f}"


def between(values, name):
    """ "0.12 [0.1, 0.2]" of (estimate, low, high), nothing of None."""
    return "{} [{}, {}]".format(*(number(value, name) for value in values)) if values else ""


def curves(found, inpaint_steps):
    """How much nearer in features the SDE inpaints, with 95 % intervals; FD-flowers of edits over L2."""
    drawing = Drawing(figsize=(10, 7.5), layout="constrained")
    above, below = drawing.subplots(2, 2)
    for axes, hole in zip(above, HOLES, strict=True):
        axes.axhline(0, color="#1b1b1f", lw=0.8)
        for i, (order, noise) in enumerate(product(ORDERS, NOISES)):
            differences = inpaint_differences(found, hole, order, noise, "features")
            # side by side, not one above the other
            places = [inpaint_steps.index(count) + 0.08 * (i - 1.5) for count in differences]
            middles, lows, highs = zip(*differences.values(), strict=True)
            line = axes.plot(places, middles, "o-", ms=4, lw=1.3, label=f"{order}, {noise}")
            axes.vlines(places, lows, highs, color=line[0].get_color(), lw=1)
        axes.set_xticks(range(len(inpaint_steps)), inpaint_steps)
        axes.set(title=f"Inpainting, {hole}: below 0 the SDE is nearer", xlabel="steps")
        axes.set_ylabel("distance to the photo in features, SDE − ODE")
        axes.legend(fontsize="x-small")
    for axes, what in zip(below, DEPTHS, strict=True):
        for kind in KINDS:
            dots = [(each["l2"][0].item(), each["fd"][0].item()) for each in curve_of(found, what, kind)]
            axes.plot(*zip(*dots, strict=True), "o-", color=COLOURS[kind], ms=4, lw=1.3, label=kind)
            for fraction, dot in zip(DEPTHS[what], dots, strict=True):
                off = (0, 6 if kind == "ODE" else -12)
                axes.annotate(f"{fraction:g}", dot, off, textcoords="offset points", fontsize=7, ha="center")
        axes.set(title=f"{what}, t0 beside each dot", xlabel="L2 to the source", ylabel=COLUMNS["fd"][0])
        axes.set_ylim(0)
        axes.legend(fontsize="x-small")
    return drawing


def sheet(found):
    """A sheet with a row for each of the first photos."""
    rows = [
        [Cell(to_image(picture)) for picture in row]
        for row in zip(*(each[:ROWS] for each in found.shown.values()), strict=True)
    ]
    return contact_sheet(list(found.shown), rows)
