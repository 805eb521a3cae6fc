"""The exact inverses: round trips, their published formulas in VP, their companions, and what they refuse."""

from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from confident_ode.samplers import denoisers
from confident_ode.samplers.exact import EXACT, PAIRED, anderson, bdia, belm, edict, exact_calls, fixed_point, shares
from confident_ode.samplers.noise_levels import decode_path
from confident_ode.samplers.ode import dpmpp_2m, euler
from core.test_no_sync import NoWaitingCopies, no_reads, no_waiting
from core.toys import (
    F64,
    G1,
    G1_MEAN,
    G1_VARIANCE,
    GMM1,
    LEVELS,
    TAU_LEVELS,
    TOY,
    a_of,
    gmm1_quadrature,
    normal_pictures,
    numbers,
    psnr,
    refuses,
    rms,
    toy_path,
    vp_path,
    wrapped,
)

PATH = toy_path(9, last_zero=False)
KARRAS = decode_path(LEVELS, 500, 25, "karras")
# enough for the iterative ones to converge to rounding
CONVERGED = {"fixed_point": {"iterations": 16}, "exact_dpmpp": {"iterations": 30}}


def up_and_down(name, model, x, path, extra_args=None, **options):
    """(code, what comes back) along a descending path."""
    code, companion = EXACT[name](model, x, path.flip(0), extra_args, **options), None
    if name in PAIRED:
        code, companion = code
        return code, EXACT[name](model, code, path, extra_args, companion=companion, **options)[0]
    return code, EXACT[name](model, code, path, extra_args)


def gmm1_round_trip(name, steps, dtype=F64, **options):
    """The errors in VP, each point's probability with them."""
    x, weights = gmm1_quadrature()
    path = vp_path(steps).flip(0)
    y = (x / a_of(path[-1])).to(dtype)
    return (up_and_down(name, GMM1, y, path, **options)[1] - y).flatten() * a_of(path[-1]), weights


@pytest.mark.parametrize("steps", [20, 50, 100])
@pytest.mark.parametrize(
    ("name", "options", "single"),
    [("edict", {}, 3e-3), ("edict", {"mixing": 1.0}, 1e-1), ("bdia", {}, 5e-5), ("belm", {}, 2e-4)],
)
def test_pairs_come_back(name, options, single, steps):
    """T7: 1e-10 in float64. In float32 the spec's figures are of its own points, and these go farther between modes."""
    assert gmm1_round_trip(name, steps, **options)[0].abs().max() < 1e-10
    assert gmm1_round_trip(name, steps, torch.float32, **options)[0].abs().max() < single


@pytest.mark.parametrize("name", PAIRED)
def test_pairs_go_down_and_up_again(name):
    """A fresh decode, undone with the companion that it gives."""
    path = vp_path(50).flip(0)
    x = numbers(-2, 2, 9) / a_of(path[0])
    end, companion = EXACT[name](G1, x, path, fresh=True)
    back, _ = EXACT[name](G1, end, path.flip(0), companion=companion)
    assert ((back - x) * a_of(path[0])).abs().max() < 1e-10


def decode_errors(name):
    """T7b: the decode alone against the exact flow, G1, 2.6 deviations from the mean."""
    errors = []
    for steps in (50, 100, 200, 400):
        path = vp_path(steps).flip(0)
        first, last = path[0], path[-1]
        x = numbers(-2.6, 2.6, 2) / a_of(first)
        y = euler(G1, x, path) if name == "euler" else EXACT[name](G1, x, path, fresh=True)[0]
        exact = G1_MEAN + ((G1_VARIANCE + last**2) / (G1_VARIANCE + first**2)).sqrt() * (x - G1_MEAN)
        errors.append((y - exact).abs().max().item() * a_of(last).item())
    return errors


