"""Contact sheets: pictures side by side, enlarged in whole pixels, with a title above and numbers below."""

import math
import unicodedata
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw, ImageFont

TILE, GAP, MARGIN = 224, 16, 28
TITLE, HEADING, LINE = 40, 30, 20
INK, QUIET, RULE = "#1b1b1f", "#66666e", "#d8d8de"


@dataclass(frozen=True)
class Cell:
    """A picture of any size, the lines of text under it, and the colour of a frame round it, if any."""

    picture: Image.Image
    lines: tuple[str, ...] = ()
    frame: str | None = None


def contact_sheet(columns, rows, title="", labels=()):
    """A white RGB sheet of `rows`, lists of Cell or None (left blank), under the titles `columns`.

    title: a line above it all. labels: a name for each row, on its left. Small pictures are enlarged by a whole factor,
    so that a pixel stays a square; large ones stay as they are. Accented letters lose their accents.
    """
    title, columns, labels = _plain(title), [_plain(column) for column in columns], [_plain(label) for label in labels]
    rows = [[cell and _ready(cell) for cell in row] for row in rows]
    cells = [cell for row in rows for cell in row if cell]
    head, name, note = (ImageFont.load_default(size) for size in (22, 17, 14))

    width = max(
        *(cell.picture.width for cell in cells),
        *(_length(line, note) for cell in cells for line in cell.lines),
        *(_length(column, name) for column in columns),
    )
    heights = [max(cell.picture.height + 8 + LINE * len(cell.lines) for cell in row if cell) for row in rows]
    left = MARGIN + max((_length(label, name) + GAP for label in labels), default=0)
    top = MARGIN + (TITLE if title else 0)
    right = max(left + len(columns) * (width + GAP) - GAP, MARGIN + _length(title, head))
    bottom = top + HEADING + sum(heights) + GAP * (len(rows) - 1)
    sheet = Image.new("RGB", (right + MARGIN, bottom + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)

    draw.text((MARGIN, MARGIN - 6), title, INK, head)
    places = [left + i * (width + GAP) for i in range(len(columns))]
    for x, column in zip(places, columns, strict=True):
        draw.text((x, top), column, INK, name)
    y = top + HEADING
    for i, row in enumerate(rows):
        if i:
            draw.line((MARGIN, y - GAP // 2 - 2, right, y - GAP // 2 - 2), RULE)
        if labels:
            draw.text((MARGIN, y), labels[i], INK, name)
        for x, cell in zip(places, row, strict=True):
            if cell:
                sheet.paste(cell.picture, (x, y))
                if cell.frame:
                    box = (x - 6, y - 6, x + cell.picture.width + 5, y + cell.picture.height + 5)
                    draw.rectangle(box, outline=cell.frame, width=4)
                draw.text((x, y + cell.picture.height + 6), "\n".join(cell.lines), QUIET, note, spacing=LINE - 15)
        y += heights[i] + GAP
    return sheet


def _ready(cell):
    return replace(cell, picture=_enlarged(cell.picture), lines=tuple(_plain(line) for line in cell.lines))


def _plain(text):
    """The text on one line and without accents, which Pillow's default font does not have."""
    letters = unicodedata.normalize("NFKD", " ".join(text.split()))
    return "".join(letter for letter in letters if letter.isprintable() and not unicodedata.combining(letter))


def _length(text, font):
    return math.ceil(font.getlength(text))


def _enlarged(picture):
    factor = max(1, TILE // max(picture.size))
    return picture.convert("RGB").resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
