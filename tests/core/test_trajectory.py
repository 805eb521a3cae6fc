"""A trajectory kept on the way up holds an area of the picture on the way down."""

import pytest
import torch
from confident_ode.samplers.denoisers import gaussian_denoiser
from confident_ode.samplers.noise_levels import karras_sigmas
from confident_ode.samplers.ode import SOLVERS
from confident_ode.samplers.trajectory import Trajectory

MODEL = gaussian_denoiser(0.2, 0.3)


def inverted(solver, steps=12):
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    up = karras_sigmas(steps, 0.01, 3.0)
    trajectory = Trajectory(x)
    top = trajectory.reached(up[-1].item(), SOLVERS[solver](MODEL, x, up, callback=trajectory))
    return trajectory, top, up.flip(0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_trajectory_has_a_state_for_every_level_and_the_picture_at_zero(solver):
    trajectory, top, down = inverted(solver)
    assert set(trajectory.states) == {0.0, *down.tolist()}
    torch.testing.assert_close(trajectory.states[down[0].item()], top)
    torch.testing.assert_close(trajectory.states[down[-1].item()], trajectory.states[0.0])


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_kept_area_returns_exactly_and_the_rest_moves(solver):
    trajectory, top, down = inverted(solver)
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    mask[..., 4:] = 1
    keep = trajectory.keep(mask)
    path = torch.cat([down, down.new_zeros(1)])
    moved = SOLVERS[solver](MODEL, top + 0.5, path, clip=keep)
    moved = keep(moved, 0.0)
    picture = trajectory.states[0.0]
    assert torch.equal(moved[..., :4], picture[..., :4])
    assert (moved - picture)[..., 4:].abs().mean() > 0.05


def test_the_kept_area_does_not_disturb_an_exact_return():
    trajectory, top, down = inverted("ab2", steps=200)
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    mask[..., 4:] = 1
    back = SOLVERS["ab2"](MODEL, top, down, clip=trajectory.keep(mask))
    torch.testing.assert_close(back, trajectory.states[0.0], atol=1e-4, rtol=0)


def test_a_level_that_the_inversion_did_not_meet_is_refused():
    trajectory, top, down = inverted("euler")
    with pytest.raises(ValueError, match="decode with the SIGMAS that it gave out"):
        SOLVERS["euler"](MODEL, top, down * 1.01, clip=trajectory.keep(torch.ones(1, 1, 8, 8)))


def test_map_leaves_the_trajectory_as_it_was():
    trajectory, _, _ = inverted("euler")
    twice = trajectory.map(lambda x: x.repeat(2, 1, 1, 1))
    assert len(twice.states[0.0]) == 4
    assert len(trajectory.states[0.0]) == 2


def test_a_soft_mask_leaves_its_share_of_a_change():
    trajectory, top, down = inverted("ab2", steps=50)
    whole = SOLVERS["ab2"](MODEL, top + 0.5, down) - trajectory.states[0.0]
    for value in (0.0, 0.25, 0.5, 0.9, 1.0):
        keep = trajectory.keep(torch.full((1, 1, 8, 8), value, dtype=torch.float64), resets=len(down))
        change = SOLVERS["ab2"](MODEL, top + 0.5, down, clip=keep) - trajectory.states[0.0]
        assert change.mean() / whole.mean() == pytest.approx(value, abs=0.25)
