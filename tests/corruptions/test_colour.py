"""The C-bar corruptions of colour: what each does to colours."""

import colorsys

import pytest
import torch
from confident_ode.corruptions import colour
from confident_ode.corruptions.colour import bleach_bypass, color_dither, hue_shift, pseudocolor, technicolor


def coloured(*size, seed=0):
    return 2 * torch.rand(*size, generator=torch.Generator().manual_seed(seed)) - 1


def of(*shown, dtype=torch.float64):
    """A picture of one row with these colours, from 0 to 1."""
    return 2 * torch.tensor(shown, dtype=dtype).T[None, :, None] - 1


def shown(picture):
    """The colours of a picture of one row: (W, 3) in [0, 1]."""
    return (picture[0, :, 0].T + 1) / 2


@pytest.mark.parametrize("damage", [pseudocolor, hue_shift])
def test_chance_is_the_seeds(damage):
    picture = coloured(1, 3, 8, 8)
    results = {damage(picture, seed=seed).sum().item() for seed in [*range(12), *range(12)]}
    assert len(results) == (2 if damage is hue_shift else 12)


def test_bleach_bypass_overlays_the_light():
    grey = shown(bleach_bypass(of([0.2] * 3, [0.5] * 3, [0.8] * 3)))
    expected = torch.tensor([0.5 * (0.2 + 2 * 0.2**2), 0.5, 0.5 * (0.8 + 1 - 2 * 0.2**2)]).double()
    torch.testing.assert_close(grey, expected[:, None].expand(-1, 3))


def test_bleach_bypass_goes_over_from_dark_to_light():
    """From a light of 0.45 to one of 0.55."""
    colour, light = 0.2, 0.2126 * 0.2 + 0.7152 * 0.6 + 0.0722 * 0.3
    share = 10 * (light - 0.45)
    overlaid = (1 - share) * 2 * colour * light + share * (1 - 2 * (1 - colour) * (1 - light))
    assert shown(bleach_bypass(of([0.2, 0.6, 0.3])))[0, 0].item() == pytest.approx((colour + overlaid) / 2)


def test_bleach_bypass_starts_again_from_white_below_black():
    """Of a light of 0.475, a quarter is screened: a black red would be at -0.05 / 4 / 2, which is -1.6 of 255."""
    green = (0.475 - 0.0722) / 0.7152
    red = shown(bleach_bypass(of([0.0, green, 1])))[0, 0]
    assert red.item() == pytest.approx((256 - 255 * 0.05 / 8) / 255)


def test_bleach_bypass_doubles_bytes():
    """2 * 255 is 254 in a byte, and 2 * 128 is 0; red is dark, so that it is doubled rather than screened."""
    red = shown(bleach_bypass(of([1.0, 0, 0], [128 / 255, 0, 0], [127 / 255, 0, 0])))[:, 0]
    doubled = torch.tensor([254.0, 0, 254]) / 255 * 0.2126 * torch.tensor([1, 128 / 255, 127 / 255])
    torch.testing.assert_close(red, (0.5 * (torch.tensor([255, 128, 127]) / 255 + doubled)).double())


def test_technicolor_keeps_greys_and_parts_colours():
    """The mattes of (0.4, 0.2, 0.2) are 0.8, 1.1 and 1.1."""
    grey, dull_red = shown(technicolor(of([0.3] * 3, [0.4, 0.2, 0.2])))
    torch.testing.assert_close(grey, torch.full_like(grey, 0.3))
    filtered = torch.tensor([0.4 * 1.1 * 1.1, 0.2 * 0.8 * 1.1, 0.2 * 0.8 * 1.1])
    torch.testing.assert_close(dull_red, (0.5 * (torch.tensor([0.4, 0.2, 0.2]) + filtered)).double())


def test_technicolor_starts_again_from_black_past_white():
    """Pure red becomes the half of 1 and of 1.5 * 1.5."""
    red = shown(technicolor(of([1.0, 0, 0])))[0]
    torch.testing.assert_close(red, torch.tensor([(1 + 1.5**2) / 2 - 256 / 255, 0, 0]).double())


def test_pseudocolor_is_a_map_of_the_light():
    """A grey and a colour with its light have the same colour mixed in."""
    green = torch.tensor([0.3, 0.4, 0.5]).double()
    grey = (green * torch.tensor([0.2126, 0.7152, 0.0722])).sum().expand(3)
    pictures = of(green.tolist(), grey.tolist())
    mixed_in = (shown(pseudocolor(pictures, seed=3)) - 0.75 * shown(pictures)) / 0.25
    torch.testing.assert_close(mixed_in[0], mixed_in[1])


