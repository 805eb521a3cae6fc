"""The nodes on every kind of MODEL: tiny ones against the core, and ComfyUI's real networks with random weights."""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from comfyui.pack.denoiser import TinyDenoiser, waves
from comfyui.prompts import options
from comfyui.server import COMFYUI, PYTHON, QUIET_THREADS, Graph
from confident_ode.samplers.clipping import ConfidenceClip, observation_range, quantile_range
from confident_ode.samplers.denoisers import classifier_free_guidance
from confident_ode.samplers.langevin import langevin
from confident_ode.samplers.noise import LANGEVIN, SDEDIT, START, seeded_noise
from confident_ode.samplers.noise_levels import karras_sigmas, sigma_of_tau
from confident_ode.samplers.ode import SOLVERS, ab2
from confident_ode.samplers.restore import encode_path
from confident_ode.samplers.sde import sdedit
from confident_ode.samplers.trajectory import Trajectory
from safetensors import safe_open
from safetensors.torch import save_file

KINDS = ("eps", "v", "flow")
LOWEST, DEPTH, STEPS = 1e-3 / (1 - 1e-3), 3.0, 12
# of the tiny MODEL's latents
SCALE, SHIFT = 0.5, 0.25


class Workflow(Graph):
    """A graph of the nodes under test, with what a test does not care about filled in."""

    def tiny(self, kind):
        return self.node("TEST_TinyModel", kind=kind, channels=4)[0]

    def picture(self, **changes):
        shape = {"batch": 2, "channels": 4, "height": 8, "width": 8, "frames": 0}
        return self.node(
            "TEST_Latent", **{**shape, "fill": "normal", "value": 0.0, "seed": 0, "means": "5,0,-3", **changes}
        )[0]

    def prompt(self, **changes):
        empty = {"entries": 1, "tokens": 0, "width": 8, "pooled": 0, "attention_mask": False}
        return self.node("TEST_Conditioning", **{**empty, "fill": "constant", "value": 0.0, "seed": 0, **changes})[0]

    def schedule(self, model, **changes):
        settings = {"steps": STEPS, "depth": DEPTH, "unit": "sigma", "spacing": "karras", "to_zero": True}
        return self.node("CODE_Schedule", model=model, **{**settings, **changes})[0]

    def invert(self, model, latent, sigmas, positive, **changes):
        settings = {"solver": "ab2", "add_noise": False, "seed": 0, "measure": False}
        return self.node(
            "CODE_DDIMInvert", model=model, latent=latent, sigmas=sigmas, positive=positive, **{**settings, **changes}
        )

    def clip(self, model, **changes):
        settings = {"eta": 1.0, "data_range": "auto", "low": "", "high": ""}
        return self.node("CODE_ConfidenceClip", model=model, **{**settings, **changes})

    def langevin(self, model, latent, sigmas, positive, **changes):
        settings = {"step_size": 0.02, "updates": 6, "blocks": 2, "decay": 0.8, "temperature": 1.0, "seed": 0}
        return self.node(
            "CODE_LangevinUpdate",
            model=model,
            latent=latent,
            sigmas=sigmas,
            positive=positive,
            **{**settings, **changes},
        )

    def decode(self, model, latent, sigmas, positive, **changes):
        return self.node(
            "CODE_ODEDecode",
            model=model,
            latent=latent,
            sigmas=sigmas,
            positive=positive,
            **{"solver": "ab2", **changes},
        )

    def sdedit(self, model, latent, sigmas, positive, **changes):
        return self.node(
            "CODE_SDEdit",
            model=model,
            latent=latent,
            sigmas=sigmas,
            positive=positive,
            **{"seed": 0, "repeats": 1, **changes},
        )[0]

    def sampler(self, name):
        return self.node("KSamplerSelect", sampler_name=name)[0]

    def save(self, name, **sockets):
        self.node("TEST_Save", name=name, **sockets)


def run(server, graph, timeout=120):
    """Run a graph to its end; returns saved(name) -> what it saved, by socket."""
    done = server.run(graph, timeout)
    assert done.succeeded, done.error["exception_message"]

    def saved(name):
        with safe_open(server.output / f"{name}.safetensors", "pt") as file:
            return {**{key: file.get_tensor(key) for key in file.keys()}, "text": file.metadata()["text"]}  # noqa: SIM118

    return saved


