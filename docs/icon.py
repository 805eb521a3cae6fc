"""Draws web/icon.png, a flower that comes out of wrong pixels: python docs/icon.py"""

import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

SIDE, CELLS, FINE = 400, 10, 4
NIGHT, PETAL, SHADE, HEART = "#1b2145", "#ffc531", "#f59a1b", "#6b2f14"
WRONG = ("#e8447a", "#39c6d6", "#7be05a", "#a06bff", "#f4f4f8", "#0d1024")


def flower():
    """A flower on a dark ground, smooth."""
    size = SIDE * FINE
    image = Image.new("RGB", (size, size), NIGHT)
    draw = ImageDraw.Draw(image)
    for ring, colour, turn in ((0.31, SHADE, 0.5), (0.30, PETAL, 0.0)):
        for i in range(8):
            angle = (i + turn) * math.tau / 8
            x, y = (size * (0.5 + ring * f(angle)) for f in (math.cos, math.sin))
            r = size * 0.12
            draw.ellipse((x - r, y - r, x + r, y + r), colour)
    draw.ellipse([size * place for place in (0.24, 0.24, 0.76, 0.76)], PETAL)
    draw.ellipse([size * place for place in (0.34, 0.34, 0.66, 0.66)], HEART)
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def icon():
    """The flower, its left part in coarse pixels of which more and more are wrong."""
    whole, rng = flower(), random.Random(5)
    coarse = whole.resize((CELLS, CELLS), Image.Resampling.BOX)
    for x in range(CELLS):
        for y in range(CELLS):
            if rng.random() < 0.75 - 0.13 * x:
                coarse.putpixel((x, y), Image.new("RGB", (1, 1), rng.choice(WRONG)).getpixel((0, 0)))
    blocks = coarse.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    whole.paste(blocks.crop((0, 0, SIDE // 2, SIDE)), (0, 0))
    corners = Image.new("L", (SIDE * FINE, SIDE * FINE), 0)
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, SIDE * FINE - 1, SIDE * FINE - 1), SIDE * FINE // 6, 255)
    whole.putalpha(corners.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return whole


if __name__ == "__main__":
    icon().save(Path(__file__).parents[1] / "web" / "icon.png", optimize=True)
