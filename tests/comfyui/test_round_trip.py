"""DDIM Invert then ODE Decode returns the pictures, with nothing but a file of the latent between the two."""

import re
import shutil

import numpy as np
import pytest
import torch
from comfyui.server import REPOSITORY, Graph
from confident_ode.evaluation.metrics import psnr
from confident_ode.samplers.ode import network_calls
from PIL import Image
from safetensors.torch import load_file

PICTURES = ["daisy-1", "rose-1", "tulip-1"]
STEPS, LEAST = 24, 40.0


def prior(graph):
    return graph.node("CODE_LoadPixelPrior", prior="flowers32", hub_id="", dynamic_threshold=False)


def sigmas(graph, model, to_zero):
    widgets = {"steps": STEPS, "depth": 500.0, "unit": "timestep", "spacing": "karras", "to_zero": to_zero}
    return graph.node("CODE_Schedule", model=model, **widgets)[0]


def up(server, to_zero):
    """Invert in one prompt: (the file's name for LoadLatent, its SIGMAS, the report)."""
    graph = Graph()
    model, vae, positive = (prior(graph)[i] for i in range(3))
    examples = [graph.node("TEST_SmallExample", picture=name, damage="none", seed=0)[1] for name in PICTURES]
    images = examples[0]
    for other in examples[1:]:
        images = graph.node("ImageBatch", image1=images, image2=other)[0]
    latent = graph.node("VAEEncode", pixels=images, vae=vae)[0]
    inverted = graph.node(
        "CODE_DDIMInvert",
        model=model,
        latent=latent,
        sigmas=sigmas(graph, model, to_zero),
        positive=positive,
        **{"solver": "ab2", "add_noise": False, "seed": 0, "measure": True, "cfg": 1.0},
    )
    save = graph.node("SaveLatent", samples=inverted[0], filename_prefix="inverted")
    graph.node("TEST_Save", name="levels", sigmas=inverted[1])
    report = graph.node("PreviewAny", source=inverted[4])
    run = server.run(graph)
    assert run.succeeded, run.error
    [file] = run.history["outputs"][save]["latents"]
    shutil.copy(server.output / file["subfolder"] / file["filename"], server.input)
    [text] = run.history["outputs"][report]["text"]
    return file["filename"], load_file(server.output / "levels.safetensors")["sigmas"], text


def down(server, file, to_zero):
    """Decode in another prompt, from the file and a schedule made anew."""
    graph = Graph()
    model, _, positive = (prior(graph)[i] for i in range(3))
    latent = graph.node("LoadLatent", latent=file)[0]
    levels = sigmas(graph, model, to_zero)
    decoded = graph.node(
        "CODE_ODEDecode", model=model, latent=latent, sigmas=levels, positive=positive, solver="ab2", cfg=1.0
    )
    graph.node("TEST_Save", name="decoded", latent=decoded[0], sigmas=levels)
    run = server.run(graph)
    assert run.succeeded, run.error
    made = load_file(server.output / "decoded.safetensors")
    return made["latent"], made["sigmas"]


def originals():
    """(3, 3, 32, 32) in [-1, 1], read from the pack's files as TEST_SmallExample gives them."""
    pictures = [Image.open(REPOSITORY / "nodes" / "examples" / f"{name}.png") for name in PICTURES]
    small = np.stack([np.array(picture, np.float32)[1::2, 1::2] for picture in pictures])
    return torch.from_numpy(small).movedim(-1, 1) / 127.5 - 1


@pytest.mark.parametrize("to_zero", [False, True])
def test_an_inversion_comes_back(server, to_zero):
    """At least 40 dB for each picture, to timestep 500 and back at 50 network calls; the report says how many dB."""
    file, levels, report = up(server, to_zero)
    calls_up, reported = re.match(
        rf"{STEPS} steps up to sigma {levels[0]:.4g}, (\d+) network calls; "
        r"decoded again it comes back at ([\d.]+) dB PSNR\.",
        report,
    ).groups()
    decoded, fresh = down(server, file, to_zero)
    torch.testing.assert_close(fresh, levels, rtol=0, atol=0)
    assert (fresh[-1] == 0) == to_zero
    assert int(calls_up) + network_calls("ab2", fresh) == 50 + to_zero
    figures = psnr(decoded, originals())
    print(f"to_zero {to_zero}: {', '.join(f'{name} {dB:.1f} dB' for name, dB in zip(PICTURES, figures, strict=True))}")
    assert min(figures) >= LEAST
    assert float(reported) == pytest.approx(min(figures), abs=0.2)


def test_the_inverted_latent_is_noise(server):
    """What comes back was gone: at the depth the states have the spread of noise, and little of the picture."""
    file, levels, _ = up(server, to_zero=False)
    states = load_file(server.input / file)["latent_tensor"]
    assert states.std() > 0.8 * levels[0]
    assert max(psnr(states.clamp(-1, 1), originals())) < 12
