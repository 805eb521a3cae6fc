"""A small plot, drawn with nothing but Pillow: lines of dots, with their names and axes in plain words."""

import math
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from .sheets import INK, QUIET, RULE

# in pixels of the picture, as all lengths, which is drawn FINER times as large and scaled down
LEFT, TOP, RIGHT, BOTTOM = 96, 56, 170, 72
FINER = 2
# of the span of the values, left free at either end
ROOM = 0.1


@dataclass(frozen=True)
class Line:
    """Dots (x, y) joined by a line, with a radius in pixels for each; its name stands in the margin, or at one dot."""

    dots: tuple[tuple[float, float], ...]
    colour: str = INK
    name: str = ""
    radii: tuple[float, ...] = ()
    ring: bool = False


def plot(lines, x_title, y_title, title="", size=(880, 560), level=None, down=False, sizes=()):
    """A white RGB picture of Lines. level: (y, name) of a dashed line across. down: whether smaller y are higher up.

    sizes: pairs (radius, what it means) for the margin.
    """
    pen, (width, height) = _Pen(size), size
    right, bottom = width - RIGHT, height - BOTTOM
    across = _Axis([x for line in lines for x, _ in line.dots], LEFT, right)
    heights = [y for line in lines for _, y in line.dots] + ([level[0]] if level else [])
    up = _Axis(heights, *((TOP, bottom) if down else (bottom, TOP)))

    for tick in across.ticks:
        pen.line([(across(tick), TOP), (across(tick), bottom)], RULE)
        pen.text((across(tick), bottom + 8), f"{tick:g}", QUIET, 13, "ma")
    for tick in up.ticks:
        pen.line([(LEFT, up(tick)), (right, up(tick))], RULE)
        pen.text((LEFT - 10, up(tick)), f"{tick:g}", QUIET, 13, "rm")
    pen.text((LEFT, 14), title, INK, 20)
    pen.line([(LEFT, TOP - 8), (LEFT, bottom), (right + 14, bottom)], INK, 2)
    pen.polygon([(right + 14, bottom), (right + 5, bottom - 5), (right + 5, bottom + 5)], INK)
    pen.polygon([(LEFT, TOP - 8), (LEFT - 5, TOP + 1), (LEFT + 5, TOP + 1)], INK)
    pen.text((right, height - 34), x_title, INK, 16, "ra")
    pen.upwards((14, TOP), y_title, INK, 16)
    if level:
        for x in range(LEFT, right, 12):
            pen.line([(x, up(level[0])), (x + 6, up(level[0]))], QUIET)
        pen.text((LEFT + 8, up(level[0]) - 4), level[1], QUIET, 13, "ls")
    for line in lines:
        places = [(across(x), up(y)) for x, y in line.dots]
        pen.line(places, line.colour, 3)
        for place, r in zip(places, line.radii or [4] * len(places), strict=True):
            pen.circle(place, r, line.colour, line.ring)
    entries = [(line.colour, 7, line.name) for line in lines if line.name and len(line.dots) > 1]
    entries += [(QUIET, radius, meaning) for radius, meaning in sizes]
    for i, (colour, radius, name) in enumerate(entries):
        y = TOP + 12 + 26 * i
        pen.circle((right + 34, y), radius, colour)
        pen.text((right + 52, y), name, INK, 14, "lm")
    # words above all that is drawn
    for line in lines:
        if len(line.dots) == 1:
            ((x, y),) = line.dots
            off = (line.radii[0] if line.radii else 4) + 6
            pen.text((across(x), up(y) + off), line.name, line.colour, 15, "mt")
    return pen.picture.reduce(FINER)


class _Axis:
    """Numbers to pixels between two ends, with round numbers to write along it."""

    def __init__(self, values, first, last):
        low, high = min(values), max(values)
        span = high - low or abs(high) or 1.0
        low, span = low - ROOM * span, (1 + 2 * ROOM) * span
        self.low, self.first, self.scale = low, first, (last - first) / span
        rough = span / 5
        unit = 10 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
        self.ticks = [i * step for i in range(math.ceil(low / step), math.floor((low + span) / step) + 1)]

    def __call__(self, value):
        return self.first + (value - self.low) * self.scale


class _Pen:
    """Draws in pixels on a picture that is FINER times as large."""

    def __init__(self, size):
        self.picture = Image.new("RGB", [FINER * side for side in size], "white")
        self.draw = ImageDraw.Draw(self.picture)

    def line(self, places, colour, width=1):
        self.draw.line([FINER * n for place in places for n in place], colour, FINER * width, "curve")

    def polygon(self, places, colour):
        self.draw.polygon([FINER * n for place in places for n in place], colour)

    def circle(self, place, radius, colour, ring=False):
        (x, y), r = place, radius
        box = [FINER * n for n in (x - r, y - r, x + r, y + r)]
        self.draw.ellipse(box, None if ring else colour, colour, 3 * FINER)

    def text(self, place, text, colour, points, anchor="la"):
        """Text with a white border, to be read on lines."""
        font = ImageFont.load_default(FINER * points)
        spot = [FINER * n for n in place]
        self.draw.text(spot, text, colour, font, anchor, stroke_width=2 * FINER, stroke_fill="white")

    def upwards(self, place, text, colour, points):
        font = ImageFont.load_default(FINER * points)
        across, down = (math.ceil(n) + FINER for n in font.getbbox(text)[2:])
        label = Image.new("RGB", (across, down), "white")
        ImageDraw.Draw(label).text((0, 0), text, colour, font)
        self.picture.paste(label.rotate(90, expand=True), [FINER * n for n in place])
