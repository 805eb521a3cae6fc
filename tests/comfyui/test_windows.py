"""Pictures larger than the prior, in the real server: what comes out is the core's own windows, with no seam."""

import json
import subprocess
from itertools import count

import pytest
import torch
from comfyui.prompts import Prompt
from comfyui.server import COMFYUI, PYTHON, QUIET_THREADS, REPOSITORY
from comfyui.test_restore import latent, path_of, pixels, same
from confident_ode.priors.loading import load
from confident_ode.samplers.clipping import ConfidenceClip
from confident_ode.samplers.denoisers import classifier_free_guidance
from confident_ode.samplers.noise import SDEDIT, item_seeds, seeded_noise
from confident_ode.samplers.ode import euler
from confident_ode.samplers.restore import restore
from confident_ode.samplers.sde import sdedit
from confident_ode.samplers.windows import positions, windowed
from safetensors import safe_open

SIZE = 32
NAMES = count()
QUICK = {"preset": "custom", "depth": 0.4, "steps": 4, "step_size": 2e-3, "updates": 3, "blocks": 1, "stop_at": 0.0}


@pytest.fixture(scope="module")
def info(server):
    return server.object_info()


@pytest.fixture(scope="module")
def prior():
    return load("flowers32")


class Saved(Prompt):
    """A prompt whose `kept` outputs come back by name: a tensor, or a text."""

    def __init__(self, info):
        super().__init__(info)
        self.files = {}

    def flowers(self, width, height, batch=1):
        """IMAGE of a damaged flower, or of two, at this size."""
        pictures = []
        for name in ("daisy-1", "rose-1")[:batch]:
            example = self.node("CODE_ExamplePicture", picture=name, damage="random pixels")
            scale = {"upscale_method": "bilinear", "width": width, "height": height, "crop": "disabled"}
            pictures.append(self.node("ImageScale", image=example[0], **scale)[0])
        return self.node("ImageBatch", image1=pictures[0], image2=pictures[1])[0] if batch == 2 else pictures[0]

    def keep(self, name, **output):
        file = f"windows-{next(NAMES)}"
        self.node("TEST_Save", name=file, **output)
        self.files[name] = file, *output

    def run_on(self, server):
        run, given = server.run(self), {}
        assert run.succeeded, run.error
        for name, (file, kind) in self.files.items():
            with safe_open(server.output / f"{file}.safetensors", "pt") as saved:
                given[name] = saved.metadata()["text"] if kind == "text" else saved.get_tensor(kind)
        return given


def restored(server, info, width, height, batch=1, kind="Restore", **widgets):
    """{restored, seen, report} of a node on pictures of this size."""
    prompt = Saved(info)
    quick = QUICK if kind == "Restore" else {}
    node = prompt.use(kind, image=prompt.flowers(width, height, batch), **{**quick, **widgets})
    prompt.keep("restored", image=node[0])
    prompt.keep("seen", image=node[1])
    prompt.keep("report", text=node[2])
    return prompt.run_on(server)


def in_windows(prior, at_once=7):
    model = windowed(prior.model(threshold=False), SIZE, at_once)
    return lambda x, sigma, **given: model(x, sigma, **given or prior.conditioning(None, len(x)))


def test_a_whole_picture_is_restored_as_by_the_core(server, info, prior):
    """Two pictures of a size that no stride divides, two samples each."""
    given = restored(server, info, 53, 37, batch=2, fit="whole", samples=2, seed=3)
    assert given["seen"].shape == (2, 37, 53, 3)
    settings = {"step": 2e-3, "updates": 3, "blocks": 1, "samples": 2, "seed": 3}
    with torch.inference_mode():
        x = restore(in_windows(prior), latent(given["seen"]), path_of(prior, 4, 0.4), clip=ConfidenceClip(), **settings)
    same(given["restored"], pixels(x))
    assert (given["restored"][0] - given["seen"][0]).abs().mean() > 0.02


def test_odedit_takes_a_whole_picture(server, info):
    given = restored(server, info, 40, 32, kind="ODEdit", fit="whole", steps=3, depth=0.4)
    assert given["restored"].shape == given["seen"].shape == (1, 32, 40, 3)
    assert (given["restored"] - given["seen"]).abs().mean() > 0.02
    assert given["report"].endswith("dB; 40x32, in 2 windows a call.")