def test_the_accuracy_of_their_decodes():
    """T7b. EDICT's depends on how its pair is averaged: of it the order alone is claimed."""
    assert decode_errors("euler") == pytest.approx([7.1e-2, 3.6e-2, 1.8e-2, 9.2e-3], rel=0.04)
    o_belm = decode_errors("belm")
    assert o_belm == pytest.approx([3.8e-3, 9.6e-4, 2.4e-4, 6e-5], rel=0.03)
    assert all(3.8 < a / b < 4.2 for a, b in pairwise(o_belm))
    assert decode_errors("bdia")[::3] == pytest.approx([5.3e-3, 1.7e-4], rel=0.04)
    coupled = decode_errors("edict")
    assert all(1.7 < a / b < 2.2 for a, b in pairwise(coupled))
    assert coupled[0] < decode_errors("euler")[0]


@pytest.mark.parametrize("memory", [0, 3])
def test_the_fixed_point_closes_in_geometrically(memory):
    """T8, its first guess carried on from the steps before instead of the source timestep's Euler."""
    errors = []
    for iterations in (1, 2, 3, 5, 10, 20):
        error, weights = gmm1_round_trip("fixed_point", 50, iterations=iterations, memory=memory)
        errors.append((error**2 * weights).sum().sqrt().item())
    spec = [8.8e-3, 2.7e-3, 1.2e-3, 2.7e-4, 1.2e-5, 3.7e-8]
    assert all(ours <= theirs for ours, theirs in zip(errors, spec, strict=True))
    assert all(b < a for a, b in pairwise(errors) if a > 1e-14)


def test_anderson_acceleration_is_worth_its_memory():
    plain, mixed = (gmm1_round_trip("fixed_point", 50, iterations=5, memory=m)[0].abs().max() for m in (0, 3))
    assert mixed < 1e-9 < 1e-5 < plain


def test_anderson_solves_linear_equations_of_each_picture():
    """In as many steps as a picture has different eigenvalues, where plain iteration is slow; a constant map does not
    harm."""
    rates = torch.tensor([[0.9, 0.5, -0.3], [0.0, 0.0, 0.0]], dtype=F64).view(2, 1, 1, 3)
    x = anderson(lambda x: rates * x + 1, torch.zeros(2, 1, 1, 3, dtype=F64), 5, 3)
    torch.testing.assert_close(x, 1 / (1 - rates))


def test_more_iterations_go_where_sigma_is_multiplied():
    assert shares([1.0, 2.0, 4.0, 8.0], 3) == [3, 3, 3]
    counts = shares([0.01, 0.04, 0.05, 0.06, 0.07], 3)
    assert sum(counts) == 12
    assert counts[0] > counts[1] >= counts[2] >= counts[3] >= 1


def test_exact_dpmpp_closes_in():
    x = TOY.clean(3)
    worst = [
        psnr(up_and_down("exact_dpmpp", TOY.model, x, KARRAS, iterations=k)[1], x).min() for k in (1, 2, 6, 12, 30)
    ]
    assert all(b > a for a, b in pairwise(worst))
    assert worst[-1] > 180


@pytest.mark.parametrize(("name", "decode"), [("fixed_point", euler), ("exact_dpmpp", dpmpp_2m)])
def test_what_the_house_solver_decodes_comes_back(name, decode):
    x = TOY.clean(2)
    code = EXACT[name](TOY.model, x, KARRAS.flip(0), **CONVERGED[name])
    torch.testing.assert_close(decode(TOY.model, code, KARRAS), x, rtol=0, atol=1e-8)


def edict_in_vp(x, path, p):
    """EDICT's decode as in its paper: (x, y) in VP, both eps at the noisier level, the leapfrog on odd steps."""
    y = x
    for i, (t, u) in enumerate(pairwise(path)):
        a, b = a_of(u) / a_of(t), a_of(u) * u - a_of(u) / a_of(t) * a_of(t) * t

        def eps(z, t=t):
            z = z / a_of(t)
            return (z - TOY.model(z, t.expand(len(z)))) / t

        if i % 2 == 0:
            x = a * x + b * eps(y)
            y = a * y + b * eps(x)
        else:
            y = a * y + b * eps(x)
            x = a * x + b * eps(y)
        x = p * x + (1 - p) * y
        y = p * y + (1 - p) * x
    return x, y


