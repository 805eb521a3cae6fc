"""DDIB: T9 for the ODE; the SDE too turns one Gaussian into another, and leaves alone what stays the same."""

import math
from itertools import pairwise

import pytest
import torch
from confident_ode.samplers.ddib import translate_by_ode, translate_by_sde
from confident_ode.samplers.denoisers import CallCounter, gaussian_denoiser
from confident_ode.samplers.noise import seeded_noise
from confident_ode.samplers.ode import SOLVERS, euler, network_calls
from confident_ode.samplers.restore import encode_path
from core.toys import F64, TOY, a_of, normal_pictures, numbers, refuses, toy_path, vp_path, vp_sigmas

SOURCE_MEAN, SOURCE_STD, TARGET_MEAN, TARGET_STD = -0.8, 0.3, 0.9, 0.6
SOURCE, TARGET = gaussian_denoiser(SOURCE_MEAN, SOURCE_STD**2), gaussian_denoiser(TARGET_MEAN, TARGET_STD**2)
X = numbers(SOURCE_MEAN - 2 * SOURCE_STD, SOURCE_MEAN + 2 * SOURCE_STD, 21)
MASK = (torch.arange(6) >= 3).float().expand(1, 1, 6, 6)


def transported(x):
    """What an exact flow up to t = 1 and down makes of x: optimal transport, but for the data left at t = 1."""
    a = a_of(vp_sigmas(torch.tensor(1.0, dtype=F64))).item()
    source, target = (math.sqrt(a**2 * std**2 + 1 - a**2) for std in (SOURCE_STD, TARGET_STD))
    moved = TARGET_MEAN + TARGET_STD * source / target * (x - SOURCE_MEAN) / SOURCE_STD
    return moved + TARGET_STD / target * a * (SOURCE_MEAN - TARGET_MEAN)


def errors(solver, steps):
    """The greatest deviation from transport, and from where it started after the way there and back."""
    path = vp_path(steps).flip(0)
    there = translate_by_ode(TARGET, X, path, source=SOURCE, solver=solver)
    back = translate_by_ode(SOURCE, there, path, source=TARGET, solver=solver)
    return (there - transported(X)).abs().max().item(), (back - X).abs().max().item()


def test_the_ode_transports_one_gaussian_to_another():
    """T9: the error of DDIM falls as 1 / N."""
    found = [errors("euler", steps) for steps in (50, 100, 200, 400, 800)]
    for coarse, fine in pairwise(found):
        assert all(1.6 < before / after < 2.4 for before, after in zip(coarse, fine, strict=True))
    assert found[0][0] < 0.3
    assert found[-1][0] < 0.03
    # the map itself is that of optimal transport, but for what data is left at t = 1
    assert (transported(X) - (TARGET_MEAN + 2 * (X - SOURCE_MEAN))).abs().max() < 0.02


@pytest.mark.parametrize("solver", ["ab2", "heun", "dpmpp_2m"])
def test_higher_orders_transport_more_exactly(solver):
    assert errors(solver, 200)[0] < 0.3 * errors("euler", 200)[0]


def test_the_sde_turns_one_gaussian_into_another():
    """What is recorded of a Gaussian is fresh noise, so the target's own sampling is what follows."""
    x = SOURCE_MEAN + SOURCE_STD * normal_pictures((10_000, 1, 1, 1))
    y = translate_by_sde(TARGET, x, vp_path(100).flip(0), source=SOURCE, noise_sampler=seeded_noise(0))
    assert y.mean().item() == pytest.approx(TARGET_MEAN, abs=0.03)
    assert y.std().item() == pytest.approx(TARGET_STD, abs=0.03)
    # and it goes on from the picture: without the record there would be no likeness
    assert torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1] > 0.2


