import colorsys
import inspect
import io

import numpy as np
import pytest
import torch
from confident_ode.corruptions.damages import (
    CORRUPTIONS,
    SEVERE,
    brightness,
    contrast,
    fog,
    gaussian_blur,
    gaussian_noise,
    impulse_noise,
    jpeg,
    mask_blocks,
    mask_columns,
    mask_pixels,
    mask_pixels_alike,
    pixelate,
    speckle_noise,
)
from PIL import Image

SEEDED = (
    "gaussian_noise",
    "speckle_noise",
    "impulse_noise",
    "fog",
    "mask_pixels",
    "mask_pixels_alike",
    "mask_columns",
    "mask_blocks",
)


@pytest.fixture
def pictures():
    return torch.rand(3, 3, 20, 27, generator=torch.Generator().manual_seed(0)) * 2 - 1


def flat(batch=1, channels=3, height=64, width=64):
    """Grey pictures that no random colour can be mistaken for."""
    return torch.full((batch, channels, height, width), 0.125)


def touched(damaged, original):
    """(B, H, W): where any channel of a pixel is another."""
    return (damaged != original).any(1)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_pictures_stay_in_range_shape_and_precision_and_the_given_is_not_written(pictures, name):
    for given in (pictures, pictures.double(), pictures[:1, :1], pictures.sign()):
        before = given.clone()
        damaged = CORRUPTIONS[name](given)
        assert (damaged.shape, damaged.dtype) == (given.shape, given.dtype)
        assert damaged.abs().max() <= 1
        assert not torch.equal(damaged, given)
        assert torch.equal(given, before)


@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_is_a_damage(pictures, name):
    damage = CORRUPTIONS[name]
    for seed in (0, 5, 2**63, 2**64 - 1):
        assert torch.equal(damage(pictures, seed=seed), damage(pictures, seed=seed))
    assert not torch.equal(damage(pictures, seed=5), damage(pictures, seed=6))
    alike = damage(pictures[:1].repeat(3, 1, 1, 1), seed=5)
    assert not torch.equal(alike[0], alike[1])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_batch_is_a_loop_with_the_next_seeds(pictures, name):
    together = CORRUPTIONS[name](pictures, seed=7)
    for i in range(3):
        assert torch.equal(together[i : i + 1], CORRUPTIONS[name](pictures[i : i + 1], seed=7 + i))


def test_noise_has_its_strength_and_is_clamped():
    added = gaussian_noise(flat(), strength=0.2, seed=1) - flat()
    assert added.mean().abs() < 0.01
    assert added.std() == pytest.approx(0.2, rel=0.03)
    assert torch.equal(gaussian_noise(flat(), strength=0), flat())
    heavy = gaussian_noise(flat(), strength=5.0)
    assert ((heavy == 1) | (heavy == -1)).float().mean() > 0.7


@pytest.mark.parametrize("fraction", [0.1, 0.4, 0.9])
def test_a_share_of_the_pixels_is_of_random_colours(fraction):
    original = flat(batch=2)
    damaged = mask_pixels(original, fraction)
    hit = touched(damaged, original)
    # 4096 pixels: three standard deviations are at most 0.023
    assert hit.float().mean((1, 2)).tolist() == pytest.approx([fraction] * 2, abs=0.024)
    # all channels of a pixel go together, each with a colour of its own, all over [-1, 1]
    assert torch.equal(hit, (damaged != original).all(1))
    colours = damaged.movedim(1, -1)[hit]
    assert colours.mean(0).abs().max() < 0.1
    assert (colours.std(0) - 1 / 3**0.5).abs().max() < 0.05
    assert torch.corrcoef(colours.T).fill_diagonal_(0).abs().max() < 0.15


def test_which_pixels_go_says_nothing_about_the_colours_of_a_neighbour_in_the_batch():
    damaged = mask_pixels(flat(batch=2), 0.5)
    hit = touched(damaged, flat(batch=2))
    both = hit.all(0)
    assert both.float().mean() == pytest.approx(0.25, abs=0.03)
    assert torch.corrcoef(damaged[:, 0, both])[0, 1].abs() < 0.12


def test_none_and_all_of_the_pixels(pictures):
    assert torch.equal(mask_pixels(pictures, 0.0), pictures)
    assert touched(mask_pixels(pictures, 1.0), pictures).all()
    assert torch.equal(mask_blocks(pictures, 0.0), pictures)
    assert (mask_blocks(pictures, 1.0, value=0.5) == 0.5).all()