def refusal(server, graph):
    """The one sentence of the node that failed."""
    done = server.run(graph)
    assert done.error is not None, "the prompt was not refused"
    return done.error["exception_message"].strip()


def psnr(a, b):
    """In dB, the peak being what b spans."""
    return (20 * ((b.max() - b.min()) / (a - b).square().mean().sqrt()).log10()).item()


def decibels(report):
    return float(re.search(r"comes back at (\S+) dB", report)[1])


def ve(kind, sigmas):
    return sigma_of_tau(sigmas.double()) if kind == "flow" else sigmas.double()


def process_in(latent):
    return (latent - SHIFT) * SCALE


def process_out(x):
    return x / SCALE + SHIFT


def every_stage(kind):
    graph = Workflow()
    model, picture, positive = graph.tiny(kind), graph.picture(means="1,0,-1"), graph.prompt()
    sigmas, clip = graph.schedule(model), graph.clip(model, eta=0.5)
    inverted = graph.invert(model, picture, sigmas, positive, add_noise=True, seed=5)
    clipped = graph.invert(model, picture, sigmas, positive, clip=clip[2])
    sigmas, mask = clipped[1], graph.node("TEST_Mask", batch=1, height=8, width=8, fill="normal", value=0.5, seed=3)[0]
    ranges = {"data_range": "fixed", "low": "-1", "high": "0.5,0.4,0.3,0.2"}
    fixed = graph.clip(model, latent=inverted[0], sigmas=sigmas, eta=0.5, **ranges)
    moved = graph.langevin(model, clipped[0], sigmas, positive, seed=7)[0]
    held = graph.langevin(model, clipped[0], sigmas, positive, seed=7, clip=fixed[2])
    decoded = graph.decode(model, moved, sigmas, positive)[0]
    inside = graph.decode(model, moved, sigmas, positive, clip=fixed[2])
    kept = graph.decode(model, moved, sigmas, positive, trajectory=clipped[2], mask=mask)[0]
    for name, ranges in RANGES.items():
        own = graph.invert(model, picture, sigmas, positive, clip=graph.clip(model, eta=0.5, **ranges)[2])
        graph.save(f"{kind}-{name}", latent=own[0], mask=own[5])
    for name, settings in MODES.items():
        own = graph.langevin(model, clipped[0], sigmas, positive, seed=7, **settings)
        graph.save(f"{kind}-{name}", latent=own[0], text=own[1])
    edited = graph.sdedit(model, picture, sigmas, positive, seed=9, repeats=2)
    graph.save(f"{kind}-picture", latent=picture, sigmas=sigmas, mask=mask)
    graph.save(f"{kind}-inverted", latent=inverted[0])
    graph.save(f"{kind}-clipped", latent=clipped[0], mask=clipped[3], sigmas=clipped[1])
    graph.save(f"{kind}-fixed", latent=fixed[0], mask=fixed[1])
    graph.save(f"{kind}-held", latent=held[0], mask=held[2])
    graph.save(f"{kind}-inside", latent=inside[0], mask=inside[1])
    for name, latent in {"moved": moved, "decoded": decoded, "kept": kept, "edited": edited}.items():
        graph.save(f"{kind}-{name}", latent=latent)
    for solver in SOLVERS:
        graph.save(f"{kind}-{solver}", latent=graph.invert(model, picture, sigmas, positive, solver=solver)[0])
    return graph


RANGES = {
    "quantile": {"data_range": "quantile", "outside": 0.1},
    "observation": {"data_range": "observation", "width": 0.2},
}
MODES = {
    "relative": {"mode": "relative", "step_size": 0.05, "noiseless_last": False},
    "snr": {"mode": "snr", "step_size": 0.4},
    # the one of two pictures at once, the other after some updates
    "stopped": {"stop_at": 1.1},
    "never stopped": {"stop_at": 0.0, "updates": 5},
}
STAGES = ("inverted", "clipped", "fixed", "moved", "held", "decoded", "inside", "kept", "edited")
STAGES += (*RANGES, *MODES, *SOLVERS)
# those whose masks are heat maps
HEATED = ("held", "inside", *RANGES)


