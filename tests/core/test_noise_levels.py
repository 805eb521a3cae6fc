"""Schedules, grids and coordinates; diffusers is the reference where it has the same thing."""

import diffusers
import pytest
import torch
from confident_ode.samplers import noise_levels as nl
from confident_ode.samplers.noise_levels import NoiseLevels, timestep_grid
from core.toys import F64, refuses

SCHEDULES = {
    "linear": nl.linear_betas(),
    "scaled_linear": nl.scaled_linear_betas(),
    "squaredcos_cap_v2": nl.cosine_betas(),
    "given": torch.linspace(0.01, 0.2, 30),
}


@pytest.fixture(params=SCHEDULES)
def levels(request, device):
    return NoiseLevels(SCHEDULES[request.param]).to(device)


def test_timestep_to_sigma_is_exact_on_the_grid(levels):
    t = torch.arange(len(levels), dtype=F64, device=levels.sigmas.device)
    torch.testing.assert_close(levels.sigma(t), levels.sigmas, rtol=1e-15, atol=0)
    assert torch.equal(levels.timestep(levels.sigmas), t)


@pytest.mark.parametrize("betas", SCHEDULES.values(), ids=SCHEDULES)
def test_alpha_bar_is_the_cumulative_product(betas):
    levels, alpha_bar = NoiseLevels(betas), (1 - betas.double()).cumprod(0)
    torch.testing.assert_close(levels.alpha_bar(torch.arange(len(levels))), alpha_bar, rtol=1e-9, atol=0)
    torch.testing.assert_close(levels.sigmas, nl.sigma_of_alpha_bar(alpha_bar), rtol=1e-9, atol=0)


def test_timestep_and_sigma_invert_each_other_and_rise_between_grid_points(levels):
    t = torch.linspace(0, len(levels) - 1, 7001, dtype=F64, device=levels.sigmas.device)
    sigma = levels.sigma(t)
    assert (sigma.diff() > 0).all()
    torch.testing.assert_close(levels.timestep(sigma), t, rtol=0, atol=1e-9)


def test_between_grid_points_log_sigma_is_linear(levels):
    torch.testing.assert_close(levels.sigma(3.5), (levels.sigmas[3] * levels.sigmas[4]).sqrt())


def test_timestep_of_a_sigma_outside_the_chain_is_its_end(levels):
    assert levels.timestep(levels.sigmas[0] / 2) == 0
    assert levels.timestep(levels.sigmas[-1] * 2) == len(levels) - 1


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_alpha_bar_is_that_of_diffusers(name):
    ends = {"beta_start": 8.5e-4, "beta_end": 1.2e-2} if name == "scaled_linear" else {}
    theirs = diffusers.DDPMScheduler(beta_schedule=name, **ends).alphas_cumprod
    ours = NoiseLevels(SCHEDULES[name]).alpha_bar(torch.arange(1000))
    torch.testing.assert_close(ours.float(), theirs, rtol=3e-4, atol=1e-6)


def test_a_beta_of_one_ends_in_an_infinite_sigma_that_no_path_reaches():
    levels = NoiseLevels(torch.cat([nl.linear_betas()[:-1], torch.ones(1, dtype=F64)]))
    assert levels.sigmas[-1] == torch.inf
    assert levels.alpha_bar(999) == 0
    assert levels.sigma(998).isfinite()
    assert levels.timestep(levels.sigma(998)) == 998
    assert levels.depth(fraction=1) == 998
    assert nl.decode_path(levels, levels.depth(fraction=1), 10).isfinite().all()
    refuses("outside this model", levels.depth, timestep=999)
    refuses("outside this model", levels.depth, sigma=torch.inf)


@pytest.mark.parametrize(
    "betas", [[], [0.1], [[0.1, 0.2]], [0.0, 0.1], [-0.1, 0.1], [0.1, 1.1], [0.1, torch.nan], [0.1, torch.inf]]
)
def test_betas_outside_their_range_are_refused(betas):
    refuses("betas must be a list of at least two numbers", NoiseLevels, betas)


def test_betas_too_small_to_add_noise_are_refused():
    refuses("do not raise the noise", NoiseLevels, [0.5, 1e-30])


