from dataclasses import replace

import pytest
import torch
from confident_ode.evaluation.restoring import plan, run
from confident_ode.evaluation.settings import Settings
from confident_ode.priors.loading import load
from prior.tiny import write_prior

QUICK = Settings(steps=5, updates=6, blocks=2)


@pytest.fixture(scope="module")
def prior(prior_folder):
    return load(prior_folder)


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


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
    assert len(result.clipped) == (3 if settings.clip else 0)


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
