from dataclasses import replace
from functools import partial

import pytest
import torch
from confident_ode.evaluation import restoring
from confident_ode.evaluation.restoring import plan, run
from confident_ode.evaluation.settings import METHODS, Settings
from confident_ode.priors.loading import load
from confident_ode.samplers.clipping import ConfidenceClip
from confident_ode.samplers.noise import LANGEVIN, START, seeded_noise
from confident_ode.samplers.odedit import ODEDIT_UPDATES, odedit
from confident_ode.samplers.official import QUIRKS, Official, official_code
from confident_ode.samplers.restore import restore
from prior.tiny import write_prior

QUICK = Settings(steps=5, updates=6, blocks=2, stop_at=0.0)


@pytest.fixture(autouse=True)
def fewer_updates(monkeypatch):
    """ODEdit's hundreds take long."""
    for damage, updates in (("light", 4), ("medium", 6)):
        monkeypatch.setitem(ODEDIT_UPDATES, damage, updates)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"solver": "euler", "spacing": "leading"},
        {"solver": "heun", "sdedit": True},
        {"solver": "dpmpp_2m", "updates": 0},
        {"samples": 2, "sdedit": True, "sdedit_depth": "t=20"},
        {"depth": "sigma=1.2", "label": "dog", "guidance": 2.0},
        {"clip": False, "threshold": False},
        {"levels": 3, "shallowest": "t=20", "step_scale": "geometric", "step_size": 1e-5},
        {"levels": 2, "shallowest": "t=20", "step_mode": "snr", "step_size": 0.05, "samples": 2, "solver": "heun"},
        {"levels": 3, "updates": 0},
        {"method": "odedit", "clip": False, "step_size": 1e-6, "sdedit": True},
        {"method": "official", "steps": 7, "depth": 0.9, "label": "dog", "samples": 2},
        {"method": "official", "steps": 9, "depth": 1.0, "levels": 2, "step_size": 1e-5, "clip": False},
        {"clip_at": "up,updates,down", "clip_range": "quantiles=0.02", "samples": 2, "threshold_at": "down"},
        {"clip_at": "updates,down", "clip_range": "around=0.3", "noiseless_last": False, "samples": 2},
        {"clip_at": "updates", "updates": 0},
        {"start": "deepest", "levels": 2, "shallowest": "t=20", "steps": 12, "solver": "heun"},
        {"start": "deepest", "updates": 0},
        {"method": "odedit", "clip_range": "fixed=-0.8,0.8", "clip_at": "up,updates", "step_size": 1e-6},
        {"method": "official", "steps": 9, "start": "updates", "depth": 0.5, "quirks": "none", "clip_at": "updates"},
    ],
)
def test_calls_are_as_planned_and_pictures_in_range(prior, pictures, changed):
    settings, calls = replace(QUICK, **changed), []
    result = run(prior, pictures, settings, lambda: calls.append(1))
    planned = plan(prior, settings)
    sdedit_calls = result.sdedit.nfe if settings.sdedit else 0
    assert result.nfe == planned.calls
    assert len(calls) == planned.all_calls == result.nfe + sdedit_calls
    for made in [result, result.sdedit] if settings.sdedit else [result]:
        assert made.pictures.shape == (3 * settings.samples, 3, 16, 16)
        assert made.pictures.abs().max() <= 1
        assert made.pictures.is_inference()
        assert made.seconds > 0
    told = () if settings.method == "official" else settings.clipped
    assert len(result.clipped) == (3 if "up" in told else 0)
    for part in told:
        if part == "updates" and not settings.updates:
            assert part not in result.clips
            continue
        clip = result.clips[part]
        assert clip.heat.shape == (3 if part == "up" else 3 * settings.samples, 16, 16)
        assert len(clip.moved) == len(clip.heat)
        assert len(clip.shares) == len(clip.sigmas) > 0


def test_updates_of_a_picture_end_where_the_model_finds_nothing_wrong_with_it(prior, pictures):
    reports, sigma = [], plan(prior, QUICK).sigma
    always = run(prior, pictures, QUICK, callback=reports.append)
    seen = next(report for report in reports if report["sigma"] == pytest.approx(sigma))
    power = ((seen["x"] - seen["denoised"]) / sigma).square().flatten(1).mean(1)
    least, others = power.argmin().item(), power.argsort().tolist()[1:]
    # which the picture with the least noise in it meets at once, and the others not
    between = power.sort().values[:2].mean().item()
    some = run(prior, pictures, replace(QUICK, stop_at=between))
    never = run(prior, pictures, replace(QUICK, updates=0))
    torch.testing.assert_close(some.pictures[least], never.pictures[least])
    for i in others:
        assert (some.pictures[i] - never.pictures[i]).abs().max() > 1e-3
    assert (some.pictures - always.pictures)[least].abs().max() > 1e-3
    # 3 updates and one without noise: the first of two blocks
    everything = run(prior, pictures, replace(QUICK, stop_at=power.max().item() + 0.1))
    assert (always.nfe, everything.nfe) == (never.nfe + 8, never.nfe + 4)
    torch.testing.assert_close(everything.pictures, never.pictures)