@pytest.fixture(scope="module")
def through_comfyui(server):
    """{kind: {stage: what the nodes gave}}."""
    given = {}
    for kind in KINDS:
        saved = run(server, every_stage(kind))
        given[kind] = {stage: saved(f"{kind}-{stage}") for stage in ("picture", *STAGES)}
    return given


@pytest.fixture(scope="module")
def by_the_core(through_comfyui):
    """{stage: what the core's functions give for the same picture}, in VE."""
    picture = through_comfyui["eps"]["picture"]
    x, path, mask = process_in(picture["latent"]), ve("eps", picture["sigmas"]), picture["mask"]
    model, up = TinyDenoiser(), encode_path(path)

    def update(x, clip=None, step_size=0.02, **settings):
        noise = seeded_noise([7, 8], LANGEVIN)
        settings = {"updates": 6, "blocks": 2, "clip": clip, **settings}
        return langevin(model, x, path[:1], noise_sampler=noise, step=step_size, **settings)

    results, clip, trajectory = {}, ConfidenceClip(0.5, *per_channel(x)), Trajectory(x)
    high = torch.tensor([0.5, 0.4, 0.3, 0.2]).view(-1, 1, 1)
    fixed = ConfidenceClip(0.5, -1.0, high)
    clips = {name: ConfidenceClip(0.5, -1.0, high) for name in ("held", "inside")}
    clips["quantile"] = ConfidenceClip(0.5, *quantile_range(x, 0.1))
    clips["observation"] = ConfidenceClip(0.5, *observation_range(x, 0.2))
    noisy = x + up[0].item() * seeded_noise([5, 6], START)(x, 0)
    results["inverted"] = ab2(model, noisy, up)
    results["clipped"] = trajectory.reached(up[-1].item(), ab2(model, x, up, callback=trajectory, clip=clip))
    results["fixed"] = fixed(results["inverted"], path[0].item())
    results["moved"] = update(results["clipped"])
    results["held"] = update(results["clipped"], clips["held"])
    results["decoded"] = ab2(model, results["moved"], path)
    results["inside"] = ab2(model, results["moved"], path, clip=clips["inside"])
    results |= {name: ab2(model, x, up, clip=clips[name]) for name in RANGES}
    results |= {name: update(results["clipped"], **settings) for name, settings in MODES.items()}
    # the mask is set once more at the end, where the picture itself is kept
    keep = trajectory.keep(mask[:, None], resets=len(path))
    results["kept"] = keep(ab2(model, results["moved"], path, clip=keep), 0.0)
    results["edited"] = sdedit(model, x, path, noise_sampler=seeded_noise([9, 10], SDEDIT), repeats=2)
    results |= {name: solve(model, x, up) for name, solve in SOLVERS.items()}
    heat = {f"{name} heat": clip.heat().amax(1) for name, clip in clips.items()}
    return {**{stage: process_out(x) for stage, x in results.items()}, "mask": clip.clipped.any(1).float(), **heat}


def per_channel(x):
    return x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_model_gives_the_cores_picture(through_comfyui, by_the_core, kind, stage):
    torch.testing.assert_close(through_comfyui[kind][stage]["latent"], by_the_core[stage], atol=1e-4, rtol=0)


def test_the_stages_are_not_all_one(by_the_core):
    results = [by_the_core[stage] for stage in STAGES if stage != "ab2"]
    for i, a in enumerate(results):
        assert all((a - b).abs().max() > 1e-2 for b in results[:i])


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_counts_the_calls_of_updates_that_may_stop(through_comfyui, kind):
    told = {name: through_comfyui[kind][name]["text"] for name in ("stopped", "never stopped", "snr")}
    assert told["stopped"].startswith("8 network calls at most at sigma 3.")
    assert told["never stopped"].startswith("7 network calls at sigma 3.")
    # a prompt from before there was a stop_at does not stop
    assert told["snr"].startswith("8 network calls at sigma 3.")


