"""CODE at several levels, Algorithms 2 and 3, and ODEdit: what they are made of, steps, calls, what they refuse."""

import warnings

import pytest
import torch
from confident_ode.samplers import ode
from confident_ode.samplers import restore as module
from confident_ode.samplers.clipping import ConfidenceClip
from confident_ode.samplers.denoisers import CallCounter, dynamic_thresholding
from confident_ode.samplers.langevin import langevin, large_step, safe_step, vp_step
from confident_ode.samplers.noise import LANGEVIN, SeededNoise, seeded_noise
from confident_ode.samplers.odedit import ODEDIT_UPDATES, odedit, odedit_calls, odedit_levels
from confident_ode.samplers.restore import (
    STEP_SCALES,
    decode_parts,
    encode_path,
    restore,
    restore_calls,
    tightest,
    update_levels,
)
from core.toys import F64, LEVELS, TOY, normal_pictures, refuses, toy_path
from hypothesis import given, settings
from hypothesis import strategies as st

PATH = toy_path()
LANGEVIN_SETTINGS = {"step": 1e-3, "updates": 6, "blocks": 2}
some = settings(max_examples=40, deadline=None, derandomize=True)


def damaged(count=2, dtype=F64):
    return (TOY.clean(count) + 0.3 * normal_pictures((count, 1, 6, 6), 5)).clamp(-1, 1).to(dtype)


@pytest.mark.parametrize("solver", ode.SOLVERS)
@pytest.mark.parametrize("scale", STEP_SCALES)
def test_it_is_the_pieces_one_after_the_other(solver, scale):
    """Decode from the depth, update at two levels on the way, each with its own noise, step and fresh solver."""
    x, solve, levels = damaged(), ode.SOLVERS[solver], PATH[[4, 8]]
    ours = restore(
        TOY.model, x, PATH, seed=9, levels=levels, scale=scale, solver=solver, start_noise=False, **LANGEVIN_SETTINGS
    )
    sigma_vp = PATH / (1 + PATH**2).sqrt()
    factors = {
        "none": [1, 1],
        "geometric": [100 ** (4 / 12), 100 ** (8 / 12)],
        "sigma": [(sigma_vp[i] / sigma_vp[12]).item() for i in (4, 8)],
    }[scale]
    noise = seeded_noise(9, LANGEVIN)
    y = solve(TOY.model, solve(TOY.model, x, encode_path(PATH)), PATH[:5])
    for j, (part, factor) in enumerate(zip((PATH[4:9], PATH[8:]), factors, strict=True)):
        y = langevin(
            TOY.model,
            y,
            part,
            noise_sampler=lambda x, k, j=j: noise(x, 6 * j + k),
            **LANGEVIN_SETTINGS | {"step": 1e-3 * factor},
        )
        y = solve(TOY.model, y, part)
    torch.testing.assert_close(ours, y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["absolute", "relative", "snr"])
def test_the_depth_as_the_only_level_is_the_default(mode):
    """Bit for bit, and the scales "none" and "geometric" leave the step at the depth as it is."""
    plain = restore(TOY.model, damaged(), PATH, mode=mode, **LANGEVIN_SETTINGS)
    for scale in ("none", "geometric"):
        assert torch.equal(
            plain, restore(TOY.model, damaged(), PATH, mode=mode, levels=PATH[:1], scale=scale, **LANGEVIN_SETTINGS)
        )


def test_levels_without_updates_and_updates_without_levels_are_a_plain_round_trip():
    plain = ode.ab2(TOY.model, ode.ab2(TOY.model, damaged(), encode_path(PATH)), PATH)
    for options in ({"levels": PATH[[0, 5]], "updates": 0}, {"levels": (), "updates": 5}):
        assert torch.equal(restore(TOY.model, damaged(), PATH, step=1e-3, start_noise=False, **options), plain)


def test_levels_may_come_in_any_order_precision_and_form():
    one = restore(TOY.model, damaged(), PATH, levels=PATH[[2, 7]], **LANGEVIN_SETTINGS)
    for levels in (PATH[[7, 2]], PATH[[2, 7]].float(), PATH[[2, 2, 7]].tolist()):
        assert torch.equal(one, restore(TOY.model, damaged(), PATH, levels=levels, **LANGEVIN_SETTINGS))


