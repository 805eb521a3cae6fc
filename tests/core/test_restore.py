"""CODE as a whole: what it is composed of, its seeds and samples, its ends, and what it refuses."""

import pytest
import torch
from confident_ode.samplers import denoisers, ode
from confident_ode.samplers.clipping import ConfidenceClip
from confident_ode.samplers.langevin import langevin
from confident_ode.samplers.noise import seeded_noise
from confident_ode.samplers.restore import LANGEVIN, START, encode_path, restore, restore_calls
from confident_ode.samplers.sde import sdedit
from core.toys import F64, TAU_LEVELS, TOY, normal_pictures, refuses, toy_path, wrapped

PATH = toy_path()
SETTINGS = {"step": 0.02, "updates": 6, "blocks": 2, "decay": 0.6, "temperature": 0.5}


def damaged(count=3, dtype=F64):
    return (TOY.clean(count) + 0.3 * normal_pictures((count, 1, 6, 6), 5)).clamp(-1, 1).to(dtype)


@pytest.mark.parametrize("solver", ode.SOLVERS)
def test_restore_is_encode_langevin_decode(solver):
    """Algorithm 1, with the noisy start, each part with its own stream of noise and the clip while encoding alone."""
    x, solve = damaged(), ode.SOLVERS[solver]
    ours = restore(TOY.model, x, PATH, seed=9, solver=solver, clip=ConfidenceClip(0.8), **SETTINGS)
    y = x + PATH[-2].item() * seeded_noise(9, START)(x, 0)
    y = solve(TOY.model, y, PATH[:-1].flip(0), clip=ConfidenceClip(0.8))
    y = langevin(TOY.model, y, PATH, noise_sampler=seeded_noise(9, LANGEVIN), **SETTINGS)
    assert torch.equal(ours, solve(TOY.model, y, PATH))


def test_the_two_streams_of_noise_differ():
    assert START != LANGEVIN


@pytest.mark.parametrize("solver", ode.SOLVERS)
@pytest.mark.parametrize("last_zero", [True, False])
@pytest.mark.parametrize("updates", [0, 1, 9])
def test_restore_makes_the_calls_it_announces(solver, last_zero, updates):
    """T16."""
    path, model = toy_path(5, last_zero=last_zero), denoisers.CallCounter(TOY.model)
    restore(model, damaged(1), path, step=0.02, updates=updates, solver=solver)
    assert model.calls == restore_calls(path, updates, solver=solver)


def test_calls_of_the_official_settings():
    """T16, the formula of 1.2 with Euler: (n - 1) + (start + 1) + K (N / K + 1), n = 200, from the deepest, N = 200."""
    path, model = toy_path(199, depth=999), denoisers.CallCounter(TOY.model)
    restore(model, damaged(1), path, step=1e-3, updates=200, blocks=4, solver="euler")
    assert model.calls == restore_calls(path, 200, 4, "euler") == 199 + 200 + 4 * (50 + 1)


def test_each_sample_continues_one_encoding_with_its_own_seed():
    """Sample j of picture i is result i * samples + j and draws with seed + that."""
    x, batches = damaged(2), []

    def model(y, sigma):
        batches.append(len(y))
        return TOY.model(y, sigma)

    three = restore(model, x, PATH, seed=20, samples=3, start_noise=False, **SETTINGS)
    assert len(three) == 6
    assert batches == [2] * 13 + [6] * (len(batches) - 13)
    for i in range(2):
        for j in range(3):
            k = 3 * i + j
            alone = restore(TOY.model, x[i : i + 1], PATH, seed=20 + k, start_noise=False, **SETTINGS)
            torch.testing.assert_close(three[k : k + 1], alone, rtol=0, atol=1e-10)
    assert not torch.allclose(three[0], three[1])


def test_samples_with_a_noisy_start_share_that_of_the_first():
    x = damaged(2)
    three = restore(TOY.model, x, PATH, seed=20, samples=3, **SETTINGS)
    one = restore(TOY.model, x, PATH, seed=[20, 23], **SETTINGS)
    torch.testing.assert_close(three[::3], one, rtol=0, atol=1e-10)


