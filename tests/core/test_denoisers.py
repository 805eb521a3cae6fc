"""Wrappers round a network, guidance, thresholding and the closed-form denoisers."""

import numpy as np
import pytest
import torch
from confident_ode.samplers import denoisers
from core.toys import F64, G1, GMM1, LEVELS, TAU_LEVELS, TOY, normal_pictures, numbers, refuses, wrapped


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
def test_each_wrapper_gives_back_the_model_inside_the_network(kind):
    """T17, parity: x0-hat within 1e-10 at every level."""
    sigma = TAU_LEVELS.sigma(torch.arange(0, 127, 9))
    x = TOY.clean(len(sigma)) + sigma.view(-1, 1, 1, 1) * normal_pictures((len(sigma), 1, 6, 6))
    torch.testing.assert_close(wrapped(kind, TOY.model)(x, sigma), TOY.model(x, sigma), rtol=0, atol=1e-10)


def test_a_network_sees_its_own_coordinates_precision_and_timestep():
    seen = []

    def network(x_vp, t, label):
        seen.append((x_vp, t, label))
        return x_vp

    x, sigma = normal_pictures((2, 3, 4, 4), dtype=torch.float32), LEVELS.sigma(torch.tensor([0, 700])).float()
    x0 = denoisers.eps_denoiser(network, LEVELS, torch.bfloat16)(x, sigma, label="cat")
    (x_vp, t, label), *_ = seen
    assert x_vp.dtype == torch.bfloat16
    assert x0.dtype == torch.float32
    assert t.dtype == torch.float32
    assert t.tolist() == pytest.approx([0, 700], abs=1e-3)
    assert label == "cat"
    a = (1 / (1 + sigma**2).sqrt()).view(-1, 1, 1, 1)
    torch.testing.assert_close(x_vp.float(), a * x, rtol=2**-8, atol=0)
    torch.testing.assert_close(x0, x - sigma.view(-1, 1, 1, 1) * x_vp.float())


def test_the_gaussian_denoiser_is_the_posterior_mean():
    x, s = numbers(-3, 3, 13), 0.7
    torch.testing.assert_close(G1(x, torch.full((13,), s, dtype=F64)), (0.25 * x + s**2 * 0.3) / (0.25 + s**2))


def test_the_mixture_denoiser_is_x_plus_sigma_squared_times_the_score(device):
    """Tweedie's formula, with the score of the mixture by automatic differentiation of its log density."""
    x = numbers(-3, 3, 61).to(device).requires_grad_()
    for s in (0.05, 0.6, 5.0):
        v = torch.tensor([0.25, 0.4], dtype=F64, device=device) ** 2 + s**2
        log_weights = torch.tensor([0.4, 0.6], dtype=F64, device=device).log()
        mean = torch.tensor([-1.0, 1.2], dtype=F64, device=device)
        log_p = (log_weights - 0.5 * v.log() - 0.5 * (x.view(-1, 1) - mean) ** 2 / v).logsumexp(1)
        (score,) = torch.autograd.grad(log_p.sum(), x)
        ours = GMM1(x, torch.full((61,), s, dtype=F64, device=device))
        torch.testing.assert_close(ours, x + s**2 * score, rtol=1e-12, atol=1e-12)


def test_a_mixture_given_as_lists_is_exact_in_float64():
    x, sigma = numbers(-3, 3, 13), torch.full((13,), 0.7, dtype=F64)
    lists = denoisers.mixture_denoiser([0.4, 0.6], [-1.0, 1.2], [0.25**2, 0.4**2])
    torch.testing.assert_close(lists(x, sigma), GMM1(x, sigma), rtol=0, atol=1e-14)


def test_a_mixture_of_one_picture_is_the_gaussian():
    mean, x = normal_pictures((1, 3, 4, 5)), normal_pictures((2, 3, 4, 5), seed=9)
    sigma = torch.tensor([0.1, 3.0], dtype=F64)
    one = denoisers.mixture_denoiser(torch.ones(1, dtype=F64), mean, torch.full((1,), 0.3, dtype=F64))
    torch.testing.assert_close(one(x, sigma), denoisers.gaussian_denoiser(mean, 0.3)(x, sigma), rtol=0, atol=1e-14)


def conditional(x, sigma, label, text):
    """A model whose answer depends on both of its conditions."""
    return x / (1 + sigma.view(-1, 1, 1, 1)) + 0.1 * label.view(-1, 1, 1, 1) - text.mean((1, 2)).view(-1, 1, 1, 1)


