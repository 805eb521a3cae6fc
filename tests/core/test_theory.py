"""Theorems 3.1 and 3.2 of "SDE beats ODE" where scores are exact: T2, T3 and T9, through the samplers' own steps."""

import math
from itertools import pairwise

import pytest
import torch
from confident_ode.evaluation.theory import (
    DATA,
    PRIORS,
    STEPS,
    Gaussian,
    exact_sde,
    fisher,
    from_priors,
    kept,
    kl,
    kl_along,
    pushed,
)
from confident_ode.samplers.ode import euler
from core.toys import F64, GMM1_MEANS, GMM1_STDS, GMM1_WEIGHTS, a_of, numbers, vp_path

NORMAL, NARROW = Gaussian(0.0, 1.0), Gaussian(0.3, 0.5)


def wrong(data, sigma, shift=0.7, width=1.4):
    """The right start at sigma, shifted by some of its standard deviations and wider."""
    right = data.noised(sigma)
    return Gaussian(right.mean + shift * right.std, width * right.std)


def down(steps, end=1.0, to_zero=False):
    path = vp_path(steps, end).flip(0)
    return torch.cat([path, torch.zeros(1, dtype=F64)]) if to_zero else path


def test_the_kl_and_the_fisher_divergence_are_their_integrals():
    p, q, x = Gaussian(0.2, 0.7), Gaussian(-0.5, 1.3), torch.linspace(-8, 8, 4001, dtype=F64)
    log_p, log_q = (-0.5 * ((x - mean) / std) ** 2 - math.log(std * math.sqrt(math.tau)) for mean, std in (p, q))
    slope_p, slope_q = (-(x - mean) / std**2 for mean, std in (p, q))
    weights = log_p.exp()
    assert kl(p, q) == pytest.approx(torch.trapezoid(weights * (log_p - log_q), x).item(), rel=1e-12)
    assert fisher(p, q) == pytest.approx(torch.trapezoid(weights * (slope_p - slope_q) ** 2, x).item(), rel=1e-12)
    assert kl(p, p) == fisher(p, p) == 0


@pytest.mark.parametrize("to_zero", [False, True])
@pytest.mark.parametrize("steps", [3, 50, 1000])
def test_the_ode_keeps_the_kl_at_every_level_and_step_size(steps, to_zero):
    """T2a, Theorem 3.2: each step is a bijection."""
    path = down(steps, to_zero=to_zero)
    along = kl_along(STEPS["ODE"], NARROW, wrong(NARROW, path[0].item()), path)
    assert along[0] > 0.3
    assert along == pytest.approx([along[0]] * (len(path)), rel=1e-12)


@pytest.mark.parametrize("steps", [50, 200, 1000])
@pytest.mark.parametrize(
    ("s", "end", "measured"),
    [
        (1.0, 0.5, {50: 0.0857, 200: 0.0808, 1000: 0.0794}),
        (1.0, 1.0, {50: 5.04e-5, 200: 4.51e-5, 1000: 4.36e-5}),
        (0.5, 1.0, {50: 1.37e-5, 200: 1.16e-5, 1000: 1.10e-5}),
    ],
)
def test_the_sde_shrinks_the_kl_of_a_shifted_start_by_rho_squared(s, end, measured, steps):
    """T2b: at every step, and in all by rho^2 = A_T s^2 / (A_T s^2 + 1 - A_T)."""
    data, path = Gaussian(0.3, s), down(steps, end)
    along = kl_along(STEPS["SDE"], data, wrong(data, path[0].item(), width=1), path)
    ratio, a2 = along[-1] / along[0], a_of(path[0].item()) ** 2
    rho2 = a2 * s**2 / (a2 * s**2 + 1 - a2)
    assert kept(data, path[0].item(), 0) == pytest.approx(rho2, rel=1e-12)
    assert all(b < a for a, b in pairwise(along))
    assert abs(ratio / rho2 - 1) <= 15 / steps + 0.01
    assert ratio == pytest.approx(measured[steps], rel=5e-3)


