"""CODE Restore at several noise levels, and ODEdit: on the bundled prior, against the core's own functions."""

from itertools import count
from types import SimpleNamespace

import pytest
import torch
from comfyui.prompts import Prompt
from confident_ode.priors.loading import load
from confident_ode.samplers.clipping import ConfidenceClip
from confident_ode.samplers.langevin import langevin
from confident_ode.samplers.noise import LANGEVIN, START, item_seeds, seeded_noise
from confident_ode.samplers.noise_levels import decode_path
from confident_ode.samplers.ode import ab2
from confident_ode.samplers.odedit import odedit
from confident_ode.samplers.restore import STEP_SCALES, decode_parts, encode_path, restore, update_levels
from confident_ode.samplers.trajectory import Trajectory
from safetensors.torch import load_file

PICTURES = "daisy-1", "rose-1"
NAMES = count()
# of CODE Restore, quick
CUSTOM = {"depth": 0.4, "steps": 6, "updates": 4, "blocks": 2, "stop_at": 0.0, "levels": 3, "shallowest": 0.05}


@pytest.fixture(scope="module")
def info(server):
    return server.object_info()


class Pictures(Prompt):
    """A prompt with a batch of example pictures, `damaged`, of random pixels unless it is said what."""

    def __init__(self, info, names=PICTURES, damages=()):
        super().__init__(info)
        damages = damages or ["random pixels"] * len(names)
        pairs = zip(names, damages, strict=True)
        nodes = [self.node("TEST_SmallExample", picture=name, damage=damage) for name, damage in pairs]
        self.damaged = nodes[0][0]
        for other in nodes[1:]:
            self.damaged = self.node("ImageBatch", image1=self.damaged, image2=other[0])[0]
        # the example's own mask
        self.marked = nodes[0][2]


def given(server, info, kind="Restore", names=PICTURES, damages=(), mask=None, clip_eta=None, **widgets):
    """What a node gives for the pictures: image, seen and heat as tensors, its report as text, and its progress.

    mask: MASK as a number for a soft one all over, or True for that of the first picture's damage. clip_eta: of a
    Confidence Clip, for a node that takes one.
    """
    prompt, file = Pictures(info, names, damages), f"restored-{next(NAMES)}"
    if mask is not None:
        soft = prompt.mask(height=32, width=32, fill="constant", value=float(mask))
        widgets["mask"] = prompt.marked if mask is True else soft
    if clip_eta is not None:
        widgets["clip"] = prompt.clip(model=prompt.pixels(), eta=clip_eta)
    node = prompt.use(kind, image=prompt.damaged, **widgets)
    prompt.node("TEST_Save", name=file, image=node[0], text=node[2], mask=node[3])
    prompt.node("TEST_Save", name=f"{file}-seen", image=node[1])
    prompt.node("TEST_Save", name=f"{file}-marked", mask=prompt.marked)
    preview = prompt.node("PreviewAny", source=node[2])
    run = server.run(prompt)
    assert run.succeeded, run.error
    saved = {name: load_file(server.output / f"{file}{name}.safetensors") for name in ("", "-seen", "-marked")}
    return SimpleNamespace(
        image=saved[""]["image"],
        heat=saved[""]["mask"],
        seen=saved["-seen"]["image"],
        marked=saved["-marked"]["mask"],
        report=run.history["outputs"][preview]["text"][0],
        progress=[(data["value"], data["max"]) for data in run.of("progress") if data["node"] == node],
    )


@pytest.fixture(scope="module")
def prior():
    return load("flowers32")


def denoiser(prior):
    model = prior.model(threshold=False)
    return lambda x, sigma: model(x, sigma, **prior.conditioning(None, len(x)))


def path_of(prior, steps, depth, spacing="karras"):
    timestep = prior.levels.depth(fraction=depth)
    path = decode_path(prior.levels, round(timestep), steps, spacing, trained=True)
    return torch.cat([path, path.new_zeros(1)])


def latent(image):
    return 2 * image.movedim(-1, 1) - 1


def pixels(x):
    return (x.clamp(-1, 1).movedim(1, -1) + 1) / 2


def levels_of(prior, path):
    return update_levels(path, 3, prior.levels.sigma(prior.levels.depth(fraction=0.05)))


def same(image, expected, atol=1e-4):
    torch.testing.assert_close(image, expected, atol=atol, rtol=0)


@pytest.mark.parametrize("scale", STEP_SCALES)
def test_several_levels_are_the_cores(server, info, prior, scale):
    """Two samples of each of two pictures, their noise numbered on from level to level."""
    step = {"none": 2e-3, "geometric": 1e-4, "sigma": 5e-5}[scale]
    node = given(server, info, **CUSTOM, scale=scale, step_size=step, samples=2, seed=3)
    path = path_of(prior, 6, 0.4)
    clip = ConfidenceClip()
    settings = {"step": step, "updates": 4, "blocks": 2, "scale": scale, "samples": 2, "seed": 3}
    with torch.inference_mode():
        x = restore(denoiser(prior), latent(node.seen), path, levels=levels_of(prior, path), clip=clip, **settings)
    same(node.image, pixels(x))
    assert ((node.heat - clip.heat().amax(1)).abs() > 1e-6).float().mean() < 0.01
    assert 0 < node.heat.mean() < 1
    assert (node.image[0] - node.image[1]).abs().mean() > 1e-3