@pytest.mark.parametrize("value", [-1.0, 0.0, 0.3])
def test_a_share_of_the_cells_is_filled(value):
    original = flat(batch=2)
    damaged = mask_blocks(original, 0.2, cells=8, value=value)
    cells = touched(damaged, original).view(2, 8, 8, 8, 8).float().mean((2, 4))
    assert set(cells.unique().tolist()) == {0, 1}
    # 0.2 of 64 cells, as many as 13 can be
    assert cells.sum((1, 2)).tolist() == [13, 13]
    assert set(damaged.unique().tolist()) == {torch.tensor(value).item(), 0.125}


@pytest.mark.parametrize(("height", "width", "cells"), [(33, 50, 8), (32, 32, 5), (9, 70, 16), (8, 8, 16)])
def test_grids_that_do_not_divide_the_picture(height, width, cells):
    original = flat(height=height, width=width)
    hit = touched(mask_blocks(original, 0.3, cells=cells, value=-1.0), original)[0]
    assert 0.1 < hit.float().mean() < 0.5
    # rows are equal within a row of cells, and so are columns
    changes = (hit[1:] != hit[:-1]).any(1).sum(), (hit[:, 1:] != hit[:, :-1]).any(0).sum()
    assert max(changes) <= cells - 1


def test_contrast_is_pulled_to_each_picture_s_own_mean(pictures):
    damaged = contrast(pictures, 0.3)
    for picture, pulled in zip(pictures, damaged, strict=True):
        torch.testing.assert_close(pulled, picture.mean() + 0.3 * (picture - picture.mean()))
        assert pulled.std().item() == pytest.approx(0.3 * picture.std().item(), rel=1e-4)
    assert torch.equal(contrast(pictures, 0.3, seed=1), damaged)
    torch.testing.assert_close(contrast(pictures, 1.0), pictures)


def test_every_damage_takes_numbers_with_defaults_and_a_seed():
    for damage in CORRUPTIONS.values():
        first, *options, last = inspect.signature(damage).parameters.values()
        assert (first.name, last.name, last.default) == ("pictures", "seed", 0)
        assert all(isinstance(option.default, int | float) for option in options)


def test_speckles_grow_with_the_light_of_the_value():
    for value in (-1.0, -0.5, 0.0, 0.4):
        added = speckle_noise(torch.full((1, 3, 64, 64), value), strength=0.1) - value
        assert added.std().item() == pytest.approx(0.1 * (value + 1), rel=0.03)
        assert added.mean().abs() < 0.01
    assert speckle_noise(flat(), strength=9.0).abs().max() == 1


@pytest.mark.parametrize("fraction", [0.1, 0.27, 0.9])
def test_impulses_are_black_or_white_and_each_channel_has_its_own(fraction):
    damaged = impulse_noise(flat(batch=2), fraction)
    hit = damaged != flat(batch=2)
    assert hit.float().mean((2, 3)).flatten().tolist() == pytest.approx([fraction] * 6, abs=0.024)
    assert set(damaged[hit].unique().tolist()) == {-1, 1}
    assert damaged[hit].mean().abs() < 0.05
    assert torch.corrcoef(hit[0].flatten(1).float()).fill_diagonal_(0).abs().max() < 0.06


def test_a_point_is_blurred_to_a_gaussian_of_that_width():
    point = torch.full((1, 1, 65, 65), -1.0, dtype=torch.float64)
    point[..., 32, 32] = 1
    spot = (gaussian_blur(point, sigma=3 / 65)[0, 0] + 1) / 2
    offset = torch.arange(65) - 32.0
    assert spot.sum() == pytest.approx(1, abs=1e-4)
    assert (spot.sum(0) * offset**2).sum() == pytest.approx(9, rel=0.01)
    torch.testing.assert_close(spot, spot.sum(0) * spot.sum(1)[:, None], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(spot, spot.T, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(8, 70), (64, 64), (9, 9)])
def test_a_blur_leaves_what_is_flat_and_knows_no_border(height, width):
    torch.testing.assert_close(gaussian_blur(flat(height=height, width=width), 0.1), flat(height=height, width=width))


