"""The two knobs on one damaged photo: pictures over depth and step size, the curve, the updates, and a film."""

from dataclasses import replace

from rich.console import Console

from ..evaluation import automatic
from ..evaluation.knobs import (
    NO_CURVE,
    NO_UPDATES,
    convergence,
    curve,
    depth_as_said,
    explored,
    explored_calls,
    film_strip,
    grid_sheet,
    report,
    values_of,
)
from ..priors.loading import load
from .photos import make_folder, spare
from .pictures import MOST_WHOLE, fit, read, save
from .progress import call_progress


def draw_knobs(
    photo, folder, prior, settings, name, depths, step_sizes, how="crop", device="auto", most=MOST_WHOLE, given=None
):
    """Write grid.png, curve.png, convergence.png and film.png of a photo into `folder`, and print the numbers.

    name: of the preset that the settings are. how, most: see `fit`. given: for the automatic mode, the settings
    that are not to be chosen. Raises ValueError or OSError, before anything is restored, where something is wrong.
    """
    depths, step_sizes = values_of(depths, "depths", depth_as_said), values_of(step_sizes, "step sizes")
    prior = load(prior, device)
    picture, _ = fit(read(photo), prior.size, how, prior.channels, most)
    if given is not None:
        [(_, name, settings)] = automatic.choose(prior, picture, settings)
        settings = replace(settings, **given)
    total = explored_calls(prior, settings, depths, step_sizes)
    files = {kind: folder / f"{kind}.png" for kind in ("grid", "curve", "convergence", "film")}
    for file in files.values():
        spare([photo], file)
    make_folder(folder)
    with call_progress(Console(stderr=True)) as bar:
        task = bar.add_task(photo.name, total=total)
        knobs = explored(prior, picture, settings, depths, step_sizes, name, lambda: bar.advance(task))
    drawn = {"grid": grid_sheet, "curve": curve, "convergence": convergence, "film": film_strip}
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for kind, draw in drawn.items():
        if sheet := draw(knobs):
            save(sheet, files[kind])
        else:
            console.print(NO_CURVE if kind == "curve" else NO_UPDATES)
    console.print(report(knobs))
    made = ", ".join(file.name for file in files.values() if file.exists())
    console.print(f"{photo} -> {folder}: {made}; {total} network calls{' at most' * bool(settings.stop_at)}")
