"""SDE-Drag on a server: against the core's own function, on every kind of MODEL, with masks, LoRAs and wrong points."""

import json
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from comfyui.pack.denoiser import TinyDenoiser
from comfyui.prompts import Prompt, assert_clear
from confident_ode.priors.loading import load
from confident_ode.samplers.drag import drag, guidance_ramp
from confident_ode.samplers.noise import DRAG, item_seeds, seeded_noise
from confident_ode.samplers.noise_levels import decode_path, sigma_of_tau
from safetensors.torch import load_file, save_file

NAMES = count()
# a petal and the heart of the 32x32 sunflower, three drag steps
POINTS = [{"from": [6, 14], "to": [2, 11]}, {"from": [17, 12], "to": [19.5, 14]}]
QUICK = {"points": json.dumps(POINTS), "depth": 0.4, "steps": 4, "radius": 4, "seed": 3}
PAIRS = [(tuple(pair["from"]), tuple(pair["to"])) for pair in POINTS]


@pytest.fixture(scope="module")
def info(server):
    return server.object_info()


@pytest.fixture(scope="module")
def prior():
    return load("flowers32")


class Drags(Prompt):
    """A prompt with an example picture of 32x32 and the smaller prior, or what stands in for them."""

    def __init__(self, info):
        super().__init__(info)
        self.prior = self.node("CODE_LoadPixelPrior", prior="flowers32")
        self.flower = self.node("TEST_SmallExample", picture="sunflower-1", damage="none")[1]

    def drag(self, **inputs):
        """The node, quick, and its outputs kept; returns it and the name that they are kept under."""
        links = {"model": self.prior[0], "vae": self.prior[1], "positive": self.prior[2], "image": self.flower}
        node, name = self.node("CODE_Drag", **{**links, **QUICK, **inputs}), f"dragged-{next(NAMES)}"
        self.node("TEST_Save", name=name, image=node[0], text=node[2])
        self.node("TEST_Save", name=f"{name}-steps", image=node[1])
        self.node("TEST_Save", name=f"{name}-input", image=inputs.get("image", self.flower))
        self.node("PreviewAny", source=node[2])
        return node, name


def ran(server, prompt, node, name):
    run = server.run(prompt)
    assert run.succeeded, run.error
    image, steps, given = (
        load_file(server.output / f"{name}{n}.safetensors")["image"] for n in ("", "-steps", "-input")
    )
    outputs = run.history["outputs"]
    return SimpleNamespace(
        image=image,
        steps=steps,
        given=given,
        report=next(output["text"][0] for output in outputs.values() if "text" in output),
        shown=[server.view(**file) for file in outputs[node]["picture"]],
        progress=[(data["value"], data["max"]) for data in run.of("progress") if data["node"] == node],
    )


def dragged(server, info, **inputs):
    prompt = Drags(info)
    return ran(server, prompt, *prompt.drag(**inputs))


def latent(image):
    return 2 * image.movedim(-1, 1) - 1


def pixels(x):
    return (x.clamp(-1, 1).movedim(1, -1) + 1) / 2


def path_of(prior, steps=4, depth=0.4):
    return decode_path(prior.levels, round(1000 * depth), steps, "linspace", trained=True)


def unconditional(prior):
    model = prior.model(threshold=False)
    return lambda x, sigma: model(x, sigma, **prior.conditioning(None, len(x)))


def by_core(model, x, path, seed=3, pairs=PAIRS, **options):
    steps = []
    settings = {"pairs": pairs, "radius": 4, "on_step": steps.append, **options}
    with torch.inference_mode():
        drag(model, x, path, noise_sampler=seeded_noise(item_seeds(seed, len(x)), DRAG), **settings)
    return torch.cat(steps)


def same(image, expected, atol=1e-4):
    torch.testing.assert_close(image, expected, atol=atol, rtol=0)


@pytest.mark.parametrize("kind", ["sde", "ode"])
def test_it_is_the_cores(server, info, prior, kind):
    """The picture after each step, the progress over all of them, and the picture for the page."""
    node = dragged(server, info, kind=kind)
    steps = by_core(unconditional(prior), latent(node.given), path_of(prior), kind=kind)
    same(node.steps, pixels(steps))
    assert torch.equal(node.image, node.steps[-1:])
    whole = 3 * 4 * (1 if kind == "sde" else 2)
    assert node.progress[-1] == (whole, whole)
    calls = 12 if kind == "sde" else 3 * (4 + 1 + 4 + 1)
    assert f"3 drag steps, {calls} network calls" in node.report
    assert [picture.size for picture in node.shown] == [(32, 32)]


def test_in_turn_takes_one_pair_after_the_other(server, info, prior):
    node = dragged(server, info, order="in turn")
    same(node.steps, pixels(by_core(unconditional(prior), latent(node.given), path_of(prior), order="in turn")))
    assert len(node.steps) == 3 + 2