@pytest.mark.parametrize(("shift", "width"), [(0.7, 1.4), (0.0, 3.0), (0.0, 0.2), (2.0, 0.5)])
def test_the_sde_shrinks_the_kl_of_any_wrong_start_at_every_step_with_noise(shift, width):
    """Theorem 3.1; the last step, to 0, adds no noise and is a bijection."""
    path = down(50, to_zero=True)
    *noisy, last = kl_along(STEPS["SDE"], NARROW, wrong(NARROW, path[0].item(), shift, width), path)
    assert all(b < a for a, b in pairwise(noisy))
    # 1e-3 where all is forgotten but rounding
    assert last == pytest.approx(noisy[-1], rel=1e-3, abs=1e-15)


def test_on_standard_normal_data_the_sde_scales_the_mean_exactly():
    """T2c: by a_p / a_q a step in VP, sqrt(A_T / A_0) in all; the variance is too small."""
    path = down(50)
    levels = path.tolist()
    states = pushed(STEPS["SDE"], NORMAL, wrong(NORMAL, levels[0]), path)
    vp = [a_of(sigma) * state.mean for sigma, state in zip(levels, states, strict=True)]
    for (p, mean_p), (q, mean_q) in pairwise(zip(levels, vp, strict=True)):
        assert mean_q / mean_p == pytest.approx(a_of(p) / a_of(q), rel=1e-13)
    assert vp[-1] / vp[0] == pytest.approx(a_of(levels[0]) / a_of(levels[-1]), rel=1e-13)
    right = pushed(STEPS["SDE"], NORMAL, NORMAL.noised(levels[0]), path)[-1]
    assert (a_of(levels[-1]) * right.std) ** 2 == pytest.approx(0.8575, abs=5e-4)


def test_steps_of_the_sde_have_the_exact_mean_and_a_spread_too_small_of_first_order():
    """At every level; so what a coarse path adds to the closed form is the small variance alone."""
    errors = []
    for steps in (50, 100, 200, 400, 800):
        path = down(steps, 0.6)
        start = wrong(NARROW, path[0].item())
        made = pushed(STEPS["SDE"], NARROW, start, path)[1:]
        exact = [exact_sde(NARROW, start, path[0].item(), sigma) for sigma in path[1:].tolist()]
        assert [p.mean for p in made] == pytest.approx([q.mean for q in exact], rel=1e-12)
        assert all(p.std < q.std for p, q in zip(made, exact, strict=True))
        errors.append(1 - made[-1].std / exact[-1].std)
    assert [coarse / fine for coarse, fine in pairwise(errors)] == pytest.approx([1.82, 1.88, 1.92, 1.95], abs=0.01)


@pytest.mark.parametrize(("shift", "width"), [(0.7, 1.4), (0.0, 3.0), (2.0, 1.0)])
def test_the_exact_sde_loses_kl_at_half_the_fisher_divergence(shift, width):
    """Theorem 3.1: KL_s = KL_t - 1/2 int_s^t g^2 Fisher, where g^2 dt = d sigma^2 in VE."""
    start, sigmas = wrong(NARROW, 3.0, shift, width), torch.linspace(3, 0, 4001, dtype=F64)
    states = [(exact_sde(NARROW, start, 3.0, sigma), NARROW.noised(sigma)) for sigma in sigmas.tolist()]
    decay = torch.tensor([sigma * fisher(*pair) for sigma, pair in zip(sigmas.tolist(), states, strict=True)])
    lost = torch.trapezoid(decay.double().flip(0), sigmas.flip(0)).item()
    assert kl(*states[0]) - kl(*states[-1]) == pytest.approx(lost, rel=1e-5)


def test_the_mixture_is_that_of_the_other_tests_and_its_parts_agree():
    parts = (GMM1_WEIGHTS, GMM1_MEANS, GMM1_STDS)
    assert tuple(tuple(part.tolist()) for part in parts) == (DATA.weights, DATA.means, DATA.stds)
    x = torch.linspace(-4, 5, 9001, dtype=F64)
    density = DATA.density(x)
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-9)
    q = DATA.quantiles(1000)
    below = torch.cumulative_trapezoid(density, x)
    found = below[torch.searchsorted(x, q[[99, 499, 899]]) - 1]
    torch.testing.assert_close(found, torch.tensor([0.0995, 0.4995, 0.8995], dtype=F64), rtol=0, atol=1e-3)


