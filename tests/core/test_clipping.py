"""Confidence-based clipping, and how often it would hold clean data."""

import math

import pytest
import torch
from confident_ode.samplers import ode
from confident_ode.samplers.clipping import ConfidenceClip, confidence_clip, confidence_interval, coverage
from confident_ode.samplers.noise_levels import timestep_grid
from core.toys import F64, LEVELS, TOY, a_of, normal_pictures, refuses


def normal_cdf(z):
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


@pytest.mark.parametrize("eta", [0.5, 1.0, 1.7, 2.0])
@pytest.mark.parametrize("t", [1, 50, 200, 500, 999])
def test_coverage_has_its_closed_form_and_its_lower_bound(eta, t):
    """T5, with a and sigma of VP; the bound erf(eta / sqrt 2) is 0.910869 at 1.7 and 0.954500 at 2."""
    s = LEVELS.sigma(t).item()
    a = 1 / math.sqrt(1 + s**2)
    sigma = a * s
    for x0 in (-1.0, -0.3, 0.0, 0.8, 1.0):
        expected = normal_cdf(eta + a * (1 - x0) / sigma) - normal_cdf(-eta - a * (1 + x0) / sigma)
        assert coverage(x0, s, eta) == pytest.approx(expected, abs=1e-12)
        assert coverage(x0, s, eta) >= math.erf(eta / math.sqrt(2)) - 1e-15
    bound = {1.7: 0.910869, 2.0: 0.954500}
    if eta in bound:
        assert math.erf(eta / math.sqrt(2)) == pytest.approx(bound[eta], abs=1e-6)
        assert coverage(0.5, 1e6, eta) == pytest.approx(bound[eta], abs=2e-6)


def test_coverage_is_how_many_noisy_states_the_clip_leaves_alone():
    """T5, by drawing: 400,000 states within five standard errors."""
    n = normal_pictures((400_000, 1, 1, 1))
    for x0, s, eta in ((1.0, 0.5, 1.7), (-0.2, 2.0, 1.0)):
        x = x0 + s * n
        kept = (confidence_clip(x, s, eta) == x).double().mean().item()
        assert kept == pytest.approx(coverage(x0, s, eta), abs=5 * 0.5 / math.sqrt(n.numel()))


def test_the_clip_while_encoding_uses_the_alpha_bar_of_the_level():
    """T5, regression: at index 40 of 200 the VP bound is 1.807, where the official code's list index gives 1.232."""
    bounds = []

    def clip(x, sigma):
        bounds.append(a_of(sigma) * confidence_interval(sigma, 1.7)[1])
        return x

    path = LEVELS.sigma(timestep_grid(999, 199, "leading"))
    ode.euler(TOY.model, TOY.clean(1), path, clip=clip)
    assert bounds[40] == pytest.approx(1.807, abs=5e-4)
    a_40 = a_of(LEVELS.sigma(40)).item()
    assert a_40 + 1.7 * math.sqrt(1 - a_40**2) == pytest.approx(1.232, abs=5e-4)


@pytest.mark.parametrize("solver", ode.SOLVERS)
def test_a_solver_clips_before_every_network_call_and_remembers_where(solver):
    """Every state that the network sees lies inside the interval of its own level."""
    path = LEVELS.sigma(timestep_grid(500, 10))
    outside, clip = [], ConfidenceClip(1.0)

    def model(x, sigma):
        low, high = confidence_interval(sigma.view(-1, 1, 1, 1), 1.0)
        outside.append(((x < low - 1e-12) | (x > high + 1e-12)).any().item())
        return TOY.model(x, sigma)

    x = 1.5 * normal_pictures((2, 1, 6, 6))
    ode.SOLVERS[solver](model, x, path, clip=clip)
    assert not any(outside)
    assert clip.clipped.dtype == torch.bool
    assert clip.clipped.shape == x.shape
    assert clip.clipped[x.abs() > 1.1].all()


def test_clipped_gathers_what_any_call_moved():
    clip = ConfidenceClip(1.0)
    assert clip.clipped is None
    x = torch.tensor([-3.0, -1.0, 0.0, 1.25, 9.0]).view(1, 1, 1, 5)
    assert clip(x, 0.5).flatten().tolist() == [-1.5, -1.0, 0.0, 1.25, 1.5]
    assert clip.clipped.flatten().tolist() == [True, False, False, False, True]
    clip(x, 0.1)
    assert clip.clipped.flatten().tolist() == [True, False, False, True, True]
    clip(x, 100.0)
    assert clip.clipped.flatten().tolist() == [True, False, False, True, True]


def test_the_clip_and_its_formula_have_the_same_defaults():
    x = 3 * normal_pictures((2, 1, 6, 6))
    assert torch.equal(ConfidenceClip()(x, 0.4), confidence_clip(x, 0.4))


def test_a_range_for_each_channel():
    low, high = torch.tensor([-4.0, 0.0, -1.0]).view(3, 1, 1), torch.tensor([4.0, 2.0, 1.0]).view(3, 1, 1)
    x = 10 * normal_pictures((2, 3, 5, 4), dtype=torch.float32)
    inside = ConfidenceClip(2.0, low, high)(x, 0.5)
    expected = torch.stack([x[:, c].clamp(low[c].item() - 1, high[c].item() + 1) for c in range(3)], 1)
    assert torch.equal(inside, expected)
    assert inside.dtype == torch.float32


def test_a_float64_range_leaves_a_float32_state():
    ends = torch.ones(3, 1, 1, dtype=F64)
    assert ConfidenceClip(2.0, -ends, ends)(torch.zeros(2, 3, 5, 4), 0.5).dtype == torch.float32


def test_an_eta_of_zero_clips_to_the_range_of_data():
    x = torch.tensor([-1.5, 0.3, 1.2])
    assert torch.equal(confidence_clip(x, 3.0, 0.0), x.clamp(-1, 1))


@pytest.mark.parametrize("eta", [-0.1, float("nan")])
def test_a_negative_eta_is_refused(eta):
    refuses("take 0 or more, or no clip", ConfidenceClip, eta)


def test_the_interval_is_the_papers_in_vp():
    """+-(sqrt(alpha_bar) + eta sqrt(1 - alpha_bar))."""
    alpha_bar = torch.linspace(0.01, 0.99, 20, dtype=F64)
    s = ((1 - alpha_bar) / alpha_bar).sqrt()
    low, high = confidence_interval(s, 1.7)
    torch.testing.assert_close(alpha_bar.sqrt() * high, alpha_bar.sqrt() + 1.7 * (1 - alpha_bar).sqrt())
    assert torch.equal(low, -high)
