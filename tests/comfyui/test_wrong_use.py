"""Wrong use in the real server: a sentence on the right node that says what to do, and the next prompt runs."""

import json
import pickle
import shutil
import time
from functools import partial
from itertools import count

import pytest
import requests
import torch
from comfyui.prompts import Prompt, assert_clear, options
from comfyui.server import REPOSITORY, Refused
from safetensors.torch import save_file

SAMPLING = "DDIMInvert", "ODEDecode", "SDEdit", "LangevinUpdate"
WITH_LATENT = *SAMPLING, "ConfidenceClip"
DETERMINISTIC = "euler", "heun", "dpm_2", "lms", "dpmpp_2m", "ipndm", "ipndm_v", "deis", "ddim"

OTHER_VAE = "with the VAE that belongs to this model"
EMPTY, NOT_FINITE = "holds no picture: check", "NaN or infinity: check the node that it comes from"
FLOW_END = "At sigma 1 a flow model sees nothing but noise, from which no picture returns: take less depth."
ONE_OF, TOO_DEEP = "take one of", "take less depth, or the CODE Schedule of this MODEL"

# name: (what is said, how the nodes are made), build(prompt) -> the node that says it
CASES = {}


def case(says, name, build):
    assert name not in CASES, name
    CASES[name] = says, build


def wrong(says, kind, name, **inputs):
    """A case of one CODE node; what is callable among its inputs is made in the prompt."""
    made = lambda p: {key: value(p) if callable(value) else value for key, value in inputs.items()}  # noqa: E731
    case(says, f"{kind}: {name}", lambda p: p.use(kind, **made(p)))


def made(what):
    """what(**inputs) -> a function of the prompt."""
    return lambda **inputs: partial(what, **inputs)


tiny, latent, pixel_latent = made(Prompt.tiny), made(Prompt.latent), made(Prompt.pixel_latent)
image, mask, condition = made(Prompt.image), made(Prompt.mask), made(Prompt.condition)
clip, sampler = made(Prompt.clip), made(Prompt.stock_sampler)
PIXELS = {"model": Prompt.pixels, "latent": Prompt.pixel_latent}


def sigmas(levels):
    return partial(Prompt.sigmas, levels=levels)


def linked(number):
    """A number over a link, where ComfyUI holds no limit against it."""
    return partial(Prompt.integer if isinstance(number, int) else Prompt.number, value=number)


def as_list(value):
    """A list where a widget holds a choice."""
    return {"__value__": [value]}


LATENTS = {
    "other channels": (OTHER_VAE, {"channels": 3}),
    "a video": (OTHER_VAE, {"frames": 3}),
    "an empty batch": (EMPTY, {"batch": 0}),
    "no channels": (EMPTY, {"channels": 0}),
    "no height": (EMPTY, {"height": 0}),
    "NaN": (NOT_FINITE, {"fill": "nan"}),
    "infinity": (NOT_FINITE, {"fill": "infinity"}),
}
PATHS = {
    "": "at least two sigmas",
    "5,nan,0.1": "choose less depth",
    "inf,1": "choose less depth",
    "5,-1,-2": "choose less depth",
    "5,1,3": "must rise all the way (encoding) or fall all the way",
    "1,1": "must rise all the way (encoding) or fall all the way",
    "0,1,5": "Encoding cannot start at sigma 0",
    "101,1,0": TOO_DEEP,
}
FLOW_PATHS = {
    "1,0.5,0": FLOW_END,
    "1.5,0.5": FLOW_END,
    "-0.5,-0.7": "choose less depth",
    "nan,0.5": "choose less depth",
}


def flow_patch(p):
    return p.node("ModelSamplingSD3", model=p.tiny(), shift=3.0)[0]


for kind in WITH_LATENT:
    for name, (says, shape) in LATENTS.items():
        wrong(says, kind, f"latent, {name}", latent=latent(**shape))
    wrong(OTHER_VAE, kind, "latent of Stable Diffusion for pixels", model=Prompt.pixels)
    for levels, says in PATHS.items():
        wrong(says, kind, f"sigmas {levels}", sigmas=sigmas(levels))
    for levels in ("0", "-1", "nan"):
        one_is_enough = kind in ("LangevinUpdate", "ConfidenceClip")
        wrong("noise level is" if one_is_enough else "two sigmas", kind, f"sigmas {levels}", sigmas=sigmas(levels))
    if kind != "DDIMInvert":
        wrong("to the cleanest: flip them", kind, "sigmas in encode order", sigmas=sigmas("0.1,1,5"))
    for levels, says in FLOW_PATHS.items():
        wrong(says, kind, f"sigmas {levels} of a flow", model=tiny(kind="flow"), sigmas=sigmas(levels))
    wrong(FLOW_END, kind, "sigma 1 of ComfyUI's own flow", model=flow_patch, sigmas=sigmas("1,0.5,0"))

