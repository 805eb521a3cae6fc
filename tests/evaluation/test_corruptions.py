import inspect

import pytest
import torch
from confident_ode.evaluation.corruptions import CORRUPTIONS, contrast, gaussian_noise, mask_blocks, mask_pixels

SEEDED = ("gaussian_noise", "mask_pixels", "mask_blocks")


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
