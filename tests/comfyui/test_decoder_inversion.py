"""Decoder Inversion in the real server, on a TAESD whose weights make it nearly an autoencoder."""

import re

import pytest
import torch
from comfyui.test_inversion import SAME, Flowers, kept, refused
from comfyui.test_memory import MB, held
from comfyui.test_memory import server as memory_server  # noqa: F401
from comfyui.test_models import Workflow
from confident_ode.evaluation.metrics import psnr
from safetensors.torch import load_file, save_file

METHODS = ("gradient-free", "gradient")
PARTS = ("encoder", "decoder")
# of latents at half the spread that its encoder is used to
SPREAD, STEPS, RATE = 0.3, 60, 0.1
GAIN_DB = 10.0


@pytest.fixture(scope="module")
def with_vae(server, give_weights):
    give_weights(server, "near_vae")
    yield server
    (server.models / "vae" / "near_vae.safetensors").unlink()


class Vae(Workflow):
    """Pictures of 32 x 32 pixels that the VAE has decoded from latents of noise."""

    def __init__(self, batch=1, seed=0):
        super().__init__()
        self.vae = self.node("VAELoader", vae_name="near_vae.safetensors")[0]
        noise = self.picture(batch=batch, height=4, width=4, means="", seed=seed)
        self.latent = self.node("LatentMultiply", samples=noise, multiplier=SPREAD)[0]
        self.image = self.decoded(self.latent)

    def decoded(self, latent):
        return self.node("VAEDecode", samples=latent, vae=self.vae)[0]

    def encoded(self, image):
        return self.node("VAEEncode", pixels=image, vae=self.vae)[0]

    def found(self, method="gradient-free", image=None, **inputs):
        links = {"image": image or self.image, "vae": self.vae}
        return self.node("CODE_DecoderInversion", **{**links, "method": method, "steps": STEPS, "rate": RATE, **inputs})


def far(image, other):
    """The PSNR of the worst picture."""
    return min(psnr(image.movedim(-1, 1), other.movedim(-1, 1), 1.0))


def told(text):
    """(alone, from the latent that was found) in dB, and the steps."""
    alone, after, steps = re.search(r"at (\S+) dB PSNR, from this latent at (\S+) dB PSNR, after (\d+)", text).groups()
    return float(alone), float(after), int(steps)


@pytest.fixture(scope="module")
def inverted(with_vae):
    """What the encoder and both methods find of two pictures that the VAE made and of a photo; and the VAE after it."""
    graph = Vae(batch=2)
    photo = graph.node("TEST_SmallExample", picture="rose-2", damage="none", seed=0)[0]
    for name, image in {"made": graph.image, "photo": photo}.items():
        alone = graph.encoded(image)
        graph.save(name, image=image, latent=alone)
        graph.save(f"{name} alone", image=graph.decoded(alone))
        for method in METHODS:
            found = graph.found(method, image)
            graph.save(f"{name} {method}", latent=found[0], image=graph.decoded(found[0]), text=found[1])
    # by way of what was found, so that it comes after; nothing is added
    nothing = graph.node("LatentMultiply", samples=graph.found("gradient", rate=0.05, steps=2)[0], multiplier=0.0)[0]
    again = graph.decoded(graph.node("LatentAdd", samples1=graph.latent, samples2=nothing)[0])
    graph.save("again", image=again, latent=graph.encoded(again))
    return kept(with_vae, graph, timeout=600)


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_that_the_vae_made_comes_back(inverted, method):
    found, alone = inverted[f"made {method}"], inverted["made alone"]
    before, after = (far(one["image"], inverted["made"]["image"]) for one in (alone, found))
    print(method, before, after, found["text"])
    assert 15 < before < 30
    assert after > before + GAIN_DB
    assert told(found["text"]) == (pytest.approx(before, abs=0.06), pytest.approx(after, abs=0.06), STEPS)


def test_a_photo_comes_nearer_by_gradient_and_never_further(inverted):
    photo = inverted["photo"]["image"]
    before = far(inverted["photo alone"]["image"], photo)
    dB = {method: far(inverted[f"photo {method}"]["image"], photo) for method in METHODS}
    print(before, dB)
    assert dB["gradient"] > before + 1
    assert dB["gradient-free"] >= before - 1e-4


def test_the_vae_is_left_as_it_was(inverted):
    torch.testing.assert_close(inverted["again"]["image"], inverted["made"]["image"], **SAME)
    torch.testing.assert_close(inverted["again"]["latent"], inverted["made"]["latent"], **SAME)


def test_pictures_are_cropped_and_come_out_alike_alone_and_in_a_batch(with_vae):
    graph = Vae(batch=2)
    wide = graph.node("ImagePadForOutpaint", image=graph.image, left=3, top=0, right=2, bottom=1, feathering=0)[0]
    second = graph.node("ImageFromBatch", image=wide, batch_index=1, length=1)[0]
    graph.save("encoded", latent=graph.encoded(wide))
    for method in METHODS:
        graph.save(f"both {method}", latent=graph.found(method, wide, steps=4)[0])
        graph.save(f"second {method}", latent=graph.found(method, second, steps=4)[0])
    graph.save("none", latent=graph.found(image=wide, steps=0)[0])
    saved = kept(with_vae, graph)
    for method in METHODS:
        both, alone = (saved[f"{name} {method}"]["latent"] for name in ("both", "second"))
        assert both.shape == saved["encoded"]["latent"].shape
        torch.testing.assert_close(both[1:], alone, **SAME)
    torch.testing.assert_close(saved["none"]["latent"], saved["encoded"]["latent"], atol=1e-5, rtol=0)


