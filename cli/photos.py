"""Restoring picture files: results, a sheet and a report of each, and one sentence for each that cannot be restored."""

import json
import os
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from PIL import ImageOps
from rich.console import Console

from ..evaluation import automatic
from ..evaluation.film import Film
from ..evaluation.metrics import or_none, psnr, ssim
from ..evaluation.restoring import plan, run
from ..evaluation.sheets import Cell, contact_sheet
from ..priors.loading import load
from ..samplers.windows import windows_of
from .pictures import MOST_WHOLE, check_fit, fit, read, save, save_text, to_image
from .progress import call_progress

NAMES = {"code": "CODE", "odedit": "ODEdit", "official": "CODE, the authors' code"}
WAYS = {"up": "Clipped on the way up", "updates": "Clipped in the updates", "down": "Clipped on the way down"}


def restore_photos(
    paths,
    folder,
    prior,
    settings,
    how="crop",
    device="auto",
    most=MOST_WHOLE,
    film=False,
    heat=False,
    given=None,
    precision="fp32",
):
    """Restore picture files into `folder`; the number of those that failed, each named in a sentence on stderr.

    prior, device, precision: see `load`. how, most: see `fit`. film, heat: whether to draw one. given: a dictionary,
    for the automatic mode, of settings that are not to be chosen. Raises ValueError or OSError, before any picture,
    where anything else is wrong.
    """
    if (film or heat) and settings.method == "official":
        option = "--film" if film else "--heat"
        raise ValueError(f"The authors' code tells nothing on its way: leave {option} out, or take another method.")
    if heat and not settings.clipped:
        raise ValueError("Without a clip there is no heat to draw: leave --heat out, or clip.")
    check_fit(how)
    prior = load(prior, device, precision)
    planned, most_calls = planned_for(prior, settings, how, most, given)
    make_folder(folder)
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    if planned.advice:
        errors.print(f"Warning: {planned.advice}")
    failed = 0

    def files(stem):
        pictures, *others = result_names(stem, settings.samples)
        return [folder.resolve() / name for name in (*pictures, *others)]

    with call_progress(errors) as bar:
        task = bar.add_task("", total=most_calls * len(paths))
        for i, (path, stem) in enumerate(zip(paths, stems(paths, files), strict=True)):
            bar.update(task, description=path.name, completed=i * most_calls)
            try:
                fitted = fit(read(path), prior.size, how, prior.channels, most)
                strip, way, own, seen = Film() if film else None, planned, settings, {}
                if given is not None:
                    way, own, seen = chosen(prior, fitted[0], settings, given, lambda: bar.advance(task))
                print(
                    restore_photo(
                        path,
                        folder,
                        stem,
                        prior,
                        way,
                        own,
                        *fitted,
                        lambda: bar.advance(task),
                        strip,
                        heat,
                        seen,
                    ),
                    flush=True,
                )
                continue
            except (ValueError, OSError) as error:
                sentence = str(error) if str(path) in str(error) else f"{path}: {error}"
            except torch.cuda.OutOfMemoryError:
                sentence = f"{path}: the GPU has too little memory for this: take fewer samples or --device cpu."
            failed += 1
            errors.print(sentence)
        bar.update(task, completed=most_calls * len(paths))
    return failed


def planned_for(prior, settings, how, most, given):
    """(plan, the most network calls for a picture) of `restore_photos`; ValueError where its arguments do not agree."""
    if how == "whole" and most < prior.size:
        raise ValueError(f"The prior's pictures are {prior.size} pixels a side: take a --max-side of at least that.")
    if given is not None and settings.method != "code":
        raise ValueError("The preset auto chooses for the method code: leave one of the two out.")
    planned = plan(prior, settings)
    return planned, planned.all_calls if given is None else automatic.most_calls(prior, settings)


def chosen(prior, picture, settings, given, on_call):
    """(plan, settings, what it looks like) of the automatic mode for a picture; what is `given` goes before."""
    [(kind, name, settings)] = automatic.choose(prior, picture, settings, on_call)
    settings = replace(settings, **given)
    return plan(prior, settings), settings, {"looks like": kind, "preset": name, "calls": prior.calibration.calls}