for kind in SAMPLING:
    wrong("connect negative, or set cfg to 1", kind, "cfg without negative", cfg=3.0)
    wrong("The cfg is nan", kind, "cfg NaN", cfg="nan", negative=Prompt.condition)
    wrong("connect Class Condition to positive", kind, "cfg without class", cfg=3.0, negative=condition(), **PIXELS)
    wrong("connect a prompt", kind, "no conditioning", positive=condition(entries=0))
    wrong("in place of a prompt", kind, "a prompt for pixels", positive=condition(tokens=4), **PIXELS)
    for height, width in [(1, 1), (5, 7), (16, 4096), (28, 40)]:
        size = {"latent": pixel_latent(height=height, width=width)}
        wrong("scale it so that no side is smaller than 32", kind, f"pixels, {width}x{height}", **PIXELS | size)

for kind in ("DDIMInvert", "ODEDecode"):
    wrong(ONE_OF, kind, "an unknown solver", solver="x")
    wrong(ONE_OF, kind, "a list of solvers", solver=as_list("ab2"))
    for name in ("SamplerEulerAncestral", "SamplerDPMPP_SDE", "SamplerDPMAdaptative", "SamplerLCMUpscale"):
        wrong("take one without noise", kind, name, sampler=lambda p, name=name: p.node(name)[0])
    fixed = clip(data_range="fixed", low="-1", high="1")
    wrong("disconnect the sampler", kind, "a clip for a sampler", clip=fixed, sampler=sampler(name="euler"))


MASKS = {
    "of another size": ("mask of the picture's size", {"height": 48}),
    "all zero": ("paint what is to be changed", {"fill": "constant"}),
    "NaN": ("paint what is to be changed", {"fill": "nan"}),
    "more than pictures": ("give one, or one each", {"batch": 3}),
    "none": ("The mask is empty", {"batch": 0}),
    "without width": ("The mask is empty", {"width": 0}),
}


def keeping(p, inversion=None, **inputs):
    """ODE Decode that keeps what is outside a mask as it was in an inversion."""
    inverted = inversion or p.inversion()
    links = {"latent": inverted[0], "sigmas": inverted[1], "trajectory": inverted[2]}
    return p.use("ODEDecode", **links | {"mask": p.mask()} | inputs)


def latent_with_mask(p):
    return p.node("SetLatentNoiseMask", samples=p.latent(), mask=p.mask(height=48))[0]


for name, (says, shape) in MASKS.items():
    wrong(says, "SDEdit", f"mask, {name}", mask=mask(**shape))
    wrong(says, "Restore", f"mask, {name}", mask=mask(**{"height": 32, "width": 32} | shape))
    case(says, f"ODEDecode: mask, {name}", lambda p, shape=shape: keeping(p, mask=p.mask(**shape)))
wrong("mask of the picture's size", "SDEdit", "mask in the latent", latent=latent_with_mask)
wrong("connect DDIM Invert's trajectory", "ODEDecode", "mask without trajectory", mask=Prompt.mask)
case(
    "connect the one of the latent's own DDIM Invert",
    "ODEDecode: trajectory of another size",
    lambda p: keeping(p, latent=p.latent(height=16), mask=p.mask(height=128)),
)
case(
    "connect the one of the latent's own DDIM Invert",
    "ODEDecode: trajectory of another batch",
    lambda p: keeping(p, p.inversion(latent=p.latent(batch=2)), latent=p.latent(batch=3)),
)
case(
    "decode with the SIGMAS that it gave out",
    "ODEDecode: trajectory of other sigmas",
    lambda p: keeping(p, sigmas=p.sigmas("5, 2, 0.1")),
)
case(
    "disconnect the sampler of DDIM Invert",
    "ODEDecode: trajectory of a sampler",
    lambda p: keeping(p, p.inversion(sampler=p.stock_sampler("heun"))),
)
case(
    "disconnect the sampler",
    "ODEDecode: mask for a sampler",
    lambda p: keeping(p, sampler=p.stock_sampler("euler")),
)


