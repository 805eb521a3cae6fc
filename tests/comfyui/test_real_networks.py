"""ComfyUI's real networks with random weights, computing in half precision: solvers that come back, and SDE-Drag."""

import json

import pytest
import torch
from comfyui.test_inversion import PAIRED, SAME, kept
from comfyui.test_inversion import SOLVERS as EXACT
from comfyui.test_models import ARCHITECTURES, Workflow, psnr
from confident_ode.samplers.ode import SOLVERS
from safetensors.torch import load_file, save_file

# float16, where the CPU computes in it: else a convolution takes minutes
KIND = "fp16" if torch.ops.mkldnn._is_mkldnn_fp16_supported() else "bf16"
DTYPE = {"fp16": torch.float16, "bf16": torch.bfloat16}[KIND]
KNOWN = {**ARCHITECTURES, "koala": ARCHITECTURES["sdxl"]}
# (side of the latent, batch): KOALA, an SDXL of less depth, sees a picture of 1024 pixels
SIZES = {"sd15": (16, 2), "sd2": (16, 2), "sdxl": (16, 2), "sd3": (16, 2), "flux": (16, 2), "koala": (128, 1)}


@pytest.fixture(scope="module")
def half(start_server):
    """A server that holds networks in half precision; half the memory, too, of one that computes in float32."""
    server = start_server(f"--{KIND}-unet")
    yield server
    server.stop()


class Half(Workflow):
    """A workflow on a network in half precision throughout, a batch of pictures for it, a path, and prompts."""

    def __init__(self, network, **path):
        super().__init__()
        known, size = KNOWN[network], SIZES[network]
        stored = self.node("UNETLoader", unet_name=f"{network}.safetensors", weight_dtype="default")[0]
        # which on a CPU would be computed with in float32
        self.model = self.node("ModelComputeDtype", model=stored, dtype=KIND)[0]
        prompt = {"fill": "normal", "tokens": 4, "width": known.width, "pooled": known.pooled}
        self.shown, self.nothing = (self.prompt(seed=seed, **prompt) for seed in (1, 3))
        shape = {"height": size[0], "width": size[0], "batch": size[1]}
        unit = self.picture(channels=known.channels, means="", **shape)
        self.latent = self.node("LatentMultiply", samples=unit, multiplier=1 / known.scale)[0]
        settings = {"steps": 2, "depth": 0.3, "unit": "fraction", "to_zero": False}
        self.path = self.schedule(self.model, **{**settings, **path})

    def up(self, solver="euler", **changes):
        return self.invert(self.model, self.latent, self.path, self.shown, solver=solver, **changes)

    def down(self, inverted, solver, **changes):
        links = {"companion": inverted[6]} if solver in PAIRED else {}
        return self.decode(self.model, inverted[0], inverted[1], self.shown, solver=solver, **links, **changes)


# least dB in two steps each way
FLOORS = {"euler": 25, "heun": 40, "ab2": 38, "dpmpp_2m": 28, "fixed point": 37, "exact dpm++": 20}
FLOORS |= dict.fromkeys(PAIRED, 90)
# 83 seen at 1024 pixels, where the others have 170
FLOORS["edict"] = 90 if KIND == "fp16" else 70


@pytest.mark.parametrize("network", SIZES)
def test_every_solver_comes_back_in_half_precision(half, give_weights, network):
    """By the same widgets on all."""
    give_weights(half, network)
    graph, solvers = Half(network), ["ab2", *EXACT] if network == "koala" else [*SOLVERS, *EXACT]
    graph.save("picture", latent=graph.latent)
    for solver in solvers:
        inverted = graph.up(solver)
        graph.save(f"{solver} up", latent=inverted[0])
        graph.save(solver, latent=graph.down(inverted, solver)[0])
    before = len(half.log)
    saved = kept(half, graph, timeout=600)
    assert f"model weight dtype {DTYPE}" in half.log[before:]
    picture = saved["picture"]["latent"]
    figures = {}
    for solver in solvers:
        up, back = saved[f"{solver} up"]["latent"], saved[solver]["latent"]
        for x in (up, back):
            assert x.isfinite().all()
            assert (x.std((-2, -1)) > 0.5 * picture.std((-2, -1))).all()
        assert psnr(up, picture) < 35
        figures[solver] = min(psnr(a, b) for a, b in zip(back, picture, strict=True))
    print(network, {solver: round(dB, 1) for solver, dB in figures.items()})
    assert all(figures[solver] > FLOORS[solver] for solver in solvers)


METHODS = {"koala": ["direct", "negative prompt", "plain"]}
# gradients through a picture of 1024 pixels take a CPU minutes
METHODS["sdxl"] = [*METHODS["koala"], "null-text"]


