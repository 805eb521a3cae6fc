"""While a prompt runs: progress, previews and interrupts; and that batches, failures and repeats are as ComfyUI's."""

import numpy as np
import pytest
import torch
from comfyui.server import Graph
from confident_ode.evaluation.metrics import psnr
from PIL import Image
from safetensors.torch import load_file

PICTURES = ["daisy-1", "rose-1", "tulip-1"]
STEPS, UPDATES, BLOCKS, REPEATS = 8, 7, 2, 3


class Pixels(Graph):
    """A prompt on the bundled prior, of one example picture or a batch of several."""

    def __init__(self, *pictures, damage="none"):
        super().__init__()
        prior = self.node("CODE_LoadPixelPrior", prior="flowers32", hub_id="", dynamic_threshold=False)
        self.model, self.vae, self.positive = prior[0], prior[1], prior[2]
        examples = [self.node("TEST_SmallExample", picture=p, damage=damage, seed=0)[0] for p in pictures]
        self.image = examples[0]
        for other in examples[1:]:
            self.image = self.node("ImageBatch", image1=self.image, image2=other)[0]
        self.latent = self.node("VAEEncode", pixels=self.image, vae=self.vae)[0]

    def on(self, class_type, **inputs):
        return self.node(class_type, model=self.model, positive=self.positive, **inputs)

    def sigmas(self, steps=STEPS, depth=0.4, spacing="karras"):
        widgets = {"unit": "fraction", "spacing": spacing, "to_zero": True}
        return self.node("CODE_Schedule", model=self.model, steps=steps, depth=depth, **widgets)[0]

    def invert(self, latent, sigmas, solver="ab2", measure=False, **inputs):
        widgets = {"solver": solver, "add_noise": True, "seed": 0, "measure": measure}
        return self.on("CODE_DDIMInvert", latent=latent, sigmas=sigmas, **widgets, **inputs)

    def update(self, latent, sigmas, updates=UPDATES, blocks=BLOCKS, seed=0):
        widgets = {"updates": updates, "blocks": blocks, "step_size": 0.002, "decay": 0.8, "temperature": 1.0}
        return self.on("CODE_LangevinUpdate", latent=latent, sigmas=sigmas, seed=seed, **widgets)

    def decode(self, latent, sigmas, solver="ab2"):
        return self.on("CODE_ODEDecode", latent=latent, sigmas=sigmas, solver=solver)

    def sdedit(self, latent, sigmas, repeats=1, seed=0):
        return self.on("CODE_SDEdit", latent=latent, sigmas=sigmas, seed=seed, repeats=repeats)

    def restore(self, image, seed=0, samples=1, updates=UPDATES, **widgets):
        custom = {"depth": 0.4, "steps": STEPS, "step_size": 0.002, "updates": updates, "blocks": BLOCKS}
        custom |= {"stop_at": 0.0, "clip": True, "eta": 1.0, "cfg": 1.0, **widgets}
        common = {"vae": self.vae, "image": image, "preset": "custom", "seed": seed, "samples": samples}
        return self.on("CODE_Restore", **common, **custom)

    def save(self, name, **what):
        return self.node("TEST_Save", name=name, **what)


def saved(server, name, socket="latent"):
    return load_file(server.output / f"{name}.safetensors")[socket]


def run(server, graph):
    """The prompt's Run, which must succeed."""
    finished = server.run(graph)
    assert finished.succeeded, finished.error
    return finished


def counted(run, node):
    """(value, max) of a node's progress messages in the order they came."""
    return [(data["value"], data["max"]) for data in run.of("progress") if data["node"] == node]


@pytest.fixture(scope="module")
def everything(server):
    """(run, {name: node}, {name: what it starts from or, going up, ends in}): each sampler once, on one clean daisy."""
    graph = Pixels("daisy-1")
    sigmas = graph.sigmas()
    nodes = {
        "invert": graph.invert(graph.latent, sigmas),
        "invert and measure": graph.invert(graph.latent, sigmas, measure=True),
        "heun": graph.invert(graph.latent, sigmas, solver="heun"),
    }
    nodes["langevin"] = graph.update(nodes["invert"][0], nodes["invert"][1])
    nodes["decode"] = graph.decode(nodes["langevin"][0], sigmas)
    nodes["sdedit"] = graph.sdedit(graph.latent, sigmas, REPEATS)
    nodes["restore"] = graph.restore(graph.image)
    for name, output in {**nodes, "clean": graph.latent}.items():
        graph.save(name, **{"image" if name == "restore" else "latent": output if name == "clean" else output[0]})
    return run(server, graph), nodes


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("invert", STEPS),
        ("invert and measure", STEPS + STEPS + 1),
        ("heun", STEPS),
        ("langevin", UPDATES + BLOCKS),
        ("decode", STEPS + 1),
        ("sdedit", REPEATS * (STEPS + 1)),
        ("restore", STEPS + UPDATES + BLOCKS + STEPS + 1),
    ],
)
def test_progress_counts_each_step_once(everything, name, total):
    """One bar a node, of a total known from the start, through to its end."""
    finished, nodes = everything
    assert counted(finished, nodes[name]) == [(i + 1, total) for i in range(total)]