def test_guidance_is_two_separate_calls_in_one():
    x, sigma = normal_pictures((3, 1, 4, 4)), torch.tensor([0.1, 1.0, 7.0], dtype=F64)
    label, text = torch.tensor([4, 0, 2]), normal_pictures((3, 1, 7, 5))[:, 0]
    null = {"label": 10, "text": normal_pictures((1, 1, 7, 5), seed=5)[:, 0]}
    model = denoisers.CallCounter(conditional)
    guided = denoisers.classifier_free_guidance(model, 7.5, null)(x, sigma, label=label, text=text)
    assert model.calls == 1
    with_it = conditional(x, sigma, label, text)
    without = conditional(x, sigma, torch.full((3,), 10), null["text"].expand(3, -1, -1))
    torch.testing.assert_close(guided, without + 7.5 * (with_it - without), rtol=1e-12, atol=1e-12)


def test_guidance_at_scale_1_is_the_model_itself():
    assert denoisers.classifier_free_guidance(conditional, 1, {"label": 10}) is conditional


def test_guidance_at_scale_0_is_the_null_condition():
    x, sigma = normal_pictures((2, 1, 4, 4)), torch.ones(2, dtype=F64)
    text = normal_pictures((2, 1, 7, 5))[:, 0]
    guided = denoisers.classifier_free_guidance(conditional, 0, {"label": 10, "text": 0.0})
    expected = conditional(x, sigma, torch.tensor([10, 10]), torch.zeros_like(text))
    torch.testing.assert_close(guided(x, sigma, label=torch.tensor([1, 2]), text=text), expected)


def test_dynamic_thresholding_is_its_definition():
    """clamp(x0, -k, k) / k, k = clamp(quantile(|x0|, 0.98), 1, 1.3) of each picture, with numpy's quantile."""
    scales = torch.tensor([0.3, 0.5, 0.6, 5.0], dtype=F64).view(-1, 1, 1, 1)
    x0 = scales * normal_pictures((4, 3, 8, 8))
    ks = [min(max(np.quantile(np.abs(p.numpy()), 0.98), 1.0), 1.3) for p in x0]
    assert ks[0] == 1.0
    assert 1 < ks[1] < 1.3
    assert ks[3] == 1.3
    expected = torch.stack([p.clamp(-k, k) / k for p, k in zip(x0, ks, strict=True)])
    ours = denoisers.dynamic_thresholding(lambda x, sigma: x)(x0, torch.ones(4))
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    assert ours.abs().max() <= 1
    assert torch.equal(ours[0], x0[0].clamp(-1, 1))


@pytest.mark.parametrize("ratio", [0.01, 0.5, 0.98, 0.995, 1.0])
@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (2, 1, 1, 2), (3, 3, 5, 7), (2, 1, 1, 101)])
def test_the_threshold_is_the_quantile_at_any_size(shape, ratio):
    x0 = 5 + normal_pictures(shape)
    k = torch.from_numpy(np.quantile(x0.flatten(1).numpy(), ratio, axis=1)).view(-1, 1, 1, 1)
    ours = denoisers.dynamic_thresholding(lambda x, sigma: x, ratio, 1e9)(x0, torch.ones(shape[0]))
    torch.testing.assert_close(ours, x0.clamp(max=k) / k, rtol=1e-12, atol=0)


@pytest.mark.parametrize("data_range", [None, (-4.0, 4.0), (0, 1)])
def test_dynamic_thresholding_refuses_latents(data_range):
    refuses("would destroy latents", denoisers.dynamic_thresholding, TOY.model, data_range=data_range)


@pytest.mark.parametrize(("ratio", "maximum"), [(0, 1.3), (-0.1, 1.3), (1.1, 1.3), (0.98, 0.9), (0.98, float("nan"))])
def test_dynamic_thresholding_refuses_values_outside_their_range(ratio, maximum):
    refuses("takes a ratio above 0", denoisers.dynamic_thresholding, TOY.model, ratio, maximum)


def test_the_counter_counts_and_tells():
    told = []
    model = denoisers.CallCounter(TOY.model, on_call=lambda: told.append(model.calls))
    for _ in range(3):
        model(normal_pictures((2, 1, 6, 6)), torch.ones(2))
    assert model.calls == 3
    assert told == [1, 2, 3]
