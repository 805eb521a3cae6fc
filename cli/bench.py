"""The benchmark: photos x damages x methods, restored into files that outlive an interruption, then measured."""

import csv
import io
import math
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import torch
from rich.console import Console

from ..evaluation import benchmark, perceptual
from ..evaluation.benchmark import Restorer, eight_bits
from ..evaluation.cases import TWELVE, cases_of
from ..evaluation.engines import check_engine, work
from ..evaluation.findings import findings
from ..evaluation.methods import Automatic, methods_of
from ..evaluation.published import against
from ..evaluation.report import Text, html, markdown
from ..priors.export import write
from ..priors.photos import TABLE, has_split, listed
from ..priors.train import mixed_precision
from .demo import tomllib
from .judge import say
from .photos import make_folder
from .pictures import fit, read, save_text
from .progress import call_progress

KINDS = ("csv", "parquet")


@dataclass(frozen=True)
class Config:
    """What a file of methods says. calls: the most network calls for a result; against: the method to compare with."""

    methods: list
    corruptions: list
    severities: list
    calls: int
    against: str


@dataclass(frozen=True)
class Material:
    """What is compared, and on what. beside: those of the methods whose time is compared too. restorer: does it.

    names, clean: of the photos that are damaged, (N, 3, S, S). places: see `assigned`. known: other photos, like clean.
    against: see Config. judges: see `perceptual`, LPIPS and the features of FID, or None for each.
    """

    methods: list
    beside: list
    cases: list
    restorer: Restorer
    names: list
    clean: torch.Tensor
    places: torch.Tensor
    known: torch.Tensor
    against: str
    judges: tuple


def bench(asked):
    """Restore, measure, and write report.html, report.md with its figures, and the results of all.

    asked: `app.Benchmark`. Raises ValueError or OSError with one sentence.
    """
    check(asked)
    material = gathered(asked)
    results = restored(asked, material)
    measured = {name: results.measured(name) for name in ("Original", "Damaged", *(m.name for m in material.methods))}
    text = write_report(report(asked, material, results, measured), asked.output)
    file = asked.output / f"results.{asked.table}"
    write(file, content(rows(material, measured), asked.table))
    print(text)
    print(f"Written to {asked.output}: report.html, report.md, {file.name}.")


def check(asked):
    """ValueError where it is wrong whatever the photos and methods are, or needs what is not installed."""
    if asked.count < 1 or asked.batch < 1 or asked.seed < 0:
        raise ValueError("A benchmark takes at least 1 photo, a batch of at least 1, and a seed of at least 0.")
    if asked.table not in KINDS:
        raise ValueError(f"The table {asked.table!r} is unknown: take one of {', '.join(KINDS)}.")
    if asked.table == "parquet" and not find_spec("pyarrow"):
        raise ValueError("A parquet table needs a package more: pip install pyarrow")
    check_engine(asked.engine)


def gathered(asked):
    """The Material; ValueError or OSError where something in it cannot be had."""
    config, beside = read_config(asked.methods), against(asked.official) if asked.official else []
    cases, unable = cases_of(asked.corruption or config.corruptions, asked.severity or config.severities)
    benchmark.check_enough(asked.count, len(cases))
    files, others = sides(asked.photos, asked.split)
    restorer = Restorer(asked.prior, asked.device, asked.precision)
    methods = [*usable(config.methods, config.calls, restorer), *usable(beside, math.inf, restorer)]
    device = restorer.prior.device
    judges = perceptual.lpips(device) if asked.lpips else None, perceptual.inception(device) if asked.fid else None
    if unable:
        say(f'Left out are {", ".join(unable)}: pip install "confident-ode[corruptions]" makes them.')
    names, clean = read_all(files, restorer.prior.size)
    places = assigned(len(names), asked.count, len(cases), asked.seed, asked.same_photos)
    used, places = places.unique(return_inverse=True)
    _, known = read_all(others, restorer.prior.size)
    benchmark.check_enough(len(known), 1)
    names, clean = [names[place] for place in used], clean[used]
    return Material(methods, beside, cases, restorer, names, clean, places, known, config.against, judges)