def test_conditioning_is_repeated_for_each_sample():
    def model(x, sigma, shift, name):
        assert len(shift) == len(x)
        assert name == "same for all"
        return TOY.model(x, sigma) + shift.view(-1, 1, 1, 1)

    conditions = {"shift": torch.tensor([0.1, -0.2], dtype=F64), "name": "same for all"}
    two = restore(model, damaged(2), PATH, conditions, samples=2, start_noise=False, **SETTINGS)
    alone = restore(
        model,
        damaged(2)[1:],
        PATH,
        {"shift": conditions["shift"][1:], "name": "same for all"},
        seed=3,
        start_noise=False,
        **SETTINGS,
    )
    torch.testing.assert_close(two[3:], alone, rtol=0, atol=1e-10)


def test_an_encoder_serves_the_way_up_alone_and_without_conditions():
    def model(x, sigma, shift):
        return TOY.model(x, sigma) + shift

    x, decoder = damaged(), denoisers.CallCounter(model)
    encoder = denoisers.CallCounter(lambda x, sigma: TOY.model(x, sigma))
    ours = restore(decoder, x, PATH, {"shift": 0.2}, encoder=encoder, start_noise=False, **SETTINGS)
    assert encoder.calls == ode.network_calls("ab2", encode_path(PATH))
    assert encoder.calls + decoder.calls == restore_calls(PATH, 6, 2)
    y = ode.ab2(TOY.model, x, encode_path(PATH))
    y = langevin(model, y, PATH, {"shift": 0.2}, noise_sampler=seeded_noise(0, LANGEVIN), **SETTINGS)
    assert torch.equal(ours, ode.ab2(model, y, PATH, {"shift": 0.2}))


def test_with_a_last_zero_the_denoised_picture_is_returned_and_without_the_state_at_sigma_min():
    x, reports = damaged(), []
    picture = restore(TOY.model, x, PATH, callback=reports.append, **SETTINGS)
    assert torch.equal(picture, reports[-1]["denoised"])
    state = restore(TOY.model, x, PATH[:-1], **SETTINGS)
    torch.testing.assert_close(state, reports[-1]["x"], rtol=0, atol=1e-12)
    assert not torch.equal(picture, state)


def test_the_callback_counts_on_over_all_three_parts_and_shows_denoised_pictures():
    reports, calls = [], 12 + (6 + 2) + 13
    restore(TOY.model, damaged(), PATH, callback=reports.append, **SETTINGS)
    assert [r["i"] for r in reports] == list(range(calls))
    up, level, down = (part.tolist() for part in (PATH[:-1].flip(0)[:-1], PATH[:1].repeat(8), PATH[:-1]))
    assert [r["sigma"] for r in reports] == up + level + down
    for r in reports:
        torch.testing.assert_close(r["denoised"], TOY.model(r["x"], torch.full((3,), r["sigma"], dtype=F64)))


def test_no_updates_is_a_plain_round_trip_whatever_the_step():
    x = damaged()
    plain = restore(TOY.model, x, PATH, step=1e9, updates=0, start_noise=False)
    assert torch.equal(plain, ode.ab2(TOY.model, ode.ab2(TOY.model, x, encode_path(PATH)), PATH))


@pytest.mark.parametrize(
    ("given", "returned"),
    [(F64, F64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32), (torch.float16, torch.float32)],
)
def test_the_state_is_float32_or_float64_if_given(given, returned):
    seen = set()

    def model(x, sigma):
        seen.add((x.dtype, sigma.dtype))
        return TOY.model(x, sigma)

    assert restore(model, damaged(dtype=given), PATH, **SETTINGS).dtype == returned
    assert seen == {(returned, returned)}


def test_half_precision_pictures_are_restored_as_in_float32():
    half = damaged(dtype=torch.bfloat16)
    assert torch.equal(restored(half, 0), restored(half.float(), 0))


