"""The benchmark: photos x damages x methods, restored into parts that outlive an interruption, then measured."""

import csv
import io
import re
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import product
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from ..corruptions.damages import SEVERE
from ..evaluation import benchmark
from ..evaluation.benchmark import eight_bits, fingerprint, fingerprint_of, grow_part, interval, of_bits, read_part
from ..evaluation.classifier import in_batches, load_classifier
from ..evaluation.sheets import TILE, Cell, contact_sheet
from ..priors.export import png, tiled, write
from ..priors.loading import load
from ..priors.photos import has_split, listed
from ..priors.train import mixed_precision
from .demo import tomllib
from .judge import say
from .photos import make_folder
from .pictures import fit, read, save_text
from .progress import call_progress

FAMILIES = {damage: family for family, damages in SEVERE.items() for damage in damages}
SHOWN = 2  # photos on the sheet
NOTES = """\
Means over all pictures; in brackets 95 % of what {resamples} resamples of the photos, each with all its damages, make
of them, laid round the mean. L2 is the norm of the difference of all values in [0, 1]. A PSNR above {same:g} dB counts
as that. FD-flowers compares the flower classifier's features with those of {references} training photos, and is no FID.
Original is what a perfect restoration would have: not 0, as these are few, and other photos."""


def bench(photos, folder, prior, methods, count, split, seed, batch, device, precision):
    """Restore, measure, and write results.csv, table.md, tradeoff.png and sheet.png to `folder`.

    photos: a folder with a CREDITS.csv of splits. methods: a TOML file. Raises ValueError or OSError with one sentence.
    """
    if count < 1 or batch < 1 or seed < 0:
        raise ValueError("A benchmark takes at least 1 photo, a batch of at least 1, and a seed of at least 0.")
    methods, damages, most, against = read_methods(methods)
    benchmark.check_enough(count, len(damages))
    for name in ("train", split):
        if not has_split(photos, name):
            raise ValueError(f"{photos} has no CREDITS.csv that names photos of the split {name!r}.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    prior, classifier = load(prior, device), load_classifier(device=device)
    if prior.channels != 3:
        raise ValueError(f"{prior.name} is not of RGB pictures, which is what the classifier looks at.")
    prior.network.to(memory_format=torch.channels_last)
    if prior.calibration is None and any(isinstance(method, benchmark.Automatic) for method in methods):
        say(f"{prior.name} has no calibration: the automatic method is left out.")
        methods = [method for method in methods if not isinstance(method, benchmark.Automatic)]
    autocast = mixed_precision(prior.device, precision)
    calls = {method.name: checked_calls(method, prior, most) for method in methods}
    held_out = sorted(listed(photos, split), key=lambda file: file[0].name)
    names, clean = spread(*read_all(held_out[len(held_out) // 2 :], prior.size), count)
    _, known = read_all(listed(photos, "train"), prior.size)
    benchmark.check_enough(len(known), 1)
    inputs = benchmark.damaged(clean, {name: SEVERE[FAMILIES[name]][name] for name in damages}, seed)
    make_folder(folder / "parts")

    parts = restored(methods, calls, prior, inputs, classifier, folder / "parts", seed, batch, autocast)

    def features(pictures):
        return in_batches(lambda some: classifier.features(of_bits(some.to(prior.device))), pictures)

    def as_part(pictures):
        return {"pictures": pictures, "features": features(pictures), "calls": torch.zeros(count)}

    made = {
        "Original": [as_part(clean)] * len(inputs),
        "Damaged": [as_part(seen) for seen in inputs.values()],
        **{method.name: [parts[method.name, name] for name in inputs] for method in methods},
    }
    measured = {name: benchmark.measure(clean, list(inputs.values()), each) for name, each in made.items()}
    references, weights = features(known), benchmark.resamples(count, seed=seed)
    found = {name: benchmark.statistics(each, weights, references) for name, each in measured.items()}
    curves = {method.curve: [m.name for m in methods if m.curve == method.curve] for method in methods if method.curve}
    # of a curve, what is shown is the most real one
    best = [benchmark.best(curve, found) for curve in curves.values()]
    shown = ["Original", "Damaged", *(method.name for method in methods if not method.curve), *best]

    lead = (
        f"`{command()}`: {prior.name}, {prior.size}×{prior.size}, {count} photos spread evenly over the second half of "
        f"the split {split!r} by name, {len(damages)} damages at severity 5, n = {count * len(damages)} pictures for "
        f"each method. One setting for all damages, no selection, at most "
        f"{max(each.calls.max().item() for each in measured.values()):g} network calls a picture."
    )
    text = report(lead, measured, found, curves, damages, shown, against, references)
    save_text(rows(names, damages, measured), folder / "results.csv")
    save_text(text, folder / "table.md")
    write(folder / "tradeoff.png", tradeoff(found, curves))
    write(folder / "sheet.png", png(sheet({name: made[name] for name in shown}, damages, prior.size)))
    print(text)
    print(f"Written to {folder}: results.csv, table.md, tradeoff.png, sheet.png.")


def read_methods(path):
    """(methods, names of damages, most network calls, name of the method to compare with) of a TOML file."""
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}.") from None
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror.lower()}.") from None
    tables, damages = config.get("method"), config.get("damages", list(FAMILIES))
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{path} has no methods: write a [[method]] for each.")
    if not isinstance(damages, list) or not damages or not {*map(str, damages)} <= {*FAMILIES}:
        raise ValueError(f"{path} names damages {damages!r}: take some of {', '.join(FAMILIES)}.")
    try:
        methods = [method for table in tables for method in methods_of(table, config.get("code", {}))]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    names, against = [method.name for method in methods], config.get("against", "CODE")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or against not in names:
        wrong = f"has two methods {twice[0]!r}" if twice else f"has no method {against!r} to compare with"
        raise ValueError(f"{path} {wrong}: each needs a name of its own, and `against` is one of them.")
    # in the order of the families, which the tables keep
    return methods, [name for name in FAMILIES if name in damages], config.get("calls", 150), against


def methods_of(table, base):
    """The method of a table, or those of its list of depths. base: the settings of CODE without a preset."""
    name, values = table.get("name"), {key: value for key, value in table.items() if key != "name"}
    if not isinstance(name, str) or not name:
        raise ValueError("A method has no name: give it one.")
    if values.get("method", "code") == "code" and "preset" not in values:
        values = {**base, **values}
    if not isinstance(values.get("depth"), list):
        return [benchmark.method_of(name, values)]
    return [benchmark.method_of(f"{name} {depth}", {**values, "depth": depth}, name) for depth in values["depth"]]


def checked_calls(method, prior, most):
    """The network calls of a method; ValueError where it cannot be run, or takes too many."""
    try:
        calls = method.calls(prior)
    except ValueError as error:
        raise ValueError(f"{method.name}: {error}") from None
    if calls > most:
        raise ValueError(f"{method.name} makes {calls} network calls for a picture, and {most} are allowed: take less.")
    return calls


def read_all(files, size):
    """(names, pictures uint8 (N, 3, size, size)) of [(path, class)]; those that cannot be used are told."""

    def read_one(file):
        try:
            picture = read(file[0])
        except (ValueError, OSError) as error:
            return str(error)
        if min(picture.size) < size:
            return f"{file[0]} is {picture.width}×{picture.height} pixels, and the prior {size}×{size}: it is skipped."
        return file[0].name, eight_bits(fit(picture, size)[0])

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(read_one, files))
    for result in results:
        if isinstance(result, str):
            say(result)
    usable = [result for result in results if not isinstance(result, str)]
    if not usable:
        raise ValueError("There is no photo that can be used: give photos at least as large as the prior's pictures.")
    names, pictures = zip(*usable, strict=True)
    return names, torch.cat(pictures)


def spread(names, pictures, count):
    """`count` of names and pictures, evenly from the first on; ValueError where there are fewer."""
    if len(names) < count:
        raise ValueError(f"The second half of the split has {len(names)} photos: take --count {len(names)} at most.")
    places = [i * len(names) // count for i in range(count)]
    return [names[i] for i in places], pictures[places]


def restored(methods, calls, prior, inputs, classifier, folder, seed, batch, autocast):
    """{(method, damage): its part with all pictures}, with one progress bar over what is left to do."""
    with autocast:
        mixed = torch.is_autocast_enabled(prior.device.type)
    used = version("confident-ode"), fingerprint_of(prior), fingerprint(*classifier.state_dict().values()), mixed, seed
    marks = {name: fingerprint(*used, seen) for name, seen in inputs.items()}
    jobs = {
        (method.name, name): (method, folder / part_name(method.name, name, fingerprint(mark, method.about(prior))))
        for method, (name, mark) in product(methods, marks.items())
    }
    parts = {place: read_part(path) for place, (_, path) in jobs.items()}
    left = {
        (method, name): calls[method] * -(-(len(inputs[name]) - len(part.get("calls", ()))) // batch)
        for (method, name), part in parts.items()
    }
    with call_progress(Console(stderr=True)) as bar:
        task = bar.add_task("", total=sum(left.values()))
        for (name, damage), (method, path) in jobs.items():
            bar.update(task, description=f"{name}, {damage}")
            parts[name, damage] = grow_part(
                parts[name, damage],
                path,
                method,
                prior,
                inputs[damage],
                classifier,
                batch,
                seed,
                autocast,
                lambda: bar.advance(task),
            )
    return parts


def part_name(method, damage, mark):
    """A file name in letters and digits; the mark tells apart what these do not."""
    return "_".join(re.sub(r"[^a-z0-9.]+", "-", name.lower()) for name in (method, damage, mark)) + ".safetensors"


def command():
    """The command line as it was given, without the folder of the program."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def report(lead, measured, found, curves, damages, shown, against, references):
    """The tables and sentences in Markdown."""
    families = {}
    for place, name in enumerate(damages):
        families.setdefault(FAMILIES[name], []).append(place)
    notes = NOTES.format(resamples=benchmark.RESAMPLES, same=benchmark.SAME, references=f"{len(references):,}")
    calls = {name: each.calls.mean().item() for name, each in measured.items()}
    least = benchmark.PER_FEATURE * references.shape[1]
    parts = [
        lead,
        notes,
        benchmark.overall(found, calls),
        *(benchmark.matched(found, against, curve, title) for title, curve in curves.items()),
        f"**Differences** on the same photos, each method minus {against}:",
        benchmark.differences(found, against),
        f"**By family.** FD-flowers of few pictures is too large: compare within a column only, and where n is below "
        f"{least} with care.",
        benchmark.by_family(measured, families, references),
        "**By damage**, means:",
        benchmark.by_damage({name: measured[name] for name in shown if name != "Original"}, damages),
    ]
    return "\n\n".join(parts) + "\n"


def rows(names, damages, measured):
    """CSV: a row for each photo, damage and method."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["photo", "family", "damage", "method", "calls", *benchmark.MEASURES])
    for (method, each), (i, name), (j, damage) in product(measured.items(), enumerate(names), enumerate(damages)):
        scores = (f"{each.scores[key][i, j]:.4f}" for key in benchmark.MEASURES)
        table.writerow([name, FAMILIES[damage], damage, method, f"{each.calls[i, j]:g}", *scores])
    return file.getvalue()


def tradeoff(found, curves):
    """The PNG of realism against fidelity, with 95 % intervals: methods as points, those of a curve joined."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    points = {name: [interval(each[key]) for key in ("l2_to_input", "fd")] for name, each in found.items()}
    for title, curve in curves.items():
        axes.plot(*zip(*((x[0], y[0]) for x, y in map(points.get, curve)), strict=True), "k.-", lw=1, label=title)
        for name in curve:
            place, depth = [values[0] for values in points[name]], name.removeprefix(f"{title} ")
            axes.annotate(depth, place, (4, 4), textcoords="offset points", fontsize="x-small")
    alone = [name for name in points if not any(name in curve for curve in curves.values())]
    for name in alone:
        (x, *around), (y, *above) = points[name]
        bars = {"xerr": [[x - around[0]], [around[1] - x]], "yerr": [[y - above[0]], [above[1] - y]]}
        axes.errorbar(x, y, **bars, fmt="o", capsize=2, lw=0.8, label=name)
    axes.set(xlabel="L2 to the input (smaller is more faithful)", ylabel="FD-flowers (smaller is more real)")
    axes.legend(fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def sheet(made, damages, size):
    """A row for each damage: the first photo and the one halfway, in a column for each of {method: parts}."""
    factor = max(1, TILE // size)

    def cell(part):
        pictures = part["pictures"]
        both = tiled(of_bits(pictures[:: -(-len(pictures) // SHOWN)]), min(SHOWN, len(pictures)))
        return Cell(both.resize((factor * both.width, factor * both.height), Image.Resampling.NEAREST))

    grid = [[cell(parts[i]) for parts in made.values()] for i in range(len(damages))]
    return contact_sheet(list(made), grid, labels=damages)