@pytest.mark.parametrize("clip_at", ["up, down", "up, updates, down"])
def test_the_clip_acts_where_it_is_told(server, info, prior, clip_at):
    """As the core's, at several levels and of two samples; the heat stays that of the way up."""
    node = given(server, info, **CUSTOM, clip_at=clip_at, eta=0.1, step_size=2e-3, samples=2, seed=3)
    path = path_of(prior, 6, 0.4)
    clips = {part: ConfidenceClip(0.1) for part in ("clip", "langevin_clip", "decode_clip")}
    used = {part: clip for part, clip in clips.items() if part != "langevin_clip" or "updates" in clip_at}
    settings = {"step": 2e-3, "updates": 4, "blocks": 2, "samples": 2, "seed": 3}
    with torch.inference_mode():
        x = restore(denoiser(prior), latent(node.seen), path, levels=levels_of(prior, path), **used, **settings)
    same(node.image, pixels(x))
    assert ((node.heat - clips["clip"].heat().amax(1)).abs() > 1e-6).float().mean() < 0.01
    # in the updates it leaves nothing to the way down
    assert clips["langevin_clip" if "updates" in clip_at else "decode_clip"].heat().amax() > 0


@pytest.mark.parametrize(("mode", "step", "large"), [("relative", 0.02, 0.6), ("snr", 0.08, 0.9)])
def test_a_step_is_counted_as_the_mode_says(server, info, prior, mode, step, large):
    node = given(server, info, names=PICTURES[:1], **CUSTOM, mode=mode, step_size=step)
    path = path_of(prior, 6, 0.4)
    settings = {"step": step, "updates": 4, "blocks": 2, "mode": mode, "clip": ConfidenceClip()}
    with torch.inference_mode():
        x = restore(denoiser(prior), latent(node.seen), path, levels=levels_of(prior, path), **settings)
    same(node.image, pixels(x))
    assert "leaves noise" not in node.report
    assert "leaves noise" in given(server, info, names=PICTURES[:1], **CUSTOM, mode=mode, step_size=large).report


def test_the_report_and_the_progress_count_every_level(server, info, prior):
    """6 steps up, three times 4 updates and 2 without noise, 7 steps down; a call more at each start of the solver."""
    node = given(server, info, **CUSTOM, step_size=2e-3)
    steps = 6 + 3 * (4 + 2) + 7
    assert node.progress == [(i + 1, steps) for i in range(steps)]
    levels = ", ".join(f"{sigma:.4g}" for sigma in levels_of(prior, path_of(prior, 6, 0.4)))
    assert node.report.startswith(f"{steps + 4} network calls at sigma {levels}; ")


STOPPING = {**CUSTOM, "levels": 1, "depth": 0.3, "step_size": 2e-2, "updates": 6, "blocks": 3}


@pytest.mark.parametrize("stop_at", [0.0, 1.1])
def test_updates_stop_where_the_cores_do(server, info, prior, stop_at):
    """Of an undamaged picture at once, where they may, and of one under noise not in so few."""
    node = given(server, info, damages=("none", "heavy noise"), **{**STOPPING, "stop_at": stop_at})
    seen, path, settings = latent(node.seen), path_of(prior, 6, 0.3), {"step": 2e-2, "blocks": 3, "stop_at": stop_at}
    with torch.inference_mode():
        moved, still = (
            pixels(restore(denoiser(prior), seen, path, clip=ConfidenceClip(), updates=updates, **settings))
            for updates in (6, 0)
        )
    same(node.image, moved)
    far = (moved - still).abs().mean((1, 2, 3))
    assert far[1] > 0.01
    assert far[0] < 1e-6 if stop_at else far[0] > 0.01
    # 6 steps up, 6 updates and 3 without noise, 7 steps down, and two more
    assert node.progress == [(i + 1, 22) for i in range(22)]
    assert node.report.startswith("24 network calls at most at sigma " if stop_at else "24 network calls at sigma ")


def test_of_undamaged_pictures_a_block_is_enough(server, info):
    node = given(server, info, damages=("none", "none"), **{**STOPPING, "stop_at": 1.1})
    # 2 updates and 1 without noise; the way down counts on from where the others would have ended
    assert node.progress == [(i + 1, 22) for i in (*range(6 + 3), *range(15, 22))]
    assert node.report.startswith("24 network calls at most at sigma ")


def test_a_large_step_is_told_of_where_it_is_largest(server, info):
    """0.05 is safe at the depth, and not where the noise is 0.17."""
    widgets = {**CUSTOM, "step_size": 0.05}
    assert "leaves noise" in given(server, info, **widgets).report
    assert "leaves noise" not in given(server, info, **{**widgets, "levels": 1}).report