def clip_of_three_channels(p):
    return p.clip(model=p.tiny(channels=3), reference=p.latent(channels=3))


def clip_of_a_batch(p):
    return p.clip(reference=p.latent(batch=3))


for kind in ("LangevinUpdate", "ODEDecode"):
    wrong("connect the clean latent to the reference", kind, "clip of unknown range", clip=Prompt.clip)
for kind in ("DDIMInvert", "LangevinUpdate", "ODEDecode"):
    wrong("The clip is for latents of other channels", kind, "clip of other channels", clip=clip_of_three_channels)
    wrong("or another batch", kind, "clip of a batch", clip=clip_of_a_batch)

LIMITS = {
    "no numbers": ("a", "1"),
    "NaN": ("nan", "1"),
    "infinity": ("-inf", "1"),
    "two numbers": ("1,2", "3"),
    "a long text": ("x" * 5000, "1"),
}
for name, (low, high) in LIMITS.items():
    wrong("give a number, or 4 with commas between", "ConfidenceClip", name, low=low, high=high)
wrong("swap them", "ConfidenceClip", "low above high", low="1", high="-1")
wrong("eta is nan", "ConfidenceClip", "eta NaN", eta="nan")
wrong("eta is -1", "ConfidenceClip", "eta below 0", eta=linked(-1.0))
wrong(ONE_OF, "ConfidenceClip", "an unknown range", data_range="x")
wrong("connect the other one too", "ConfidenceClip", "no sigmas", sigmas=None)
wrong("connect the clean latent to the reference", "ConfidenceClip", "no reference", data_range="auto")
wrong(NOT_FINITE, "ConfidenceClip", "reference NaN", data_range="auto", reference=latent(fill="nan"))
wrong("or another batch", "ConfidenceClip", "reference of a batch", data_range="auto", reference=latent(batch=3))

wrong("connect the clean latent to the reference", "ConfidenceClip", "quantile of nothing", data_range="quantile")
quantile = partial(wrong, kind="ConfidenceClip", data_range="quantile", reference=Prompt.latent)
observation = partial(wrong, kind="ConfidenceClip", data_range="observation", reference=Prompt.latent)
quantile("take 0 or more, and below 0.5", name="all outside", outside=linked(0.5))
quantile("take 0 or more, and below 0.5", name="outside NaN", outside="nan")
observation("take 0 or more", name="a negative width", width=linked(-1.0))
observation("take 0 or more", name="width NaN", width="nan")

for size in (0.0, 1.95, "nan"):
    step = "take one above 0 and below 0."
    wrong(step, "LangevinUpdate", f"step {size}", step_size=size)
    wrong(step, "Restore", f"step {size}", step_size=size)
wrong(step, "LangevinUpdate", "step below 0", step_size=linked(-1.0))
wrong("decay of the Langevin step is nan", "LangevinUpdate", "decay NaN", decay="nan")
wrong("temperature of the Langevin noise is nan", "LangevinUpdate", "temperature NaN", temperature="nan")
wrong("take 1 or more", "LangevinUpdate", "no updates", updates=linked(0))
wrong("at least 1 block", "LangevinUpdate", "no blocks", blocks=linked(0))
wrong(ONE_OF, "LangevinUpdate", "an unknown mode", mode="x")
wrong("take one above 0 and below 0.5", "LangevinUpdate", "relative step", mode="relative", step_size=2.0)
wrong("take one above 0 and below", "LangevinUpdate", "snr step", mode="snr", step_size=linked(6.0))
for kind in ("LangevinUpdate", "Restore"):
    wrong("take about 1, or 0 never to stop", kind, "stop at NaN", stop_at="nan")
    wrong("take about 1, or 0 never to stop", kind, "stop at below 0", stop_at=linked(-0.1))
wrong("at least 1 repeat", "SDEdit", "no repeats", repeats=linked(0))

