import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from confident_ode.evaluation.knobs import (
    MARK,
    MOST_VALUES,
    convergence,
    curve,
    depth_as_said,
    explored,
    explored_calls,
    fewer_updates,
    film_strip,
    grid_sheet,
    report,
    values_of,
)
from confident_ode.evaluation.plots import Line, plot
from confident_ode.evaluation.restoring import encoder_of, run
from confident_ode.evaluation.settings import Settings
from confident_ode.evaluation.sheets import TILE
from confident_ode.priors.calibration import Calibration, discriminants
from confident_ode.priors.loading import load
from confident_ode.samplers.noise_levels import decode_path
from confident_ode.samplers.statistics import read
from PIL import ImageColor

# a place of the grid; random weights find nothing wrong with any photo
SETTINGS = Settings(steps=3, step_size=2e-3, updates=5, blocks=1, stop_at=0.0, seed=3)
DEPTHS, STEPS = [0.3, 0.4], [1e-3, 2e-3]


@pytest.fixture(scope="module")
def prior(prior_folder):
    """A tiny prior, calibrated on random pictures of three contrasts."""
    prior = load(prior_folder)
    levels = decode_path(prior.levels, prior.levels.depth(fraction=0.4), 2, "karras").flip(0)
    contrast = torch.tensor([1.0, 0.3, 0.05]).view(3, 1, 1, 1, 1)
    pictures = (2 * torch.rand(3, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 1) * contrast
    with torch.inference_mode():
        found = torch.stack([read(encoder_of(prior, None, True, 8), kind, levels) for kind in pictures])
    kinds, settings = ("none", "half", "all"), {"balanced": {}}
    calibration = Calibration(levels.cpu(), *discriminants(found), kinds, ("balanced",) * 3, settings)
    return replace(prior, calibration=calibration)


@pytest.fixture(scope="module")
def photo():
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 16)] * 2, indexing="ij")
    return torch.stack([x, y, x * y])[None]


@pytest.fixture(scope="module")
def knobs(prior, photo):
    calls = []
    found = explored(prior, photo, SETTINGS, DEPTHS, STEPS, "balanced", lambda: calls.append(1))
    assert len(calls) == explored_calls(prior, SETTINGS, DEPTHS, STEPS)
    return found


def colour_count(sheet, colour):
    return int((np.asarray(sheet) == ImageColor.getrgb(colour)).all(-1).sum())


def test_each_place_is_its_own_restoration_with_its_two_numbers(knobs, prior, photo):
    assert list(knobs.grid) == [(0.3, 1e-3), (0.3, 2e-3), (0.4, 1e-3), (0.4, 2e-3)]
    model = encoder_of(prior, None, True, 1)
    for (depth, step), look in knobs.grid.items():
        picture = run(prior, photo, replace(SETTINGS, depth=depth, step_size=step)).pictures
        assert torch.equal(look.picture, picture[0])
        # of values that span 2
        assert look.moved == pytest.approx((picture - photo).norm().item() / 2 / photo.numel() ** 0.5)
        with torch.inference_mode():
            damage = prior.calibration.damage(read(model, picture, prior.calibration.levels, seed=3))
        assert look.damage == pytest.approx(damage.item(), rel=1e-5)
    assert (knobs.photo.moved, knobs.restored) == (0, knobs.grid[0.4, 2e-3])
    assert knobs.clean == 2**0.5


def test_the_updates_are_fewer_of_the_same_settings(knobs, prior, photo):
    assert list(knobs.updates) == [0, 1, 2, 3, 5]
    picture = run(prior, photo, replace(SETTINGS, updates=2)).pictures
    assert torch.equal(knobs.updates[2].picture, picture[0])
    assert knobs.updates[5] is knobs.restored
    assert fewer_updates(60) == [0, 4, 8, 15, 30, 60]
    assert fewer_updates(60, least=1) == [1, 4, 8, 15, 30, 60]
    assert fewer_updates(1) == [0, 1]
    assert fewer_updates(0) == []


def test_the_film_is_that_of_the_settings_as_given(knobs):
    sigmas = [frame.sigma for frame in knobs.film.frames]
    assert max(sigmas) == sigmas[3]
    assert knobs.film.frames[3].steps == 5 + 1 + 1
    assert film_strip(knobs).width > 8 * TILE


def test_the_grid_has_a_row_for_each_depth_and_frames_the_settings(knobs, prior, photo):
    sheet = grid_sheet(knobs)
    # a frame of 4 pixels round a picture of 14 * 16 pixels, 6 away from it
    assert colour_count(sheet, MARK) == (224 + 12) ** 2 - (224 + 4) ** 2
    assert 3 * TILE < sheet.height < 3 * TILE + 400
    wide = grid_sheet(explored(prior, photo, SETTINGS, [0.3], [1e-3, 2e-3, 3e-3], "own"))
    assert wide.width > sheet.width
    # elsewhere than the settings as given, which are beside the photo
    assert colour_count(wide, MARK) == colour_count(sheet, MARK)