def test_the_squares_of_pixelate_are_means(pictures):
    squares = pixelate(pictures[..., :20, :24], 0.25)
    blocks = pictures[..., :20, :24].unflatten(3, (6, 4)).unflatten(2, (5, 4)).mean((3, 5))
    torch.testing.assert_close(squares, blocks.repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert pixelate(pictures, 0.01).flatten(2).std(2).max() < 1e-6


def test_jpeg_is_what_pillow_saves(pictures):
    file = io.BytesIO()
    shown = ((pictures[1] + 1) * 127.5).round().byte().movedim(0, -1).numpy()
    Image.fromarray(shown).save(file, "JPEG", quality=30)
    opened = torch.from_numpy(np.asarray(Image.open(file)).astype(np.float32)).movedim(-1, 0) / 127.5 - 1
    assert torch.equal(jpeg(pictures, 30)[1], opened)
    smooth = gaussian_blur(pictures, 0.1)
    errors = [(jpeg(smooth, quality) - smooth).square().mean() for quality in (95, 30, 7)]
    assert errors[0] < errors[1] < errors[2]


def test_brightness_raises_the_value_and_keeps_hue_and_saturation(pictures):
    before, after = ((x[0].flatten(1).T.tolist()[:50]) for x in ((pictures + 1) / 2, (brightness(pictures) + 1) / 2))
    for colour, lit in zip(before, after, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        assert lit == pytest.approx(colorsys.hsv_to_rgb(hue, saturation, min(1, value + 0.5)), abs=1e-4)
    black = torch.full((1, 3, 8, 8), -1.0)
    torch.testing.assert_close(brightness(black, 0.3), torch.full_like(black, -0.4))


def test_fog_whitens_by_clouds_and_keeps_the_lightest():
    dark = torch.full((2, 3, 64, 64), -1.0)
    dark[..., 0, 0] = 1  # so that the lightest is white
    foggy = (fog(dark, thickness=3.0) + 1) / 2
    clouds = foggy[:, 0] * 4 / 3
    # black is what the clouds are, from none to as white as 3 in 4
    assert clouds.flatten(1)[:, 1:].amin(1).max() < 0.02
    assert clouds.flatten(1)[:, 1:].amax(1).min() > 0.98
    assert torch.equal(foggy[:, 0], foggy[:, 1])
    assert torch.equal(fog(dark, thickness=0.0), dark)
    torch.testing.assert_close(fog(flat(), thickness=1e6).amax(), torch.tensor(0.125))


def test_clouds_of_a_greater_decay_are_smoother():
    def roughness(decay):
        clouds = fog(torch.full((8, 1, 64, 64), 1.0), decay=decay)
        return (clouds.diff(dim=-1).std() / clouds.std()).item()

    assert roughness(2.0) < 0.8 * roughness(1.4) < 0.8 * 0.8 * roughness(1.0)


def test_masked_pixels_share_a_colour_that_each_picture_draws():
    original = flat(batch=3)
    damaged = mask_pixels_alike(original, 0.4)
    hit = touched(damaged, original)
    assert hit.float().mean((1, 2)).tolist() == pytest.approx([0.4] * 3, abs=0.024)
    colours = [picture.movedim(0, -1)[where].unique(dim=0) for picture, where in zip(damaged, hit, strict=True)]
    assert [len(found) for found in colours] == [1, 1, 1]
    assert len(torch.cat(colours).unique()) == 9


def test_masked_columns_are_each_channel_s_own():
    original = flat(batch=2, height=16, width=400)
    damaged = mask_columns(original, 0.4)
    assert (damaged == damaged[..., :1, :]).all()
    hit = (damaged != original)[:, :, 0]
    # 400 columns: three standard deviations are 0.073
    assert hit.float().mean(2).flatten().tolist() == pytest.approx([0.4] * 6, abs=0.08)
    assert torch.corrcoef(hit[0].float()).fill_diagonal_(0).abs().max() < 0.17
    values = damaged[:, :, 0][hit]
    assert values.std() == pytest.approx(3**-0.5, rel=0.06)


def test_severe_damages_are_three_of_each_family_and_spoil_every_picture(pictures):
    assert [len(damages) for damages in SEVERE.values()] == [3] * 4
    every = {name: damage for damages in SEVERE.values() for name, damage in damages.items()}
    assert len(every) == 12
    for name, damage in every.items():
        damaged = damage(pictures, seed=3)
        assert torch.equal(damaged, damage(pictures, seed=3))
        assert damaged.abs().max() <= 1
        assert (damaged - pictures).square().mean((1, 2, 3)).sqrt().min() > 0.2, name
    # 0.38 in [0, 1]: of grey, 18.8 % lie beyond black and white
    noise = SEVERE["noise"]["gaussian noise"](torch.zeros(1, 3, 64, 64))
    assert (noise.abs() == 1).float().mean().item() == pytest.approx(0.188, abs=0.015)
