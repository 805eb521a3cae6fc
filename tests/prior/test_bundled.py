from dataclasses import replace

import numpy as np
import pytest
from confident_ode.cli.pictures import fit
from confident_ode.evaluation.metrics import psnr
from confident_ode.evaluation.restoring import run
from confident_ode.evaluation.settings import Settings
from confident_ode.priors.loading import load
from confident_ode.priors.sampling import sample
from confident_ode.samplers.noise import seeded_noise
from PIL import Image

QUICK = Settings(steps=12, updates=20, blocks=2)


@pytest.fixture(scope="module")
def prior():
    return load("flowers32")


@pytest.fixture(scope="module")
def drawn(prior):
    """Four flowers that the prior draws itself, of classes 0 ... 3: from noise at its deepest level."""
    return sample(prior, range(4), steps=30, guidance=2)


def noisy(pictures, amount=0.5):
    return (pictures + amount * seeded_noise(7)(pictures, 0)).clamp(-1, 1)


def test_what_it_draws_is_a_picture(drawn):
    assert drawn.abs().max() <= 1
    # colours that vary between pictures and within them, and neighbours that are alike
    assert drawn.flatten(1).std(1).min() > 0.15
    assert (drawn[..., 1:] - drawn[..., :-1]).abs().mean() < 0.5 * drawn.std()


def test_code_takes_noise_out_of_what_it_drew(prior, drawn):
    damaged = noisy(drawn)
    restored = run(prior, damaged, QUICK).pictures
    gain = np.subtract(psnr(restored, drawn), psnr(damaged, drawn))
    assert gain.min() > 1
    assert gain.mean() > 2.5


def test_code_takes_noise_out_of_a_photograph(prior):
    samples = pytest.importorskip("sklearn.datasets")
    photo, _ = fit(Image.fromarray(samples.load_sample_image("flower.jpg")), 32)
    damaged = noisy(photo)
    result = run(prior, damaged, QUICK)
    assert psnr(result.pictures, photo)[0] > psnr(damaged, photo)[0] + 2
    assert 0.05 < result.clipped[0] < 0.9


def test_more_depth_keeps_less_of_the_photo(prior, drawn):
    kept = [
        np.mean(psnr(run(prior, drawn, Settings(depth=depth, steps=12, updates=0)).pictures, drawn))
        for depth in (0.1, 0.8)
    ]
    assert kept[0] > kept[1] + 3


def test_a_label_and_guidance_change_the_restoration(prior, drawn):
    settings = Settings(depth=0.7, steps=6, updates=8)
    plain, rose, guided = (
        run(prior, drawn[:1], replace(settings, **chosen)).pictures
        for chosen in ({}, {"label": "rose"}, {"label": "rose", "guidance": 3.0})
    )
    assert 0.005 < (plain - rose).abs().mean() < (plain - guided).abs().mean()
