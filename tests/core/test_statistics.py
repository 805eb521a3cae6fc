import math

import pytest
import torch
from confident_ode.samplers.denoisers import CallCounter, gaussian_denoiser
from confident_ode.samplers.statistics import BANDS, SMALLEST, STATISTICS, normality, read, where_most_grows

LEVELS = torch.tensor([0.05, 0.3, 1.0], dtype=torch.float64)
VARIANCE = 0.25
# of the detail of independent numbers of variance 1 at each scale, and of what is left: averages are of 4 each
AT_SCALE = torch.tensor([*(0.75 / 4**band for band in range(BANDS)), 1 / 4**BANDS]).log() / 2
FIRST = slice(BANDS + 1)


def clean(count=6, side=32, seed=0):
    return VARIANCE**0.5 * torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def model(x, sigma, **_):
    return gaussian_denoiser(0.0, VARIANCE)(x, sigma)


def test_what_a_gaussian_model_says_about_its_own_pictures():
    found = read(model, clean(16), LEVELS)
    assert found.shape == (16, len(LEVELS), STATISTICS)
    assert found.dtype == torch.float32
    # eps-hat is sigma / (v + sigma^2) of a state of variance v + sigma^2 that the ODE leaves white
    sigma = LEVELS[0].item()
    unit = math.log(sigma / (VARIANCE + sigma**2) ** 0.5)
    assert (found[:, 0, FIRST].mean(0) - AT_SCALE - unit).abs().max() < 0.05
    evenness, across, down = found[..., BANDS + 1 : BANDS + 4].mean((0, 1)).tolist()
    # the mean size of a normal number is (2 / pi)^(1/2) of its spread
    assert evenness == pytest.approx(0.5 * math.log(2 / math.pi), abs=0.01)
    assert abs(across) < 0.02
    assert abs(down) < 0.02
    # x0-hat is v / (v + sigma^2) of the same state
    spread = found[:, 0, STATISTICS // 2 :].mean(0)
    unit = math.log(VARIANCE / (VARIANCE + sigma**2) ** 0.5)
    assert (spread[FIRST] - AT_SCALE - unit).abs().max() < 0.05
    assert spread[-3].item() == pytest.approx(unit, abs=0.02)
    assert spread[-2].item() == pytest.approx(0, abs=0.02)


def test_damage_shows_where_it_is():
    whole = read(model, clean(), LEVELS).mean(0)
    coarse = torch.nn.functional.interpolate(clean()[..., ::4, ::4], scale_factor=4)
    blurred = read(model, coarse, LEVELS).mean(0)
    # neighbours of large squares are alike, and there is no fine detail but the noise of the start
    assert (blurred[:, BANDS + 2 : BANDS + 4] > whole[:, BANDS + 2 : BANDS + 4] + 0.4).all()
    assert (blurred[:, 0] < whole[:, 0] - 0.5).all()
    brighter = read(model, clean() + 0.5, LEVELS).mean(0)
    assert brighter[0, -2].item() == pytest.approx(0.5 * VARIANCE / (VARIANCE + LEVELS[0].item() ** 2), abs=0.02)
    grey = read(model, clean()[:, :1].expand(-1, 3, -1, -1), LEVELS).mean(0)
    assert (grey[0, -1] < whole[0, -1] - 1).all()


def test_it_takes_a_call_a_level_and_a_picture_is_read_alike_in_any_batch():
    counter = CallCounter(model)
    together = read(counter, clean(), LEVELS, seed=7)
    assert counter.calls == len(LEVELS)
    for i in range(6):
        alone = read(model, clean()[i : i + 1], LEVELS, seed=7 + i)
        assert torch.allclose(alone[0], together[i], atol=1e-5)
    assert not torch.equal(together, read(model, clean(), LEVELS, seed=8))


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (2, 4, 33, 17)])
def test_any_size_and_plain_pictures_are_read_as_numbers(shape):
    for picture in (torch.zeros(shape), torch.ones(shape)):
        found = read(lambda x, sigma, plain=picture: plain, picture, LEVELS)
        assert found.isfinite().all()
        assert found.min() >= math.log(SMALLEST) - 1e-3


def test_normality_of_noise_and_of_what_is_not():
    noise = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, spread, kurtosis, spectrum = normality(noise)
    assert mean == pytest.approx(0, abs=0.02)
    assert spread == pytest.approx(1, abs=0.02)
    assert kurtosis == pytest.approx(3, abs=0.1)
    assert spectrum == pytest.approx([1, 1, 1, 1], abs=0.06)
    smooth = torch.nn.functional.avg_pool2d(noise, 2, 1)
    falling = normality(smooth)[3]
    assert falling == sorted(falling, reverse=True)
    assert normality(2 * noise + 1)[:2] == pytest.approx((1, 2), abs=0.05)
    assert normality(noise.sign())[2] == pytest.approx(1, abs=0.01)
    # all of the power of an alternating pattern is at the finest
    stripes = torch.ones(1, 1, 8, 8) * torch.tensor([1.0, -1.0]).repeat(4)
    assert normality(stripes)[3][:3] == pytest.approx([0, 0, 0], abs=1e-6)
    assert len(normality(noise[..., :2, :2])[3]) == 2


def test_where_most_of_an_error_grows():
    levels = [8.0, 4.0, 2.0, 1.0, 0.5]
    assert where_most_grows(levels, [0.0, 0.1, 0.2, 1.0, 1.1]) == (2.0, 1.0)
    assert where_most_grows(levels, [0.0, 1.0, 2.0, 3.0, 4.0]) == (8.0, 1.0)
    # what falls again is no growth
    assert where_most_grows(levels, [0.0, 2.0, 0.1, 0.2, 0.3]) == (8.0, 4.0)
    assert where_most_grows(levels, [1.0, 1.0, 0.5, 0.5, 0.0]) is None