def ddim_in_vp(z, s, to):
    eps = (z / a_of(s) - TOY.model(z / a_of(s), s.expand(len(z)))) / s
    return a_of(to) / a_of(s) * z + (a_of(to) * to - a_of(s) * s * a_of(to) / a_of(s)) * eps, eps


def bdia_in_vp(x, path, gamma):
    last, z = x, ddim_in_vp(x, path[0], path[1])[0]
    for above, here, below in zip(path, path[1:], path[2:], strict=False):
        back, down = ddim_in_vp(z, here, above)[0], ddim_in_vp(z, here, below)[0]
        last, z = z, gamma * (last - back) + down
    return z, last


def belm_in_vp(x, path):
    last, z = x, ddim_in_vp(x, path[0], path[1])[0]
    for above, here, below in zip(path, path[1:], path[2:], strict=False):
        h, g = here - below, above - here
        eps = ddim_in_vp(z, here, below)[1]
        of_last, of_z = h**2 / g**2 * a_of(below) / a_of(above), (g**2 - h**2) / g**2 * a_of(below) / a_of(here)
        last, z = z, of_last * last + of_z * z - h * (h + g) / g * a_of(below) * eps
    return z, last


@pytest.mark.parametrize(
    ("solve", "options", "published"),
    [
        (edict, {}, lambda x: edict_in_vp(x, PATH, 0.93)),
        (edict, {"mixing": 0.97}, lambda x: edict_in_vp(x, PATH, 0.97)),
        (bdia, {}, lambda x: bdia_in_vp(x, PATH, 1.0)),
        (bdia, {"gamma": 0.5}, lambda x: bdia_in_vp(x, PATH, 0.5)),
        (belm, {}, lambda x: belm_in_vp(x, PATH)),
    ],
)
def test_decodes_are_the_published_formulas_in_vp(solve, options, published):
    x = normal_pictures((2, 1, 6, 6))
    ours, companion = solve(TOY.model, x / a_of(PATH[0]), PATH, fresh=True, **options)
    state, other = published(x)
    torch.testing.assert_close(ours * a_of(PATH[-1]), state, rtol=0, atol=1e-10)
    torch.testing.assert_close(companion.state * a_of(companion.sigma), other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
def test_networks_of_all_kinds_come_back_alike(name, kind):
    path, x, options = decode_path(TAU_LEVELS, 100, 18, "karras", trained=True), TOY.clean(2), CONVERGED.get(name, {})
    code, back = up_and_down(name, wrapped(kind, TOY.model), x, path, **options)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-7)
    # what EDICT rounds off, undoing its mixing makes larger
    torch.testing.assert_close(code, up_and_down(name, TOY.model, x, path, **options)[0], rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", EXACT)
def test_pictures_do_not_depend_on_their_batch(name):
    x = TOY.clean(3)
    code, _ = up_and_down(name, TOY.model, x, PATH)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(up_and_down(name, TOY.model, x[order], PATH)[0], code[order], rtol=0, atol=1e-9)
    torch.testing.assert_close(up_and_down(name, TOY.model, x[1:2], PATH)[0], code[1:2], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, F64])
def test_the_state_is_float32_or_float64(name, dtype):
    end = EXACT[name](TOY.model, TOY.clean(1).to(dtype), PATH.flip(0))
    states = [end[0], end[1].state] if name in PAIRED else [end]
    assert all(state.dtype == torch.promote_types(dtype, torch.float32) for state in states)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("spacing", ["karras", "linspace"])
def test_a_flat_white_picture_stays_a_picture(name, spacing):
    """Where a step has converged, Anderson's equations are 0/0."""
    path, white = decode_path(LEVELS, 500, 12, spacing), torch.ones(2, 3, 8, 8)
    flat = denoisers.gaussian_denoiser(1.0, 0.0)
    for model in (flat, denoisers.gaussian_denoiser(0.0, 0.25)):
        options = {"iterations": 8} if name in CONVERGED else {}
        code, back = up_and_down(name, model, white, path, **options)
        assert torch.isfinite(code).all()
        assert (back - white).abs().max() < 1e-2