@pytest.mark.parametrize("network", METHODS)
def test_guided_decode_comes_back_in_half_precision(half, give_weights, network):
    """In two steps, direct to the bit."""
    give_weights(half, network)
    graph, methods = Half(network, steps=1, to_zero=True), METHODS[network]
    inverted = graph.up()
    common = {"model": graph.model, "sigmas": inverted[1], "trajectory": inverted[2], "negative": graph.nothing}
    common |= {"cfg": 7.5}
    for method in methods:
        links = {"latent": inverted[0], "source": graph.shown, "target": graph.shown}
        if method == "null-text":
            widgets = {"updates": 1, "noise_bias": "every", "starts": 1, "hops": 0, "seed": 0, "tolerance": 0.0}
            links["corrections"] = graph.node("CODE_NullText", positive=graph.shown, **widgets, **common)[0]
        decoded = graph.node("CODE_GuidedDecode", method=method, **links, **common)
        graph.save(method, latent=decoded[0], text=decoded[1])
    graph.save("picture", latent=graph.latent)
    saved = kept(half, graph, timeout=600)
    picture = saved["picture"]["latent"]
    for method in methods:
        back = saved[method]["latent"]
        print(saved[method]["text"], psnr(back, picture))
        assert back.isfinite().all()
        assert (back.std((-2, -1)) > 0.5 * picture.std((-2, -1))).all()
    torch.testing.assert_close(saved["direct"]["latent"], picture, **SAME)
    dB = {method: psnr(saved[method]["latent"], picture) for method in methods}
    assert min(dB.values()) == dB["plain"]


RIGHT = {"points": json.dumps([{"from": [40, 64], "to": [72, 64]}]), "radius": 3, "steps": 2, "depth": 0.1}


class Dragging(Half):
    """A picture of 128x128 whose window of 48 pixels is to move by 32 to the right."""

    def __init__(self, network):
        super().__init__(network)
        self.vae = self.node("VAELoader", vae_name=f"{network}.safetensors")[0]
        flower = self.node("CODE_ExamplePicture", picture="sunflower-1", damage="none", seed=0)[1]
        self.image = self.node(
            "ImageScale", image=flower, upscale_method="bicubic", width=128, height=128, crop="disabled"
        )[0]
        encoded = self.node("VAEEncode", pixels=self.image, vae=self.vae)[0]
        self.save("input", image=self.image)
        self.save("through the VAE", image=self.node("VAEDecode", samples=encoded, vae=self.vae)[0])
        # where a square of 16 pixels of the latent may change
        mask = self.node("SolidMask", value=1.0, width=96, height=64)[0]
        nothing = self.node("SolidMask", value=0.0, width=128, height=128)[0]
        self.mask = self.node("MaskComposite", destination=nothing, source=mask, x=8, y=32, operation="add")[0]

    def drag(self, name, **changes):
        widgets = {"order": "at once", "alpha": 1.1, "beta": 0.3, "cfg_start": 1.0, "cfg_end": 3.0, "seed": 3}
        links = {"model": self.model, "vae": self.vae, "image": self.image, "positive": self.shown}
        node = self.node("CODE_Drag", **{**links, **RIGHT, **widgets, **changes})
        self.save(name, image=node[0], text=node[2])
        self.save(f"{name} steps", image=node[1])
        return node


def at(x, picture):
    """The window of 48 pixels about column x of the middle row."""
    return picture[:, 40:88, x - 24 : x + 24]


@pytest.mark.parametrize("kind", ["sde", "ode"])
@pytest.mark.parametrize("network", ["sd15", "sdxl"])
def test_drag_moves_a_picture_of_latents(half, give_weights, network, kind):
    give_weights(half, network, "near_vae")
    # latents as large as those that the network is trained on
    weights = load_file(half.models / "vae/near_vae.safetensors")
    weights["vae_scale"] = torch.tensor(KNOWN[network].scale)
    save_file(weights, half.models / f"vae/{network}.safetensors")
    graph = Dragging(network)
    guidance = {"negative": graph.nothing} if kind == "sde" else {}
    graph.drag("free", kind=kind, **guidance)
    # fit is for pixel priors alone: the same once more, which ComfyUI computes again
    graph.drag("again", kind=kind, fit="whole", **guidance)
    graph.drag("another", kind=kind, seed=4, **guidance)
    graph.drag("masked", kind=kind, mask=graph.mask, **guidance)
    saved = kept(half, graph, timeout=600)
    given, whole = saved["input"]["image"], saved["through the VAE"]["image"]
    for name in ("free", "another", "masked"):
        image = saved[name]["image"]
        assert image.isfinite().all()
        assert torch.equal(saved[f"{name} steps"]["image"][-1:], image)
        assert len(saved[f"{name} steps"]["image"]) == 2
        change, before = (image - whole).abs().mean((0, 3)), psnr(at(72, whole), at(40, whole))
        far = torch.cat([change[:24], change[104:]]).mean()
        print(network, kind, name, (change[40:88, 16:96].mean(), far, psnr(at(72, image), at(40, whole)) - before))
        assert psnr(at(72, image), at(40, whole)) > before + 1
        if name != "masked":
            assert change[40:88, 16:96].mean() > 5 * far
    calls = "4 network calls, cfg 1 to 3." if kind == "sde" else "12 network calls."
    assert saved["free"]["text"] == f"2 drag steps, {calls}"
    torch.testing.assert_close(saved["again"]["image"], saved["free"]["image"], **SAME)
    assert (saved["another"]["image"] - saved["free"]["image"]).abs().mean() > 0.01
    outside = torch.ones(128, 128, dtype=bool)
    outside[32:96, 8:104] = False
    assert torch.equal(saved["masked"]["image"][:, outside], given[:, outside])
    # inside as without a mask, but for what the network sees beside it
    inside = (saved["masked"]["image"] - saved["free"]["image"])[:, ~outside]
    assert inside.abs().mean() < 0.05