def test_depth_by_timestep_fraction_or_sigma():
    levels = NoiseLevels(nl.linear_betas())
    assert levels.depth(timestep=500) == 500
    assert levels.depth(timestep=12.5) == 12.5
    assert levels.depth(fraction=0.5) == 500
    assert levels.depth(fraction=1) == 999
    assert levels.depth(fraction=1e-9) == 1
    assert levels.depth(sigma=levels.sigma(321.0).item()) == pytest.approx(321, abs=1e-9)
    assert levels.depth(sigma=levels.sigmas[-1].item()) == 999


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        ({}, "one of timestep, fraction or sigma"),
        ({"timestep": 5, "sigma": 1.0}, "one of timestep, fraction or sigma"),
        ({"timestep": 0}, "take above 0 and up to 999"),
        ({"timestep": -1}, "take above 0"),
        ({"timestep": 999.5}, "take above 0"),
        ({"timestep": torch.nan}, "take above 0"),
        ({"fraction": 0}, "take one above 0 and up to 1"),
        ({"fraction": -0.5}, "take one above 0"),
        ({"fraction": 1.01}, "take one above 0"),
        ({"fraction": torch.nan}, "take one above 0"),
        ({"sigma": 0.01}, "take above 0.01"),
        ({"sigma": 200.0}, "up to 157"),
        ({"sigma": torch.nan}, "take above"),
    ],
)
def test_a_depth_that_means_nothing_is_refused(depth, message):
    refuses(message, NoiseLevels(nl.linear_betas()).depth, **depth)


def ddim_grid(count, spacing):
    scheduler = diffusers.DDIMScheduler(timestep_spacing=spacing)
    scheduler.set_timesteps(count)
    return scheduler.timesteps.flip(0).double()


@pytest.mark.parametrize("count", [5, 10, 50, 77, 200, 1000])
def test_linspace_and_trailing_grids_are_those_of_diffusers(count):
    assert torch.equal(timestep_grid(999, count - 1, "linspace"), ddim_grid(count, "linspace"))
    if count < 1000:
        assert torch.equal(timestep_grid(999, count, "trailing")[1:], ddim_grid(count, "trailing"))


@pytest.mark.parametrize("count", [40, 50, 100, 200, 500, 1000])
def test_leading_grid_is_that_of_diffusers(count):
    """Of `count` levels, where 1000 // count == 999 // (count - 1); the stride differs for, e.g., 10, 20, 25 or 30."""
    assert torch.equal(timestep_grid(999, count - 1, "leading"), ddim_grid(count, "leading"))


def test_grids_of_a_part_of_the_chain():
    assert timestep_grid(500, 4).tolist() == [0, 125, 250, 375, 500]
    assert timestep_grid(500, 3, "leading").tolist() == [0, 166, 332, 498]
    assert timestep_grid(500, 3, "trailing").tolist() == [0, 166, 333, 500]
    assert timestep_grid(7.5, 3).tolist() == [0, 2, 5, 7.5]


@pytest.mark.parametrize("depth", [7.4, 499.6])
def test_a_trailing_grid_ends_at_a_depth_between_timesteps(depth):
    assert timestep_grid(depth, 3, "trailing")[-1] == depth


def test_karras_levels_are_evenly_spaced_in_the_seventh_root():
    sigmas = nl.karras_sigmas(10, 0.01, 80.0)
    roots = sigmas ** (1 / 7)
    torch.testing.assert_close(roots.diff(), (roots[-1] - roots[0]).expand(10) / 10)
    torch.testing.assert_close(sigmas[[0, -1]], torch.tensor([0.01, 80.0], dtype=F64))


@pytest.mark.parametrize("spacing", nl.SPACINGS)
def test_a_decode_path_falls_from_the_depth_to_the_first_trained_level(spacing, device):
    levels = NoiseLevels(nl.linear_betas()).to(device)
    path = nl.decode_path(levels, 500, 20, spacing)
    assert path.shape == (21,)
    assert path.dtype == F64
    assert path.device.type == "cpu"
    assert (path.diff() < 0).all()
    torch.testing.assert_close(path[[0, -1]], levels.sigmas[[500, 0]].cpu())