@pytest.mark.parametrize("kind", KINDS)
def test_a_schedule_in_sigma_is_the_same_levels_for_every_kind(through_comfyui, kind):
    sigmas = ve(kind, through_comfyui[kind]["clipped"]["sigmas"])
    expected = torch.cat([karras_sigmas(STEPS, LOWEST, DEPTH).flip(0), torch.zeros(1)])
    torch.testing.assert_close(sigmas, expected.double(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_says_where_the_clip_acted(through_comfyui, by_the_core, kind):
    mask = through_comfyui[kind]["clipped"]["mask"]
    assert 0 < mask.mean() < 1
    assert (mask != by_the_core["mask"]).float().mean() < 0.02


@pytest.mark.parametrize("stage", HEATED)
@pytest.mark.parametrize("kind", KINDS)
def test_the_heat_says_how_often_the_clip_acted(through_comfyui, by_the_core, kind, stage):
    heat, expected = through_comfyui[kind][stage]["mask"], by_the_core[f"{stage} heat"]
    assert 0 < heat.mean() < 1
    assert len(heat.unique()) > 2
    # a value at the very edge falls to either side
    assert ((heat - expected).abs() > 1e-6).float().mean() < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_the_round_trip_and_its_report(server, kind):
    graph = Workflow()
    model, picture, positive = graph.tiny(kind), graph.picture(batch=1), graph.prompt()
    sigmas = graph.schedule(model, steps=25, to_zero=False)
    inverted = graph.invert(model, picture, sigmas, positive, measure=True)
    decoded = graph.decode(model, inverted[0], inverted[1], positive)[0]
    graph.save("there", latent=picture, text=inverted[4])
    graph.save("back", latent=decoded)
    saved = run(server, graph)
    there, back = saved("there"), saved("back")
    assert decibels(there["text"]) > 55
    assert psnr(back["latent"], there["latent"]) == pytest.approx(decibels(there["text"]), abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "least"), [("euler", 28), ("heun", 50)])
def test_comfyuis_own_sampler_decodes_our_inversion(server, kind, name, least):
    graph = Workflow()
    model, picture, positive = graph.tiny(kind), graph.picture(), graph.prompt()
    inverted = graph.invert(model, picture, graph.schedule(model, steps=25, to_zero=False), positive)
    back = graph.node(
        "SamplerCustomAdvanced",
        noise=graph.node("DisableNoise")[0],
        guider=graph.node("BasicGuider", model=model, conditioning=positive)[0],
        sampler=graph.sampler(name),
        sigmas=inverted[1],
        latent_image=inverted[0],
    )
    graph.save("there", latent=picture)
    graph.save("back", latent=back[0])
    saved = run(server, graph)
    assert psnr(saved("back")["latent"], saved("there")["latent"]) > least


# dB of the round trip in 25 steps
STOCK = {
    "euler": 25,
    "ddim": 25,
    "heun": 65,
    "dpm_2": 65,
    "lms": 45,
    "dpmpp_2m": 45,
    "ipndm": 45,
    "ipndm_v": 40,
    "deis": 45,
}


def with_stock_sampler(kind, name):
    graph = Workflow()
    model, positive = graph.tiny(kind), graph.prompt()
    sigmas = graph.schedule(model, steps=25, depth=1.6, to_zero=False)
    inverted = graph.invert(model, graph.picture(means=""), sigmas, positive, measure=True, sampler=graph.sampler(name))
    graph.save("stock", text=inverted[4])
    return graph


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", STOCK)
def test_a_sampler_without_noise_returns_the_picture(server, kind, name):
    report = run(server, with_stock_sampler(kind, name))("stock")["text"]
    assert decibels(report) > STOCK[name]


def test_every_other_sampler_is_refused(server):
    names = options(*server.object_info()["KSamplerSelect"]["input"]["required"]["sampler_name"])
    assert set(STOCK) < set(names)
    for name in set(names) - set(STOCK):
        message = refusal(server, with_stock_sampler("eps", name))
        assert "cannot follow the ODE both ways: take one without noise (euler, heun," in message, name


def test_a_flow_model_cannot_start_from_nothing_but_noise(server):
    graph = Workflow()
    model = graph.tiny("flow")
    sigmas = graph.node("TEST_Sigmas", levels="1.0,0.5,0.25")[0]
    graph.save("x", latent=graph.decode(model, graph.picture(), sigmas, graph.prompt())[0])
    assert "At sigma 1 a flow model sees nothing but noise" in refusal(server, graph)


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_depth_is_the_last_level_that_can_be_inverted(server, kind):
    graph = Workflow()
    model, picture, positive = graph.tiny(kind), graph.picture(), graph.prompt()
    sigmas = graph.schedule(model, depth=1.0, unit="fraction", steps=50, to_zero=False)
    inverted = graph.invert(model, picture, sigmas, positive)
    graph.save("there", latent=picture, sigmas=inverted[1])
    graph.save("back", latent=graph.decode(model, inverted[0], inverted[1], positive)[0])
    saved = run(server, graph)
    deepest = ve(kind, saved("there")["sigmas"])[0]
    assert deepest == pytest.approx(999 if kind == "flow" else 100, rel=1e-3)
    assert psnr(saved("back")["latent"], saved("there")["latent"]) > 35


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_equals_its_pictures_alone(server, kind):
    graph = Workflow()
    model, positive, pictures = graph.tiny(kind), graph.prompt(), graph.picture(batch=3)
    sigmas, clip = graph.schedule(model), graph.clip(model)
    singles = [graph.node("LatentFromBatch", samples=pictures, batch_index=i, length=1)[0] for i in range(3)]
    for name, picture in {"batch": pictures, **dict(enumerate(singles))}.items():
        inverted = graph.invert(model, picture, sigmas, positive, add_noise=True, seed=5, clip=clip[2])
        moved = graph.langevin(model, inverted[0], sigmas, positive, seed=5)[0]
        graph.save(f"code-{name}", latent=graph.decode(model, moved, sigmas, positive)[0])
        graph.save(f"sdedit-{name}", latent=graph.sdedit(model, picture, sigmas, positive, seed=5))
    saved = run(server, graph)
    for method in ("code", "sdedit"):
        alone = torch.cat([saved(f"{method}-{i}")["latent"] for i in range(3)])
        torch.testing.assert_close(saved(f"{method}-batch")["latent"], alone, atol=2e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_is_that_of_the_core(server, kind):
    graph = Workflow()
    model, picture = graph.tiny(kind), graph.picture()
    towards, away = (graph.prompt(tokens=4, value=value) for value in (0.3, -0.2))
    inverted = graph.invert(model, picture, graph.schedule(model), towards, negative=away, cfg=3.0)
    graph.save("guided", latent=inverted[0], sigmas=inverted[1])
    graph.save("picture", latent=picture)
    saved = run(server, graph)
    guided = classifier_free_guidance(TinyDenoiser(), 3.0, {"shift": -0.2})
    x, up = process_in(saved("picture")["latent"]), encode_path(ve(kind, saved("guided")["sigmas"]))
    expected = process_out(ab2(guided, x, up, {"shift": torch.full((2,), 0.3)}))
    torch.testing.assert_close(saved("guided")["latent"], expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lora_acts_through_the_inversion(server, kind):
    denoiser = TinyDenoiser()
    change = 0.3 * waves(denoiser.last.weight.shape, 5)
    (server.models / "loras").mkdir(exist_ok=True)
    save_file({"diffusion_model.denoiser.last.diff": change}, server.models / "loras/tiny.safetensors")
    graph = Workflow()
    model = graph.node("LoraLoaderModelOnly", model=graph.tiny(kind), lora_name="tiny.safetensors", strength_model=0.5)
    inverted = graph.invert(model[0], picture := graph.picture(), graph.schedule(model[0]), graph.prompt())
    graph.save("patched", latent=inverted[0], sigmas=inverted[1])
    graph.save("picture", latent=picture)
    saved = run(server, graph)
    x, up = process_in(saved("picture")["latent"]), encode_path(ve(kind, saved("patched")["sigmas"]))
    plain = process_out(ab2(denoiser, x, up))
    denoiser.last.weight += 0.5 * change
    patched = saved("patched")["latent"]
    assert (patched - plain).abs().max() > 1e-2
    torch.testing.assert_close(patched, process_out(ab2(denoiser, x, up)), atol=1e-4, rtol=0)


def test_a_shift_of_a_flows_schedule_changes_the_levels_alone(server):
    graph = Workflow()
    model = graph.node("ModelSamplingSD3", model=graph.tiny("flow"), shift=3.0)[0]
    sigmas = graph.schedule(model, depth=0.5, unit="fraction")
    inverted = graph.invert(model, picture := graph.picture(), sigmas, graph.prompt())
    graph.save("shifted", latent=inverted[0], sigmas=inverted[1])
    graph.save("picture", latent=picture)
    saved = run(server, graph)
    path = ve("flow", saved("shifted")["sigmas"])
    assert path[0].item() == pytest.approx(3.0, rel=1e-2)
    expected = process_out(ab2(TinyDenoiser(), process_in(saved("picture")["latent"]), encode_path(path)))
    torch.testing.assert_close(saved("shifted")["latent"], expected, atol=1e-4, rtol=0)


class Architecture(NamedTuple):
    """What a network takes, how its latents are scaled, and the log's words for what ComfyUI made of the file."""

    channels: int
    width: int
    pooled: int
    scale: float
    known_as: tuple
    steps: int
    patch: tuple = ()


ARCHITECTURES = {
    "sd15": Architecture(4, 768, 0, 0.18215, ("EPS", "BaseModel"), 4),
    "sd2": Architecture(4, 1024, 0, 0.18215, ("V_PREDICTION", "BaseModel"), 4),
    "sdxl": Architecture(4, 2048, 1280, 0.13025, ("EPS", "SDXL"), 5),
    "sd3": Architecture(16, 4096, 2048, 1.5305, ("FLOW", "SD3"), 4, ("ModelSamplingSD3", {"shift": 2.0})),
    "flux": Architecture(
        16,
        4096,
        768,
        0.3611,
        ("FLUX", "Flux"),
        5,
        ("ModelSamplingFlux", {"max_shift": 1.15, "base_shift": 0.5, "width": 64, "height": 64}),
    ),
    "lumina2": Architecture(16, 2304, 0, 0.3611, ("FLOW", "Lumina2"), 4),
}


@pytest.fixture(scope="module")
def networks(server):
    """Random weights in the server's models folder, for as long as this file needs them: they are large."""
    folders = {"diffusion_models": ARCHITECTURES, "vae_approx": ("taesd_encoder", "taesd_decoder")}
    for folder, names in folders.items():
        (server.models / folder).mkdir(exist_ok=True)
        command = [PYTHON, Path(__file__).with_name("random_weights.py"), server.models / folder, *names]
        subprocess.run(command, env={**os.environ, **QUIET_THREADS, "PYTHONPATH": str(COMFYUI)}, check=True)
    yield
    for folder, names in folders.items():
        for name in names:
            (server.models / folder / f"{name}.safetensors").unlink()
    server.post("free", unload_models=True, free_memory=True)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def restored(server, networks, request):
    """(architecture, saved, log) of CODE on a network: there and back, and two restorations from one inversion."""
    kind, known = request.param, ARCHITECTURES[request.param]
    graph, name = Workflow(), lambda what: f"{request.param}-{what}"
    model = graph.node("UNETLoader", unet_name=f"{kind}.safetensors", weight_dtype="default")[0]
    if known.patch:
        model = graph.node(known.patch[0], model=model, **known.patch[1])[0]
    prompt = {"tokens": 4, "width": known.width, "pooled": known.pooled, "attention_mask": kind == "lumina2"}
    positive = graph.prompt(fill="normal", **prompt)

    def in_scale(unit):
        return graph.node("LatentMultiply", samples=unit, multiplier=1 / known.scale)[0]

    picture = in_scale(graph.picture(batch=1, channels=known.channels, means=""))
    bright = in_scale(graph.picture(batch=1, channels=known.channels, means="5,0,-3"))
    graph.save(name("picture"), latent=picture)
    graph.save(name("bright"), latent=bright)

    for sigma in (0.5, 2.0):
        tau = sigma / (1 + sigma) if known.channels == 16 else sigma
        level = graph.node("TEST_Sigmas", levels=f"{tau},0")[0]
        graph.save(name(sigma), latent=graph.decode(model, picture, level, positive, solver="euler")[0])

    path = graph.schedule(model, steps=known.steps, depth=0.3, unit="fraction", to_zero=False)
    inverted = graph.invert(model, picture, path, positive, measure=True)
    graph.save(name("inverted"), latent=inverted[0], sigmas=inverted[1], text=inverted[4])

    path = graph.schedule(model, steps=2, depth=0.3, unit="fraction")
    clipped = graph.invert(model, bright, path, positive, add_noise=True, clip=graph.clip(model)[2])
    graph.save(name("clipped"), latent=clipped[0], mask=clipped[3])
    for seed in (1, 2):
        moved = graph.langevin(model, clipped[0], path, positive, updates=1, blocks=1, seed=seed)[0]
        graph.save(name(f"restored-{seed}"), latent=graph.decode(model, moved, path, positive)[0])

    before = len(server.log)
    saved = run(server, graph, timeout=300)
    return known, lambda what: saved(name(what)), server.log[before:]


def test_comfyui_knows_the_network_by_its_weights(restored):
    known, _, log = restored
    kind, name = known.known_as
    assert f"model_type {kind}\n" in log
    assert f"Requested to load {name}\n" in log
    assert "unet missing" not in log
    assert "unet unexpected" not in log


def test_the_network_answers_to_space_and_time(restored):
    known, saved, _ = restored
    picture = saved("picture")["latent"]
    eps = {sigma: (picture - saved(sigma)["latent"]) * known.scale / sigma for sigma in (0.5, 2.0)}
    for noise in eps.values():
        assert 0.1 < noise.std() < 10
        assert noise.std((-2, -1)).min() > 0.02
    assert (eps[0.5] - eps[2.0]).std() > 0.1 * eps[2.0].std()


def test_a_real_network_returns_the_picture(restored):
    known, saved, _ = restored
    inverted = saved("inverted")
    print(f"{known.known_as}: {inverted['text']}")
    assert decibels(inverted["text"]) > 45
    assert psnr(inverted["latent"], saved("picture")["latent"]) < 30


def test_the_clip_knows_the_channels_of_the_picture(restored):
    known, saved, _ = restored
    clipped = saved("clipped")
    # where clean data ended at 1, as that of pixels does, all of a channel about 5 would be clipped to 1 + sigma
    assert (clipped["latent"][:, 0] * known.scale).mean() > 4
    assert 0 < clipped["mask"].mean() < 1


def test_code_restores_with_a_real_network(restored):
    known, saved, _ = restored
    one, other = (saved(f"restored-{seed}")["latent"] for seed in (1, 2))
    assert one.isfinite().all()
    assert other.isfinite().all()
    assert ((one - other) * known.scale).std() > 1e-3
    assert ((one - saved("bright")["latent"]) * known.scale).std() > 1e-2


def test_restore_in_one_node_with_a_latent_model_and_its_vae(server, networks):
    graph = Workflow()
    model = graph.node("UNETLoader", unet_name="sd2.safetensors", weight_dtype="default")[0]
    image = graph.node("TEST_Image", batch=1, height=64, width=64, channels=3, fill="normal", value=0.5, seed=0)[0]
    settings = {"depth": 0.3, "steps": 2, "step_size": 0.01, "updates": 2, "blocks": 1, "clip": True, "eta": 1.0}
    settings |= {"clip_at": "up, updates, down", "stop_at": 0.0}
    restored = graph.node(
        "CODE_Restore",
        model=model,
        vae=graph.node("VAELoader", vae_name="taesd")[0],
        image=image,
        positive=graph.prompt(fill="normal", tokens=4, width=1024),
        preset="custom",
        seed=0,
        samples=2,
        **settings,
        cfg=1.0,
    )
    graph.save("one-node", image=restored[0], text=restored[2])
    saved = run(server, graph)("one-node")
    assert saved["image"].shape == (2, 64, 64, 3)
    assert saved["image"].isfinite().all()
    assert saved["image"].std() > 0.01
    assert (saved["image"][0] - saved["image"][1]).abs().max() > 1e-3
    assert saved["text"].startswith("10 network calls")