def restored(asked, material):
    """The Results, of what was done before and of what is missing, which is done now."""
    make_folder(parts := asked.output / f"parts-{version('confident-ode')}")
    inputs = damaged(material.cases, material.clean, material.places, asked.seed, parts)
    made, missing = benchmark.planned(material.methods, material.restorer, inputs, parts, asked.seed, asked.batch)
    run(missing, material.restorer, partial(work, engine=asked.engine, address=asked.address, device=asked.device))
    return benchmark.Results(material.restorer, material.clean, material.places, inputs, made, *material.judges)


def report(asked, material, results, measured):
    """The parts of the report."""
    groups, known = families(material.cases, results.inputs), material.known
    real = results.restorer.features(known), results.inception(known) if results.inception else None
    told = material.against, asked.seed, results.shown, material.beside
    return [Text(lead(asked, material, measured)), *findings(measured, material.methods, groups, *real, *told)]


def write_report(parts, folder):
    """Write report.html, and report.md with its figures; the text of the latter."""
    save_text(html("Restoring photos damaged in ways nobody described", parts), folder / "report.html")
    save_text(text := markdown(parts), folder / "report.md")
    for part in parts:
        if part.kind == "figure":
            write(folder / part.name, part.png)
    return text


def lead(asked, material, measured):
    """The sentence that says how it was measured."""
    degrees = " and ".join(str(degree) for degree in dict.fromkeys(case.severity for case in material.cases))
    size, damages = "×".join(map(str, material.clean.shape[2:])), len(material.cases)
    return (
        f"{command()}: {material.restorer.prior.name}, {size}; {damages} damages of severity {degrees}, {asked.count} "
        f"photos for each, {len(material.names)} in all{where(asked.photos, asked.split)}: n = "
        f"{asked.count * damages:,} damaged pictures. At most "
        f"{max(each.calls.max().item() for each in measured.values()):g} network calls for a result."
    )


def families(cases, names):
    """{family: {damage: its place}} of Cases and their names."""
    found = {case.family: {} for case in cases}
    for place, (case, name) in enumerate(zip(cases, names, strict=True)):
        found[case.family][name] = place
    return found


