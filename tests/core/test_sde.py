"""The ancestral step's identities, and SDEdit against an explicit VP implementation."""

import math

import pytest
import torch
from confident_ode.samplers import sde
from confident_ode.samplers.denoisers import CallCounter
from confident_ode.samplers.noise import seeded_noise
from confident_ode.samplers.noise_levels import linear_betas
from confident_ode.samplers.ode import euler
from core.toys import F64, LEVELS, TOY, a_of, normal_pictures, refuses, toy_path

# a few units in the last place of states of up to about 4
ROUNDING = 4e-15
LEVEL_PAIRS = [(999, 950), (700, 500), (500, 499), (40, 20), (1, 0)]


@pytest.fixture(params=LEVEL_PAIRS, ids=str)
def step(request):
    """x, x0-hat and noise in VP or of unit size, and (s, a, sigma) of both levels, floats."""
    p, q = ((s, a_of(s), s * a_of(s)) for s in LEVELS.sigma(torch.tensor(request.param)).tolist())
    x0, n, w = TOY.clean(2), normal_pictures((2, 1, 6, 6), 3), normal_pictures((2, 1, 6, 6), 4)
    return p, q, p[1] * x0 + p[2] * n, 0.9 * x0, w


def ours(step, eta=1.0):
    (s_p, a_p, _), (s_q, a_q, _), x, x0, w = step
    return a_q * sde.ancestral_step(x / a_p, x0, s_p, s_q, w, eta)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_the_ancestral_step_is_ddim_with_eta(step, eta):
    """T10: eq. 12 and 16 of DDIM in VP."""
    (s_p, a_p, sigma_p), (s_q, a_q, sigma_q), x, x0, w = step
    eps = (x - a_p * x0) / sigma_p
    varsigma = eta * (sigma_q / sigma_p) * math.sqrt((s_p**2 - s_q**2) / (1 + s_p**2))  # 1 - A_p / A_q, uncancelled
    expected = a_q * x0 + math.sqrt(sigma_q**2 - varsigma**2) * eps + varsigma * w
    torch.testing.assert_close(ours(step, eta), expected, rtol=0, atol=ROUNDING)


def test_the_ancestral_step_is_k_diffusions_euler_ancestral(step):
    """T10: s_up^2 = s_q^2 (s_p^2 - s_q^2) / s_p^2, Euler to s_down, then noise."""
    (s_p, a_p, _), (s_q, a_q, _), x, x0, w = step
    y, up = x / a_p, math.sqrt(s_q**2 * (s_p**2 - s_q**2) / s_p**2)
    down = math.sqrt(s_q**2 - up**2)
    expected = y + (y - x0) / s_p * (down - s_p) + up * w
    torch.testing.assert_close(ours(step), a_q * expected, rtol=0, atol=ROUNDING)


def test_the_ancestral_step_is_sde_dpm_solver_1(step):
    """T10: (sigma_q / sigma_p) e^-h x + a_q (1 - e^-2h) x0 + sigma_q sqrt(1 - e^-2h) w, h = log(s_p / s_q)."""
    (s_p, _, sigma_p), (s_q, a_q, sigma_q), x, x0, w = step
    h = math.log(s_p / s_q)
    expected = sigma_q / sigma_p * math.exp(-h) * x - a_q * math.expm1(-2 * h) * x0
    expected = expected + sigma_q * math.sqrt(-math.expm1(-2 * h)) * w
    torch.testing.assert_close(ours(step), expected, rtol=0, atol=ROUNDING)


def test_at_eta_zero_the_ancestral_step_is_eulers(step):
    (s_p, a_p, _), (s_q, a_q, _), x, x0, _ = step
    y = x / a_p
    torch.testing.assert_close(ours(step, 0.0), a_q * (y + (s_q - s_p) * (y - x0) / s_p), rtol=0, atol=ROUNDING)


def vp_eps(x, i):
    """The toy distribution's eps for VP states at timestep i."""
    s = LEVELS.sigma(i)
    return (x / a_of(s) - TOY.model(x / a_of(s), s.expand(len(x)))) / s


