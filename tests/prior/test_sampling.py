"""Samples of a prior that is known in closed form: normals of one spread, pixel by pixel."""

from types import SimpleNamespace

import pytest
import torch
from confident_ode.priors.loading import load
from confident_ode.priors.sampling import sample
from confident_ode.samplers.denoisers import gaussian_denoiser

MEAN, SPREAD = 0.2, 0.4


@pytest.fixture
def gaussian():
    model = gaussian_denoiser(MEAN, SPREAD**2)
    known = {"levels": load("flowers32").levels, "channels": 3, "size": 16, "conditional": False, "device": "cpu"}
    return SimpleNamespace(model=lambda guidance: model, **known)


def test_few_steps_draw_what_the_model_has_learnt(gaussian):
    drawn = sample(gaussian, [None] * 8)
    assert drawn.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert drawn.std().item() == pytest.approx(SPREAD, rel=0.02)


def test_few_ancestral_steps_draw_something_paler_and_many_do_not(gaussian):
    few, many = (sample(gaussian, [None] * 8, steps, ancestral=True).std().item() for steps in (40, 500))
    assert few < 0.9 * SPREAD
    assert many == pytest.approx(SPREAD, rel=0.02)


@pytest.mark.parametrize("ancestral", [False, True])
def test_a_picture_is_alike_alone_and_in_a_batch_and_calls_are_counted(gaussian, ancestral):
    calls = []
    both = sample(gaussian, [None] * 3, 5, seed=4, batch=2, on_call=lambda: calls.append(1), ancestral=ancestral)
    torch.testing.assert_close(sample(gaussian, [None], 5, seed=6, ancestral=ancestral), both[2:])
    assert len(calls) == 2 * 6