DEPTHS = {
    "fraction": {2.0: "take one above 0 and up to 1", 0.0: "take one above 0 and up to 1", "nan": "is no fraction"},
    "timestep": {1e5: "take above 0 and up to 99", 0.5: "take fewer steps or a greater depth", "nan": "up to 99"},
    "sigma": {1e5: "is outside this model: take above 0.00", 0.0: "take above 0.00", "nan": "outside this model"},
}
for unit, depths in DEPTHS.items():
    for depth, says in depths.items():
        for kind in ("eps", "flow"):
            wrong(says, "Schedule", f"{kind}, {unit} {depth}", model=tiny(kind=kind), unit=unit, depth=depth)
schedule = partial(wrong, model=Prompt.tiny)
schedule("take fewer steps", "Schedule", "more steps than timesteps", steps=1000)
schedule("take a whole number of at least 1", "Schedule", "no steps", steps=linked(0))
schedule(ONE_OF, "Schedule", "an unknown unit", unit="x")
schedule(ONE_OF, "Schedule", "an unknown spacing", spacing=as_list("karras"))
schedule(ONE_OF, "Schedule", "a long text", spacing="x" * 5000)

wrong(
    OTHER_VAE, "Restore", "a VAE of other channels", vae=lambda p: p.node("VAELoader", vae_name="four.safetensors")[0]
)
wrong(OTHER_VAE, "Restore", "pixels for a latent model", model=Prompt.tiny)
wrong(
    "at least 8 pixels a side",
    "Restore",
    "smaller than the VAE takes",
    **{
        "model": Prompt.tiny,
        "vae": lambda p: p.node("VAELoader", vae_name="four.safetensors")[0],
        "image": image(height=4, width=4),
    },
)
wrong(EMPTY, "Restore", "an empty batch", image=image(batch=0))
wrong(NOT_FINITE, "Restore", "NaN", image=image(fill="nan"))
wrong("at least 2 pixels a side", "Restore", "a line of pixels", image=image(height=1, width=4096))
wrong("2 channels", "Restore", "two channels", image=image(channels=2))
wrong("in place of a prompt", "Restore", "a prompt for pixels", positive=condition(tokens=3))
wrong("connect negative, or set cfg to 1", "Restore", "faded alone", preset="faded")
wrong("connect Class Condition", "Restore", "faded without class", preset="faded", negative=Prompt.condition)
wrong("take one above 0 and up to 1", "Restore", "too deep", depth=1.5)
wrong("take fewer steps", "Restore", "too many steps", steps=1000)
wrong("turn one of them on", "Restore", "nothing to do", updates=0, clip=False)
wrong("eta is nan", "Restore", "eta NaN", eta="nan")
wrong("The cfg is nan", "Restore", "cfg NaN", cfg="nan", negative=Prompt.condition)
wrong("take 1 or more", "Restore", "no samples", samples=linked(0))
wrong(ONE_OF, "Restore", "an unknown preset", preset="x")
wrong(ONE_OF, "Restore", "an unknown scale", scale="x")
for kind in ("Restore", "ODEdit"):
    wrong(ONE_OF, kind, "an unknown fit", fit="x")
    wrong("take a larger max side", kind, "a strip, whole", fit="whole", image=image(height=4, width=400))
    wrong("take a larger max side", kind, "less than the prior's", fit="whole", max_side=linked(0))
wrong("take fewer levels", "Restore", "more levels than steps", levels=100)
wrong("take fewer levels", "Restore", "no levels", levels=linked(0))
wrong("take fewer levels", "Restore", "shallowest above the depth", levels=2, shallowest=0.9)
wrong("take one above 0 and up to 1", "Restore", "shallowest NaN or none", levels=2, shallowest=linked(2.0))
wrong("take one above 0 and below", "Restore", "a step too large for the cleanest", steps=6, levels=2, step_size=1.0)

wrong(ONE_OF, "ODEdit", "an unknown damage", damage="x")
wrong("take one above 0 and below", "ODEdit", "no step", step_size=0.0)
wrong("take one above 0 and below", "ODEdit", "a step too large", step_size=0.01)
wrong("temperature of the Langevin noise is nan", "ODEdit", "temperature NaN", temperature="nan")
wrong("take one above 0 and up to 1", "ODEdit", "no depth", depth=0.0)
wrong("take fewer steps", "ODEdit", "too many steps", steps=1000)
wrong("connect negative, or set cfg to 1", "ODEdit", "cfg without negative", cfg=3.0)
wrong("The clip is for latents of other channels", "ODEdit", "clip of another model", clip=clip_of_a_batch)
wrong(OTHER_VAE, "ODEdit", "pixels for a latent model", model=Prompt.tiny)
wrong(EMPTY, "ODEdit", "an empty batch", image=image(batch=0))