def test_the_curve_has_a_dot_for_each_place_and_a_line_for_each_depth(knobs):
    sheet = curve(knobs)
    assert colour_count(sheet, "#e0a030") > 100
    assert colour_count(sheet, "#c8553d") > 100
    assert colour_count(sheet, MARK) > 50


def test_without_a_calibration_there_is_all_but_the_curve(prior, photo):
    plain = replace(prior, calibration=None)
    calls = []
    found = explored(plain, photo, SETTINGS, [0.3], [1e-3], "own", lambda: calls.append(1))
    assert len(calls) == explored_calls(plain, SETTINGS, [0.3], [1e-3])
    assert curve(found) is None
    assert found.photo.damage is None
    assert grid_sheet(found).width > convergence(found).width / 3
    assert "damage" not in report(found)


def test_without_updates_there_is_no_convergence(prior, photo):
    found = explored(prior, photo, replace(SETTINGS, updates=0), [0.3], [1e-3], "own")
    assert convergence(found) is None
    assert curve(found) is not None


def test_of_a_picture_that_is_never_updated_all_is_drawn(prior, photo):
    """Whose pictures after more and more updates are one and the same."""
    calls, settings = [], replace(SETTINGS, stop_at=100.0)
    found = explored(prior, photo, settings, [0.4], STEPS, "own", lambda: calls.append(1))
    assert 0 < len(calls) <= explored_calls(prior, settings, [0.4], STEPS)
    assert list(found.updates) == [0, 1, 2, 3, 5]
    for look in [*found.updates.values(), *found.grid.values()]:
        assert torch.equal(look.picture, found.restored.picture)
    assert report(found).count("\n") == 2
    for sheet in (grid_sheet(found), curve(found), convergence(found), film_strip(found)):
        assert np.asarray(sheet).std() > 10


def test_the_report_has_a_line_for_each(knobs):
    photo, *rows = report(knobs).splitlines()
    assert re.fullmatch(r"the photo: damage seen [\d.]+", photo)
    assert len(rows) == 4
    for row in rows:
        assert re.fullmatch(r"depth 0\.[34], step size 0\.00[12].*: moved [\d.]+%, damage seen [\d.]+", row)
    assert [row for row in rows if "(balanced)" in row] == [rows[3]]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "odedit"}, "leave --method out"),
        ({"guidance": 2.0}, "needs a class"),
        ({"levels": 9}, "does not do for 9"),
        ({"step_size": 1.9}, "unstable"),
    ],
)
def test_what_cannot_be_is_one_sentence_before_any_call(prior, settings, words):
    with pytest.raises(ValueError, match=words) as caught:
        explored_calls(prior, replace(SETTINGS, **settings), DEPTHS, STEPS)
    assert "\n" not in str(caught.value)


def test_values_are_numbers_with_commas_between():
    assert values_of("0.2, 4e-1,0.2", "depths") == [0.2, 0.4]
    assert values_of("0.2,t=400", "depths", depth_as_said) == [0.2, "t=400"]
    for text in ("", "deep", "nan", "0.2,inf", "0.2,,0.4", "0.1,x", ",".join(map(str, range(MOST_VALUES + 1)))):
        with pytest.raises(ValueError, match="not understood"):
            values_of(text, "depths", depth_as_said)


def test_a_dot_lies_where_its_numbers_are():
    """Higher up for a smaller y where that is better; further right for a larger x."""

    def centre(colour, down):
        lines = [Line(((0, 0),), "#ff0000"), Line(((4, 10),), "#0000ff")]
        pixels = np.asarray(plot(lines, "x", "y", down=down))
        return np.argwhere((pixels == ImageColor.getrgb(colour)).all(-1)).mean(0)

    (y, x), (other_y, other_x) = (centre(colour, down=False) for colour in ("#ff0000", "#0000ff"))
    assert other_x > x + 300
    assert other_y < y - 200
    (y, x), (other_y, other_x) = (centre(colour, down=True) for colour in ("#ff0000", "#0000ff"))
    assert other_x > x + 300
    assert other_y > y + 200


def test_one_dot_alone_has_a_place():
    assert plot([Line(((2.0, 3.0),))], "x", "y", level=(3.0, "here")).size == (880, 560)
    assert plot([Line(((0.0, 0.0),))], "x", "y").size == (880, 560)