def test_guidance_rises_to_the_depth(server, info, prior):
    """On a class, from 1 to 5; and what holds guidance back elsewhere is given the scale of each level."""
    prompt = Drags(info)
    rose = prompt.node("CODE_ClassCondition", model=prompt.prior[0], label="rose")[0]
    guidance = {"positive": rose, "negative": prompt.prior[2], "cfg_start": 1.0, "cfg_end": 5.0}
    node = ran(server, prompt, *prompt.drag(**guidance))
    network, path = prior.model(threshold=False), path_of(prior)
    scale = guidance_ramp(path, 1.0, 5.0)

    def model(x, sigma):
        of_rose, of_none = (network(x, sigma, **prior.conditioning(label, len(x))) for label in ("rose", None))
        return of_none + scale(sigma).view(-1, 1, 1, 1) * (of_rose - of_none)

    same(node.steps, pixels(by_core(model, latent(node.given), path)), atol=5e-4)
    assert "cfg 1 to 5" in node.report
    prompt = Drags(info)
    rose = prompt.node("CODE_ClassCondition", model=prompt.prior[0], label="rose")[0]
    rescaled = prompt.node("RescaleCFG", model=prompt.prior[0], multiplier=0.7)[0]
    other = ran(server, prompt, *prompt.drag(**{**guidance, "model": rescaled, "positive": rose}))
    assert 1e-3 < (other.image - node.image).abs().mean() < 0.1


def test_outside_the_mask_the_picture_stays_to_the_bit(server, info):
    prompt = Drags(info)
    mask = prompt.node("SolidMask", value=1.0, width=16, height=32)[0]
    left = prompt.node("SolidMask", value=0.0, width=32, height=32)[0]
    mask = prompt.node("MaskComposite", destination=left, source=mask, x=0, y=0, operation="add")[0]
    node = ran(server, prompt, *prompt.drag(mask=mask, points=json.dumps(POINTS[:1])))
    assert torch.equal(node.image[:, :, 16:], node.given[:, :, 16:])
    assert (node.image - node.given)[:, :, :16].abs().mean() > 5e-3


@pytest.mark.parametrize("points", ["", "[]", '[{"from": [3, 3], "to": [3, 3]}]'])
def test_without_a_way_to_go_it_is_the_picture(server, info, points):
    node = dragged(server, info, points=points)
    assert torch.equal(node.image, node.given)
    assert "0 drag steps, 0 network calls" in node.report
    assert node.shown


def test_points_are_pixels_of_the_picture_that_is_given(server, info, prior):
    """Of a wide one the middle is seen, half as large; what lies beside it is cut off, and with fit whole it is not."""
    prompt = Drags(info)
    points = [{end: [32 + 2 * pair[end][0], 2 * pair[end][1]] for end in pair} for pair in POINTS]
    node = ran(server, prompt, *prompt.drag(image=padded(prompt), points=json.dumps(points)))
    seen = torch.nn.functional.interpolate(node.given.movedim(-1, 1)[..., 32:96], size=(32, 32), mode="area")
    same(node.steps, pixels(by_core(unconditional(prior), 2 * seen - 1, path_of(prior))))
    beside = '[{"from": [20, 30], "to": [40, 30]}]'
    assert "(20, 30) is cut off" in failure(server, info, image=padded, points=beside)["exception_message"]
    whole = Drags(info)
    both = whole.node("ImageStitch", image1=whole.flower, image2=whole.flower)[0]
    node = ran(server, whole, *whole.drag(image=both, fit="whole", points='[{"from": [8, 15], "to": [10, 15]}]'))
    assert node.image.shape == (1, 32, 64, 3)


def padded(prompt):
    """An example picture of 64x64 with 32 pixels of grey to its left and right."""
    large = prompt.node("CODE_ExamplePicture", picture="sunflower-1", damage="none")[1]
    return prompt.node("ImagePadForOutpaint", image=large, left=32, top=0, right=32, bottom=0, feathering=0)[0]


def test_items_of_a_batch_are_each_alone(server, info, prior):
    prompt = Drags(info)
    both = prompt.node("ImageBatch", image1=prompt.flower, image2=prompt.node("TEST_SmallExample", picture="rose-1")[1])
    node = ran(server, prompt, *prompt.drag(image=both[0]))
    second = by_core(unconditional(prior), latent(node.given[1:]), path_of(prior), seed=4)[-1:]
    same(node.image[1:], pixels(second))


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
def test_every_kind_of_model(server, info, kind):
    """In VE coordinates and the model's own scale, whatever the network predicts."""
    prompt = Drags(info)
    model = prompt.tiny(kind=kind, channels=3)
    schedule = {"depth": 0.3, "steps": 4, "spacing": "linspace", "to_zero": False}
    prompt.node("TEST_Save", name="levels", sigmas=prompt.node("CODE_Schedule", model=model, **schedule)[0])
    node = ran(server, prompt, *prompt.drag(model=model, positive=prompt.condition(), depth=0.3))
    path = load_file(server.output / "levels.safetensors")["sigmas"].double()
    path = sigma_of_tau(path) if kind == "flow" else path
    x = (latent(node.given) - 0.25) * 0.5
    steps = by_core(TinyDenoiser(channels=3), x, path)
    same(node.steps, pixels(steps / 0.5 + 0.25), atol=2e-3)