@pytest.mark.parametrize("name", EXACT)
def test_a_last_zero_returns_the_denoised_picture(name):
    options, reports = {}, []
    x = EXACT[name](TOY.model, TOY.clean(2), PATH.flip(0))
    if name in PAIRED:
        x, options["companion"] = x
    path = torch.cat([PATH, torch.zeros(1, dtype=F64)])
    end = EXACT[name](TOY.model, x, path, callback=reports.append, **options)
    if name in PAIRED:
        end, companion = end
        assert companion is None
        before, _ = EXACT[name](TOY.model, x, PATH, **options)
        torch.testing.assert_close(end, TOY.model(before, PATH[-1:].expand(2)))
    assert torch.equal(end, reports[-1]["denoised"])


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("last_zero", [True, False])
def test_the_calls_are_known_and_each_step_reported(name, last_zero):
    path, options, reports = toy_path(9, last_zero=last_zero), {}, []
    model = denoisers.CallCounter(TOY.model)
    up = PATH.flip(0)
    x = EXACT[name](model, TOY.clean(1), up, callback=reports.append)
    assert model.calls == exact_calls(name, up) == {"bdia": 9, "belm": 9}.get(name, 18)
    assert [r["sigma"] for r in reports] == up[:-1].tolist()
    assert torch.equal(reports[0]["x"], TOY.clean(1))
    model.calls = 0
    if name in PAIRED:
        x, options["companion"] = x
    EXACT[name](model, x, path, callback=reports.append, **options)
    steps = len(path) - 1
    expected = {"edict": 2 * steps - last_zero, "bdia": steps - 1, "belm": steps - 1}.get(name, steps)
    assert model.calls == exact_calls(name, path, options.get("companion")) == expected


@pytest.mark.parametrize("name", PAIRED)
def test_a_decode_in_two_parts_is_the_decode(name):
    """The companion of the first part leads on, though it is behind, and EDICT keeps its leapfrog."""
    x, companion = EXACT[name](TOY.model, TOY.clean(2), PATH.flip(0))
    whole, _ = EXACT[name](TOY.model, x, PATH, companion=companion)
    for cut in (1, 4, 8):
        half, between = EXACT[name](TOY.model, x, PATH[: cut + 1], companion=companion)
        model = denoisers.CallCounter(TOY.model)
        end, _ = EXACT[name](model, half, PATH[cut:], companion=between)
        torch.testing.assert_close(end, whole, rtol=0, atol=1e-12)
        assert model.calls == exact_calls(name, PATH[cut:], between)


@pytest.mark.parametrize("name", PAIRED)
def test_sigmas_that_were_rounded_on_the_way_still_come_back(name):
    x = TOY.clean(2)
    code, companion = EXACT[name](TOY.model, x, PATH.flip(0))
    back, _ = EXACT[name](TOY.model, code, PATH.float(), companion=companion)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", PAIRED)
def test_a_wrong_companion_is_refused(name):
    x, companion = EXACT[name](TOY.model, TOY.clean(2), PATH.flip(0))
    solve = EXACT[name]
    refuses("only with the companion", solve, TOY.model, x, PATH)
    other = EXACT[PAIRED[PAIRED.index(name) - 1]](TOY.model, TOY.clean(2), PATH.flip(0))[1]
    refuses("decode as it was inverted", solve, TOY.model, x, PATH, companion=other)
    refuses("another picture", solve, TOY.model, x[:1], PATH, companion=companion)
    for path in (toy_path(7, last_zero=False), toy_path(9, 400, last_zero=False), PATH[2:], PATH[::2]):
        refuses("other noise levels", solve, TOY.model, x, path, companion=companion)
    aside = replace(companion, beside=companion.levels[4])
    refuses("other noise levels", solve, TOY.model, x, PATH, companion=aside)