def test_sdedit_at_stride_1_is_the_official_ancestral_loop():
    """SDEdit (VP) as its authors run it: DDPM's mean and its small posterior variance, no noise at the end."""
    betas, depth, x0 = linear_betas(), 60, TOY.clean(2)
    alpha_bar = (1 - betas).cumprod(0)
    sampler, drawn = seeded_noise(8), 1
    x = alpha_bar[depth - 1].sqrt() * x0 + (1 - alpha_bar[depth - 1]).sqrt() * sampler(x0, 0)
    for i in reversed(range(depth)):
        mean = (x - betas[i] / (1 - alpha_bar[i]).sqrt() * vp_eps(x, i)) / (1 - betas[i]).sqrt()
        x = mean
        if i > 0:
            x = mean + (betas[i] * (1 - alpha_bar[i - 1]) / (1 - alpha_bar[i])).sqrt() * sampler(x0, drawn)
            drawn += 1
    path = torch.cat([LEVELS.sigmas[:depth].flip(0), torch.zeros(1, dtype=F64)])
    torch.testing.assert_close(sde.sdedit(TOY.model, x0, path, noise_sampler=seeded_noise(8)), x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("repeats", [1, 3])
def test_kept_pixels_come_back_bit_for_bit(repeats):
    x, mask = TOY.clean(3).float(), (normal_pictures((3, 1, 6, 6), 2) > 0).float()
    y = sde.sdedit(TOY.model, x, toy_path(), noise_sampler=seeded_noise(0), mask=mask, repeats=repeats)
    assert torch.equal(y[mask == 1], x[mask == 1])
    assert ((y != x) == (mask == 0)).double().mean() > 0.99


def test_a_soft_mask_keeps_its_share():
    x, change = TOY.clean(4).float(), {}
    for kept in (0.0, 0.5, 0.9):
        mask = torch.full((1, 1, 6, 6), kept)
        y = sde.sdedit(TOY.model, x, toy_path(), noise_sampler=seeded_noise(0), mask=mask)
        change[kept] = (y - x).abs().mean().item()
    # without a share for each step nothing would be left: 0.5 to the power of the steps
    assert 0.3 < change[0.5] / change[0.0] < 0.95
    assert 0.1 < change[0.9] / change[0.0] < change[0.5] / change[0.0]


def test_kept_pixels_carry_one_noise_at_every_level():
    """The state there is x + s n at each level reached, with the n of the start."""
    x, mask, path, reports = TOY.clean(2), torch.zeros(1, 1, 6, 6), toy_path(), []
    mask[..., :3] = 1
    sde.sdedit(TOY.model, x, path, callback=reports.append, noise_sampler=seeded_noise(4), mask=mask)
    n = seeded_noise(4)(x, 0)
    for r in reports:
        torch.testing.assert_close(r["x"][..., :3], (x + r["sigma"] * n)[..., :3])


def test_a_repeat_starts_from_the_last_result_with_new_noise():
    x, path = TOY.clean(2), toy_path(5)
    once = sde.sdedit(TOY.model, x, path, noise_sampler=seeded_noise(1))
    draws = 6  # the start and five noisy steps
    again = sde.sdedit(TOY.model, once, path, noise_sampler=lambda y, i: seeded_noise(1)(y, i + draws))
    assert torch.equal(sde.sdedit(TOY.model, x, path, noise_sampler=seeded_noise(1), repeats=2), again)
    assert not torch.equal(once, again)


@pytest.mark.parametrize("repeats", [1, 3])
def test_sdedit_makes_the_calls_it_announces_and_reports_each(repeats):
    """T16: repeats * (len(sigmas) - 1)."""
    model, reports, path = CallCounter(TOY.model), [], toy_path(7)
    sde.sdedit(model, TOY.clean(1), path, callback=reports.append, noise_sampler=seeded_noise(0), repeats=repeats)
    assert model.calls == repeats * 8
    assert [r["i"] for r in reports] == list(range(repeats * 8))
    assert [r["sigma"] for r in reports] == path[:-1].tolist() * repeats


def test_sdedit_at_eta_zero_decodes_its_noisy_start_by_euler():
    x, path = TOY.clean(2), toy_path()
    start = x + path[0].item() * seeded_noise(2)(x, 0)
    ours = sde.sdedit(TOY.model, x, path, noise_sampler=seeded_noise(2), eta=0.0)
    torch.testing.assert_close(ours, euler(TOY.model, start, path), rtol=0, atol=1e-12)


def test_sdedit_refuses_what_cannot_be():
    refuses("flip them", sde.sdedit, TOY.model, TOY.clean(1), toy_path(last_zero=False).flip(0), noise_sampler=None)
    refuses("at least 1 repeat", sde.sdedit, TOY.model, TOY.clean(1), toy_path(), noise_sampler=None, repeats=0)
    refuses("at least two sigmas", sde.sdedit, TOY.model, TOY.clean(1), toy_path()[:1], noise_sampler=None)
