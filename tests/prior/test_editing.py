"""T6 on the bundled prior: Cycle-SDE returns a picture to the bit at any guidance, with recorded noise it does not."""

import pytest
import torch
from confident_ode.priors.loading import load
from confident_ode.priors.sampling import sample
from confident_ode.samplers.cycle import cycle_sde, record
from confident_ode.samplers.ddib import translate_by_sde
from confident_ode.samplers.noise import seeded_noise
from confident_ode.samplers.noise_levels import decode_path

STEPS = 20


@pytest.fixture(scope="module")
def prior():
    return load("flowers32")


@pytest.fixture(scope="module")
def drawn(prior):
    return sample(prior, [0, 3], steps=20, guidance=2).clamp(-1, 1)


@pytest.fixture(scope="module")
def path(prior):
    path = decode_path(prior.levels, prior.levels.depth(fraction=1.0), STEPS - 1)
    return torch.cat([path, path.new_zeros(1)])


def model_of(prior, labels, guidance):
    model = prior.model(guidance, threshold=False)
    return lambda x, sigma: model(x, sigma, class_labels=torch.tensor(labels))


@torch.inference_mode()
def returned(prior, drawn, path, guidance, recorded_noise):
    kept = record(drawn, path, seeded_noise(0))
    model = model_of(prior, [0, 3], guidance)
    start = kept.states[path[0].item()]
    return cycle_sde(model, start, path, path=kept, source=model, recorded_noise=recorded_noise)


@pytest.mark.parametrize("guidance", [7.5, 15.0])
def test_what_is_not_changed_returns_to_the_bit(prior, drawn, path, guidance):
    """In float32, and the error of recorded noise beside it."""
    assert torch.equal(returned(prior, drawn, path, guidance, False), drawn)
    error = (returned(prior, drawn, path, guidance, True) - drawn).abs().max()
    assert error > 1e-6


@torch.inference_mode()
def test_one_flower_becomes_another_and_keeps_its_place(prior, drawn, path):
    """Nearer to what it was than two flowers of the prior are to each other, yet another picture."""
    models = model_of(prior, [3, 0], 3.0), drawn, path[STEPS // 2 :]
    changed = translate_by_sde(*models, source=model_of(prior, [0, 3], 1.0), noise_sampler=seeded_noise(0)).clamp(-1, 1)
    moved, apart = (changed - drawn).square().mean().sqrt(), (drawn - drawn.flip(0)).square().mean().sqrt()
    assert 0.05 < moved < apart
