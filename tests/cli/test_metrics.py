import json
import math

import numpy as np
import pytest
import torch
from confident_ode.evaluation.metrics import or_none, psnr, ssim

NOISE = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_psnr_is_its_definition_for_each_picture():
    moved = NOISE + torch.tensor([0.1, 0.2, 0.02]).view(-1, 1, 1, 1)
    assert psnr(moved, NOISE) == pytest.approx([10 * math.log10(4 / d**2) for d in (0.1, 0.2, 0.02)], abs=1e-3)


def test_equal_pictures_are_infinitely_near_and_json_gets_null():
    same = psnr(NOISE, NOISE)
    assert same == [math.inf] * 3
    assert json.dumps([or_none(value) for value in same], allow_nan=False) == "[null, null, null]"
    assert or_none(1.5) == 1.5
    assert ssim(NOISE, NOISE) == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("size", [8, 16, 33])
def test_ssim_is_the_published_formula(size):
    """Against plain numpy: an 11x11 Gaussian window of sigma 1.5 over the reflected picture, K = 0.01, 0.03."""
    generator = torch.Generator().manual_seed(1)
    a = torch.rand(1, 1, size, size, generator=generator) * 2 - 1
    b = (a + 0.3 * torch.randn(a.shape, generator=generator)).clamp(-1, 1)
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2

    def mean(values):
        padded = np.pad(values, 5, mode="reflect")
        return np.array([[(padded[i : i + 11, j : j + 11] * window).sum() for j in range(size)] for i in range(size)])

    x, y = (v[0, 0].double().numpy() for v in (a, b))
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    every = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert ssim(a, b)[0] == pytest.approx(every.mean(), abs=1e-4)
