import numpy as np
import pytest
import torch
from confident_ode.evaluation.comparison import LARGEST, MOST_ROWS, comparison, to_image
from confident_ode.evaluation.sheets import TILE


def flat(value, batch=1, height=16, width=16):
    return torch.full((batch, height, width, 3), value)


def noise(batch=1, height=16, width=16):
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(0))


def covered(sheet, colour):
    return int((np.asarray(sheet) == colour).all(-1).sum())


def test_the_numbers_are_those_of_the_definition():
    # an error of 0.1 everywhere, of a range of 1: 20 dB; flat pictures: SSIM is (2ab + c) / (a^2 + b^2 + c), c = 0.01^2
    a, b, c = 2 * 0.4 - 1, 2 * 0.5 - 1, (0.01 * 2) ** 2
    like = (2 * a * b + c) / (a * a + b * b + c)
    _, report = comparison(flat(0.5), [("darker", flat(0.4)), ("same", flat(0.5))])
    assert report == f"darker 20.00 dB, SSIM {like:.3f}; same identical, SSIM 1.000"


def test_a_picture_gets_a_row_and_a_line():
    references, darker = torch.cat([flat(0.2), flat(0.6), flat(1.0)]), torch.cat([flat(0.0), flat(0.4), flat(0.8)])
    sheet, report = comparison(references, [("darker", darker)])
    lines = report.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"picture {i + 1}: darker 13.98 dB") for i, line in enumerate(lines))
    for value in (51, 153, 0, 102, 204):
        assert covered(sheet, value) >= TILE**2
    y = [np.nonzero((np.asarray(sheet) == value).all(-1))[0].mean() for value in (51, 153, 204)]
    assert y[1] - y[0] > TILE
    assert y[2] - y[1] > TILE


def test_a_long_batch_fills_eight_rows_and_says_so():
    eight, ten = (comparison(noise(n), [("grey", flat(0.5, n))]) for n in (MOST_ROWS, MOST_ROWS + 2))
    assert covered(ten[0], 128) == covered(eight[0], 128) == MOST_ROWS * TILE**2
    assert ten[0].height > eight[0].height
    assert len(ten[1].splitlines()) == MOST_ROWS + 2
    assert ten[1].startswith(eight[1])


@pytest.mark.parametrize(("height", "width"), [(7, 20), (20, 7), (1, 1)])
def test_ssim_is_left_out_of_small_pictures(height, width):
    sheet, report = comparison(flat(0.5, 1, height, width), [("b", flat(0.4, 1, height, width))])
    assert report == "b 20.00 dB"
    assert covered(sheet, 102) > TILE


def test_equal_names_are_two_columns():
    sheet, report = comparison(flat(0.0), [("x", flat(0.4)), ("x", flat(0.8))])
    assert report.count("x ") == 2
    assert covered(sheet, 102) == covered(sheet, 204) == TILE**2


def test_pictures_are_rounded_and_large_ones_shrink_in_proportion():
    assert np.asarray(to_image(torch.tensor([0.0, 0.4999, 1.0]).expand(4, 5, 3)))[0, 0].tolist() == [0, 127, 255]
    assert to_image(flat(0.5, 1, 40, 2 * LARGEST)[0]).size == (LARGEST, 20)
