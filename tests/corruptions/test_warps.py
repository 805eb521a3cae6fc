"""The C-bar warps: where each fetches its pixels from."""

import math

import pytest
import torch
from confident_ode.corruptions import fields, warps
from confident_ode.corruptions.catalogue import CORRUPTIONS
from confident_ode.corruptions.warps import (
    chromatic_abberation,
    circular_motion_blur,
    fish_eye,
    perspective_no_bars,
    pinch_and_twirl,
    quadrilateral_no_bars,
    ripple,
    scatter,
    transverse_chromatic_abberation,
    water_drop,
)
from torch.nn.functional import interpolate

ALL = [function for function in CORRUPTIONS.values() if function.__module__ == warps.__name__]


def smooth(count, height, width):
    """Pictures with detail of about 6 pixels."""
    coarse = torch.rand(count, 3, height // 6 + 1, width // 6 + 1, generator=torch.Generator().manual_seed(0))
    return 2 * interpolate(coarse, (height, width), mode="bilinear", align_corners=False) - 1


def places(damage, height, width, **how):
    """Where pixels come from, rows and columns (H, W): seen in a picture whose red is the row, green the column."""
    rows, columns = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    probe = torch.stack([rows / height, columns / width, 0 * rows])[None]
    row, column, _ = damage(probe, **how)[0]
    return rows, columns, row * height, column * width


def drawn(monkeypatch, values):
    monkeypatch.setattr(warps, "each", lambda *arguments: torch.as_tensor(values).double()[None])


@pytest.mark.parametrize("damage", [damage for damage in ALL if damage is not circular_motion_blur])
def test_chance_is_the_seeds(damage):
    picture = smooth(1, 66, 70)
    first = damage(picture, seed=1)
    assert torch.equal(first, damage(picture, seed=1))
    assert any((damage(picture, seed=seed) - first).abs().max() > 0.05 for seed in (2, 3, 4))


@pytest.mark.parametrize("damage", ALL)
def test_the_layout_in_memory_does_not_matter(damage):
    pictures = smooth(1, 16, 24)
    torch.testing.assert_close(damage(pictures.mT.contiguous().mT), damage(pictures), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "damage",
    [fish_eye, water_drop, ripple, perspective_no_bars, quadrilateral_no_bars, scatter, circular_motion_blur],
)
def test_without_strength_the_picture_stays(damage):
    pictures = smooth(2, 30, 42)
    torch.testing.assert_close(damage(pictures, severity=0), pictures, rtol=0, atol=2e-3)


@pytest.mark.parametrize("damage", [perspective_no_bars, quadrilateral_no_bars, scatter])
def test_no_bars(damage):
    """White stays white to the edges, whatever is fetched from outside."""
    white = torch.ones(8, 3, 40, 28)
    torch.testing.assert_close(damage(white), white)


def test_perspective_is_projective(monkeypatch):
    """Signs are of slant x, y, shift x, y, zoom x, y."""
    drawn(monkeypatch, [1, -1, -1, 1, 1, -1])
    size = 100
    rows, columns, row, column = places(perspective_no_bars, size, size, severity=5)
    x, y = (columns + 0.5) / size, (rows + 0.5) / size
    depth = 1 + 0.1 * x + 0.1 * y
    seen_x = (2**0.075 * x + 0.05 * y - 0.05) / depth
    seen_y = (2**-0.075 * y - 0.05 * x + 0.05) / depth
    inner = (seen_x > 0.01) & (seen_x < 0.99) & (seen_y > 0.01) & (seen_y < 0.99)
    assert inner.float().mean() > 0.7
    torch.testing.assert_close(row[inner], (seen_y * size - 0.5)[inner])
    torch.testing.assert_close(column[inner], (seen_x * size - 0.5)[inner])
    outside = (seen_x < 0) | (seen_y < 0)
    assert outside.any()
    torch.testing.assert_close(column[outside], columns[outside])


def test_quadrilateral_has_the_drawn_corners(monkeypatch):
    """All corners inwards, by 1/6, 1/12 and nothing: of the top left, x by 1/6 and y by 1/12, and so on."""
    drawn(monkeypatch, [[[1, 0.75], [0.5, 0.5]], [[0.75, 0], [0, 0.25]]])
    size = 120
    _, _, row, column = places(quadrilateral_no_bars, size, size, severity=5)
    corners = {(0, 0): (20, 10), (0, -1): (120, 0), (-1, 0): (10, 100), (-1, -1): (100, 110)}
    for corner, (x, y) in corners.items():
        assert column[corner].item() == pytest.approx(x, abs=1.6)
        assert row[corner].item() == pytest.approx(y, abs=1.6)
    middle_x, middle_y = (sum(corner[i] for corner in corners.values()) / 4 for i in (0, 1))
    assert column[59:61, 59:61].mean().item() + 0.5 == pytest.approx(middle_x, abs=0.01)
    assert row[59:61, 59:61].mean().item() + 0.5 == pytest.approx(middle_y, abs=0.01)


@pytest.mark.parametrize("severity", [1, 5])
def test_scatter_stays_within_its_radius(severity):
    rows, columns, row, column = places(scatter, 100, 140, severity=severity)
    for moved in (row - rows, column - columns):
        assert 0.98 * severity < moved.abs().max() <= severity + 1e-9
        assert moved.std().item() == pytest.approx(severity / math.sqrt(3), rel=0.1)
        assert abs(moved.mean().item()) < 0.05 * severity


def test_ripple_is_a_sine_of_each_axis(monkeypatch):
    """Wavelengths are 0.1 + 0.2 u of the side, phases u of the circle."""
    drawn(monkeypatch, [[0, 0.5], [0.25, 0.0]])
    rows, columns, row, column = places(ripple, 80, 120, severity=5)
    inner = (slice(2, -2), slice(2, -2))
    torch.testing.assert_close(row[inner], (rows + torch.cos(2 * math.pi * rows / 8))[inner])
    torch.testing.assert_close(column[inner], (columns + torch.sin(2 * math.pi * columns / 16))[inner])


def test_water_drop_moves_along_the_radius(monkeypatch):
    """Centre and wavelength in the middle of their ranges: 0.5 and 0.125 of the side; no phase."""
    drawn(monkeypatch, [0.5, 0.5, 0.5, 0])
    rows, columns, row, column = places(water_drop, 80, 120, severity=5)
    down, across = rows - 40, columns - 60
    distance = torch.hypot(down, across)
    moved = 0.125 * 10 * torch.sin(2 * math.pi * distance / 10)
    inner = (distance < 38) & (distance > 0)
    torch.testing.assert_close((row - rows)[inner], (moved * down / distance)[inner])
    torch.testing.assert_close((column - columns)[inner], (moved * across / distance)[inner])
    torch.testing.assert_close(column[distance > 40], columns[distance > 40])


@pytest.mark.parametrize("sign", [1, -1])
def test_pinch_and_twirl_in_each_disc(monkeypatch, sign):
    """Cells of 20 pixels: a pixel d from a centre, in radii, fetches from d / sin(pi d / 2) ^ 0.3, turned."""
    drawn(monkeypatch, sign * torch.ones(5, 7))
    rows, columns, row, column = places(pinch_and_twirl, 100, 140, severity=5)
    down, across = rows % 20 - 10, columns % 20 - 10
    distance = torch.hypot(down, across) / 10
    torch.testing.assert_close(row[distance > 1], rows[distance > 1])

    # at the last row and column, black mixes in
    hit = (distance > 0) & (distance < 1) & (rows < 80) & (columns < 120)
    fetched = torch.complex(row - rows + down, column - columns + across)[hit]
    turned = fetched / torch.complex(down, across)[hit]
    d = distance[hit]
    torch.testing.assert_close(turned.abs(), torch.sin(math.pi / 2 * d) ** -0.3)
    torch.testing.assert_close(turned.angle(), sign * math.pi / 4 * (1 - d) ** 2)


def test_pinch_and_twirl_leaves_what_no_cell_holds():
    """103 pixels are five cells of 20, and 3 over."""
    pictures = smooth(1, 103, 103)
    pinched = pinch_and_twirl(pictures)
    torch.testing.assert_close(pinched[..., 100:, :], pictures[..., 100:, :], rtol=0, atol=1e-4)
    assert (pinched[..., 80:100, 80:100] - pictures[..., 80:100, 80:100]).abs().max() > 0.1


def test_a_lens_obeys_snells_law():
    """Along an axis: a ray from above at `offset` of the sphere's middle goes on to the ground, `depth` below."""
    offsets = torch.linspace(-12, 12, 25).double()
    rows, columns = warps._refracted(*(torch.zeros(25).double(), offsets), 0, 0, radius=10, eta=1.5)
    assert torch.equal(rows, torch.zeros(25).double())
    torch.testing.assert_close(columns[offsets.abs() >= 10], offsets[offsets.abs() >= 10])
    inner = offsets.abs() < 10
    depth = (100 - offsets[inner] ** 2).sqrt()
    tilt = torch.atan((offsets[inner] - columns[inner]) / depth)
    incidence = torch.asin(offsets[inner] / 10)
    torch.testing.assert_close(1.5 * torch.sin(incidence - tilt), torch.sin(incidence))


@pytest.mark.parametrize(("side", "radius"), [(20, 3), (70, 3.5)])
def test_fish_eye_lays_its_lenses_one_after_the_other(side, radius):
    """The same as with the whole picture drawn for each of the 655."""
    picture = smooth(1, side, side).double()
    centres = torch.rand(655, 2, generator=torch.Generator().manual_seed(7)).double() * side
    out = picture
    for row, column in centres:
        out = fields.looked_up(out, *warps._refracted(*fields.pixels(out), row, column, radius, eta=2.0))
    torch.testing.assert_close(fish_eye(picture, 5, seed=7), out, rtol=0, atol=1e-4)


def test_chromatic_aberration_moves_each_channel_by_the_same_length():
    """A spot keeps its light; its centre moves by 0.05 of the side, to another side in each channel."""
    spot = torch.full((1, 3, 100, 160), -1.0).double()
    spot[..., 48:53, 78:83] = 1
    light = (chromatic_abberation(spot, seed=2)[0] + 1) / 2
    torch.testing.assert_close(light.sum((1, 2)), torch.full((3,), 25.0).double())
    down = (light.sum(2) * torch.arange(100)).sum(1) / 25 - 50
    across = (light.sum(1) * torch.arange(160)).sum(1) / 25 - 80
    torch.testing.assert_close(torch.hypot(down, across), torch.full((3,), 5.0).double())
    angles = torch.atan2(across, down)
    assert all((angles[i] - angles[j]).abs() > 0.1 for i, j in ((0, 1), (1, 2), (2, 0)))


def test_chromatic_aberration_is_black_where_a_channel_left():
    light = (chromatic_abberation(torch.ones(1, 3, 60, 60), seed=2) + 1) / 2
    assert light[..., 4:-4, 4:-4].min() == pytest.approx(1)
    assert all((channel == 0).any() for channel in light[0])


def test_transverse_chromatic_aberration_enlarges_two_channels():
    """Of a ramp, which splines keep, the slope tells the scale: of a side of 80, to 80, 90 and 100 pixels."""
    ramp = torch.linspace(-0.5, 0.5, 80, dtype=torch.float64).expand(1, 3, 80, 80)
    enlarged = transverse_chromatic_abberation(ramp, 5)[0, :, 40]
    slopes = enlarged.diff(dim=1)[:, 10:70] * 79
    torch.testing.assert_close(slopes, slopes.mean(1, keepdim=True).expand(-1, 60))
    expected = torch.tensor([79 / 79, 79 / 89, 79 / 99]).double()
    torch.testing.assert_close(slopes.mean(1).sort(descending=True).values, expected)
    torch.testing.assert_close(enlarged[:, 39:41].mean(1), torch.zeros(3).double())


def test_splines_keep_flat_pictures_and_soften_points():
    """A cubic B-spline at its knots is 1/6, 4/6, 1/6, at an end mirrored."""
    light = torch.tensor([[0.0, 0, 1, 0, 0, 0, 1]]).double()[None, None]
    softened = warps._splined_along(light, torch.arange(7.0).double()[None, None])
    expected = torch.tensor([0, 1, 4, 1, 0, 1, 4]).double() / 6
    torch.testing.assert_close(softened[0, 0, 0], expected)


def test_circular_motion_blur_keeps_rings():
    rows, columns = fields.pixels(torch.zeros(1, 3, 61, 61))
    distance = torch.hypot(rows - 30, columns - 30)
    rings = torch.cos(distance / 3).expand(1, 3, -1, -1)
    inner = (distance < 29).expand(1, 3, -1, -1)
    torch.testing.assert_close(circular_motion_blur(rings)[inner], rings[inner], rtol=0, atol=0.02)


def test_circular_motion_blur_smears_along_the_arc():
    """A point 40 from the middle becomes an arc of weights exp(-2 t^2), t = -1 to 1 at 7.5 degrees."""
    point = torch.full((1, 3, 101, 101), -1.0).double()
    point[..., 50, 90] = 1
    light = (circular_motion_blur(point, 5)[0, 0] + 1) / 2
    rows, columns = (axis - 50 for axis in fields.pixels(point))
    lit = light > 0.02 * light.max()
    distance, angle = torch.hypot(rows, columns), torch.atan2(rows.double(), columns).rad2deg()
    assert (distance[lit] - 40).abs().max() < 2.5
    assert 6.5 < angle[lit].abs().max() < 9.5
    turns = torch.linspace(-1, 1, 21, dtype=torch.float64)
    weights = torch.exp(-2 * turns**2)
    spread = ((weights * turns**2).sum() / weights.sum()).sqrt() * 7.5
    found = ((light * angle**2).sum() / light.sum()).sqrt()
    assert found.item() == pytest.approx(spread.item(), rel=0.1)


def test_circular_motion_blur_turns_black_in():
    """A corner is in the picture at no turn but the middle one."""
    light = (circular_motion_blur(torch.ones(1, 3, 41, 61).double()) + 1) / 2
    weights = torch.exp(-2 * torch.linspace(-1, 1, 21, dtype=torch.float64) ** 2)
    corners = light[..., [0, 0, -1, -1], [0, -1, 0, -1]]
    torch.testing.assert_close(corners, torch.full_like(corners, 1 / weights.sum()))
    torch.testing.assert_close(light[..., 10:-10, 10:-10], torch.ones(1, 3, 21, 41).double())