def test_a_path_without_a_last_zero_can_end_in_updates():
    path, model = PATH[:-2], CallCounter(TOY.model)
    moved = restore(model, damaged(), path, levels=path[[0, -1]], **LANGEVIN_SETTINGS)
    assert model.calls == restore_calls(path, 6, 2, levels=path[[0, -1]])
    y = restore(TOY.model, damaged(), path, **LANGEVIN_SETTINGS)
    noise = seeded_noise(0, LANGEVIN)
    y = langevin(TOY.model, y, path[-1:], noise_sampler=lambda x, k: noise(x, k + 6), **LANGEVIN_SETTINGS)
    assert torch.equal(moved, y)


def test_no_number_of_noise_serves_twice(monkeypatch):
    """The noise of the start and of all updates of all levels is independent."""
    numbers = []

    class Noting(SeededNoise):
        def __call__(self, x, k):
            numbers.append((self.stream, self.first + k))
            return super().__call__(x, k)

    monkeypatch.setattr(module, "seeded_noise", Noting)
    restore(TOY.model, damaged(), PATH, levels=PATH[[0, 3, 9]], **LANGEVIN_SETTINGS)
    assert len(set(numbers)) == len(numbers) == 1 + 3 * 6


def test_a_denoiser_and_a_clip_for_each_part():
    """Thresholded or not, and clipped or not, while encoding, updating and decoding."""
    seen = {"encoder": [], "corrector": [], "decoder": []}

    def noting(name, model=TOY.model):
        def noted(x, sigma):
            seen[name].append(x.abs().max() / (1 + sigma[0]))
            return model(x, sigma)

        return noted

    clips = [ConfidenceClip(0.1), ConfidenceClip(0.2), ConfidenceClip(0.3)]
    restore(
        noting("decoder"),
        damaged(),
        PATH,
        encoder=noting("encoder"),
        corrector=noting("corrector", dynamic_thresholding(TOY.model)),
        clip=clips[0],
        langevin_clip=clips[1],
        decode_clip=clips[2],
        levels=PATH[[0, 5]],
        **LANGEVIN_SETTINGS,
    )
    assert [len(calls) for calls in seen.values()] == [13, 16, 15]
    assert [len(clip.sigmas) for clip in clips] == [13, 16, 15]
    plain = restore(TOY.model, damaged(), PATH, **LANGEVIN_SETTINGS)
    for name in ("corrector", "langevin_clip", "decode_clip"):
        other = dynamic_thresholding(lambda x, s: 1.5 * TOY.model(x, s)) if name == "corrector" else ConfidenceClip(0.1)
        assert not torch.allclose(plain, restore(TOY.model, damaged(), PATH, **{name: other}, **LANGEVIN_SETTINGS))


def test_a_corrector_gets_the_conditions():
    def model(x, sigma, shift):
        return TOY.model(x, sigma) + shift

    one = restore(model, damaged(), PATH, {"shift": 0.2}, **LANGEVIN_SETTINGS)
    assert torch.equal(one, restore(model, damaged(), PATH, {"shift": 0.2}, corrector=model, **LANGEVIN_SETTINGS))