def test_settings_that_cannot_invert_are_refused():
    x, up = TOY.clean(1), PATH.flip(0)
    refuses("grow by 1 / gamma", bdia, TOY.model, x, up, gamma=0.5)
    refuses("take 0.92 to 1", bdia, TOY.model, x, PATH, gamma=0.0, fresh=True)
    refuses("take 0.9 to 1", edict, TOY.model, x, up, mixing=0.5)
    refuses("whole number", fixed_point, TOY.model, x, up, iterations=0)
    refuses("whole number", EXACT["exact_dpmpp"], TOY.model, x, up, iterations=1.5)
    refuses("leave the clip out", EXACT["exact_dpmpp"], TOY.model, x, up, clip=lambda x, sigma: x)
    code, companion = bdia(TOY.model, x, up, gamma=0.96)
    refuses("decode as it was inverted", bdia, TOY.model, code, PATH, companion=companion)
    back, _ = bdia(TOY.model, code, PATH, companion=companion, gamma=0.96)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)


def test_a_small_gamma_is_refused_for_a_reason():
    """T7: what one rounding does on the way up is multiplied by 1 / gamma each step."""
    growth = {}
    for gamma in (1.0, 0.92):
        codes = []
        for shift in (0.0, 1e-6):
            x, companion = bdia(G1, numbers(0, 1, 2), vp_path(50, 0.5).flip(0), fresh=True, gamma=gamma)
            codes.append(bdia(G1, x + shift, vp_path(50, 0.5), companion=companion, gamma=gamma)[0])
        growth[gamma] = rms(codes[1] - codes[0]) / 1e-6
    assert growth[0.92] > 3 * growth[1.0]


@pytest.mark.parametrize("name", EXACT)
def test_paths_that_cannot_be_are_refused(name):
    refuses("cannot start at sigma 0", EXACT[name], TOY.model, TOY.clean(1), torch.tensor([0.0, 1.0]))
    refuses("rise all the way", EXACT[name], TOY.model, TOY.clean(1), torch.tensor([1.0, 2.0, 1.5]))


def test_a_clip_acts_on_the_states_of_the_fixed_point():
    met = []

    def clip(x, sigma):
        met.append(sigma)
        return x.clamp(-0.5, 0.5)

    up = PATH.flip(0)
    code = fixed_point(TOY.model, TOY.clean(1), up, clip=clip)
    assert met == up[:-1].tolist()
    assert not torch.equal(code, fixed_point(TOY.model, TOY.clean(1), up))


@pytest.mark.parametrize("name", EXACT)
def test_conditioning_reaches_the_model(name):
    def model(x, sigma, shift):
        return TOY.model(x, sigma) + shift

    x = TOY.clean(2)
    expected, _ = up_and_down(name, lambda y, s: model(y, s, 0.5), x, PATH)
    assert torch.equal(up_and_down(name, model, x, PATH, {"shift": 0.5})[0], expected)


def watched(name, direction, context, device="cpu"):
    """`name` in one direction within `context` from its first network call to its last."""

    def network(x_vp, t):
        return torch.sin(2 * x_vp) * (0.5 + t.to(x_vp.dtype).view(-1, 1, 1, 1) / 2000)

    counter = denoisers.CallCounter(denoisers.eps_denoiser(network, LEVELS.to(device), torch.bfloat16))
    x, path, options = normal_pictures((2, 3, 8, 8), dtype=torch.float32).to(device), PATH, {}
    if direction == "up":
        path = PATH.flip(0)
    elif name in PAIRED:
        x, options["companion"] = EXACT[name](counter, x, PATH.flip(0))
    if name in CONVERGED:
        options["iterations"] = 4
    counter.calls = 0
    calls = exact_calls(name, path, options.get("companion"), 4)
    with ExitStack() as watch:

        def model(x, sigma):
            if counter.calls == 0:
                watch.enter_context(context)
            x0 = counter(x, sigma)
            if counter.calls == calls:
                watch.close()
            return x0

        EXACT[name](model, x, path, **options)
    assert counter.calls == calls


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_nothing_is_read_from_the_device(name, direction):
    watched(name, direction, no_reads())


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_no_copy_to_the_device_is_waited_for(name, direction):
    watched(name, direction, NoWaitingCopies(), "meta")


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_the_gpu_is_never_waited_for(name, direction, cuda):
    watched(name, direction, no_waiting(), cuda)