def read_config(path):
    """The Config of a TOML file."""
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}.") from None
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror.lower()}.") from None
    tables = config.get("method")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{path} has no methods: write a [[method]] for each.")
    corruptions, severities = config.get("corruptions", [TWELVE]), config.get("severities", [5])
    if not all(isinstance(each, list) for each in (corruptions, severities)):
        raise ValueError(f"{path} names corruptions or severities that are no lists: write them in brackets.")
    try:
        methods = [method for table in tables for method in methods_of(table, config.get("code", {}))]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    names, against = [method.name for method in methods], config.get("against", "CODE")
    if wrong := [name for name in names if name in ("Original", "Damaged")]:
        raise ValueError(f"{path} has a method {wrong[0]!r}, as the photos themselves are called: name it otherwise.")
    if not isinstance(calls := config.get("calls", 150), int):
        raise ValueError(f"{path} allows {calls!r} network calls: take a whole number.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or against not in names:
        wrong = f"has two methods {twice[0]!r}" if twice else f"has no method {against!r} to compare with"
        raise ValueError(f"{path} {wrong}: each needs a name of its own, and `against` is one of them.")
    return Config(methods, corruptions, severities, calls, against)


def usable(methods, most, restorer):
    """Those of the methods that can be used; ValueError where one cannot, or makes more than `most` network calls."""
    prior = restorer.prior
    mixed_precision(prior.device, restorer.precision)  # ValueError where there is none of that name
    if prior.channels != 3:
        raise ValueError(f"{prior.name} is not of RGB pictures, which is what the classifier looks at.")
    if prior.calibration is None and any(isinstance(method, Automatic) for method in methods):
        say(f"{prior.name} has no calibration: the automatic method is left out.")
        methods = [method for method in methods if not isinstance(method, Automatic)]
    for method in methods:
        try:
            calls = method.calls(prior)
        except ValueError as error:
            raise ValueError(f"{method.name}: {error}") from None
        if calls > most:
            raise ValueError(
                f"{method.name} makes {calls} network calls for a picture, and {most} are allowed: take less."
            )
    return methods


def sides(photos, split):
    """(files to restore, files of other photos): the second half of a split and `train`, or every second file each."""
    if not (photos / TABLE).is_file():
        files = listed(photos)
        return files[1::2], files[::2]
    for name in ("train", split):
        if not has_split(photos, name):
            raise ValueError(f"The CREDITS.csv of {photos} names no photos of the split {name!r}.")
    held_out = sorted(listed(photos, split), key=lambda file: file[0].name)
    return held_out[len(held_out) // 2 :], listed(photos, "train")


def where(photos, split):
    """Which photos `sides` gave, in words."""
    if (photos / TABLE).is_file():
        return f" of the second half of the split {split!r} by name"
    return " of every second one by name"


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


def assigned(photos, count, damages, seed, same=False):
    """(count, damages): which of the photos is damaged how, all of them about as often; ValueError where there are few.

    same: the same for every damage, spread evenly.
    """
    if photos < count:
        raise ValueError(f"There are {photos} photos to restore: take --count {photos} at most.")
    if same:
        return (torch.arange(count) * photos // count)[:, None].expand(-1, damages)
    order = torch.randperm(photos, generator=torch.Generator().manual_seed(seed))
    return order[torch.arange(count * damages) % photos].view(damages, count).T


def damaged(cases, photos, places, seed, folder):
    """{name of each Case: its pictures of the photos}, with a progress bar; the name has the severity if it must."""
    one = len({case.severity for case in cases}) == 1
    with call_progress(Console(stderr=True), "damages made") as bar:
        return {
            case.damage if one else case.name: benchmark.damaged(
                photos[places[:, i]], case.function, seed, folder, (case.damage, case.severity, case.family)
            )
            for i, case in enumerate(bar.track(cases, description=""))
        }


def run(missing, restorer, work):
    """Do what is missing, with one progress bar over the network calls of all pictures."""

    def cost(task):
        return task.method.calls(restorer.prior) * len(task.pictures)

    with call_progress(Console(stderr=True), "network calls of a picture") as bar:
        each = bar.add_task("", total=sum(map(cost, missing.values())))
        try:
            benchmark.finish(missing, restorer, work, lambda task: bar.advance(each, cost(task)))
        except RuntimeError as error:
            raise ValueError(f"{error}\nWhat is done is kept: the same command goes on.") from None


def command():
    """The command line as it was given, without the folder of the program."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def rows(material, measured):
    """A row for each result: of which photo, damage and method, and its measures, below a head."""
    keys = [*measured["Original"].scores]
    yield ["photo", "family", "corruption", "severity", "method", "result", "calls", *keys]
    for (method, each), i, (j, case) in product(
        measured.items(), range(len(material.places)), enumerate(material.cases)
    ):
        about = [material.names[material.places[i, j]], case.family, case.damage, case.severity, method]
        for k in range(each.calls.shape[2]):
            scores = (round(each.scores[key][i, j, k].item(), 4) for key in keys)
            yield [*about, k, each.calls[i, j, k].item(), *scores]


def content(rows, kind):
    """The bytes of a file of one of KINDS."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    if kind == "csv":
        return file.getvalue().encode()
    import pyarrow.csv
    import pyarrow.parquet

    made = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(io.BytesIO(file.getvalue().encode())), made)
    return made.getvalue()