def test_samples_of_all_levels_come_from_one_inversion():
    x, batches = damaged(), []

    def model(y, sigma):
        batches.append(len(y))
        return TOY.model(y, sigma)

    levels = PATH[[3, 6]]
    three = restore(model, x, PATH, seed=20, samples=3, levels=levels, start_noise=False, **LANGEVIN_SETTINGS)
    assert batches == [2] * 13 + [6] * (len(batches) - 13)
    for k in range(6):
        alone = restore(
            TOY.model, x[k // 3][None], PATH, seed=20 + k, levels=levels, start_noise=False, **LANGEVIN_SETTINGS
        )
        torch.testing.assert_close(three[k : k + 1], alone, rtol=0, atol=1e-10)


def test_the_callback_counts_on_over_all_parts():
    reports, calls = [], 12 + 2 * 8 + 13
    restore(TOY.model, damaged(), PATH, callback=reports.append, levels=PATH[[4, 8]], **LANGEVIN_SETTINGS)
    assert [r["i"] for r in reports] == list(range(calls))


paths = st.builds(lambda n, zero: toy_path(n, last_zero=zero), st.integers(2, 9), st.booleans())


@some
@given(st.data(), paths, st.sampled_from(sorted(ode.SOLVERS)), st.integers(0, 7), st.integers(1, 4), st.booleans())
def test_restore_makes_the_calls_it_announces(data, path, solver, updates, blocks, noiseless_last):
    """T16, whatever the levels."""
    above = int((path > 0).sum())
    places = data.draw(st.none() | st.lists(st.integers(0, above - 1), max_size=4))
    levels = None if places is None else path[places]
    model = CallCounter(TOY.model)
    mode = data.draw(st.sampled_from(["absolute", "relative", "snr"]))
    options = {"levels": levels, "noiseless_last": noiseless_last}
    restore(model, damaged(1), path, step=1e-5, updates=updates, blocks=blocks, solver=solver, mode=mode, **options)
    assert model.calls == restore_calls(path, updates, blocks, solver, **options)


@some
@given(
    st.lists(st.integers(-(2**70), 2**70), min_size=3, max_size=3),
    st.permutations(range(3)),
    st.sampled_from(["absolute", "relative", "snr"]),
    st.lists(st.integers(0, 11), min_size=1, max_size=3),
)
def test_an_item_alone_is_that_item_of_any_batch(seeds, order, mode, places):
    """T17, for every mode and any levels, within 1e-10."""
    x = damaged(3)

    def restored(x, seed):
        return restore(TOY.model, x, PATH, seed=seed, step=1e-4, updates=3, mode=mode, levels=PATH[places])

    batch = restored(x[order], [seeds[i] for i in order])
    alone = torch.cat([restored(x[i : i + 1], [seeds[i]]) for i in order])
    torch.testing.assert_close(batch, alone, rtol=0, atol=1e-10)


def test_update_levels_divide_the_steps_evenly():
    path = toy_path(20, last_zero=True)
    assert torch.equal(update_levels(path, 1, 0.1), path[:1])
    assert torch.equal(update_levels(path, 3, path[10].item()), path[[0, 5, 10]])
    assert torch.equal(update_levels(path, 3, 0.999 * path[10].item()), path[[0, 5, 10]])
    assert torch.equal(update_levels(path, 4, path[11].item()), path[[0, 4, 7, 11]])
    assert torch.equal(update_levels(path, 21, 1e-9), path[:-1])


@some
@given(paths, st.integers(1, 9), st.floats(0.005, 3))
def test_update_levels_are_distinct_levels_of_the_path_above_the_shallowest(path, count, shallowest):
    if (path >= shallowest).sum() < count:
        refuses("take fewer", update_levels, path, count, shallowest)
        return
    levels = update_levels(path, count, shallowest)
    assert len(levels) == count
    assert (levels.diff() < 0).all()
    assert levels[0] == path[0]
    assert levels[-1] >= shallowest
    assert sum(factor is not None for _, factor in decode_parts(path, levels)) == count


def test_the_geometric_scale_is_the_papers_on_its_grid():
    """100^(1 - i / 199) at index i, counted up: 62.9 at 20, 40.6 at 39, 9.9 at 100, 1.02 at 198."""
    path = torch.cat([LEVELS.sigma(5 * torch.arange(200)).flip(0), torch.zeros(1, dtype=F64)])
    factors = [factor for _, factor in decode_parts(path, path[[199 - i for i in (198, 100, 39, 20)]], "geometric")]
    assert factors[0] is None  # from the depth to the first level
    assert [pytest.approx(f, rel=5e-3) for f in factors[1:]] == [1.02, 9.9, 40.6, 62.9]


def test_the_sigma_scale_is_odedits_on_its_grid():
    """sigma_t / sigma_1 of the linear schedule: about 69, 96 and 100 at t = 250, 500 and 750."""
    path = LEVELS.sigma(10 * torch.arange(100)).flip(0)
    levels = odedit_levels(path)
    assert torch.equal(levels, LEVELS.sigma(torch.tensor([750, 500, 250, 0])))
    factors = [f for _, f in decode_parts(path, levels, "sigma") if f]
    assert factors == [pytest.approx(v, rel=0.02) for v in (100, 96, 69, 1)]


@pytest.mark.parametrize("damage", ODEDIT_UPDATES)
def test_odedit_is_restore_with_its_settings(damage):
    """Four levels, DDIM, one block of 100, 200 or 300 updates at temperature 1/3, with no noiseless one."""
    x, path, model = damaged(), toy_path(8), CallCounter(TOY.model)
    ours = odedit(model, x, path, damage=damage, seed=5)
    assert model.calls == odedit_calls(path, damage) == 8 + 9 + 4 * {"light": 100, "medium": 200, "heavy": 300}[damage]
    theirs = restore(
        TOY.model,
        x,
        path,
        seed=5,
        step=1e-6,
        updates=ODEDIT_UPDATES[damage],
        blocks=1,
        temperature=1 / 3,
        noiseless_last=False,
        levels=path[[2, 4, 6, 8]],
        scale="sigma",
        solver="euler",
    )
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("count", "places"), [(1, [99]), (2, [49, 99]), (4, [24, 49, 74, 99]), (5, [19, 39, 59, 79, 99])]
)
def test_odedits_levels_lie_evenly_from_the_cleanest_up(count, places):
    path = toy_path(99)
    levels = odedit_levels(path, count)
    assert torch.equal(levels, path[places])
    assert torch.equal(odedit_levels(path), odedit_levels(path, 4))
    model = CallCounter(TOY.model)
    odedit(model, damaged(), toy_path(8), count=count)
    assert model.calls == odedit_calls(toy_path(8), count=count) == 8 + 9 + 100 * count


