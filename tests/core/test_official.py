"""The authors' code: golden values of every stage, and that without its quirks it is what `restore` computes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from confident_ode.samplers.clipping import ConfidenceClip
from confident_ode.samplers.denoisers import CallCounter, dynamic_thresholding, eps_denoiser
from confident_ode.samplers.noise import seeded_noise
from confident_ode.samplers.noise_levels import timestep_grid
from confident_ode.samplers.official import QUIRKS, Official, official_code
from confident_ode.samplers.restore import LANGEVIN, START, restore
from core.golden.official_cases import CASES, T, network, noise, pictures
from core.toys import F64, LEVELS, TOY, a_of, normal_pictures, refuses
from safetensors.torch import load_file

ALPHA_BAR = LEVELS.alpha_bar(torch.arange(T))
# diffusers' own, in the precision in which the authors have it
ALPHA_BAR32 = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, T), 0)
GOLDEN = load_file(Path(__file__).parent / "golden" / "official.safetensors")


def stages(case):
    """The states of every stage of `official_code`, stacked as they were recorded."""
    states = {"encoded": [], "updated": [], "decoded": []}
    official_code(
        network, pictures(), ALPHA_BAR32, case, noise_sampler=noise, on_stage=lambda name, i, x: states[name].append(x)
    )
    return {name: torch.stack(kept) for name, kept in states.items()}


@pytest.mark.parametrize("name", CASES)
def test_every_stage_is_what_the_authors_functions_compute(name):
    """Within 1e-5 of the largest value, the precision of their float32 coefficients."""
    case = Official(**CASES[name])
    for stage, ours in stages(case).items():
        theirs = GOLDEN[f"{name}/{stage}"]
        # they go on encoding to the end of the grid
        theirs = theirs[: case.start + 1] if stage == "encoded" else theirs
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


# the cases in which a quirk can show at all
SHOWS = {
    "clip level": ("clip", "all clips", "no thresholds"),
    "unclipped start": ("clip",),
    "depth": tuple(CASES),
    "scale": tuple(CASES),
    "single update": ("single updates",),
    "last update": ("paper", "all clips", "notebook", "clip"),
    "last step": tuple(CASES),
}


@pytest.mark.parametrize("quirk", QUIRKS)
def test_each_quirk_is_in_the_golden_values(quirk):
    """Without any one of them some recorded case would not be met."""
    differ = []
    for name in SHOWS[quirk]:
        ours = stages(replace(Official(**CASES[name]), mended=(quirk,)))["decoded"][-1]
        theirs = GOLDEN[f"{name}/decoded"][-1]
        differ.append((ours - theirs).abs().max() > 1e-4 * theirs.abs().max())
    assert any(differ)


def toy_network(x_vp, t):
    """eps of the toy mixture."""
    s = LEVELS.sigma(t).view(-1, 1, 1, 1)
    x = x_vp * (1 + s**2).sqrt()
    return (x - TOY.model(x, s.flatten())) / s


@pytest.mark.parametrize("clip", [False, True])
def test_without_its_quirks_it_is_our_method(clip):
    """With every quirk mended it equals `restore` by DDIM on its grid, from the same noise."""
    x, n = TOY.clean(2) + 0.4 * normal_pictures((2, 1, 6, 6), 3), 20
    settings = Official(
        n=n, latent=n, step=0.02, updates=9, blocks=3, clip=clip, eta=0.7, samples=2, mended=tuple(QUIRKS)
    )
    start, langevin = seeded_noise(4, START), seeded_noise(4, LANGEVIN)
    calls = []

    def once(x, s):
        calls.append(s)
        return ConfidenceClip(0.7)(x, s) if len(calls) == 1 else x

    official = official_code(
        toy_network,
        x,
        ALPHA_BAR,
        settings,
        noise_sampler=lambda x, k: langevin(x, k - 2) if k > 1 else start(x, k),
    )
    up = LEVELS.sigma(timestep_grid(950, n - 1, "leading"))
    noisy = (x + 0.01 * start(x, 0)) / a_of(up[0].item())
    path = torch.cat([up.flip(0), torch.zeros(1, dtype=F64)])
    ours = restore(
        dynamic_thresholding(eps_denoiser(toy_network, LEVELS)),
        noisy,
        path,
        seed=4,
        step=0.02,
        updates=9,
        blocks=3,
        # theirs clips above index 0 and, mended, the state that is decoded, once
        clip=(lambda x, s: ConfidenceClip(0.7)(x, s) if s > up[0] else x) if clip else None,
        langevin_clip=once if clip else None,
        solver="euler",
        samples=2,
        start_noise=False,
    )
    torch.testing.assert_close(official, ours, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_it_makes_the_calls_it_announces(name):
    """T16: the formula of their loops, less what they encode beyond the start."""
    case, model = Official(**CASES[name]), CallCounter(network)
    official_code(model, pictures(), ALPHA_BAR, case, noise_sampler=noise)
    blocks = max(1, case.blocks)
    decoding = case.start + 1 + len(case.updated) * blocks * (case.updates // blocks + 1)
    assert model.calls == case.calls == case.start + decoding


def test_the_calls_of_the_notebook():
    """199 + 199 + 2 * 4 * 63, of which one encodes to the end of the grid."""
    notebook = Official(latent=200, updates=250, levels=2, shallowest=20, clip=False)
    assert notebook.updated == [20, 198]
    assert notebook.calls + 1 == 902


def test_an_item_alone_is_that_item_of_a_batch():
    case = Official(n=10, latent=6, step=1e-4, updates=4, blocks=2)
    x = pictures()
    both = official_code(network, x, ALPHA_BAR, case, noise_sampler=seeded_noise([3, 8]))
    alone = official_code(network, x[1:], ALPHA_BAR, case, noise_sampler=seeded_noise([8]))
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mended": ("sign",)}, "take some of clip level"),
        ({"latent": 1}, "take one of 2 to 200"),
        ({"latent": 201}, "take one of 2 to 200"),
        ({"samples": 0}, "at least 1 sample"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    refuses(message, Official, **options)


def test_a_grid_finer_than_the_schedule_is_refused():
    refuses("fewer than the 200", official_code, network, pictures(), ALPHA_BAR[:100], Official(), noise_sampler=noise)