wrong("the batch is empty", "CompareImages", "an empty batch", a=image(batch=0))
wrong("NaN or infinite", "CompareImages", "NaN", reference=image(fill="nan"))
wrong("make the sizes equal", "CompareImages", "another size", a=image(height=16))
wrong("give each one picture, or as many", "CompareImages", "other batches", reference=image(batch=2), a=image(batch=3))
wrong("2 channels", "CompareImages", "two channels", a=image(channels=2))

wrong(ONE_OF, "ExamplePicture", "an unknown picture", picture="../../../icon")
wrong(ONE_OF, "ExamplePicture", "an unknown damage", damage="x")
wrong(ONE_OF, "ExamplePicture", "a list of damages", damage=as_list("none"))


def prior(says, name, **inputs):
    def build(p):
        node = p.node("CODE_LoadPixelPrior", **inputs)
        p.use("SDEdit", model=node[0], latent=p.pixel_latent(), positive=node[2])
        return node

    case(says, f"LoadPixelPrior: {name}", build)


# folders under models/diffusers, as `broken_priors` makes them
for folder, says in {
    "bin_only": "pickled weights only (diffusion_pytorch_model.bin), which are not opened: make safetensors",
    "renamed": "is a pickle under a safetensors name: it is not opened",
    "new_pickle": "is a pickle under a safetensors name: it is not opened",
    "cut_off": "is damaged or cut off: fetch it again",
    "no_weights": "holds no weights",
    "no_json": "is not valid JSON: fetch the prior again",
}.items():
    prior(says, folder, prior=folder)
prior(ONE_OF, "an unknown name", prior="no such prior")
prior(ONE_OF, "a path", prior="../../..")
prior(ONE_OF, "a list", prior=as_list("flowers32"))
prior("a diffusers folder, or a hub id", "no hub id", hub_id="not/a/hub/id")
prior("a diffusers folder, or a hub id", "a long hub id", hub_id="x" * 5000)
prior("a diffusers folder, or a hub id", "a home of nobody", hub_id="~nobody-by-this-name/prior")
prior("check the name and the network", "nothing on the hub", hub_id="confident-ode/there-is-no-such-prior")


def label(says, name, model=Prompt.pixels, **inputs):
    def build(p):
        m = model(p)
        node = p.node("CODE_ClassCondition", model=m, **inputs)
        p.use("SDEdit", model=m, latent=p.pixel_latent(), positive=node[0])
        return node

    case(says, f"ClassCondition: {name}", build)


label(ONE_OF, "an unknown class", label="kangaroo")
label(ONE_OF, "a number too high", label="5")
label(ONE_OF, "a long text", label="x" * 5000)
label("give this MODEL a prompt, with CLIP Text Encode", "a latent model", model=Prompt.tiny, label="rose")