@pytest.mark.parametrize("kind", ["markov", "independent", "posterior"])
def test_into_itself_the_sde_returns_to_the_bit(kind):
    x = TOY.clean(2).float()
    same = translate_by_sde(TOY.model, x, toy_path(), source=TOY.model, noise_sampler=seeded_noise(0), kind=kind)
    assert torch.equal(same, x)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_ode_is_an_inversion_and_a_decode(solver):
    x, path = TOY.clean(2), toy_path()
    solve = SOLVERS[solver]
    top = solve(TOY.model, x, encode_path(path))
    ours = translate_by_ode(SOURCE, x, path, source=TOY.model, solver=solver)
    assert torch.equal(ours, solve(SOURCE, top, path))


@pytest.mark.parametrize("last_zero", [True, False])
@pytest.mark.parametrize("solver", SOLVERS)
def test_outside_the_mask_the_ode_keeps_every_bit(solver, last_zero):
    x = TOY.clean(2).float()
    y = translate_by_ode(SOURCE, x, toy_path(last_zero=last_zero), source=TOY.model, solver=solver, mask=MASK)
    assert torch.equal(y[..., :3], x[..., :3])
    assert (y - x)[..., 3:].abs().mean() > 0.1


def test_outside_the_mask_the_sde_keeps_every_bit():
    x, options = TOY.clean(2).float(), {"source": TOY.model, "noise_sampler": seeded_noise(0), "mask": MASK}
    y = translate_by_sde(SOURCE, x, toy_path(), **options)
    assert torch.equal(y[..., :3], x[..., :3])
    assert (y - x)[..., 3:].abs().mean() > 0.1


def test_a_soft_mask_lies_between():
    x, path = TOY.clean(2), toy_path()
    options = {"source": TOY.model, "solver": "euler"}
    none, half, whole = (
        (translate_by_ode(SOURCE, x, path, mask=torch.full((1, 1, 1, 1), value, dtype=F64), **options) - x).abs().mean()
        for value in (0.0, 0.5, 1.0)
    )
    assert none == 0
    assert 0.1 < half / whole < 0.95
    torch.testing.assert_close(
        translate_by_ode(SOURCE, x, path, mask=torch.ones(1, 1, 1, 1, dtype=F64), **options),
        euler(SOURCE, euler(TOY.model, x, encode_path(path)), path),
    )


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("last_zero", [True, False])
def test_the_calls_that_they_make(solver, last_zero):
    """T16: the ODE the solver's both ways, the SDE two a step."""
    path, x = toy_path(7, last_zero=last_zero), TOY.clean(1)
    source, target, reports = CallCounter(TOY.model), CallCounter(TOY.model), []
    translate_by_ode(target, x, path, callback=reports.append, source=source, solver=solver)
    assert (source.calls, target.calls) == (network_calls(solver, encode_path(path)), network_calls(solver, path))
    assert [r["i"] for r in reports] == list(range(2 * len(path) - 2 - last_zero))
    source.calls = target.calls = 0
    translate_by_sde(target, x, path, source=source, noise_sampler=seeded_noise(0))
    assert source.calls == target.calls == len(path) - 1


@pytest.mark.parametrize("way", ["ODE", "SDE"])
def test_a_picture_comes_out_the_same_alone_and_in_a_batch(way):
    def made(x, seed):
        if way == "ODE":
            return translate_by_ode(SOURCE, x, toy_path(), source=TOY.model)
        return translate_by_sde(SOURCE, x, toy_path(), source=TOY.model, noise_sampler=seeded_noise(seed))

    x = TOY.clean(3)
    together = made(x, 5)
    for i in range(3):
        torch.testing.assert_close(made(x[i : i + 1], 5 + i), together[i : i + 1], rtol=0, atol=1e-12)


def test_they_refuse_what_cannot_be():
    x, options = TOY.clean(1), {"source": TOY.model}
    refuses("solver 'rk4' is unknown", translate_by_ode, TOY.model, x, toy_path(), solver="rk4", **options)
    upwards = toy_path(last_zero=False).flip(0)
    refuses("flip them", translate_by_sde, TOY.model, x, upwards, noise_sampler=seeded_noise(0), **options)
    refuses("flip them", translate_by_ode, TOY.model, x, upwards, **options)
