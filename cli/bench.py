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


def bench(
    photos,
    folder,
    prior,
    methods,
    count,
    corruptions=(),
    severities=(),
    split="val",
    seed=0,
    batch=16,
    device="auto",
    precision="fp32",
    engine="local",
    address=None,
    table="csv",
    lpips=False,
    fid=False,
    official=None,
    same_photos=False,
):
    """Restore, measure, and write report.html, report.md with its figures, and the results of all to `folder`.

    photos: a folder, with or without a CREDITS.csv of splits. methods: a TOML file. corruptions, severities: instead of
    those that the file says. table: one of KINDS. lpips, fid: whether to have those too. official: a checkout of
    the CODE authors' code, to compare with. same_photos: see `assigned`. Raises ValueError or OSError with one
    sentence.
    """
    if count < 1 or batch < 1 or seed < 0:
        raise ValueError("A benchmark takes at least 1 photo, a batch of at least 1, and a seed of at least 0.")
    if table not in KINDS:
        raise ValueError(f"The table {table!r} is unknown: take one of {', '.join(KINDS)}.")
    if table == "parquet" and not find_spec("pyarrow"):
        raise ValueError("A parquet table needs a package more: pip install pyarrow")
    check_engine(engine)
    config, beside = read_config(methods), against(official) if official else []
    cases, unable = cases_of(corruptions or config.corruptions, severities or config.severities)
    benchmark.check_enough(count, len(cases))
    restored, others = sides(photos, split)
    restorer = Restorer(prior, device, precision)
    methods = [*usable(config.methods, config.calls, restorer), *usable(beside, math.inf, restorer)]
    others_of = {"lpips": perceptual.lpips(restorer.prior.device) if lpips else None}
    others_of["inception"] = perceptual.inception(restorer.prior.device) if fid else None
    if unable:
        say(f'Left out are {", ".join(unable)}: pip install "confident-ode[corruptions]" makes them.')
    names, clean = read_all(restored, restorer.prior.size)
    used, places = assigned(len(names), count, len(cases), seed, same_photos).unique(return_inverse=True)
    names, clean = [names[place] for place in used], clean[used]
    _, known = read_all(others, restorer.prior.size)
    benchmark.check_enough(len(known), 1)
    make_folder(parts := folder / f"parts-{version('confident-ode')}")

    inputs = damaged(cases, clean, places, seed, parts)
    made, missing = benchmark.planned(methods, restorer, inputs, parts, seed, batch)
    run(missing, restorer, partial(work, engine=engine, address=address, device=device))

    results = benchmark.Results(restorer, clean, places, inputs, made, **others_of)
    measured = {name: results.measured(name) for name in ("Original", "Damaged", *(m.name for m in methods))}
    degrees = " and ".join(str(degree) for degree in dict.fromkeys(case.severity for case in cases))
    lead = (
        f"{command()}: {restorer.prior.name}, {clean.shape[2]}×{clean.shape[3]}; {len(cases)} damages of severity "
        f"{degrees}, {count} photos for each, {len(used)} in all{where(photos, split)}: n = {count * len(cases):,} "
        f"damaged pictures. At most {max(each.calls.max().item() for each in measured.values()):g} network calls for a "
        f"result."
    )
    families = {case.family: {} for case in cases}
    for place, (case, name) in enumerate(zip(cases, inputs, strict=True)):
        families[case.family][name] = place
    real = restorer.features(known), results.inception(known) if fid else None
    parts = [Text(lead), *findings(measured, methods, families, *real, config.against, seed, results.shown, beside)]
    save_text(html("Restoring photos damaged in ways nobody described", parts), folder / "report.html")
    save_text(text := markdown(parts), folder / "report.md")
    for part in parts:
        if part.kind == "figure":
            write(folder / part.name, part.png)
    file = folder / f"results.{table}"
    write(file, content(rows(names, cases, places, measured), table))
    print(text)
    print(f"Written to {folder}: report.html, report.md, {file.name}.")


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


def rows(names, cases, places, measured):
    """A row for each result: of which photo, damage and method, and its measures, below a head."""
    keys = [*measured["Original"].scores]
    yield ["photo", "family", "corruption", "severity", "method", "result", "calls", *keys]
    for (method, each), i, (j, case) in product(measured.items(), range(len(places)), enumerate(cases)):
        for k in range(each.calls.shape[2]):
            scores = (round(each.scores[key][i, j, k].item(), 4) for key in keys)
            yield [
                names[places[i, j]],
                case.family,
                case.damage,
                case.severity,
                method,
                k,
                each.calls[i, j, k].item(),
                *scores,
            ]


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