def test_levels_lie_between_the_depth_and_the_shallowest(prior):
    settings = replace(QUICK, steps=10, levels=3, shallowest=0.1, step_size=1e-5)
    deepest, between, cleanest = plan(prior, settings).levels
    assert deepest == plan(prior, settings).sigma > between > cleanest >= prior.levels.sigma(100).item()
    assert plan(prior, replace(settings, updates=0)).levels == ()


def test_advice_is_for_the_level_that_allows_the_smallest_step(prior):
    settings = replace(QUICK, steps=10, levels=3, shallowest="t=50", step_size=1e-5)
    planned = plan(prior, settings)
    place = planned.sigmas.tolist().index(planned.levels[-1])
    safe = 0.5 * planned.levels[-1] ** 2 / (1 + planned.levels[-1] ** 2)
    assert planned.advice is None
    for scale, factor in (("none", 1), ("geometric", 100 ** (place / 10))):
        large = replace(settings, step_scale=scale, step_size=1.5 * safe / factor)
        assert f"below {safe / factor:.3g} is safe" in plan(prior, large).advice
        assert plan(prior, replace(large, step_size=0.9 * safe / factor)).advice is None


def test_one_relative_step_is_an_absolute_one_at_each_level(prior, pictures):
    """At one level a relative step is the absolute one over the variance of the noise."""
    v = plan(prior, QUICK).sigma ** 2 / (1 + plan(prior, QUICK).sigma ** 2)
    relative = replace(QUICK, step_mode="relative", step_size=QUICK.step_size / v)
    ours, theirs = (run(prior, pictures, settings).pictures for settings in (QUICK, relative))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_each_part_has_a_clip_and_a_denoiser(prior, pictures):
    """As the core restores with them."""
    settings = replace(
        QUICK, samples=2, clip_at="up,updates,down", clip_range="around=0.3", threshold_at="updates", eta=0.4, seed=4
    )
    labels, planned = prior.conditioning(None, 3), plan(prior, settings)
    plain, thresholded = prior.model(threshold=False), prior.model(threshold=True)
    clips = {}
    for part, copies in (("clip", 1), ("langevin_clip", 2), ("decode_clip", 2)):
        seen = pictures.repeat_interleave(copies, 0)
        clips[part] = ConfidenceClip(0.4, seen - 0.3, seen + 0.3)
    with torch.inference_mode():
        theirs = restore(
            plain,
            pictures,
            planned.sigmas,
            labels,
            corrector=thresholded,
            step=settings.step_size,
            updates=6,
            blocks=2,
            samples=2,
            seed=4,
            **clips,
        )
    ours = run(prior, pictures, settings)
    assert torch.equal(ours.pictures, theirs.clamp(-1, 1))
    for part, clip in zip(("up", "updates", "down"), clips.values(), strict=True):
        torch.testing.assert_close(ours.clips[part].heat, clip.heat().amax(1))
        torch.testing.assert_close(torch.tensor(ours.clips[part].shares), clip.shares.mean(1))
        torch.testing.assert_close(torch.tensor(ours.clips[part].moved), (clip.times > 0).float().mean((1, 2, 3)))


@pytest.mark.parametrize("changed", [{"clip_range": "fixed=-0.6,0.6"}, {"clip_range": "quantiles=0.1"}])
def test_a_narrower_range_clips_more(prior, pictures, changed):
    wide, narrow = (sum(run(prior, pictures, replace(QUICK, **more)).clipped) for more in ({}, changed))
    assert narrow > 1.5 * wide


def test_round_the_photo_in_every_part_the_result_stays_near_it(prior, pictures):
    """The last call of the network is free of it, so that the state it starts from is looked at."""
    far = {}
    for width in (0.1, 2.0):
        settings = replace(QUICK, clip_at="updates,down", clip_range=f"around={width}", eta=1.0)
        states = []
        run(prior, pictures, settings, callback=states.append)
        far[width] = ((states[-1]["x"] - pictures).abs().max() - states[-1]["sigma"]).item()
    assert far[0.1] <= 0.1 + 1e-5 < far[2.0]