@pytest.mark.parametrize(
    ("size", "widgets", "came_out", "said"),
    [
        ((64, 48), {}, (32, 32), "32x32, the middle of 64x48."),
        ((64, 64), {"fit": "crop"}, (32, 32), "32x32, scaled from 64x64."),
        ((20, 16), {}, (32, 32), "32x32, the middle of 20x16."),
        ((64, 48), {"fit": "whole"}, (64, 48), "64x48, in 6 windows a call."),
        ((64, 48), {"fit": "whole", "max_side": 50}, (50, 38), "50x38, scaled from 64x48, in 6 windows a call."),
        ((20, 16), {"fit": "whole"}, (40, 32), "40x32, scaled from 20x16, in 2 windows a call."),
    ],
)
def test_the_report_says_what_size_comes_out(server, info, size, widgets, came_out, said):
    given = restored(server, info, *size, **{**QUICK, "steps": 2, "updates": 0}, **widgets)
    assert given["restored"].shape == given["seen"].shape == (1, *reversed(came_out), 3)
    assert given["report"].endswith(f"dB; {said}")


def test_a_picture_of_the_prior_s_size_is_what_it_was(server, info):
    """A prompt from before there was a fit gives what either fit does, and reads as before."""
    before, crop, whole = (restored(server, info, 32, 32, **fit) for fit in ({}, {"fit": "crop"}, {"fit": "whole"}))
    for given in (crop, whole):
        assert torch.equal(given["restored"], before["restored"])
        assert given["report"] == before["report"]
    assert before["report"].endswith("dB.")


def test_a_mask_of_a_whole_picture_keeps_the_rest(server, info):
    prompt = Saved(info)
    mask = prompt.mask(width=53, height=37, fill="constant", value=1.0)
    border = prompt.node("SolidMask", width=53, height=20, value=0.0)[0]
    mask = prompt.node("MaskComposite", destination=mask, source=border, x=0, y=0, operation="and")[0]
    node = prompt.use("Restore", image=prompt.flowers(53, 37), mask=mask, fit="whole", **QUICK)
    prompt.keep("restored", image=node[0])
    prompt.keep("seen", image=node[1])
    given = prompt.run_on(server)
    restored, seen = given["restored"][0], given["seen"][0]
    same(restored[:20], seen[:20], atol=1e-6)
    assert ((restored - seen)[20:].abs() > 1e-3).float().mean() > 0.9


def rose(prompt, model):
    return prompt.node("CODE_ClassCondition", model=model, label="rose")[0]


def test_comfyui_s_own_sampler_takes_a_larger_picture(server, info, prior):
    """KSampler's euler with a class and guidance, two pictures, from pure noise: the core's windows, step by step."""
    prompt = Saved(info)
    model = prompt.pixels()
    empty = prompt.pixel_latent(batch=2, height=37, width=53, fill="constant")
    widgets = {"seed": 5, "steps": 3, "cfg": 2.0, "sampler_name": "euler", "scheduler": "simple"}
    conditions = {"positive": rose(prompt, model), "negative": prompt.condition()}
    drawn = prompt.node("KSampler", model=model, latent_image=empty, **conditions, **widgets)
    path = prompt.node("BasicScheduler", model=model, scheduler="simple", steps=3, denoise=1.0)[0]
    prompt.keep("drawn", latent=drawn[0])
    prompt.keep("path", sigmas=path)
    given = prompt.run_on(server)
    noise = torch.randn(2, 3, 37, 53, generator=torch.manual_seed(5))
    label = prior.conditioning("rose", 2)
    guided = classifier_free_guidance(in_windows(prior), 2.0, prior.conditioning(None, 1))
    with torch.inference_mode():
        # ComfyUI starts eps from x = sqrt(1 + sigma^2) n
        x = euler(guided, noise * (1 + given["path"][0] ** 2).sqrt(), given["path"], label)
    same(given["drawn"], x, atol=1e-3)


def test_sdedit_takes_a_larger_picture(server, info, prior):
    """A strip of a single window's height, at sigmas of its own."""
    prompt = Saved(info)
    model, picture = prompt.pixels(), prompt.pixel_latent(height=32, width=45, value=0.1)
    edited = prompt.node(
        "CODE_SDEdit",
        model=model,
        latent=picture,
        sigmas=prompt.sigmas("2, 0.5, 0"),
        positive=prompt.condition(),
        seed=7,
    )
    prompt.keep("edited", latent=edited[0])
    prompt.keep("picture", latent=picture)
    given = prompt.run_on(server)
    noise = seeded_noise(item_seeds(7, 1), SDEDIT)
    with torch.inference_mode():
        x = sdedit(in_windows(prior), given["picture"], torch.tensor([2.0, 0.5, 0.0]), noise_sampler=noise)
    same(given["edited"], x, atol=1e-3)


