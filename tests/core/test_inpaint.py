"""T11: inpainting by the SDE is nearer to the true conditional than by the ODE; its solvers, ends and refusals."""

import math
from itertools import count, pairwise

import pytest
import torch
from confident_ode.samplers import ode
from confident_ode.samplers.denoisers import CallCounter, per_item
from confident_ode.samplers.inpaint import INPAINTERS, inpaint, inpaint_calls
from confident_ode.samplers.noise import seeded_noise
from core.toys import F64, TAU_LEVELS, TOY, a_of, normal_pictures, refuses, toy_path, vp_path, wrapped

RHO = 0.9
LEFT = torch.tensor([0.0, 1.0], dtype=F64).view(1, 1, 1, 2)
HALF = (torch.arange(6) >= 3).to(F64).expand(1, 1, 6, 6)


def correlated(x, sigma):
    """E[x0 | x] for two numbers of variance 1 and correlation RHO."""
    s2 = per_item(sigma, x) ** 2
    mean, half = x.mean(-1, keepdim=True), (x - x.flip(-1)) / 2
    return (1 + RHO) / (1 + RHO + s2) * mean + (1 - RHO) / (1 - RHO + s2) * half


def kl_to_conditional(solver, steps, observed, number=5_000, **options):
    """KL of the second number, as inpainting draws it beside the first, to N(RHO x1, 1 - RHO^2)."""
    x = torch.full((number, 1, 1, 2), observed, dtype=F64)
    path = vp_path(steps).flip(0)
    filled = inpaint(correlated, x, path, mask=LEFT, noise_sampler=seeded_noise(0), solver=solver, **options)[..., 1]
    right, variance = RHO * observed, 1 - RHO**2
    ratio = filled.var().item() / variance
    return 0.5 * (ratio + (filled.mean().item() - right) ** 2 / variance - 1 - math.log(ratio))


@pytest.mark.parametrize("observed", [0.2, -1.0])
@pytest.mark.parametrize("steps", [25, 50, 100])
def test_the_sde_is_nearer_to_the_conditional_and_fresh_noise_nearer_than_fixed(steps, observed):
    found = {
        (solver, fixed): kl_to_conditional(solver, steps, observed, fixed_noise=fixed)
        for solver in ("ddim", "ddpm")
        for fixed in (False, True)
    }
    assert found["ddpm", False] < 0.7 * found["ddim", False]
    assert found["ddpm", True] < 0.9 * found["ddim", True]
    if observed == 0.2:
        assert found["ddpm", False] < found["ddpm", True]
        assert found["ddim", False] < found["ddim", True]


@pytest.mark.parametrize("steps", [25, 50])
def test_so_it_is_in_second_order(steps):
    assert kl_to_conditional("sde_dpmpp_2m", steps, 0.2) < kl_to_conditional("dpmpp_2m", steps, 0.2)


@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
def test_repeats_take_the_known_bias_away(solver):
    """Replacement shifts the new part too little towards the old; RePaint's loops make up for it."""
    once, often = (kl_to_conditional(solver, 25, -1.0, repeats=repeats) for repeats in (1, 4))
    assert often < 0.6 * once


def filled(solver, x=None, mask=HALF, path=None, seed=4, model=TOY.model, **options):
    x, path = TOY.clean(2) if x is None else x, toy_path() if path is None else path
    return inpaint(model, x, path, mask=mask.to(x), noise_sampler=seeded_noise(seed), solver=solver, **options)


@pytest.mark.parametrize("solver", INPAINTERS)
@pytest.mark.parametrize("options", [{}, {"fixed_noise": True}, {"repeats": 3}])
def test_what_is_kept_stays_to_the_bit(solver, options):
    x = TOY.clean(3).float()
    y = filled(solver, x, **options)
    assert torch.equal(y[..., :3], x[..., :3])
    assert ((y != x)[..., 3:]).double().mean() > 0.99


def by_hand(solver, fixed):
    """The loop in VP: hold the known part to a x + sigma n, predict, and step."""
    x0, path = TOY.clean(2), toy_path().tolist()
    sampler, draws = seeded_noise(4), count(1)
    n = sampler(x0, 0)
    x, last = a_of(path[0]) * x0 + path[0] * a_of(path[0]) * n, None
    for i, (s, s_next) in enumerate(pairwise(path)):
        a, a_next = a_of(s), a_of(s_next)
        sigma, sigma_next = s * a, s_next * a_next
        known = n if fixed else sampler(x0, next(draws))
        x = torch.where(HALF > 0, x, a * x0 + sigma * known)
        denoised = TOY.model(x / a, torch.full((2,), s, dtype=F64))
        if s_next == 0:
            x = denoised
            break
        h = math.log(s / s_next)
        data = denoised
        if solver in ("dpmpp_2m", "sde_dpmpp_2m") and i:
            # D = (1 + 1 / 2r) x0 - 1 / 2r x0_last, r = h_last / h
            r = math.log(path[i - 1] / s) / h
            data = (1 + 1 / (2 * r)) * denoised - last / (2 * r)
        if solver in ("ddim", "dpmpp_2m"):
            x = sigma_next / sigma * x - a_next * math.expm1(-h) * data
        else:
            x = sigma_next / sigma * math.exp(-h) * x - a_next * math.expm1(-2 * h) * data
            x = x + sigma_next * math.sqrt(-math.expm1(-2 * h)) * sampler(x0, next(draws))
        last = denoised
    return torch.where(HALF > 0, x, x0)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("solver", INPAINTERS)