def test_a_half_precision_network_leaves_a_float32_state():
    """T17: the network computes in bfloat16, and the restoration stays near that of a float32 network."""
    eps = denoisers.eps_denoiser
    seen = set()

    def network(x_vp, t):
        seen.add(x_vp.dtype)
        s = denoisers.per_item(TAU_LEVELS.sigma(t), x_vp.double())
        x = x_vp.double() * (1 + s**2).sqrt()
        return ((x - TOY.model(x, s.flatten())) / s).to(x_vp.dtype)

    path = torch.cat([TAU_LEVELS.sigma(torch.arange(100, -1, -10)), torch.zeros(1, dtype=F64)])
    full, half = (
        restore(eps(network, TAU_LEVELS, dtype), damaged(dtype=torch.float32), path, **SETTINGS)
        for dtype in (None, torch.bfloat16)
    )
    assert seen == {torch.float32, torch.bfloat16}
    assert half.dtype == torch.float32
    assert 0 < (half - full).abs().max() < 0.1


def test_eps_v_and_flow_networks_give_the_same_restoration():
    """T17, parity: within 1e-10 in float64."""
    path = torch.cat([TAU_LEVELS.sigma(torch.arange(100, -1, -10)), torch.zeros(1, dtype=F64)])
    eps, v, flow, direct = (
        restore(model, damaged(), path, clip=ConfidenceClip(1.0), **SETTINGS)
        for model in (*(wrapped(kind, TOY.model) for kind in ("eps", "v", "flow")), TOY.model)
    )
    for other in (v, flow, direct):
        torch.testing.assert_close(eps, other, rtol=0, atol=1e-10)


def restored(x, seed):
    return restore(TOY.model, x, PATH, seed=seed, clip=ConfidenceClip(0.8), **SETTINGS)


def edited(x, seed):
    return sdedit(TOY.model, x, PATH, noise_sampler=seeded_noise(seed))


@pytest.mark.parametrize("method", [restored, edited])
def test_a_batch_is_the_loop_over_its_items(method):
    """T17: item i with seed + i, within 1e-10."""
    x = damaged(4)
    loop = torch.cat([method(x[i : i + 1], 50 + i) for i in range(4)])
    torch.testing.assert_close(method(x, 50), loop, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", [restored, edited])
def test_permuting_a_batch_and_its_seeds_permutes_the_results(method):
    """T17."""
    x, order = damaged(4), [2, 0, 3, 1]
    seeds = [7, 7, 1, 2**63 + 5]
    permuted = method(x[order], [seeds[i] for i in order])
    torch.testing.assert_close(permuted, method(x, seeds)[order], rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", [restored, edited])
def test_a_seed_decides_the_result(method):
    """T17."""
    x = damaged()
    assert torch.equal(method(x, 3), method(x, 3))
    assert not torch.allclose(method(x, 3), method(x, 4))


def test_the_input_is_left_as_it_was():
    x = damaged()
    before = x.clone()
    restored(x, 0)
    edited(x, 0)
    assert torch.equal(x, before)


def test_a_network_that_gives_nan_is_refused():
    def model(x, sigma):
        return torch.where(sigma.view(-1, 1, 1, 1) > 1, torch.nan, TOY.model(x, sigma))

    refuses(
        "The restored picture holds NaN or infinity: run the network in float32",
        restore,
        model,
        damaged(),
        PATH,
        **SETTINGS,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigmas": PATH[:-1].flip(0)}, "flip them"),
        ({"sigmas": PATH[:1]}, "at least two sigmas"),
        ({"sigmas": torch.tensor([1.0, 0.0])}, "at least two sigmas"),
        ({"solver": "rk4"}, "take one of euler, heun, ab2, dpmpp_2m"),
        ({"samples": 0}, "at least 1 sample"),
        ({"seed": [1, 2]}, "2 seeds for a batch of 3"),
        ({"step": 5.0}, "unstable at this depth"),
        ({"step": -0.1}, "unstable at this depth"),
        ({"updates": -1}, "0 or more updates"),
        ({"blocks": 0}, "at least 1 block"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    arguments = {"sigmas": PATH, **SETTINGS} | options
    refuses(message, restore, TOY.model, damaged(), **arguments)


def test_it_runs_on_each_device(device):
    x = damaged(2, torch.float32).to(device)
    ours = restored(x, 0)
    assert ours.device.type == device.type
    torch.testing.assert_close(ours.cpu(), restored(x.cpu(), 0), rtol=0, atol=1e-3)