@pytest.mark.parametrize("size", [(16, 16), (28, 32)])
def test_a_smaller_picture_goes_to_the_network_as_it_is(server, info, prior, size):
    prompt = Saved(info)
    picture = prompt.pixel_latent(height=size[0], width=size[1])
    sigmas = prompt.node("CODE_Schedule", model=prompt.pixels(), steps=2, to_zero=False)[0]
    links = {"model": prompt.pixels(), "latent": picture, "sigmas": sigmas, "positive": prompt.condition()}
    prompt.keep("down", latent=prompt.node("CODE_ODEDecode", solver="euler", **links)[0])
    prompt.keep("picture", latent=picture)
    given, model = prompt.run_on(server), prior.model(threshold=False)
    with torch.inference_mode():
        x = euler(model, given["picture"], path_of(prior, 2, 0.4)[:-1], prior.conditioning(None, 1))
    same(given["down"], x)


def steepness(picture, places):
    """How much steeper a picture (H, W, 3) is across the columns and rows that start at `places` than elsewhere."""
    ratios = []
    for side in (0, 1):
        steps = picture.diff(dim=side).abs().mean((1 - side, 2))
        there = torch.tensor(places) - 1
        rest = torch.ones(len(steps), dtype=torch.bool).index_fill(0, there, False)
        ratios.append(steps[there].mean() / steps[rest].mean())
    return sum(ratios) / 2


def test_no_seam_shows(server, info):
    """Drawn from noise: where windows begin or end it is no steeper than elsewhere, and where tiles meet it is."""
    side = 3 * SIZE
    begins = positions(side, SIZE)
    borders = sorted({place for first in begins for place in (first, first + SIZE)} - {0, side})
    prompt = Saved(info)
    model, condition = prompt.pixels(), prompt.condition()
    widgets = {"model": model, "positive": condition, "negative": condition, "cfg": 1.0, "steps": 8, "seed": 1}
    for name, shape in {"whole": (1, side), "tiles": (9, SIZE)}.items():
        empty = prompt.pixel_latent(batch=shape[0], height=shape[1], width=shape[1], fill="constant")
        prompt.keep(name, latent=prompt.node("KSampler", latent_image=empty, sampler_name="euler", **widgets)[0])
    given = prompt.run_on(server)
    tiles = given["tiles"].unflatten(0, (3, 3)).permute(2, 0, 3, 1, 4).reshape(3, side, side)
    assert steepness(pixels(given["whole"])[0], borders) < 1.1
    assert steepness(pixels(tiles[None])[0], [SIZE, 2 * SIZE]) > 2


# prints what network calls a prior of 256x256 gets for a state, and the memory asked for states of several sizes
ASKED = """
import json, sys
sys.argv = ["main.py", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
from types import SimpleNamespace
import torch
from confident_ode.nodes.pixel_prior import PixelModel
from confident_ode.samplers.noise_levels import NoiseLevels

class Network(torch.nn.Module):
    config, dtype, given = SimpleNamespace(block_out_channels=(8, 16)), torch.float32, []
    def forward(self, x, t, class_labels):
        self.given.append([list(x.shape), len(t), len(class_labels)])
        return SimpleNamespace(sample=x)

levels = NoiseLevels.of_sigmas(torch.linspace(0.1, 10, 100))
prior = SimpleNamespace(
    network=Network(), dtype=torch.float32, prediction="epsilon", levels=levels, size=256, channels=3
)
model = PixelModel(prior)
x = torch.randn(2, 3, 400, 520)
same = torch.allclose(model.diffusion_model(x, torch.ones(2), y=torch.ones(2)), x, atol=1e-5)
shapes = [1, 3, 256, 256], [4, 3, 256, 256], [1, 3, 257, 300], [1, 3, 4096, 4096], [8, 3, 256, 256]
asked = [model.memory_required(list(shape)) for shape in shapes]
print(json.dumps([same, Network.given, asked]))
"""


def test_memory_is_that_of_four_pictures_of_256_pixels(tmp_path, server):
    (tmp_path / "confident_ode").symlink_to(REPOSITORY)
    command = [PYTHON, "-c", ASKED]
    environment = {**QUIET_THREADS, "PYTHONPATH": f"{COMFYUI}:{tmp_path}"}
    ran = subprocess.run(command, cwd=COMFYUI, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    same, given, (one, four, windows, large, batch) = json.loads(ran.stdout.splitlines()[-1])
    assert same
    # 2 pictures in 3 x 4 windows
    assert given == [[[4, 3, 256, 256], 4, 4]] * 6
    assert four == windows == large == 4 * one
    assert batch == 8 * one
