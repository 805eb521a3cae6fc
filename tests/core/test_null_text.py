"""T14: Null-Text and latent-TOP on conditional Gaussians, whose null condition is a mean."""

import pytest
import torch
from confident_ode.samplers import null_text
from confident_ode.samplers.denoisers import gaussian_denoiser, per_item
from confident_ode.samplers.noise import seeded_noise
from confident_ode.samplers.null_text import NOISE_BIASES, Corrections, corrected_decode
from confident_ode.samplers.ode import euler
from confident_ode.samplers.trajectory import Trajectory
from core.toys import F64, normal_pictures, refuses, rms, toy_path
from speed.clock import peak_memory

VARIANCE, GUIDANCE = 0.25, 7.5
MEAN = 0.35 + 0.001 * normal_pictures((1, 4, 1, 1), 5)
PICTURES = MEAN + VARIANCE**0.5 * normal_pictures((3, 4, 1, 1), 7)
PATH = toy_path(49, 600)
# one number for four, which can nearly say what the condition says
NULL = torch.zeros(1, 1, 1, 1, dtype=F64)
conditional = gaussian_denoiser(MEAN, VARIANCE)


def unconditional(x, sigma, null, **_):
    s2 = per_item(sigma, x) ** 2
    return (VARIANCE * x + s2 * null) / (VARIANCE + s2)


def inverted(pictures=PICTURES):
    """The state at the depth, and the Trajectory of an inversion without guidance."""
    path, up = Trajectory(pictures), PATH[:-1].flip(0)
    return path.reached(up[-1].item(), euler(conditional, pictures, up, callback=path)), path


def corrections(pictures=PICTURES, **options):
    x, path = inverted(pictures)
    options = {"null": NULL, "tolerance": 0.0, **options}
    return null_text.null_text(conditional, x, PATH, unconditional=unconditional, path=path, **options)


def error(found, pictures=PICTURES):
    """The rms error of decoding under guidance with what was found."""
    x, _ = inverted(pictures)
    return rms(corrected_decode(conditional, x, PATH, unconditional=unconditional, corrections=found) - pictures)


def guided(null):
    return lambda x, s, **_: unconditional(x, s, null) + GUIDANCE * (conditional(x, s) - unconditional(x, s, null))


def test_null_text_comes_back_and_a_noise_bias_at_every_step_best():
    x, _ = inverted()
    plain = rms(euler(guided(NULL), x, PATH) - PICTURES)
    floor = rms(euler(conditional, x, PATH) - PICTURES)
    errors = {bias: error(corrections(noise_bias=bias)) for bias in NOISE_BIASES}
    assert plain > 1
    assert 2e-3 < errors["off"] < min(0.02, floor)
    assert errors["every"] < 2e-3


def test_with_as_many_numbers_as_a_picture_the_null_condition_alone_comes_back():
    found = corrections(null=NULL.expand(1, 4, 1, 1))
    assert error(found) < 2e-3


def test_at_the_condition_itself_guidance_is_off():
    """Negative-prompt inversion: the null condition is the condition."""
    x, _ = inverted()
    torch.testing.assert_close(euler(guided(MEAN), x, PATH), euler(conditional, x, PATH), rtol=0, atol=1e-12)


@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
@pytest.mark.parametrize("noise_bias", NOISE_BIASES)
def test_a_picture_comes_out_alike_alone_and_in_a_batch(noise_bias, tolerance):
    options = {"noise_bias": noise_bias, "tolerance": tolerance}
    together, alone = corrections(**options), corrections(PICTURES[1:2], **options)
    torch.testing.assert_close(together.nulls[:, 1:2], alone.nulls)
    if noise_bias != "off":
        torch.testing.assert_close(together.noise[:, 1:2], alone.noise)


def test_a_tolerance_saves_calls():
    calls = []

    def counted(*args, **options):
        calls.append(1)
        return unconditional(*args, **options)

    def made(tolerance):
        x, path = inverted()
        calls.clear()
        null_text.null_text(conditional, x, PATH, unconditional=counted, path=path, null=NULL, tolerance=tolerance)
        return len(calls)

    # ten updates, the loss after the last, and the step itself
    assert made(0.0) == 50 * (10 + 1 + 1)
    assert made(1e-4) < 50 * 6


