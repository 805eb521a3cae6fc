"""A masked restoration: what is kept, what changes, and the seam between the two."""

import numpy as np
import pytest
import torch
from comfyui.server import Graph
from safetensors.torch import load_file

NAMES = ["sunflower-2", "daisy-1", "rose-1", "tulip-1", "dandelion-1"]


def batch(graph, images):
    """IMAGE batches in one."""
    first, *others = images
    for other in others:
        first = graph.node("ImageBatch", image1=first, image2=other)[0]
    return first


class Masked(Graph):
    """Pictures with a fifth blackened in blocks, and how to restore them step by step as in keep-an-area."""

    def __init__(self, names=NAMES, damage="blocks masked"):
        super().__init__()
        prior = self.node("CODE_LoadPixelPrior", prior="flowers32", hub_id="", dynamic_threshold=True)
        self.model, self.vae, self.positive = prior[0], prior[1], prior[2]
        examples = [self.node("TEST_SmallExample", picture=name, damage=damage, seed=i) for i, name in enumerate(names)]
        self.image = batch(self, [example[0] for example in examples])
        self.original = batch(self, [example[1] for example in examples])
        masks = batch(self, [self.node("MaskToImage", mask=example[2])[0] for example in examples])
        self.mask = self.node("ImageToMask", image=masks, channel="red")[0]

    def on(self, class_type, **inputs):
        return self.node(class_type, model=self.model, positive=self.positive, **inputs)

    def inverted(self):
        """At the noise level of the decode's start, after the updates: (LATENT, SIGMAS, CODE_TRAJECTORY)."""
        latent = self.node("VAEEncode", pixels=self.image, vae=self.vae)[0]
        path = {"steps": 25, "depth": 0.7, "unit": "fraction", "spacing": "karras", "to_zero": True}
        sigmas = self.node("CODE_Schedule", model=self.model, **path)[0]
        widgets = {"eta": 0.7, "data_range": "auto", "low": "", "high": ""}
        clip = self.node("CODE_ConfidenceClip", model=self.model, **widgets)[2]
        widgets = {"solver": "ab2", "add_noise": False, "seed": 0, "measure": False}
        up = self.on("CODE_DDIMInvert", latent=latent, sigmas=sigmas, clip=clip, **widgets)
        widgets = {"step_size": 0.002, "updates": 60, "blocks": 4, "decay": 0.8, "temperature": 1.0, "seed": 0}
        moved = self.on("CODE_LangevinUpdate", latent=up[0], sigmas=up[1], **widgets)
        return moved[0], up[1], up[2]

    def decoded(self, latent, sigmas, **keeping):
        down = self.on("CODE_ODEDecode", latent=latent, sigmas=sigmas, solver="ab2", **keeping)
        return self.node("VAEDecode", samples=down[0], vae=self.vae)[0]

    def save(self, **sockets):
        for name, (socket, output) in sockets.items():
            self.node("TEST_Save", name=name, **{socket: output})


def results(server, graph, *names):
    """The tensors that TEST_Save wrote under these names."""
    run = server.run(graph)
    assert run.succeeded, run.error
    return [next(iter(load_file(server.output / f"{name}.safetensors").values())) for name in names]


def levels(image):
    """IMAGE as the 256 levels of a picture."""
    return (255 * image).round()


@pytest.fixture(scope="module")
def pictures(server):
    """Of five pictures with a mask each, all (5, 32, 32, ...): original, damaged, mask, kept and pasted.

    kept: restored with the mask. pasted: restored as a whole and the area outside the mask put back at the end.
    """
    graph = Masked()
    latent, sigmas, trajectory = graph.inverted()
    graph.save(
        original=("image", graph.original),
        damaged=("image", graph.image),
        mask=("mask", graph.mask),
        kept=("image", graph.decoded(latent, sigmas, trajectory=trajectory, mask=graph.mask)),
        whole=("image", graph.decoded(latent, sigmas)),
    )
    original, damaged, mask, kept, whole = results(server, graph, "original", "damaged", "mask", "kept", "whole")
    return original, damaged, mask, kept, torch.where(mask[..., None] > 0, whole, damaged)


def assert_kept(restored, seen, mask):
    """Bit for bit outside the mask, and hardly anywhere inside it."""
    assert torch.equal(levels(restored)[mask == 0], levels(seen)[mask == 0])
    assert (levels(restored) != levels(seen))[mask == 1].float().mean() > 0.9


def test_what_is_outside_the_mask_stays_bit_for_bit(pictures):
    """Each picture of the batch by its own mask."""
    _, damaged, mask, kept, _ = pictures
    assert 0.1 < mask.mean() < 0.3
    assert not torch.equal(mask[0], mask[1])
    assert_kept(kept, damaged, mask)