def restore_photo(
    path, folder, stem, prior, planned, settings, picture, fitted, on_call, film=None, heat=False, seen=None
):
    """Restore one picture file, write its results, sheet and report, and return a line that says what was made.

    picture, fitted: what `fit` made of it. film: a Film to draw, or None. heat: whether to draw what was clipped. seen:
    what the automatic mode saw.
    """
    windows = windows_of(picture.shape, prior.size)
    result = run(prior, picture, settings, on_call, film)
    scores, sdedit = _scores(result, picture), result.sdedit and _scores(result.sdedit, picture)
    pictures, sheet, strip, warm, report = result_names(stem, settings.samples)
    facts = {
        "input": str(path),
        "input_size": fitted.size,
        "fit": fitted.how,
        "windows": windows,
        "output": pictures,
        "output_size": fitted.shape,
        "film": strip if film else None,
        "heat": warm if heat else None,
        "prior": prior.name,
        "device": str(prior.device),
        "precision": str(prior.dtype).removeprefix("torch."),
        "automatic": seen or None,
        "settings": settings.used(),
        "timestep": planned.timestep,
        "sigma": planned.sigma,
        "update_sigmas": planned.levels,
        "clipped": result.clipped[0] if result.clipped else None,
        "clips": {
            part: {"clipped": list(clip.moved), "sigmas": clip.sigmas, "shares": clip.shares}
            for part, clip in result.clips.items()
        },
        settings.method: scores,
        "sdedit": sdedit,
        "version": version("confident-ode"),
    }
    for name, restored in zip(pictures, result.pictures, strict=True):
        save(fitted.undo(to_image(restored)), folder / name)
    how = f"fitted by {fitted.how}" if fitted.how != "whole" else f"whole in {windows} windows"
    title, named = f"{path.name}, restored with {Path(prior.name).name}", NAMES[settings.method]
    if film:
        save(_strip(title, film, picture, result, fitted), folder / strip)
    if heat:
        save(_heat(title, result, picture, fitted), folder / warm)
    save(_sheet(title, how, named, picture, result, scores, sdedit, fitted), folder / sheet)
    save_text(json.dumps(facts, indent=2, allow_nan=False, ensure_ascii=False) + "\n", folder / report)
    size, own = ("×".join(str(side) for side in shape) for shape in (fitted.shape, fitted.size))
    if fitted.how == "whole" and size != own:
        size = f"{size} of {own}"
    looks = f"looks like {seen['looks like']}, restored as {seen['preset']}; " if seen else ""
    return (
        f"{path} -> {folder / stem}_*: {len(pictures)} restored, {how}, {size} pixels; {looks}"
        f"{result.nfe} network calls, {result.seconds:.1f} s"
    )


def stems(paths, files=lambda stem: ()):
    """A name for each input's results, its own where that is free: no two share one, and none names an input's file."""
    inputs = {str(place).casefold() for path in paths for place in (path.absolute(), path.resolve())}
    taken = set()
    for path in paths:
        stem, count = path.stem, 1
        while stem.casefold() in taken or inputs & {str(file).casefold() for file in files(stem)}:
            count += 1
            stem = f"{path.stem}_{count}"
        taken.add(stem.casefold())
        yield stem


def result_names(stem, samples):
    """([restored pictures], sheet, film, heat, report): the names of an input's results."""
    numbers = [""] if samples == 1 else [f"_{i + 1}" for i in range(samples)]
    restored = [f"{stem}_restored{number}.png" for number in numbers]
    return restored, *(f"{stem}_{kind}.png" for kind in ("sheet", "film", "heat")), f"{stem}.json"


def make_folder(folder):
    """Make the folder, or raise OSError with one sentence where it cannot be made or written in."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError:
        raise OSError(f"{folder} is a file: give a folder for the results.") from None
    except OSError as failed:
        reason = os.strerror(failed.errno).lower()
        raise OSError(f"{folder} cannot be used for the results: {reason}.") from None


def spare(inputs, sheet):
    """ValueError where the sheet would be written over one of the photos that it is made of."""
    if sheet.resolve() in {path.resolve() for path in inputs}:
        raise ValueError(f"{sheet} is a photo that was given, and would be written over: take another folder.")


def _scores(result, picture):
    inputs = picture.expand_as(result.pictures)
    return {
        "nfe": result.nfe,
        "seconds": round(result.seconds, 3),
        "psnr_to_input": [or_none(value) for value in psnr(result.pictures, inputs)],
        "ssim_to_input": [or_none(value) for value in ssim(result.pictures, inputs)],
    }


def _sheet(title, how, method, picture, result, ours, sdedit, fitted):
    def cells(pictures, scores):
        for i, restored in enumerate(pictures):
            ratio = scores["psnr_to_input"][i]
            to_input = "same as input" if ratio is None else f"{ratio:.1f} dB to input"
            lines = (to_input, f"SSIM {scores['ssim_to_input'][i]:.3f}", f"{scores['nfe']} calls")
            yield Cell(fitted.undo(to_image(restored)), lines)

    columns = {method: cells(result.pictures, ours)}
    if sdedit:
        columns["SDEdit"] = cells(result.sdedit.pictures, sdedit)
    rows = [[None, *row] for row in zip(*columns.values(), strict=True)]
    rows[0][0] = Cell(fitted.undo(to_image(picture)), ("{} x {} pixels".format(*fitted.size), how))
    return contact_sheet(["Input", *columns], rows, title)


def _strip(title, film, picture, result, fitted):
    """The film of the first sample, from the input to what came of it."""

    def drawn(shown):
        return fitted.undo(to_image(shown))

    columns, row = film.cells(drawn)
    row = [Cell(drawn(picture)), *row, Cell(drawn(result.pictures[0]))]
    return contact_sheet(["Input", *columns, "Restored"], [row], title)


def _heat(title, result, picture, fitted):
    """What the clip moved in each part of the way, of the first sample, beside the input."""
    row = [Cell(fitted.undo(to_image(picture)))]
    for clip in result.clips.values():
        grey = to_image(2 * clip.heat[:1] - 1).convert("L")
        colours = ImageOps.colorize(grey, "black", "white", mid="red")
        row.append(Cell(fitted.undo(colours), (f"{clip.moved[0]:.1%} of values", f"in {len(clip.sigmas)} steps")))
    return contact_sheet(["Input", *(WAYS[part] for part in result.clips)], [row], title)
