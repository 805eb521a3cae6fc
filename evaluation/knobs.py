"""The two knobs of CODE, depth and step size, seen on one damaged picture: what each does, and how a run gets there."""

import math
from dataclasses import dataclass, replace
from itertools import product

import torch
from PIL import Image, ImageDraw, ImageFont

from ..samplers.denoisers import CallCounter
from ..samplers.statistics import read
from .comparison import to_image
from .film import Film
from .plots import Line, plot
from .restoring import encoder_of, plan, run
from .settings import depth_of
from .sheets import HEADING, INK, MARGIN, Cell, contact_sheet

DEPTHS, STEP_SIZES = "0.2, 0.4, 0.6", "0.005, 0.02, 0.08"
MOST_VALUES = 8
HALVINGS = 4
COLOURS = ("#e0a030", "#c8553d", "#8a3b8f", "#3d4fa8", "#2b8a8a", "#4c8c2b", "#7a5c3e", "#555555")
MARK = "#1f7a3d"
FARTHER, BETTER = "further from the photo, %", "looks less damaged"
GOING = "What the model sees: up to the depth, after the updates, and down again."
PLOT, TEXT = (800, 420), 26
NO_CURVE = "The prior is not calibrated, so that nothing says how real a picture looks: there is no curve."
NO_UPDATES = "There are no updates over which anything could converge."


@dataclass(frozen=True)
class Look:
    """A picture (C, H, W) in [-1, 1] on the CPU. moved: its root mean square distance to the photo, black to white 1.

    damage: how damaged it looks to the prior, `Calibration.damage`, None where that is not calibrated.
    """

    picture: torch.Tensor
    moved: float
    damage: float | None

    @property
    def lines(self):
        moved = [f"moved {self.moved:.1%}"] if self.moved else []
        return (*moved, *([] if self.damage is None else [f"damage seen {self.damage:.1f}"]))

    def cell(self, *lines, frame=None):
        """A cell of a contact sheet with the numbers below other lines."""
        return Cell(drawn(self.picture), (*lines, *self.lines), frame)


@dataclass(frozen=True)
class Knobs:
    """What was seen. grid: {(depth, step size): Look}. own: the place of the settings as given, called `name`.

    restored: the Look there. updates: {number of updates: Look} with all else as given. film: the Film of the settings
    as given, its frames pictures in [-1, 1]. clean: what the damage of clean pictures is about, or None.
    """

    photo: Look
    grid: dict
    own: tuple
    name: str
    restored: Look
    updates: dict
    film: Film
    clean: float | None


def explore(restore, shown, damage, photo, grid, updates, own, name, clean=None):
    """The Knobs of a photo (1, C, H, W) in [-1, 1] at `grid`, pairs of a depth and a step size, and at `own`, a pair.

    restore(depth, step size, updates, callback) gives the restored picture, where updates is None for those as given;
    shown(denoised) the picture of what the callback gets; damage(picture) a number or None. updates: numbers of them,
    the last as given, that are tried at `own`.
    """

    def look(picture):
        picture = picture.float().cpu()
        return Look(picture[0], (picture - photo.cpu()).square().mean().sqrt().item() / 2, damage(picture))

    film = Film()
    looks = {
        place: look(restore(*place, None, film if place == own else None)) for place in dict.fromkeys([*grid, own])
    }
    fewer = {count: look(restore(*own, count, None)) for count in updates[:-1]}
    return Knobs(
        photo=look(photo),
        grid={place: looks[place] for place in grid},
        own=own,
        name=name,
        restored=looks[own],
        updates={**fewer, **dict.fromkeys(updates[-1:], looks[own])},
        film=Film([replace(frame, picture=shown(frame.picture)) for frame in film.frames]),
        clean=clean,
    )