@pytest.fixture
def rising_and_falling(monkeypatch):
    """The drawn ramp: red rises by 50 from each colour to the next, green falls by 50, blue is 100; smoothness 0.5."""
    ramp = torch.tensor([[50.0 * i, 200 - 50 * i, 100] for i in range(5)])
    drawn = torch.cat([torch.tensor([0.5]), (ramp.flatten() + 0.5) / 255])[None].double()
    monkeypatch.setattr(colour, "each", lambda *arguments: drawn)


@pytest.mark.usefixtures("rising_and_falling")
@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_pseudocolor_ramp(step):
    """A quarter into a step, the line is at 0.25 and the eased curve at 3/16 - 2/64."""
    line, eased = 0.25, 3 / 16 - 2 / 64
    light = (step + 0.25) / 4
    start = torch.tensor([50.0 * step, 200 - 50 * step, 100])
    lines = start + torch.tensor([50.0, -50, 0]) * line
    curves = start + torch.tensor([50.0, 256 - 50, 0]) * eased
    expected = 0.75 * light + 0.25 * (0.5 * lines + 0.5 * curves) / 255
    torch.testing.assert_close(shown(pseudocolor(of([light] * 3)))[0], expected.double())


@pytest.mark.usefixtures("rising_and_falling")
def test_pseudocolor_ends():
    black, white = shown(pseudocolor(of([0.0] * 3, [1.0] * 3)))
    torch.testing.assert_close(255 * black, 0.25 * torch.tensor([0.0, 200, 100]).double())
    expected = 0.75 * 255 + 0.25 * torch.tensor([200.0, 0.5 * 256, 100]).double()
    torch.testing.assert_close(255 * white, expected.clamp(max=255))


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_hue_shift_turns_the_hue_alone(severity):
    picture = coloured(1, 3, 1, 200).double()
    turns = set()
    for before, after in zip(shown(picture).tolist(), shown(hue_shift(picture, severity)).tolist(), strict=True):
        (hue, *rest), (new_hue, *new_rest) = colorsys.rgb_to_hsv(*before), colorsys.rgb_to_hsv(*after)
        assert new_rest == pytest.approx(rest, abs=1e-9)
        turns.add(round((new_hue - hue) % 1, 6))
    assert turns in ({round(0.05 * severity, 6)}, {round(1 - 0.05 * severity, 6)})


def test_hue_shift_leaves_greys_and_the_ends_alone():
    picture = of([0.0] * 3, [0.5] * 3, [1.0] * 3)
    torch.testing.assert_close(hue_shift(picture), picture)


@pytest.mark.parametrize("severity", [1, 5])
def test_color_dither_is_the_sequential_diffusion(severity):
    """Pixel after pixel, in bytes: the rightward shares 7/16, not in the first row, and 1/16, not in the last."""
    levels = 14 - severity
    picture = coloured(1, 3, 5, 40, seed=severity)
    rows = ((picture[0].double() + 1) * 127.5).round().int().tolist()
    for channel in rows:
        for y, row in enumerate(channel):
            for x, value in enumerate(row):
                row[x] = int(255 * (value * levels // 256) / (levels - 1))
                for share in (7 * (y > 0), y < len(channel) - 1):
                    if x + 1 < len(row):
                        row[x + 1] = int(min(max(row[x + 1] + (value - row[x]) * share / 16, 0), 255))
    expected = torch.tensor(rows)[None] / 127.5 - 1
    torch.testing.assert_close(color_dither(picture, severity), expected)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_color_dither_has_14_less_severity_levels(severity):
    ramp = torch.linspace(-1, 1, 256).expand(1, 3, 4, -1)
    levels = 14 - severity
    palette = [int(255 * i / (levels - 1)) for i in range(levels)]
    found = ((color_dither(ramp, severity) + 1) * 127.5).round().unique()
    assert found.tolist() == palette


def test_color_dither_is_nearer_in_the_mean_than_rounding():
    """Half the error is passed on: flat greys keep their mean better than they do in the level nearest to them."""
    greys = torch.arange(256.0).view(-1, 1, 1, 1)
    dithered = (color_dither((greys / 127.5 - 1).expand(-1, 3, 3, 64)) + 1) * 127.5
    rounded = (255 * (greys * 9 / 256).floor() / 8).floor()
    mistake = (dithered[:, :, 1].mean(-1) - greys[..., 0, 0]).abs().mean()
    assert mistake < 0.65 * (rounded - greys).abs().mean()