def test_what_is_inside_the_mask_is_restored(pictures):
    """Where it was black it comes closer to what had been there."""
    original, damaged, mask, kept, _ = pictures
    before, after = ((original - x)[mask > 0].abs().mean() for x in (damaged, kept))
    assert after < 0.35 * before


def test_restore_in_one_node_keeps_too(server):
    """Both samples of both pictures, by the picture's own mask."""
    graph = Masked(NAMES[:2])
    widgets = {"vae": graph.vae, "preset": "blocks", "seed": 0, "samples": 2}
    node = graph.on("CODE_Restore", image=graph.image, mask=graph.mask, **widgets)
    graph.save(restored=("image", node[0]), seen=("image", node[1]), mask=("mask", graph.mask))
    restored, seen, mask = results(server, graph, "restored", "seen", "mask")
    assert len(restored) == 4
    assert_kept(restored, seen.repeat_interleave(2, 0), mask.repeat_interleave(2, 0))
    assert (restored[0] - restored[1]).abs()[mask[0] == 1].mean() > 0.01


def test_sdedit_keeps_too(server):
    graph = Masked(NAMES[:2])
    latent = graph.node("VAEEncode", pixels=graph.image, vae=graph.vae)[0]
    path = {"steps": 10, "depth": 0.4, "unit": "fraction", "spacing": "karras", "to_zero": True}
    sigmas = graph.node("CODE_Schedule", model=graph.model, **path)[0]
    edited = graph.on("CODE_SDEdit", latent=latent, sigmas=sigmas, seed=0, repeats=1, mask=graph.mask)[0]
    image = graph.node("VAEDecode", samples=edited, vae=graph.vae)[0]
    graph.save(edited=("image", image), damaged=("image", graph.image), mask=("mask", graph.mask))
    assert_kept(*results(server, graph, "edited", "damaged", "mask"))


def test_the_saved_picture_holds_the_kept_area(server):
    """As files: what Save Image writes of the result and of the input, which it both rounds down."""
    graph = Masked(NAMES[:1])
    latent, sigmas, trajectory = graph.inverted()
    kept = graph.decoded(latent, sigmas, trajectory=trajectory, mask=graph.mask)
    saves = [graph.node("SaveImage", images=image, filename_prefix="kept") for image in (kept, graph.image)]
    graph.save(mask=("mask", graph.mask))
    run = server.run(graph)
    outside = load_file(server.output / "mask.safetensors")["mask"][0].numpy() == 0
    restored, damaged = (np.asarray(run.pictures(save)[0], int) for save in saves)
    np.testing.assert_array_equal(restored[outside], damaged[outside])


def test_a_soft_mask_blends(server):
    """By about the share that the mask says of what is changed without it."""
    graph = Masked(["rose-1"], damage="random pixels")
    soft = graph.node("SolidMask", value=1.0, width=22, height=22)[0]
    soft = graph.node("FeatherMask", mask=soft, left=8, top=8, right=8, bottom=8)[0]
    nothing = graph.node("SolidMask", value=0.0, width=32, height=32)[0]
    mask = graph.node("MaskComposite", destination=nothing, source=soft, x=5, y=5, operation="add")[0]
    latent, sigmas, trajectory = graph.inverted()
    kept = graph.decoded(latent, sigmas, trajectory=trajectory, mask=mask)
    whole = graph.decoded(latent, sigmas)
    graph.save(mask=("mask", mask), kept=("image", kept), whole=("image", whole), damaged=("image", graph.image))
    mask, kept, whole, damaged = results(server, graph, "mask", "kept", "whole", "damaged")
    assert torch.equal(levels(kept)[mask == 0], levels(damaged)[mask == 0])
    for low, high in ((0, 0.3), (0.3, 0.6), (0.6, 0.99)):
        there = (mask > low) & (mask < high)
        share = (kept - damaged)[there].abs().mean() / (whole - damaged)[there].abs().mean()
        assert share == pytest.approx(mask[there].mean().item(), abs=0.25)


def seam(image, mask):
    """The mean absolute difference of neighbours, below or right, of which one is inside the mask and one outside."""
    across = [image.diff(dim=dim).abs().mean(-1)[mask.diff(dim=dim) != 0] for dim in (1, 2)]
    return torch.cat(across).mean().item()


def test_the_seam_is_narrower_than_a_pasted_one(pictures):
    """Beside what there is to see at the same places in the original, and in the damaged picture."""
    original, damaged, mask, kept, pasted = pictures
    seams = {"original": original, "damaged": damaged, "kept": kept, "pasted": pasted}
    print({name: round(seam(image, mask), 3) for name, image in seams.items()})
    assert seam(kept, mask) < 0.8 * seam(pasted, mask)
    assert seam(kept, mask) < 1.5 * seam(original, mask) < 0.3 * seam(damaged, mask)