def fewer_updates(updates, least=0):
    """Numbers of updates to try, rising: `least`, and `updates` halved a few times; none without updates."""
    halved = {-(-updates // 2**k) for k in range(HALVINGS + 1)} | {least}
    return sorted(count for count in halved if count >= least) if updates else []


@torch.inference_mode()
def explored(prior, picture, settings, depths, step_sizes, name, on_call=None):
    """The Knobs of a picture (1, C, H, W) in [-1, 1] for a Prior. Network calls: `explored_calls`."""
    calibration = prior.calibration

    def restore(depth, step_size, updates, callback):
        return run(prior, picture, at(settings, depth, step_size, updates), on_call, callback).pictures

    def damage(picture):
        if calibration is None:
            return None
        model = CallCounter(encoder_of(prior, settings.label, True, 1), on_call)
        statistics = read(model, picture.to(prior.device), calibration.levels, seed=settings.seed)
        return calibration.damage(statistics).item()

    grid, updates = list(product(depths, step_sizes)), fewer_updates(settings.updates)
    clean = clean_damage(calibration)
    return explore(restore, lambda x0: x0, damage, picture, grid, updates, own_of(settings), name, clean)


def own_of(settings):
    """The place of settings on the grid."""
    return depth_as_said(str(settings.depth)), settings.step_size


def at(settings, depth, step_size, updates=None):
    updates = settings.updates if updates is None else updates
    return replace(settings, depth=depth, step_size=step_size, updates=updates, samples=1, sdedit=False)


def explored_calls(prior, settings, depths, step_sizes):
    """The network calls of `explored`; ValueError where settings do not go together."""
    if settings.method != "code":
        raise ValueError(f"The two knobs are those of the method code, not of {settings.method}: leave --method out.")
    places = dict.fromkeys([*product(depths, step_sizes), own_of(settings)])
    fewer = fewer_updates(settings.updates)[:-1]
    runs = [at(settings, *place) for place in places] + [at(settings, *own_of(settings), count) for count in fewer]
    reads = 0 if prior.calibration is None else prior.calibration.calls * (len(runs) + 1)
    return sum(plan(prior, each).calls for each in runs) + reads


def clean_damage(calibration):
    """About what `Calibration.damage` says of clean pictures, None without one."""
    return None if calibration is None else calibration.directions.shape[1] ** 0.5


def number(word):
    """A finite number, or ValueError."""
    value = float(word)
    if not math.isfinite(value):
        raise ValueError
    return value


def values_of(text, what, read=number):
    """What `read` makes of the words of a text with commas between, each once; ValueError on none or too many."""
    try:
        values = list(dict.fromkeys(read(word.strip()) for word in text.split(",")))
    except ValueError:
        values = []
    if not 1 <= len(values) <= MOST_VALUES:
        raise ValueError(
            f"The {what} {text[:60]!r} are not understood: give 1 to {MOST_VALUES} numbers with commas between."
        )
    return values


def depth_as_said(word):
    """A depth that `Settings` takes: a number as such, t=400 or sigma=1.2 as they are; ValueError on anything else."""
    ((kind, value),) = depth_of(word).items()
    return number(value) if kind == "fraction" else word


def grid_sheet(knobs):
    """All pictures: a row for each depth, a column for each step size, and above them the photo and what it all is."""
    depths, step_sizes = axes(knobs)
    rows = [[cell_at(knobs, (depth, step)) for step in step_sizes] for depth in depths]
    columns = [f"step size {step:g}" for step in step_sizes]
    grid = contact_sheet(columns, rows, labels=[f"depth {depth}" for depth in depths])
    corner = [knobs.photo.cell()]
    if knobs.own not in knobs.grid:
        corner.append(cell_at(knobs, knobs.own, *said_of(*knobs.own)))
    corner = contact_sheet(["The photo", knobs.name][: len(corner)], [corner])
    said = [
        "Down: deeper. More of the photo is forgotten.",
        "Right: larger steps. Each update moves further.",
        "Both take more damage away, and more of the photo.",
        "",
        "moved: how far from the photo, of black to white",
    ]
    if knobs.clean is not None:
        said.append(f"damage seen: how damaged it looks to the prior; clean photos about {knobs.clean:.1f}")
    if knobs.own in knobs.grid:
        said.append(f"framed: {knobs.name}")
    height = max(corner.height, 2 * MARGIN + HEADING + len(said) * TEXT) - MARGIN // 2
    font = ImageFont.load_default(18)
    words = math.ceil(max(font.getlength(line) for line in said)) + MARGIN
    sheet = Image.new("RGB", (max(grid.width, corner.width + words), height + grid.height), "white")
    sheet.paste(corner, (0, 0))
    sheet.paste(grid, (0, height))
    write = ImageDraw.Draw(sheet)
    for i, line in enumerate(said):
        write.text((corner.width, MARGIN + HEADING + i * TEXT), line, INK, font)
    return sheet


def axes(knobs):
    """The depths and the step sizes of the grid."""
    return (list(dict.fromkeys(place[k] for place in knobs.grid)) for k in (0, 1))


def cell_at(knobs, place, *lines):
    """The cell of a place in the grid, framed where it is the settings as given."""
    look = knobs.grid.get(place, knobs.restored)
    return look.cell(*lines, frame=MARK if place == knobs.own else None)


def curve(knobs):
    """Realism against fidelity: a line for each depth, a dot for each step size; None without realism."""
    if knobs.photo.damage is None:
        return None
    depths, step_sizes = axes(knobs)
    radii = [4 + 6 * i / max(1, len(step_sizes) - 1) for i in range(len(step_sizes))]
    lines = [
        Line(tuple(dot(knobs.grid[depth, step]) for step in step_sizes), colour, f"depth {depth}", tuple(radii))
        for depth, colour in zip(depths, COLOURS, strict=False)
    ]
    lines.append(Line((dot(knobs.photo),), name="the photo", radii=(7,)))
    lines.append(Line((dot(knobs.restored),), MARK, knobs.name, radii=(15,), ring=True))
    title, sizes = "What the two knobs do to this photo", [f"step {step:g}" for step in step_sizes]
    sizes = list(zip(radii, sizes, strict=True))
    return plot(lines, FARTHER, BETTER, title, level=(knobs.clean, "clean photos"), down=True, sizes=sizes)


def dot(look):
    return 100 * look.moved, look.damage


def convergence(knobs):
    """The pictures after more and more updates, and both numbers; None without updates."""
    if not knobs.updates:
        return None
    looks = list(knobs.updates.items())
    columns = ["The photo", *(f"{count} updates" for count, _ in looks)]
    cells = [look.cell(frame=MARK if look is knobs.restored else None) for _, look in looks]
    strip = contact_sheet(columns, [[knobs.photo.cell(), *cells]], f"More and more updates. {own_said(knobs)}")
    moved = Line(tuple((count, 100 * look.moved) for count, look in looks), COLOURS[3])
    plots = [plot([moved], "more updates", FARTHER, size=PLOT)]
    if knobs.photo.damage is not None:
        seen = Line(tuple((count, look.damage) for count, look in looks), COLOURS[1])
        level = (knobs.clean, "clean photos")
        plots.append(plot([seen], "more updates", BETTER, size=PLOT, level=level, down=True))
    picture = Image.new("RGB", (max(strip.width, PLOT[0] * len(plots)), strip.height + PLOT[1]), "white")
    picture.paste(strip, (0, 0))
    for i, each in enumerate(plots):
        picture.paste(each, (PLOT[0] * i, strip.height))
    return picture


def film_strip(knobs):
    """The run with the settings as given, from the photo to what came of it."""
    return film_of(knobs.film, knobs.photo.picture, knobs.restored.picture, own_said(knobs))


def film_of(film, photo, restored, said):
    """The contact sheet of a Film whose frames, as the photo and the restored picture, are (C, H, W) in [-1, 1]."""
    titles, row = film.cells(drawn)
    row = [Cell(drawn(photo)), *row, Cell(drawn(restored))]
    return contact_sheet(["The photo", *titles, "Restored"], [row], f"{GOING} {said}")


def report(knobs):
    """A line for the photo, and one for each depth and step size."""
    lines = [f"the photo: {', '.join(knobs.photo.lines) or 'as it is'}"]
    for place, look in {**knobs.grid, knobs.own: knobs.restored}.items():
        own = f" ({knobs.name})" if place == knobs.own else ""
        lines.append(f"{', '.join(said_of(*place))}{own}: {', '.join(look.lines)}")
    return "\n".join(lines)


def own_said(knobs):
    return f"{knobs.name}: {', '.join(said_of(*knobs.own))}"


def said_of(depth, step_size):
    return f"depth {depth}", f"step size {step_size:g}"


def drawn(picture):
    """(C, H, W) or (1, C, H, W) in [-1, 1] as an 8-bit image."""
    pixels = (picture.reshape(picture.shape[-3:]).float().cpu().clamp(-1, 1) + 1) / 2
    return to_image(pixels.movedim(0, -1).expand(-1, -1, 3))