def test_blocks_that_end_with_noise_save_their_last_calls(prior, pictures):
    noisy = replace(QUICK, noiseless_last=False)
    assert plan(prior, noisy).calls == plan(prior, QUICK).calls - 2
    assert (run(prior, pictures, noisy).pictures - run(prior, pictures, QUICK).pictures).abs().max() > 1e-3


def test_from_the_deepest_latent_updates_are_at_the_depth_all_the_same(prior):
    settings = replace(QUICK, steps=30, start="deepest")
    planned = plan(prior, settings)
    assert planned.timestep == 999
    assert len(planned.sigmas) == 32
    [level] = planned.levels
    path = planned.sigmas.tolist()
    depth = prior.levels.sigma(400).item()
    assert level == max(sigma for sigma in path if sigma <= depth)
    several = plan(prior, replace(settings, levels=3, shallowest="t=100", step_size=1e-4)).levels
    assert several[0] == level
    assert several[-1] == min(sigma for sigma in path if sigma >= prior.levels.sigma(100).item())
    assert plan(prior, replace(QUICK, start="updates")).sigmas.equal(plan(prior, QUICK).sigmas)
    assert plan(prior, replace(QUICK, depth=1.0, start="deepest")).levels == (
        plan(prior, replace(QUICK, depth=1.0)).sigma,
    )


def official_settings(monkeypatch, prior, **values):
    """The `Official` that settings come to."""
    made = []
    monkeypatch.setattr(restoring, "Official", lambda **given: made.append(Official(**given)) or made[-1])
    plan(prior, Settings.of({"method": "official", "steps": 20, **values}))
    return made[0]


def test_the_switches_of_the_authors_code(monkeypatch, prior):
    made = partial(official_settings, monkeypatch, prior)
    default = made()
    assert default == Official(n=20, latent=20, shallowest=2)
    assert made(clip_at="up,updates,down") == replace(default, langevin_clip=True, decode_clip=True)
    assert made(clip=False) == replace(default, clip=False)
    assert made(start="updates") == replace(default, from_deepest=False)
    assert made(start="deepest") == replace(default, from_deepest=True)
    assert made(threshold_at="up,down") == replace(default, langevin_threshold=False)
    assert made(threshold_at="updates") == replace(default, threshold=False)
    assert made(quirks="no-depth,no-last-step") == replace(default, mended=("depth", "last step"))
    assert made(quirks="none,std-schedule,second-noise") == replace(
        default, mended=tuple(QUIRKS), std_schedule=True, noise_twice=True
    )


@pytest.mark.parametrize(("depth", "latent"), [("t=998", 7), ("t=430", 3)])
def test_the_authors_code_is_that_of_the_core(prior, pictures, depth, latent):
    settings = Settings.of({"method": "official", "steps": 7, "depth": depth, "updates": 6, "blocks": 2, "seed": 4})
    start, updates = seeded_noise([4, 5, 6], START), seeded_noise([4, 5, 6], LANGEVIN)

    def network(x, t):
        with torch.inference_mode():
            return prior.network(x, t, class_labels=torch.full((len(x),), prior.null)).sample

    theirs = official_code(
        network,
        pictures,
        prior.levels.alpha_bar(torch.arange(1000)),
        Official(n=7, latent=latent, updates=6, blocks=2),
        noise_sampler=lambda x, k: (start if k < 2 else updates)(x, k),
    )
    ours = run(prior, pictures, settings)
    torch.testing.assert_close(ours.pictures, theirs.clamp(-1, 1), atol=1e-4, rtol=0)
    assert plan(prior, settings).levels == pytest.approx([prior.levels.sigma(142 * (latent - 2)).item()])


def test_odedit_is_that_of_the_core(prior, pictures):
    settings = Settings.of(
        {"method": "odedit", "steps": 4, "damage": "medium", "levels": 3, "seed": 4, "step_size": 1e-6}
    )
    path = plan(prior, settings).sigmas
    assert plan(prior, settings).levels == tuple(path[[1, 3, 4]].tolist())
    labels = prior.conditioning(None, 3)
    with torch.inference_mode():
        theirs = odedit(prior.model(threshold=False), pictures, path, labels, damage="medium", count=3, seed=4)
    assert torch.equal(run(prior, pictures, settings).pictures, theirs.clamp(-1, 1))


def test_sdedit_makes_as_many_calls_as_code_where_the_depth_has_room(prior, pictures):
    assert plan(prior, replace(QUICK, sdedit=True)).all_calls == 2 * plan(prior, QUICK).calls
    shallow = plan(prior, replace(QUICK, sdedit=True, sdedit_depth="t=3"))
    assert shallow.all_calls == shallow.calls + 4