def test_a_lora_is_scaled_anew_in_every_step(server, info, prior):
    """ComfyUI's own hooks: off at the noisier levels and on at the cleaner, in each of the three steps."""
    weight = prior.network.conv_in.weight
    up = 0.3 * torch.randn(len(weight), 2, 1, 1, generator=torch.Generator().manual_seed(0))
    down = 0.3 * torch.randn(2, *weight.shape[1:], generator=torch.Generator().manual_seed(1))
    (server.models / "loras").mkdir(exist_ok=True)
    name, key = f"random-{next(NAMES)}.safetensors", "diffusion_model.unet.conv_in"
    save_file({f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down}, server.models / "loras" / name)
    prompt, path = Drags(info), path_of(prior)
    hooks = prompt.node("CreateHookLoraModelOnly", lora_name=name, strength_model=1.0)[0]
    # percents run from the noisiest level down: between the levels 2 and 3 of 5
    percent = 1 - prior.levels.timestep((path[2] + path[3]) / 2).item() / 999
    frames = prompt.node("CreateHookKeyframe", strength_mult=0.0, start_percent=0.0)[0]
    frames = prompt.node("CreateHookKeyframe", strength_mult=1.0, start_percent=percent, prev_hook_kf=frames)[0]
    hooks = prompt.node("SetHookKeyframes", hooks=hooks, hook_kf=frames)[0]
    positive = prompt.node("ConditioningSetProperties", cond_NEW=prompt.prior[2], strength=1.0, hooks=hooks)[0]
    node = ran(server, prompt, *prompt.drag(positive=positive))
    plain, changed = unconditional(prior), load("flowers32")
    with torch.no_grad():
        changed.network.conv_in.weight += (up.flatten(1) @ down.flatten(1)).view_as(weight)
    with_lora = unconditional(changed)

    def model(x, sigma):
        return (with_lora if sigma[0] <= path[3] * 1.01 else plain)(x, sigma)

    steps = by_core(model, latent(node.given), path)
    same(node.steps, pixels(steps), atol=5e-4)
    assert (steps - by_core(plain, latent(node.given), path)).abs().mean() > 1e-3


def failure(server, info, **inputs):
    """What the node says to inputs that it refuses; those that are nodes are given as functions of the prompt."""
    prompt = Drags(info)
    prompt.drag(**{name: value(prompt) if callable(value) else value for name, value in inputs.items()})
    error = server.run(prompt).error
    assert error["node_type"] == "CODE_Drag"
    assert_clear(error, server.base)
    return error


@pytest.mark.parametrize(
    "points",
    [
        "one, two",
        "[",
        "{}1",
        "7",
        "null",
        '{"from": [1, 2], "to": [3, 4]}',
        "[1, 2]",
        "[[1, 2], [3, 4]]",
        '[{"from": [1, 2]}]',
        '[{"from": [1, 2], "to": [3]}]',
        '[{"from": [1, 2], "to": [3, 4, 5]}]',
        '[{"from": [1, 2], "to": "34"}]',
        '[{"from": [1, 2], "to": [3, true]}]',
        '[{"from": [1, 2], "to": [3, NaN]}]',
        '[{"from": [1, 2], "to": [3, 1e999]}]',
        '[{"from": [1, 2], "to": [3, 1' + 400 * "0" + "]}]",
        3000 * "[",
    ],
)
def test_what_is_no_list_of_pairs_is_refused(server, info, points):
    assert "no list of pairs" in failure(server, info, points=points)["exception_message"]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"points": '[{"from": [3, 3], "to": [33, 3]}]'}, "(33, 3) lies outside"),
        ({"points": '[{"from": [3, -1], "to": [3, 3]}]'}, "(3, -1) lies outside"),
        ({"radius": 17}, "radius from 1 to 16"),
        ({"depth": 0.0}, "depth"),
        ({"mask": lambda prompt: prompt.node("SolidMask", value=0.0, width=32, height=32)[0]}, "covers nothing"),
        ({"mask": lambda prompt: prompt.node("SolidMask", value=1.0, width=16, height=32)[0]}, "16x32"),
    ],
)
def test_what_cannot_be_is_refused(server, info, inputs, said):
    assert said in failure(server, info, **inputs)["exception_message"]