def test_a_vae_of_pixels_is_exact(server):
    graph = Flowers()
    found = graph.node(
        "CODE_DecoderInversion", image=graph.image, vae=graph.vae, method="gradient", steps=1000, rate=0.0
    )
    graph.save("found", latent=found[0], text=found[1])
    graph.save("encoded", latent=graph.latent)
    saved = kept(server, graph)
    torch.testing.assert_close(saved["found"]["latent"], saved["encoded"]["latent"], **SAME)
    assert saved["found"]["text"].endswith("there is nothing to find.")


def test_ddim_invert_names_it_where_the_vae_is_the_ceiling(with_vae):
    graph = Vae()
    model = graph.tiny("eps")
    path = graph.schedule(model, steps=2)
    graph.save("told", text=graph.invert(model, graph.latent, path, graph.prompt(), vae=graph.vae)[4])
    text = kept(with_vae, graph)["told"]["text"]
    assert re.search(r"The VAE alone comes back at \d\d\.\d dB PSNR\. Decoder Inversion in place of VAE Encode", text)


@pytest.mark.parametrize("method", METHODS)
def test_it_counts_its_steps_and_can_be_interrupted(with_vae, method):
    graph = Vae(batch=2, seed=1)
    found = graph.found(method, steps=3)
    graph.save("found", text=found[1])
    finished = with_vae.run(graph)
    assert finished.succeeded, finished.error
    counts = [(data["value"], data["max"]) for data in finished.of("progress") if data["node"] == found]
    # newer servers leave out what follows too soon
    assert counts == sorted(counts)
    assert counts[-1] == (6, 6)
    assert 2 < len(set(counts)) <= 7
    graph = Vae(seed=2)
    found = graph.found(method, steps=10000)
    graph.save("never", text=found[1])
    running = with_vae.queue(graph)
    for message in running:
        if message.type == "progress" and message.data["node"] == found:
            with_vae.interrupt()
    assert running.of("execution_interrupted")
    assert not running.error


def test_what_it_cannot_do_is_refused(with_vae):
    def attempt(says, **inputs):
        graph = Vae()
        links = {name: make(graph) if callable(make) else make for name, make in inputs.items()}
        graph.save("refused", latent=graph.found(**links)[0])
        refused(with_vae, graph, says)

    def loaded(name):
        return lambda graph: graph.node("VAELoader", vae_name=f"{name}.safetensors")[0]

    def image(**changes):
        common = {"batch": 1, "height": 32, "width": 32, "channels": 3, "fill": "constant", "value": 0.5, "seed": 0}
        return lambda graph: graph.node("TEST_Image", **{**common, **changes})[0]

    def number(kind, value):
        return lambda graph: graph.node(kind, value=value)[0]

    attempt("holds no picture", image=image(batch=0))
    attempt("NaN or infinity", image=image(fill="nan"))
    attempt("2 channels", image=image(channels=2))
    attempt("too small for this VAE", image=image(height=7))
    attempt("0 or more steps", steps=number("PrimitiveInt", -1))
    attempt("a rate above 0", rate=number("PrimitiveFloat", -1.0))
    near = load_file(with_vae.models / "vae/near_vae.safetensors")
    files = {name: {key: value * (torch.nan if name in key else 1) for key, value in near.items()} for name in PARTS}
    # by one layer ComfyUI takes it for Stable Audio's, and by another for a preview of Stable Cascade's
    files |= {"sound": {"decoder.layers.1.layers.0.beta": torch.zeros(2048)}}
    files |= {"preview": {"blocks.11.num_batches_tracked": torch.zeros(1)}}
    for name, file in files.items():
        save_file(file, with_vae.models / f"vae/{name}.safetensors")
    for method in METHODS:
        attempt("encodes the picture as NaN or infinity", vae=loaded("encoder"), method=method)
        attempt("decodes the picture as NaN or infinity", vae=loaded("decoder"), method=method)
    attempt("for videos or sound", vae=loaded("sound"))
    # its encoder is what the memory held: it gives another size, or no numbers
    attempt("This VAE ", vae=loaded("preview"))


def test_it_leaves_nothing_behind(memory_server, give_weights):  # noqa: F811
    """Twice, and interrupted: what the server holds is what it held after the first."""
    give_weights(memory_server, "near_vae")
    info, figures = memory_server.object_info(), []
    for seed in range(3):
        graph = Vae(batch=2, seed=seed)
        for method in METHODS[seed == 2 :]:
            found = graph.found(method, steps=10000 if seed == 2 else 3)
            graph.save(method, latent=found[0])
        running = memory_server.queue(graph)
        for message in running:
            if seed == 2 and message.type == "progress" and message.data["node"] == found:
                memory_server.interrupt()
        assert bool(running.of("execution_interrupted")) == (seed == 2)
        assert not running.error, running.error
        figures.append(held(memory_server, info))
        print(figures[-1])
    first, *others = figures
    assert all(now.tensors <= first.tensors + MB / 4 for now in others)


def test_half_precision(start_server, give_weights):
    """No NaN, and nearer."""
    server = start_server("--fp16-vae")
    give_weights(server, "near_vae")
    graph = Vae()
    for method in METHODS:
        found = graph.found(method, steps=20)
        graph.save(method, latent=found[0], text=found[1])
    saved = kept(server, graph, timeout=600)
    assert "dtype: torch.float16" in server.log
    for method in METHODS:
        before, after, _ = told(saved[method]["text"])
        print(method, before, after)
        assert saved[method]["latent"].isfinite().all()
        assert after > before + 2
    server.stop()