def test_one_level_is_what_it_was(server, info):
    """A prompt from before there were levels gives what one does that names their defaults, and reads as before."""
    old = {name: value for name, value in CUSTOM.items() if name not in ("levels", "shallowest")}
    new = {**old, "levels": 1, "shallowest": 0.3, "scale": "geometric"}
    before, after = (given(server, info, **widgets, step_size=2e-3) for widgets in (old, new))
    torch.testing.assert_close(before.image, after.image, atol=0, rtol=0)
    assert before.report == after.report
    assert before.report.startswith("21 network calls at sigma 2.041; ")


def test_a_picture_alone_is_as_in_the_batch(server, info):
    for kind, widgets in (("Restore", {**CUSTOM, "step_size": 2e-3}), ("ODEdit", {})):
        both = given(server, info, kind, seed=11, **widgets)
        alone = given(server, info, kind, names=PICTURES[1:], seed=12, **widgets)
        same(both.image[1:], alone.image)
        assert (both.image[1] - given(server, info, kind, names=PICTURES[1:], **widgets).image).abs().max() > 1e-4


def test_a_mask_keeps_at_every_level(server, info):
    """Bit for bit outside of it, and hardly anything inside."""
    node = given(server, info, names=PICTURES[:1], **CUSTOM, step_size=2e-3, mask=True)
    assert 0.2 < node.marked.mean() < 0.6
    restored, seen = ((255 * image).round() for image in (node.image, node.seen))
    assert torch.equal(restored[node.marked == 0], seen[node.marked == 0])
    assert (restored != seen)[node.marked == 1].float().mean() > 0.9


def test_a_soft_mask_takes_its_share_in_all(server, info, prior):
    """However many levels there are: each reset, one a level of each part of the way down, takes as much of it."""
    node = given(server, info, names=PICTURES[:1], **CUSTOM, step_size=2e-3, mask=0.5)
    with torch.inference_mode():
        path = path_of(prior, 6, 0.4)
        resets = sum(len(part) for part, _ in decode_parts(path, levels_of(prior, path)))
        soft = torch.full((1, 1, 1, 1), 0.5)
        x = masked(prior, latent(node.seen), lambda trajectory: trajectory.keep(soft, resets=resets))
    same(node.image, pixels(x))


def masked(prior, x, keep):
    """CUSTOM's restoration of one picture with seed 0; keep(trajectory) -> a clip for the way down and its ends."""
    model, path, trajectory = denoiser(prior), path_of(prior, 6, 0.4), Trajectory(x)
    up, noise, drawn = encode_path(path), seeded_noise(item_seeds(0, 1), LANGEVIN), 0
    x = x + up[0].item() * seeded_noise(0, START)(x, 0)
    x = trajectory.reached(up[-1].item(), ab2(model, x, up, callback=trajectory, clip=ConfidenceClip()))
    kept = keep(trajectory)
    for part, _ in decode_parts(path, levels_of(prior, path)):
        settings = {"step": 2e-3, "updates": 4, "blocks": 2}
        x = langevin(model, x, part[:1], noise_sampler=lambda x, k, n=drawn: noise(x, n + k), **settings)
        x, drawn = ab2(model, x, part, clip=kept), drawn + 4
        x = kept(x, part[-1].item())
    return x


@pytest.mark.parametrize(("damage", "depth", "levels"), [("light", 1.0, 4), ("medium", 0.6, 4), ("light", 1.0, 2)])
def test_odedit_is_the_cores(server, info, prior, damage, depth, levels):
    node = given(server, info, "ODEdit", damage=damage, depth=depth, steps=5, step_size=1e-5, seed=4, levels=levels)
    path, seen = path_of(prior, 5, depth, "linspace"), latent(node.seen)
    options = {"damage": damage, "count": levels, "step": 1e-5, "temperature": 0.3333, "seed": 4}
    with torch.inference_mode():
        x = odedit(denoiser(prior), seen, path, **options)
    same(node.image, pixels(x), atol=1e-3)
    updates = {"light": 100, "medium": 200}[damage]
    assert node.progress[-1] == (5 + levels * updates + 6, 5 + levels * updates + 6)
    assert node.report.startswith(f"{11 + levels * updates} network calls at sigma ")


def test_odedit_gives_out_what_its_clip_moved(server, info, prior):
    node = given(server, info, "ODEdit", steps=3, depth=0.6, step_size=1e-5, seed=4, clip_eta=0.5)
    path, clip = path_of(prior, 3, 0.6, "linspace"), ConfidenceClip(0.5)
    with torch.inference_mode():
        x = odedit(denoiser(prior), latent(node.seen), path, step=1e-5, temperature=0.3333, seed=4, clip=clip)
    same(node.image, pixels(x), atol=1e-3)
    assert clip.heat().amax() > 0
    assert (node.heat == clip.heat().amax(1)).float().mean() > 0.99