def test_each_solver_is_the_loop_written_by_hand(solver, fixed):
    """DDIM, DDPM, DPM-Solver++(2M) and SDE-DPM-Solver++(2M), Lu et al. (2022), eq. 17 and 18."""
    torch.testing.assert_close(filled(solver, fixed_noise=fixed), by_hand(solver, fixed), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("solver", "plain"), [("dpmpp_2m", ode.dpmpp_2m), ("ddim", ode.euler)])
@pytest.mark.parametrize("last_zero", [True, False])
def test_where_all_is_new_it_is_the_solver_alone(solver, plain, last_zero):
    x, path = TOY.clean(2), toy_path(last_zero=last_zero)
    start = x + path[0].item() * seeded_noise(4)(x, 0)
    ours = filled(solver, x, torch.ones(1, 1, 1, 1), path)
    torch.testing.assert_close(ours, plain(TOY.model, start, path), rtol=0, atol=1e-12)


@pytest.mark.parametrize("fixed", [False, True])
def test_the_known_part_carries_the_noise_of_its_level(fixed):
    x, reports = torch.zeros(1, 1, 60, 60, dtype=F64), []
    inpaint(
        lambda y, sigma: 0 * y,
        x,
        toy_path(6),
        callback=reports.append,
        mask=torch.zeros(1, 1, 1, 1, dtype=F64),
        noise_sampler=seeded_noise(1),
        fixed_noise=fixed,
    )
    noises = [r["x"] / r["sigma"] for r in reports]
    assert all(n.std().item() == pytest.approx(1, abs=0.05) for n in noises)
    alike = [torch.corrcoef(torch.stack([noises[0].flatten(), n.flatten()]))[0, 1].item() for n in noises[1:]]
    assert alike == pytest.approx([float(fixed)] * len(alike), abs=0.06)


def test_a_soft_mask_leaves_its_share_of_a_change():
    x, change = TOY.clean(4), {}
    for value in (0.0, 0.1, 0.5, 1.0):
        change[value] = (filled("ddpm", x, torch.full((1, 1, 1, 1), value)) - x).abs().mean().item()
    assert change[0.0] == 0
    assert 0.02 < change[0.1] / change[1.0] < change[0.5] / change[1.0]
    assert 0.1 < change[0.5] / change[1.0] < 0.9


@pytest.mark.parametrize("solver", INPAINTERS)
@pytest.mark.parametrize("last_zero", [True, False])
@pytest.mark.parametrize("repeats", [1, 3])
def test_it_makes_the_calls_it_announces_and_reports_each(solver, last_zero, repeats):
    """T16."""
    path, model, reports = toy_path(7, last_zero=last_zero), CallCounter(TOY.model), []
    filled(solver, path=path, model=model, repeats=repeats, callback=reports.append)
    assert model.calls == inpaint_calls(path, repeats) == repeats * 7 + last_zero
    assert [r["i"] for r in reports] == list(range(model.calls))


@pytest.mark.parametrize("solver", INPAINTERS)
def test_a_picture_comes_out_the_same_alone_and_in_a_batch(solver):
    x = TOY.clean(3)
    together = filled(solver, x, repeats=2)
    for i in range(3):
        alone = filled(solver, x[i : i + 1], seed=4 + i, repeats=2)
        torch.testing.assert_close(alone, together[i : i + 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["v", "flow"])
@pytest.mark.parametrize("solver", INPAINTERS)
def test_v_and_flow_networks_give_what_eps_gives(kind, solver):
    """T17."""
    path = TAU_LEVELS.sigmas[4:120:5].flip(0)
    ours, eps = (filled(solver, path=path, model=wrapped(each, TOY.model)) for each in (kind, "eps"))
    torch.testing.assert_close(ours, eps, rtol=0, atol=1e-9)


def test_noise_alone_decides_where_all_is_new_and_the_depth_is_great():
    """From the deepest level what was in the picture does not count."""
    path = toy_path(depth=999)
    one, other = (
        filled("ddpm", x, torch.ones(1, 1, 1, 1), path) for x in (TOY.clean(2), 0.3 * normal_pictures((2, 1, 6, 6)))
    )
    assert (one - other).abs().max() < 0.05


def test_it_refuses_what_cannot_be():
    refuses("solver 'heun' is unknown", filled, "heun")
    refuses("at least 1 step at each level", filled, "ddpm", repeats=0)
    refuses("flip them", filled, "ddpm", path=toy_path(last_zero=False).flip(0))