def test_the_distance_is_how_far_samples_would_have_to_move():
    perfect = DATA.quantiles(1000)
    shuffled = perfect[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
    assert DATA.distance(shuffled) == 0
    assert DATA.distance(shuffled + 0.25) == pytest.approx(0.25, rel=1e-12)
    shrunk = 0.5 * (perfect - perfect.mean()) + perfect.mean()
    assert DATA.distance(shrunk) == pytest.approx((shrunk - perfect).abs().mean().item(), rel=1e-12)


def test_from_any_start_the_sde_recovers_the_data_and_the_ode_from_the_right_one():
    """T3, the paper's Figure 5: 20,000 samples, 100 steps of the cosine schedule."""
    right, *others = from_priors()
    found = from_priors()
    off = {name: {kind: DATA.distance(x) for kind, x in outcome.made.items()} for name, outcome in found.items()}
    assert len(off) == len(PRIORS) == 5
    assert all(each["SDE"] < 0.05 for each in off.values())
    assert off[right]["ODE"] < 0.05
    assert all(off[name]["ODE"] > 0.2 for name in others)
    # of N(2, 1), N(0, 9), N(0, 0.04) and U(-3, 3), as another run measured them
    assert [off[name]["ODE"] for name in others] == pytest.approx([1.55, 0.67, 0.72, 0.36], rel=0.05)


def test_the_starts_are_what_their_names_say():
    found = from_priors(4000, 2)
    moments = [(x.mean().item(), x.std().item()) for x in (outcome.start for outcome in found.values())]
    expected = [(0, 1), (2, 1), (0, 3), (0, 0.2), (0, math.sqrt(3))]
    assert moments == [pytest.approx(each, abs=0.2) for each in expected]
    uniform = found["uniform on [-3, 3]"].start
    assert -3 <= uniform.min() < -2.98
    assert 2.98 < uniform.max() <= 3


def test_samples_depend_on_the_seed_alone():
    def made(seed):
        return torch.stack([x for outcome in from_priors(50, 3, seed).values() for x in outcome.made.values()])

    assert torch.equal(made(0), made(0))
    assert (made(0) != made(1)).all()


SOURCE, TARGET = Gaussian(-0.8, 0.3), Gaussian(0.9, 0.6)
FACES = numbers(-0.8 - 1.05, -0.8 + 1.05, 201)


def translated(steps):
    """DDIB: FACES up the source's ODE and down the target's."""
    path = vp_path(steps)
    return euler(TARGET.model(), euler(SOURCE.model(), FACES, path), path.flip(0))


def ddib_limit(sigma):
    """mu2 + s2 / sqrt(v_T2) (sqrt(v_T1) (x - mu1) / s1 + mu1 - mu2), v_T in VE: the map that a finite depth has."""
    source, target = SOURCE.noised(sigma), TARGET.noised(sigma)
    moved = source.std * (FACES - SOURCE.mean) / SOURCE.std + SOURCE.mean - TARGET.mean
    return TARGET.mean + TARGET.std / target.std * moved


def test_ddib_is_optimal_transport_between_gaussians_up_to_first_order():
    """T9: .9 + 2 (x + .8), off by .27 at 50 steps and .025 at 800, of which a part is the finite depth's."""
    transport = TARGET.mean + TARGET.std / SOURCE.std * (FACES - SOURCE.mean)
    made = {steps: translated(steps) for steps in (50, 100, 200, 400, 800)}
    off = [(y - transport).abs().max().item() for y in made.values()]
    assert off == pytest.approx([0.271, 0.144, 0.077, 0.042, 0.025], rel=0.05)
    limit = ddib_limit(vp_path(1)[-1].item())
    errors = [(y - limit).abs().max().item() for y in made.values()]
    assert [a / b for a, b in pairwise(errors)] == pytest.approx([2] * 4, abs=0.2)


def test_ddib_there_and_back_returns_to_first_order():
    """T9: off by .247 at 50 steps, .018 at 800."""
    errors = []
    for steps in (50, 100, 200, 400, 800):
        path = vp_path(steps)
        back = euler(SOURCE.model(), euler(TARGET.model(), translated(steps), path), path.flip(0))
        errors.append((back - FACES).abs().max().item())
    assert (errors[0], errors[-1]) == pytest.approx((0.247, 0.018), rel=0.05)
    assert [a / b for a, b in pairwise(errors)] == pytest.approx([2] * 4, abs=0.15)