# where the state is as noisy as it gets
NOISIEST = {"invert": -1, "heun": -1, "langevin": UPDATES // 2, "decode": 0, "sdedit": 0, "restore": STEPS + 2}


@pytest.mark.parametrize("name", NOISIEST)
def test_previews_show_the_denoised_picture(everything, server, name):
    """A preview a step; at the noisiest one it is far closer to the picture than the state is."""
    finished, nodes = everything
    previews = [data["image"] for data in finished.of("preview") if data["node_id"] == nodes[name]]
    assert len(previews) == len(counted(finished, nodes[name]))
    # ComfyUI enlarges them
    pixels = np.array(previews[NOISIEST[name]].resize((32, 32), Image.Resampling.BOX), np.float32)
    shown = torch.from_numpy(pixels).movedim(-1, 0)[None] / 127.5 - 1
    clean, state = saved(server, "clean"), saved(server, "invert").clamp(-1, 1)
    assert psnr(shown, clean)[0] > psnr(state, clean)[0] + 5
    assert roughness(shown) < roughness(state) / 3


def roughness(x):
    """The mean absolute difference of neighbours."""
    return (x.diff(dim=-1).abs().mean() + x.diff(dim=-2).abs().mean()).item()


def crowd(graph, count=32):
    """A latent of many pictures, so that a step takes long beside a message."""
    return graph.node("RepeatLatentBatch", samples=graph.latent, amount=count)[0]


def long_inversion(graph):
    return graph.invert(crowd(graph), graph.sigmas(steps=390, spacing="linspace"))


def long_langevin(graph):
    return graph.update(crowd(graph), graph.sigmas(), updates=10_000)


def long_restoration(graph):
    image = graph.node("RepeatImageBatch", image=graph.image, amount=32)[0]
    return graph.restore(image, steps=3, updates=10_000)


@pytest.mark.parametrize("long", [long_inversion, long_langevin, long_restoration])
def test_an_interrupt_stops_within_a_step_and_the_next_prompt_runs(server, long):
    """After 5 steps, which in a restoration is among the updates."""
    graph = Pixels("daisy-1")
    node = long(graph)
    graph.save("never", **{"image" if long is long_restoration else "latent": node[0]})
    started, asked = server.queue(graph), False
    for _ in started:
        counts = len(counted(started, node))
        if counts == 5 and not asked:
            server.interrupt()
            asked = True
        # one more may have been on its way
        assert counts <= 6
    assert asked
    [interrupted] = started.of("execution_interrupted")
    assert interrupted["node_id"] == node
    assert not started.succeeded
    assert not (server.output / "never.safetensors").exists()

    graph = Pixels("rose-1")
    graph.save("next", latent=graph.invert(graph.latent, graph.sigmas(steps=2))[0])
    run(server, graph)
    assert saved(server, "next").std() > 1


def test_a_batch_equals_singles(server):
    """Item i of a batch restores as it does alone with seed + i, sample by sample."""
    graph = Pixels(*PICTURES, damage="random pixels")
    graph.save("batch", image=graph.restore(graph.image, seed=7, samples=2)[0])
    run(server, graph)
    for i, picture in enumerate(PICTURES):
        graph = Pixels(picture, damage="random pixels")
        graph.save("single", image=graph.restore(graph.image, seed=7 + 2 * i, samples=2)[0])
        run(server, graph)
        torch.testing.assert_close(
            saved(server, "batch", "image")[2 * i : 2 * i + 2], saved(server, "single", "image"), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("method", ["invert", "update", "sdedit"])
def test_an_item_taken_from_a_batch_keeps_its_noise(server, method):
    """Of three times the same picture, the second and third come out as among all, and each in its own way."""
    results = []
    for first, length in ((0, 3), (1, 2)):
        graph = Pixels("rose-1", "rose-1", "rose-1")
        taken = graph.node("LatentFromBatch", samples=graph.latent, batch_index=first, length=length)[0]
        graph.save(method, latent=getattr(graph, method)(taken, graph.sigmas())[0])
        run(server, graph)
        results.append(saved(server, method))
    whole, some = results
    torch.testing.assert_close(whole[1:], some, atol=1e-5, rtol=0)
    assert (whole[0] - whole[1]).abs().mean() > 0.01


def test_the_history_of_a_failed_prompt_holds_our_sentence(server):
    graph = Pixels("daisy-1")
    node = graph.restore(graph.image, updates=0, clip=False)
    graph.node("PreviewImage", images=node[0])
    failed = server.run(graph)
    assert not failed.succeeded
    [error] = [data for kind, data in failed.history["status"]["messages"] if kind == "execution_error"]
    assert error["node_id"] == node
    assert error["exception_message"].strip() == (
        "With no updates, no clip and cfg 1 nothing would change: turn one of them on."
    )
    assert error["exception_type"] == "ValueError"


def test_the_same_prompt_is_cached_and_another_seed_gives_another_picture(server):
    pictures = []
    for seed in (5, 5, 6):
        graph = Pixels("tulip-1", damage="heavy noise")
        node = graph.restore(graph.image, seed=seed)
        save = graph.node("SaveImage", images=node[0], filename_prefix="seed")
        finished = run(server, graph)
        pictures.append(np.asarray(finished.pictures(save)[0], int))
        [cached] = finished.of("execution_cached")
        assert (node in cached["nodes"]) == (len(counted(finished, node)) == 0) == (len(pictures) == 2)
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert abs(pictures[1] - pictures[2]).mean() > 1