def broken_priors(folder):
    """Copies of the bundled prior whose weights are missing, cut off, or pickles."""
    for name, damage in {
        "bin_only": lambda weights: weights.rename(weights.with_suffix(".bin")),
        "renamed": lambda weights: torch.save({"a": torch.zeros(1)}, weights),
        "new_pickle": lambda weights: weights.write_bytes(pickle.dumps({"a": 1}, protocol=5)),
        "cut_off": lambda weights: weights.write_bytes(weights.read_bytes()[:5000]),
        "no_weights": lambda weights: weights.unlink(),
        "no_json": lambda weights: weights.with_name("config.json").write_text("{"),
    }.items():
        shutil.copytree(REPOSITORY / "priors/flowers32", folder / name, ignore=shutil.ignore_patterns("*.png", "*.csv"))
        damage(folder / name / "unet/diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def wronged(server):
    """The server with priors that cannot be loaded, and a VAE of four channels (of any weights)."""
    broken_priors(server.models / "diffusers")
    (server.models / "vae").mkdir(exist_ok=True)
    save_file({"taesd_decoder.1.weight": torch.zeros(64, 4, 3, 3)}, server.models / "vae/four.safetensors")
    return server


@pytest.fixture(scope="module")
def info(server):
    return server.object_info()


SEEDS = count()


def assert_serves(server, info):
    """The next prompt, unlike any before it, runs."""
    prompt = Prompt(info)
    node = prompt.use("SDEdit", seed=next(SEEDS))
    run = server.run(prompt)
    assert run.succeeded, run.error
    assert node in [data["node"] for data in run.of("executing")]


@pytest.mark.parametrize("name", CASES)
def test_wrong_use_is_told_in_a_sentence(wronged, info, name):
    says, build = CASES[name]
    prompt = Prompt(info)
    node = build(prompt)
    start = time.monotonic()
    refused = None
    try:
        run = wronged.run(prompt)
    except Refused as caught:
        refused = caught
    if refused:  # newer versions of ComfyUI know that a choice is none before a node runs
        assert says == ONE_OF
        assert {e["type"] for e in refused.node_errors[node]["errors"]} == {"value_not_in_list"}
        return
    assert time.monotonic() - start < 30
    assert not run.succeeded, "nothing was said"
    assert run.error["node_id"] == node, run.error
    assert_clear(run.error, wronged.base)
    assert says in run.error["exception_message"]
    assert_serves(wronged, info)


def test_only_samplers_without_noise_follow_the_ode(server, info):
    for name in options(*info["KSamplerSelect"]["input"]["required"]["sampler_name"]):
        prompt = Prompt(info)
        node = prompt.use("DDIMInvert", sampler=prompt.stock_sampler(name))
        run = server.run(prompt)
        if name in DETERMINISTIC:
            assert run.succeeded, run.error
        else:
            assert run.error["node_id"] == node, name
            assert_clear(run.error)
            assert "take one without noise" in run.error["exception_message"]


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("SDEdit", {"seed": -1}),
        ("SDEdit", {"seed": 2**64}),
        ("SDEdit", {"seed": "a number"}),
        ("SDEdit", {"repeats": 0}),
        ("LangevinUpdate", {"step_size": "inf"}),
        ("LangevinUpdate", {"step_size": "a number"}),
        ("LangevinUpdate", {"updates": 10**9}),
        ("Restore", {"samples": -1}),
        ("Restore", {"eta": -0.1}),
        ("Restore", {"stop_at": -0.1}),
        ("LangevinUpdate", {"stop_at": 101}),
    ],
)
def test_a_widget_out_of_its_limits_is_refused(server, info, kind, inputs):
    prompt = Prompt(info)
    node = prompt.use(kind, **inputs)
    with pytest.raises(Refused) as refused:
        server.queue(prompt)
    assert node in refused.value.node_errors
    assert_serves(server, info)


def test_a_bare_nan_in_the_json_is_told(server, info):
    """As Python's json writes it; no browser does."""
    prompt = Prompt(info)
    prompt.use("Schedule", model=prompt.tiny(), depth=float("nan"))
    body = json.dumps({"prompt": prompt})
    answer = requests.post(f"{server.url}/prompt", data=body, headers={"Content-Type": "application/json"}, timeout=60)
    assert answer.ok
    assert_serves(server, info)
    status = server.history(answer.json()["prompt_id"])["status"]
    [error] = [data for kind, data in status["messages"] if kind == "execution_error"]
    assert_clear(error)
    assert "The depth nan is no fraction" in error["exception_message"]


def test_what_ran_before_the_red_node_is_kept(server, info):
    """An independent branch keeps its picture and is not run again; a wrong prompt's good part neither."""
    prompt = Prompt(info)
    picture = prompt.node("CODE_ExamplePicture", seed=12345)
    preview = prompt.node("PreviewImage", images=picture[0])
    inverted = prompt.inversion(seed=67890)
    decoded = prompt.use("ODEDecode", latent=inverted[0], sigmas=inverted[1], cfg=3.0)
    # costs nothing and is not ready before the others: ComfyUI goes from left to right
    run = server.run(prompt)
    assert run.error["node_id"] == decoded
    ran = run.error["executed"]
    assert inverted in ran
    if preview in ran:
        assert run.pictures(preview)
    prompt[decoded]["inputs"]["cfg"] = 1.0
    run = server.run(prompt)
    assert run.succeeded, run.error
    assert run.pictures(preview)
    assert inverted in run.of("execution_cached")[0]["nodes"]
    assert {node for node in ran if node in run.of("execution_cached")[0]["nodes"]} == set(ran)
