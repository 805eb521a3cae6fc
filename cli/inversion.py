"""How exactly inversion comes back under guidance, on photos: a report with tables and a sheet of pictures."""

from dataclasses import replace

from matplotlib.figure import Figure as Drawing
from rich.console import Console

from ..evaluation.inversion import CONDITIONS, NOISES, WAYS, Inverter, followed, psnrs, robustness
from ..evaluation.report import Figure, Heading, Table, Text, markdown
from ..evaluation.sheets import Cell, contact_sheet
from ..priors.export import write
from ..priors.loading import load
from .bench import command, where
from .editing import another_class, gathered, judge_of
from .photos import make_folder
from .pictures import save, save_text, to_image
from .progress import call_progress

SHOWN, FEW, EXACT = 6, 8, 100
ALT = "PSNR of what came back over pixel noise, and under a wrong class, for each way"


def measure_inversions(photos, folder, prior, count, depth, steps, guidance, updates, seed, split, device):
    """Measure inversion on photos, print the tables, and write inversions.md and three pictures to `folder`.

    photos: a folder as for `bench`. Raises ValueError or OSError with one sentence.
    """
    if count < 2 or steps < 2 or updates < 0 or seed < 0 or not 0 < depth <= 1:
        raise ValueError("Measuring inversions takes 2 or more photos and steps, and a depth above 0 and up to 1.")
    loaded = load(prior, device)
    pictures, labels, known = gathered(photos, split, loaded, count)
    targets = another_class(labels, len(loaded.classes))
    make_folder(folder)
    inverter = Inverter(
        loaded,
        *(each.to(loaded.device) for each in (pictures, labels, targets)),
        guidance=guidance,
        seed=seed,
        depth=depth,
        steps=steps,
        updates=updates,
    )
    with call_progress(Console(stderr=True)) as bar:
        task = bar.add_task(f"Inverting {count} photos", total=None)
        inverter = replace(inverter, on_call=lambda: bar.advance(task))
        judge = judge_of(pictures, targets, loaded.classes, known)
        ways = {way: followed(inverter, way) for way in WAYS}
        first = {name: getattr(inverter, name)[:FEW] for name in ("photos", "labels", "targets")}
        given, back = robustness(replace(inverter, **first))
    lead = Text(
        f"{command()}: {loaded.name}, {loaded.size}×{loaded.size}; {count} photos{where(photos, split)}, up to depth "
        f"{depth:g} and down in {steps} steps of DDIM each, inverted without guidance, decoded with guidance "
        f"{guidance:g}."
    )
    robust = {way: [psnrs(*each).mean().item() for each in zip(back[way], given, strict=True)] for way in WAYS}
    drawn = Figure(curves(robust), ALT, "robustness.png")
    text = markdown([lead, *report(ways, robust, drawn, judge, pictures)])
    write(folder / drawn.name, drawn.png)
    save(sheet(pictures, ways), folder / "inversions.png")
    save(robust_sheet(given, back), folder / "pictures.png")
    save_text(text, folder / "inversions.md")
    print(text)
    print(f"Written to {folder}: inversions.md, inversions.png, robustness.png, pictures.png.")


def report(ways, robust, drawn, judge, pictures):
    edits = {way: judge(found.edited) for way, found in ways.items()}
    success = "success" in next(iter(edits.values()))
    return [
        Heading("Coming back under guidance, and editing"),
        Text(
            "PSNR in dB of the photos brought back under their own class, at most 100 each; then, of edits into "
            "another class, the share that the classifier takes for it and the distance from the photo. Calls, on a "
            "batch, and seconds, for a photo, are of both; those of a fit are in part backwards, which is not counted."
        ),
        Table(
            [
                ["", "calls", "seconds", "PSNR", "worst", *(["success"] if success else []), "L2", "FD-flowers"],
                *(way_row(way, found, edits[way], pictures) for way, found in ways.items()),
            ]
        ),
        Heading("Under noise and a wrong class"),
        Text(
            f"PSNR in dB to what was inverted, {min(FEW, len(pictures))} photos: with pixel noise, its standard "
            "deviation out of 255, and inverted and decoded under another class than theirs."
        ),
        Table(
            [
                ["", *CONDITIONS],
                *([way, *(f"{value:.2f}" for value in values)] for way, values in robust.items()),
            ]
        ),
        drawn,
    ]


def way_row(way, found, edit, pictures):
    back = psnrs(found.back, pictures)
    success = [f"{edit['success'][0]:.2f}"] if "success" in edit else []
    measured = [f"{back.mean():.2f}", f"{back.min():.2f}", *success, f"{edit['l2'][0]:.2f}", f"{edit['fd'][0]:.3f}"]
    return [way, str(found.calls), f"{found.seconds:.2f}", *measured]


def sheet(pictures, ways):
    """The first photos: as they were, and for each way brought back, and edited."""
    titles = ["photo", *(title for way in ways for title in (way, "edited"))]
    shown = [pictures, *(each for found in ways.values() for each in (found.back, found.edited))]
    rows = zip(*(each[:SHOWN] for each in shown), strict=True)
    return contact_sheet(titles, [[Cell(to_image(picture)) for picture in row] for row in rows])


def curves(robust):
    """PSNR over the noise, as Figure 3 of latent-TOP, and under a wrong class; what is exact lies on the upper edge."""
    drawing = Drawing(figsize=(9, 4.2), layout="constrained")
    axes, places = drawing.subplots(), [0, *NOISES]
    edge = 5 + max(value for values in robust.values() for value in values if value < EXACT)
    for way, values in robust.items():
        *noisy, wrong = (min(value, edge) for value in values)
        name = f"{way}, to the bit" if min(values) >= EXACT else way
        # the ceiling lies on what reaches it, and lets it be seen
        above = {"ls": "--", "color": "black", "zorder": 3} if way == WAYS[0] else {}
        (line,) = axes.plot(places, noisy, marker="o", ms=4, lw=1.3, label=name, **above)
        axes.plot(places[-1] + 4, wrong, "D", ms=5, color=line.get_color(), zorder=2)
    axes.set_xticks([*places, places[-1] + 4], [*map(str, places), "wrong\nclass"])
    axes.set(xlabel="pixel noise, of 255", ylabel="PSNR to what was inverted, dB")
    drawing.legend(fontsize="small", loc="outside right center")
    return drawing


def robust_sheet(given, back):
    """A sheet of the first photo: a row for each of CONDITIONS, what was inverted and what came back."""
    rows = [[Cell(to_image(each[0])) for each in row] for row in zip(given, *back.values(), strict=True)]
    return contact_sheet(["inverted", *back], rows, labels=CONDITIONS)
