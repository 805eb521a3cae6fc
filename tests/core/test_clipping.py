"""Confidence-based clipping, and how often it would hold clean data."""

import math

import pytest
import torch
from confident_ode.samplers import ode
from confident_ode.samplers.clipping import (
    ConfidenceClip,
    confidence_clip,
    confidence_interval,
    coverage,
    observation_range,
    quantile_range,
)
from confident_ode.samplers.noise_levels import timestep_grid
from confident_ode.samplers.restore import restore
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


@pytest.mark.parametrize("outside", [0.0, 0.01, 0.137, 0.49])
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 4, 2, 3, 3), (2, 1, 1, 1)])
def test_quantile_range_is_that_of_each_picture_and_channel(outside, shape):
    x0 = normal_pictures(shape)
    low, high = quantile_range(x0, outside)
    assert low.shape == high.shape == (*shape[:2], *[1] * (len(shape) - 2))
    expected = x0.flatten(2).quantile(torch.tensor([outside, 1 - outside], dtype=F64), dim=2)
    torch.testing.assert_close(torch.stack([low.flatten(1), high.flatten(1)]), expected, rtol=0, atol=1e-12)


def test_a_quantile_range_of_nothing_outside_leaves_the_clean_data_alone():
    x0 = normal_pictures((2, 4, 6, 6), dtype=torch.float32)
    clip = ConfidenceClip(0.5, *quantile_range(x0))
    assert torch.equal(clip(x0, 0.1), x0)
    tight = ConfidenceClip(0.0, *quantile_range(x0, 0.1))
    assert (tight(x0, 1.0) != x0).flatten(2).sum(2).unique().tolist() == [8]


@pytest.mark.parametrize("outside", [-0.1, 0.5, float("nan")])
def test_a_share_that_leaves_no_range_is_refused(outside):
    refuses("take 0 or more, and below 0.5", quantile_range, torch.zeros(1, 1, 2, 2), outside)


def test_round_the_observation_every_value_stays_within_width_and_noise():
    observed, x = TOY.clean(2), 3 * normal_pictures((2, 1, 6, 6), 7)
    inside = ConfidenceClip(1.5, *observation_range(observed, 0.2))(x, 0.4)
    expected = torch.minimum(torch.maximum(x, observed - 0.2 - 1.5 * 0.4), observed + 0.2 + 1.5 * 0.4)
    torch.testing.assert_close(inside, expected, rtol=0, atol=1e-12)
    refuses("take 0 or more", observation_range, observed, -0.1)


def test_held_to_the_observation_a_restoration_moves_no_further_than_its_width():
    """As the clip of updates and decode; without eta the width bounds all but the last step."""
    path = torch.cat([LEVELS.sigma(timestep_grid(500, 10)).flip(0), torch.zeros(1, dtype=F64)])
    x = TOY.clean(2) + 0.3 * normal_pictures((2, 1, 6, 6), 5)
    settings = {"step": 1e-3, "updates": 8, "solver": "euler"}
    moved = {}
    for width in (0.05, 0.2, 10.0):
        held = [ConfidenceClip(0.1, *observation_range(x, width)) for _ in range(2)]
        restored = restore(TOY.model, x, path, langevin_clip=held[0], decode_clip=held[1], **settings)
        moved[width] = (restored - x).abs().mean().item()
        assert held[0].times.shape == held[1].times.shape == x.shape
    assert moved[0.05] < moved[0.2] < moved[10.0]


def test_what_was_clipped_is_counted_by_value_and_by_step():
    clip = ConfidenceClip(1.0)
    assert clip.times is None
    x = torch.tensor([[-3.0, -1.0, 0.0, 1.25], [9.0, 9.0, 0.0, 0.0]]).view(2, 1, 1, 4)
    for sigma in (0.5, 0.1, 100.0, 7.5):
        clip(x, sigma)
    assert clip.times.flatten().tolist() == [2, 0, 0, 1, 3, 3, 0, 0]
    assert clip.times.dtype == torch.int16
    assert clip.heat().flatten().tolist() == [0.5, 0, 0, 0.25, 0.75, 0.75, 0, 0]
    assert clip.sigmas == [0.5, 0.1, 100.0, 7.5]
    assert clip.shares.tolist() == [[0.25, 0.5], [0.5, 0.5], [0.0, 0.0], [0.0, 0.5]]
    assert torch.equal(clip.clipped, clip.times > 0)
    assert clip.shares.mean(0).tolist() == clip.heat().flatten(1).mean(1).tolist()