def test_hops_find_nothing_worse_at_the_first_step():
    x, path = inverted()
    noise = seeded_noise([3, 4, 5])

    def first_error(found):
        state = corrected_decode(
            conditional,
            x,
            PATH[:2],
            unconditional=unconditional,
            corrections=Corrections(found.nulls[:1], found.noise[:1], tuple(PATH[:2].tolist())),
        )
        return (state - path.states[PATH[1].item()]).square().mean((1, 2, 3))

    options = {"noise_bias": "first", "updates": 2, "starts": 20, "noise_sampler": noise}
    once, many = corrections(**options), corrections(**options, hops=3)
    assert (first_error(many) <= first_error(once)).all()
    assert (first_error(many) < first_error(once)).any()


def test_it_takes_gradients_in_inference_mode_and_leaves_the_weights_alone():
    network = torch.nn.Linear(4, 4).double()
    before = network.weight.clone()

    def learned(x, sigma, null, **_):
        return unconditional(x, sigma, null) + 0.1 * network(x.flatten(1)).view_as(x)

    with torch.inference_mode():
        x, path = inverted()
        found = null_text.null_text(conditional, x, PATH, unconditional=learned, path=path, null=NULL, updates=2)
    assert not found.nulls.requires_grad
    assert torch.equal(network.weight, before)
    assert network.weight.grad is None


def test_reports_each_step():
    x, path = inverted()
    reports = []
    null_text.null_text(
        conditional, x, PATH, callback=reports.append, unconditional=unconditional, path=path, null=NULL, updates=1
    )
    assert [each["i"] for each in reports] == list(range(50))


def test_what_cannot_work_is_refused():
    x, path = inverted()
    refuses("noise bias", corrections, noise_bias="often")
    refuses("0 or more updates", corrections, updates=-1)
    refuses("at least 1 start", corrections, starts=0)
    found = corrections(updates=0)
    refuses(
        "other noise levels", corrected_decode, conditional, x, PATH[5:], unconditional=unconditional, corrections=found
    )
    with pytest.raises(ValueError, match="no state at sigma"):
        null_text.null_text(conditional, x, toy_path(48, 600), unconditional=unconditional, path=path, null=NULL)


@pytest.mark.parametrize("noise_bias", NOISE_BIASES)
def test_it_needs_the_memory_of_one_pass_backwards_whatever_its_steps(noise_bias):
    """Over all steps and updates: no more than one loss and its gradient, and what is found."""
    layers = [torch.nn.Conv2d(8 if i else 1, 8 if i < 9 else 1, 3, padding=1) for i in range(10)]
    network = torch.nn.Sequential(*(each for layer in layers for each in (layer, torch.nn.SiLU()))).requires_grad_(
        False
    )
    model = lambda x, sigma, **_: 0.1 * network(x)  # noqa: E731
    null_model = lambda x, sigma, null, **_: 0.1 * network(x + null)  # noqa: E731
    x, sigmas = torch.randn(1, 1, 64, 64), torch.linspace(2, 0.1, 7)
    path = Trajectory(x)
    for s in sigmas.tolist():
        path.reached(s, x)

    def fit():
        options = {"null": torch.zeros(1, 1, 1, 1), "path": path, "updates": 5, "tolerance": 0.0}
        null_text.null_text(model, x, sigmas, unconditional=null_model, noise_bias=noise_bias, **options)

    def once():
        null, bias = torch.zeros(1, 1, 1, 1, requires_grad=True), torch.zeros_like(x, requires_grad=noise_bias != "off")
        loss = (
            (null_model(x + bias, None, null) + (model(x + bias, None) if noise_bias != "off" else 0)).square().mean()
        )
        loss.backward()

    # a dozen states are what Adam and the results hold
    assert peak_memory(fit, x.device) < 1.1 * peak_memory(once, x.device) + 24 * x.nbytes