def test_odedit_at_no_level_is_refused():
    refuses("ODEdit updates at 0 levels: take 1 or more", odedit_levels, toy_path(8), 0)


def test_odedits_settings_can_be_replaced():
    path, model = toy_path(8), CallCounter(TOY.model)
    odedit(model, damaged(), path, updates=3, levels=path[:1], temperature=1.0, step=1e-4, solver="heun")
    assert model.calls == restore_calls(path, 3, 1, "heun", path[:1], noiseless_last=False)


def test_the_level_that_allows_least_is_the_one_that_is_checked():
    """A safe step for it brings no advice, one at the limit an error that names it, in every mode and scale."""
    levels = PATH[[0, 5, 9]]
    for scale in STEP_SCALES:
        for mode in ("absolute", "relative", "snr"):
            parts = decode_parts(PATH, levels, scale)
            sigma, factor = tightest(parts, mode)
            safe = safe_step(sigma, mode) / factor
            limits = [
                (s.item(), 4 * safe_step(s.item(), "absolute"), f)
                for s, f in zip(levels, [f for _, f in parts if f], strict=True)
            ]
            assert all(vp_step(safe * f, s, mode) <= limit / 4 * (1 + 1e-9) for s, limit, f in limits)
            assert large_step(0.999 * safe, sigma, mode, factor) is None
            assert f"below {safe:.3g} is safe" in large_step(1.01 * safe, sigma, mode, factor)
            beyond = (2.01 if mode == "snr" else 4.01) * safe
            refuses(
                f"unstable at this depth, sigma {sigma:.3g}: take one above 0 and below {safe:.3g}",
                restore,
                TOY.model,
                damaged(),
                PATH,
                levels=levels,
                scale=scale,
                mode=mode,
                step=beyond,
                updates=2,
            )


def test_a_large_step_at_a_shallow_level_alone_is_warned_of_once():
    safe = safe_step(PATH[9].item())
    with pytest.warns(UserWarning, match="is large for this depth") as caught:
        restore(TOY.model, damaged(), PATH, levels=PATH[[0, 9]], step=1.5 * safe, updates=2)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restore(TOY.model, damaged(), PATH, levels=PATH[[0, 9]], step=0.9 * safe, updates=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [1.0]}, "sigma 1 is not on the decode path"),
        ({"levels": [0.0]}, "sigma 0 is not on the decode path"),
        ({"levels": [float("nan")]}, "not on the decode path"),
        ({"levels": PATH[:1] * 1.001}, "not on the decode path"),
        ({"scale": "linear"}, "take one of none, geometric, sigma"),
        ({"mode": "song"}, "take one of absolute, relative, snr"),
        ({"step": -1.0, "mode": "snr"}, "unstable at this depth"),
        ({"step": float("nan"), "mode": "relative"}, "unstable at this depth"),
        ({"levels": PATH[[0, 11]], "step": 0.05}, "unstable at this depth, sigma 0.15: take one above 0 and below"),
    ],
)
def test_what_cannot_be_is_refused_before_any_network_call(options, message):
    model = CallCounter(TOY.model)
    refuses(message, restore, model, damaged(), PATH, **LANGEVIN_SETTINGS | options)
    assert model.calls == 0


@pytest.mark.parametrize(("count", "shallowest"), [(0, 0.1), (14, 0.001), (1, 99.0), (2, 0.0), (2, float("nan"))])
def test_levels_that_the_path_has_not_are_refused(count, shallowest):
    refuses(f"does not do for {count}: take fewer levels", update_levels, PATH, count, shallowest)


def test_a_damage_that_is_none_is_refused():
    refuses("take one of light, medium, heavy", odedit, TOY.model, damaged(), PATH, damage="some")