def test_a_batch_is_a_loop_with_the_next_seeds(prior, pictures):
    settings = replace(QUICK, sdedit=True, samples=2)
    together = run(prior, pictures, settings)
    for i in range(3):
        alone = run(prior, pictures[i : i + 1], replace(settings, seed=2 * i))
        for ours, theirs in ((together, alone), (together.sdedit, alone.sdedit)):
            torch.testing.assert_close(ours.pictures[2 * i : 2 * i + 2], theirs.pictures, atol=2e-4, rtol=0)
        assert together.clipped[i] == pytest.approx(alone.clipped[0], abs=5e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_larger_picture_is_restored_in_windows(prior, method):
    wide = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    own = {"code": {"updates": 4, "stop_at": 0.0}, "odedit": {}, "official": {"updates": 4}}[method]
    settings = Settings.of({"method": method, "steps": 5, "sdedit": True, "sdedit_depth": "t=9", "label": "dog", **own})
    calls = []
    result = run(prior, wide, settings, lambda: calls.append(1))
    assert result.pictures.shape == result.sdedit.pictures.shape == wide.shape
    assert len(calls) == plan(prior, settings).all_calls == result.nfe + result.sdedit.nfe
    alone = run(prior, wide[1:], replace(settings, seed=1))
    torch.testing.assert_close(result.pictures[1:], alone.pictures, atol=1e-3, rtol=0)


def test_a_smaller_picture_is_refused(prior):
    with pytest.raises(ValueError, match="16×15 and the model's is 16×16"):
        run(prior, torch.zeros(1, 3, 15, 16), QUICK)


def test_seeds_and_samples_differ(prior, pictures):
    first = run(prior, pictures[:1], replace(QUICK, samples=2)).pictures
    again = run(prior, pictures[:1], replace(QUICK, samples=2)).pictures
    assert torch.equal(first, again)
    assert (first[0] - first[1]).abs().max() > 1e-3
    assert (first[:1] - run(prior, pictures[:1], replace(QUICK, seed=1)).pictures).abs().max() > 1e-3


def test_a_narrower_clip_clips_more(prior, pictures):
    shares = [sum(run(prior, pictures, replace(QUICK, eta=eta)).clipped) for eta in (0.0, 0.5, 4.0)]
    assert shares[0] > shares[1] > shares[2]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"depth": 0}, "no fraction"),
        ({"depth": 1.01}, "no fraction"),
        ({"depth": "t=1000"}, "outside this model"),
        ({"depth": "sigma=1e9"}, "outside this model"),
        ({"depth": "t=4"}, "do not fit"),
        ({"step_size": 1.9}, "unstable at this depth"),
        ({"step_size": 0}, "unstable"),
        ({"label": "fish"}, "take one of cat, dog"),
        ({"guidance": 2.0}, "needs a class"),
        ({"sdedit": True, "sdedit_depth": 2}, "no fraction"),
        ({"levels": 7, "shallowest": "t=20"}, "does not do for 7"),
        ({"levels": 2, "shallowest": 0.6}, "does not do for 2"),
        ({"levels": 2, "shallowest": "t=2000"}, "outside this model"),
        ({"levels": 3, "shallowest": "t=5", "step_size": 0.02}, "unstable at this depth, sigma 0.0"),
        ({"step_mode": "relative", "step_size": 2.0}, "below 0.5"),
        ({"method": "odedit", "step_size": 1.0}, "unstable"),
        ({"method": "official", "steps": 8, "levels": 2, "step_size": 0.02}, "unstable"),
        ({"method": "official", "steps": 1}, "2 to 1000 steps"),
        ({"method": "official", "steps": 1001}, "2 to 1000 steps"),
    ],
)
def test_settings_that_do_not_go_with_the_prior(prior, changed, words):
    with pytest.raises(ValueError, match=words):
        plan(prior, replace(QUICK, **changed))


def test_a_large_step_is_warned_of_once_and_by_the_plan_only(prior, pictures, recwarn):
    settings = replace(QUICK, step_size=0.6)
    assert "is large" in plan(prior, settings).advice
    run(prior, pictures, settings)
    assert not [warning for warning in recwarn if "is large" in str(warning.message)]


def test_nan_of_the_network_is_refused(tmp_path, pictures):
    from safetensors.torch import save_file

    tensors = write_prior(tmp_path)
    tensors["conv_out.bias"][:] = float("nan")
    save_file(tensors, tmp_path / "unet" / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    broken = load(tmp_path)
    with pytest.raises(ValueError, match="NaN or infinity"):
        run(broken, pictures, QUICK)


def test_grey_priors_restore_grey_pictures(tmp_path):
    write_prior(tmp_path, unet={"in_channels": 1, "out_channels": 1})
    assert run(load(tmp_path), torch.zeros(1, 1, 16, 16), QUICK).pictures.shape == (1, 1, 16, 16)