@pytest.mark.parametrize(
    ("deepest", "steps", "spacing", "message"),
    [
        (500, 0, "linspace", "at least 1"),
        (500, -3, "linspace", "at least 1"),
        (500, 2.5, "linspace", "whole number"),
        (500, 501, "linspace", "take fewer steps or a greater depth"),
        (0.5, 1, "leading", "take fewer steps or a greater depth"),
        (500, 400, "trailing", "take fewer steps"),
        (500, 10, "quadratic", "linspace, leading, trailing, karras"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(deepest, steps, spacing, message):
    refuses(message, timestep_grid, deepest, steps, spacing)


@pytest.mark.parametrize("steps", [0, 501])
def test_a_karras_path_is_refused_like_the_others(steps):
    refuses("take", nl.decode_path, NoiseLevels(nl.linear_betas()), 500, steps, "karras")


def test_coordinates_convert_both_ways_and_name_the_same_state():
    x0, n = torch.tensor([0.7, -0.2], dtype=F64), torch.tensor([1.1, 0.4], dtype=F64)
    for tau in (0.01, 0.5, 0.99):
        sigma = nl.sigma_of_tau(tau)
        alpha_bar = nl.alpha_bar_of_sigma(sigma)
        ve, vp, flow = x0 + sigma * n, alpha_bar**0.5 * x0 + (1 - alpha_bar) ** 0.5 * n, (1 - tau) * x0 + tau * n
        assert nl.tau_of_sigma(sigma) == pytest.approx(tau, rel=1e-14)
        assert nl.sigma_of_alpha_bar(alpha_bar) == pytest.approx(sigma, rel=1e-12)
        for ours, expected in [
            (nl.vp_to_ve(vp, sigma), ve),
            (nl.ve_to_vp(ve, sigma), vp),
            (nl.flow_to_ve(flow, tau), ve),
            (nl.ve_to_flow(ve, sigma), flow),
        ]:
            torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("steps", "deepest"), [(25, 500), (5, 5), (50, 60), (24, 400), (1, 1), (400, 400), (7, 999)])
@pytest.mark.parametrize("spacing", ["karras", "linspace"])
def test_a_path_of_trained_levels_has_as_many_steps_at_whole_timesteps(steps, deepest, spacing):
    levels = NoiseLevels(SCHEDULES["linear"])
    timesteps = levels.timestep(nl.decode_path(levels, deepest, steps, spacing, trained=True)).flip(0)
    assert len(timesteps) == steps + 1
    torch.testing.assert_close(timesteps, timesteps.round(), atol=1e-6, rtol=0)
    assert (timesteps.diff() > 0.5).all()
    assert timesteps[0].round() == 0
    assert timesteps[-1].round() == deepest


def test_trained_levels_are_the_nearest_where_they_are_apart():
    levels = NoiseLevels(SCHEDULES["linear"])
    path, trained = (levels.timestep(nl.decode_path(levels, 500, 10, "karras", trained=t)) for t in (False, True))
    torch.testing.assert_close(trained, path.round(), atol=1e-6, rtol=0)


def test_levels_of_a_table_of_sigmas_are_the_levels_of_its_betas():
    levels = NoiseLevels(SCHEDULES["linear"])
    same = NoiseLevels.of_sigmas(levels.sigmas)
    timesteps = torch.linspace(0, 999, 77, dtype=torch.float64)
    assert torch.equal(same.sigma(timesteps), levels.sigma(timesteps))
    with pytest.raises(ValueError, match="do not raise the noise"):
        NoiseLevels.of_sigmas([1.0, 1.0])


def test_levels_of_a_flow_reach_up_to_its_last_finite_one():
    taus = torch.arange(1, 1001, dtype=torch.float64) / 1000
    levels = NoiseLevels.of_sigmas(taus / (1 - taus))
    assert levels.depth(fraction=1.0) == 998
    path = nl.decode_path(levels, levels.depth(fraction=0.4), 10, "linspace")
    torch.testing.assert_close(path[0], torch.tensor(0.401 / 0.599, dtype=torch.float64))
    assert path.isfinite().all()
