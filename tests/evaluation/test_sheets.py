import numpy as np
from confident_ode.evaluation.sheets import MARGIN, TILE, Cell, contact_sheet
from PIL import Image


def colour_count(sheet, colour):
    return int((np.asarray(sheet) == colour).all(-1).sum())


def test_pixels_are_enlarged_by_a_whole_factor():
    picture = Image.new("RGB", (32, 32), "red")
    picture.putpixel((3, 4), (0, 255, 0))
    sheet = contact_sheet(["one"], [[Cell(picture)]])
    factor = TILE // 32
    assert colour_count(sheet, (0, 255, 0)) == factor**2
    assert colour_count(sheet, (255, 0, 0)) == factor**2 * (32 * 32 - 1)


def test_large_pictures_stay_as_they_are():
    sheet = contact_sheet(["one"], [[Cell(Image.new("RGB", (300, 280), "red"))]])
    assert colour_count(sheet, (255, 0, 0)) == 300 * 280


def test_rows_columns_and_blanks_lie_apart():
    colours = [["red", "lime"], [None, "blue"]]
    rows = [[name and Cell(Image.new("RGB", (32, 32), name), ("a line", "two")) for name in row] for row in colours]
    sheet = np.asarray(contact_sheet(["a", "b"], rows, "title", ["first", "second"]))
    boxes = {}
    for name, colour in (("red", (255, 0, 0)), ("lime", (0, 255, 0)), ("blue", (0, 0, 255))):
        y, x = np.nonzero((sheet == colour).all(-1))
        boxes[name] = (x.min(), y.min())
        assert len(x) == TILE**2
    assert boxes["red"][1] == boxes["lime"][1] < boxes["blue"][1] - TILE
    assert boxes["lime"][0] == boxes["blue"][0] > boxes["red"][0] + TILE


def test_texts_leave_ink_inside_the_margins():
    plain = [Cell(Image.new("RGB", (8, 8), "white"))]
    noted = [Cell(Image.new("RGB", (8, 8), "white"), ("a line that is wider than its picture " * 2,))]
    empty = contact_sheet([""], [plain])
    for sheet in (
        contact_sheet(["name"], [plain]),
        contact_sheet([""], [noted]),
        contact_sheet([""], [plain], "t" * 90),
    ):
        ink = (np.asarray(sheet) < 200).any(-1)
        assert ink.sum() > (np.asarray(empty) < 200).any(-1).sum() + 20
        y, x = np.nonzero(ink)
        assert x.min() >= MARGIN - 2
        assert x.max() <= sheet.width - MARGIN + 2
        assert y.max() <= sheet.height - MARGIN + 8


def test_accents_and_line_breaks_are_left_out():
    cell, plain = (Cell(Image.new("RGB", (8, 8), "white"), (line,)) for line in ("caf\u00e9\n\ud800\0", "cafe"))
    accented = contact_sheet(["Dvo\u0159a\u0301k"], [[cell]], "na\u00efve\n title", ["\u00fcber"])
    assert np.array_equal(accented, contact_sheet(["Dvorak"], [[plain]], "naive title", ["uber"]))
