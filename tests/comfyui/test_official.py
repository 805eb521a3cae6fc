"""CODE as Published: on the bundled prior, against the core's `official_code` on the prior's own network."""

import pytest
import torch
from comfyui.prompts import Prompt, assert_clear
from confident_ode.priors.loading import load
from confident_ode.samplers.noise import LANGEVIN, START, item_seeds, seeded_noise
from confident_ode.samplers.official import QUIRKS, Official, official_code
from safetensors.torch import load_file

QUICK = {"n": 20, "latent": 8, "updates": 8}


@pytest.fixture(scope="module")
def info(server):
    return server.object_info()


@pytest.fixture(scope="module")
def prior():
    return load("flowers32")


def given(server, info, **widgets):
    """(restored, seen) as tensors (B, C, H, W) in [-1, 1], the report, and the progress, for two example pictures."""
    prompt = Prompt(info)
    one, other = (
        prompt.node("TEST_SmallExample", picture=name, damage="random pixels")[0] for name in ("daisy-1", "rose-1")
    )
    node = prompt.use("Official", image=prompt.node("ImageBatch", image1=one, image2=other)[0], **widgets)
    prompt.node("TEST_Save", name="published", image=node[0], text=node[2])
    prompt.node("TEST_Save", name="published-seen", image=node[1])
    preview = prompt.node("PreviewAny", source=node[2])
    run = server.run(prompt)
    assert run.succeeded, run.error
    saved = (load_file(server.output / f"published{name}.safetensors")["image"] for name in ("", "-seen"))
    pictures = [2 * image.movedim(-1, 1) - 1 for image in saved]
    steps = [data["value"] for data in run.of("progress") if data["node"] == node]
    return *pictures, run.history["outputs"][preview]["text"][0], steps


def published(prior, x, settings, seed):
    seeds = item_seeds(seed, len(x) * settings.samples)
    start, updates = seeded_noise(seeds[:: settings.samples], START), seeded_noise(seeds, LANGEVIN)
    with torch.inference_mode():
        return official_code(
            lambda x, t: prior.network(x, t, **prior.conditioning(None, len(x))).sample,
            x,
            prior.levels.alpha_bar(torch.arange(len(prior.levels))),
            settings,
            noise_sampler=lambda x, k: (start if k < 2 else updates)(x, k),
        )


@pytest.mark.parametrize(
    ("widgets", "settings"),
    [
        ({"samples": 2}, {"samples": 2}),
        (
            {"levels": 2, "shallowest": 2, "eta": 0.5, "clip_updates": True, "clip_down": True, "start": "updates"},
            {
                "levels": 2,
                "shallowest": 2,
                "eta": 0.5,
                "langevin_clip": True,
                "decode_clip": True,
                "from_deepest": False,
            },
        ),
        (
            {"quirks": "no-last-step, no-scale", "clip_up": False, "threshold": False, "threshold_updates": False},
            {"mended": ("last step", "scale"), "clip": False, "threshold": False, "langevin_threshold": False},
        ),
        (
            {"quirks": "second-noise, std-schedule", "levels": 2, "shallowest": 1, "blocks": 2, "decay": 0.5},
            {"mended": tuple(QUIRKS), "noise_twice": True, "std_schedule": True, "levels": 2, "shallowest": 1}
            | {"blocks": 2, "decay": 0.5},
        ),
    ],
)
def test_it_is_the_cores(server, info, prior, widgets, settings):
    restored, seen, report, steps = given(server, info, n=20, depth=8, updates=8, step_size=1e-4, seed=5, **widgets)
    settings = Official(**QUICK, step=1e-4, **settings)
    expected = published(prior, seen, settings, 5)
    torch.testing.assert_close(restored, expected.clamp(-1, 1), atol=2e-4, rtol=0)
    assert report.startswith(f"{settings.calls} network calls at sigma ")
    assert steps == list(range(1, settings.calls + 1))
    # the settings matter
    plain = published(prior, seen, Official(**QUICK, step=1e-4), 5)
    assert len(expected) > len(plain) or (expected - plain).abs().mean() > 1e-3


@pytest.mark.parametrize(
    ("widgets", "said"),
    [
        ({"n": 1000, "depth": 8, "step_size": 0.5}, "is unstable at this depth"),
        ({"depth": 9}, "is not on the grid"),
        ({"quirks": "no-such"}, "are not understood"),
        ({"n": 2000, "depth": 8}, "take a smaller n"),
    ],
)
def test_wrong_numbers_are_told_of(server, info, widgets, said):
    prompt = Prompt(info)
    links = {name: prompt.integer(value) if name == "n" else value for name, value in widgets.items()}
    prompt.use("Official", **links)
    run = server.run(prompt)
    assert not run.succeeded
    assert said in run.error["exception_message"]
    assert_clear(run.error)


def test_any_other_model_is_told_of(server, info):
    prompt = Prompt(info)
    prompt.use("Official", model=prompt.tiny())
    run = server.run(prompt)
    assert not run.succeeded
    assert "take CODE Restore for this model" in run.error["exception_message"]
    assert_clear(run.error)
