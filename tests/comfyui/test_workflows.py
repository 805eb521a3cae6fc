"""Every shipped workflow, queued on a server, and its picture made once more by the samplers alone."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from comfyui.server import REPOSITORY, Refused, comfy, comfy_run
from confident_ode.corruptions import damages
from confident_ode.corruptions.catalogue import corrupt
from confident_ode.evaluation.comparison import comparison
from confident_ode.priors.loading import load
from confident_ode.samplers import langevin, ode, sde
from confident_ode.samplers.clipping import ConfidenceClip, observation_range, quantile_range
from confident_ode.samplers.cycle import cycle_sde
from confident_ode.samplers.ddib import translate_by_ode, translate_by_sde
from confident_ode.samplers.denoisers import classifier_free_guidance, dynamic_thresholding
from confident_ode.samplers.diffedit import disagreement, mask_from
from confident_ode.samplers.drag import drag
from confident_ode.samplers.exact import EXACT, PAIRED
from confident_ode.samplers.inpaint import inpaint
from confident_ode.samplers.noise import DRAG, INPAINT, LANGEVIN, MASK_MAPS, RECORD, SDEDIT, START, seeded_noise
from confident_ode.samplers.noise_levels import decode_path
from confident_ode.samplers.null_text import corrected_decode, null_text
from confident_ode.samplers.odedit import odedit
from confident_ode.samplers.official import Official, official_code
from confident_ode.samplers.restore import restore, update_levels
from confident_ode.samplers.trajectory import Trajectory
from confident_ode.samplers.windows import windowed
from PIL import Image
from safetensors.torch import load_file

API = REPOSITORY / "workflows" / "api"
NEED_A_CHECKPOINT = ("stable-diffusion-1.5", "exact-inversion-of-a-photo")
RUNNABLE = sorted({path.stem for path in API.glob("*.json")} - {*NEED_A_CHECKPOINT})
# the others at half the size, which is four times as quick
AS_IT_IS = "restore-in-one-node", "step-by-step"
METHODS = {**ode.SOLVERS, **EXACT}


def shipped(name):
    return json.loads((API / f"{name}.json").read_text(encoding="utf-8"))


def quick(name):
    """The shipped prompt, on the smaller prior and smaller pictures unless it is to run as it is."""
    text = json.dumps(shipped(name))
    if name not in AS_IT_IS:
        text = text.replace("flowers64", "flowers32").replace("CODE_ExamplePicture", "TEST_SmallExample")
        text = text.replace("[20,43]", "[20,24]").replace("[13,48]", "[13,28]")
        text = text.replace('"0.2, 0.4, 0.6"', '"0.4"').replace('"0.005, 0.02, 0.08"', '"0.02"')
    return json.loads(text)


class Pixels:
    """What a MODEL is here: a prior, thresholded or not, ready for a class and guidance."""

    def __init__(self, name, threshold):
        self.prior, self.threshold = load(name), threshold

    def denoiser(self, label, cfg=1.0, away=None):
        """model(x, sigma) -> x0-hat for any batch, in windows where a picture is larger than the prior.

        away: the class that it is guided away from, None for no class.
        """
        model = self.prior.model(guidance=cfg if away is None else 1.0, threshold=False)
        if away is not None:
            model = classifier_free_guidance(model, cfg, {"class_labels": self.prior.classes.index(away)})
        model = windowed(model, self.prior.size, 8)
        model = dynamic_thresholding(model) if self.threshold else model
        return lambda x, sigma: model(x, sigma, **self.prior.conditioning(label, len(x)))

    def unthresholded(self, label):
        model = self.prior.model(threshold=False)
        return lambda x, sigma: model(x, sigma, **self.prior.conditioning(label, len(x)))

    def path(self, steps, depth, spacing="karras"):
        """The levels down to the lowest, without a 0, from a fraction of the 1000 timesteps."""
        return decode_path(self.prior.levels, round(1000 * depth), steps, spacing, trained=True)


def to_zero(path):
    return torch.cat([path, path.new_zeros(1)])


def to_latent(pixels, vae):
    return [2 * pixels.movedim(-1, 1) - 1]


def to_pixels(samples, vae):
    return [(samples.clamp(-1, 1).movedim(1, -1) + 1) / 2]


def load_prior(prior, hub_id, dynamic_threshold):
    model = Pixels(prior, dynamic_threshold)
    return [model, None, None, model.prior.size]


def example(picture, damage, seed):
    whole = Image.open(REPOSITORY / "nodes" / "examples" / f"{picture}.png")
    original = torch.from_numpy(np.array(whole, np.float32))[None] / 255
    x = to_latent(original, None)[0]
    y = {
        "none": lambda: x,
        "random pixels": lambda: damages.mask_pixels(x, fraction=0.4, seed=seed),
        "heavy noise": lambda: damages.gaussian_noise(x, strength=0.6, seed=seed),
        "blocks masked": lambda: damages.mask_blocks(x, fraction=0.2, cells=16, value=-1.0, seed=seed),
        "low contrast": lambda: damages.contrast(x, factor=0.3),
    }[damage]()
    return [(y.movedim(1, -1) + 1) / 2, original, (y != x).any(1).float()]


def small_example(**widgets):
    return [output[:, 1::2, 1::2] for output in example(**widgets)]


def corrupted(image, corruption, severity, seed):
    changed = corrupt(to_latent(image, None)[0], corruption, severity, seed)
    return [*to_pixels(changed, None), torch.ones(image.shape[:3])]


def schedule(model, steps, depth, unit, spacing, to_zero):
    assert unit == "fraction"
    path = model.path(steps, depth, spacing)
    return [globals()["to_zero"](path) if to_zero else path]


def confidence_clip(model, eta, data_range, low, high, outside, width, reference=None):
    """Its clip is a function of the clean latent, for where it has no reference."""
    ranges = {
        "auto": lambda x: (-1.0, 1.0),
        "quantile": partial(quantile_range, outside=outside),
        "observation": partial(observation_range, width=width),
    }
    return [
        None,
        None,
        lambda clean: ConfidenceClip(eta, *ranges[data_range](clean if reference is None else reference)),
    ]


def invert(model, latent, sigmas, positive, solver, add_noise, seed, measure, cfg, clip=None):
    up, trajectory = sigmas[sigmas > 0].flip(0), Trajectory(latent)
    start = latent + up[0].item() * seeded_noise(seed, START)(latent, 0) if add_noise else latent
    clip = clip and clip(latent)
    options = {} if solver in PAIRED else {"clip": clip}
    x = METHODS[solver](model.denoiser(positive, cfg), start, up, callback=trajectory, **options)
    x, companion = x if solver in PAIRED else (x, None)
    return [trajectory.reached(up[-1].item(), x), sigmas, trajectory, None, None, None, companion]


def fit(model, trajectory, sigmas, positive, negative, cfg, updates, noise_bias, starts, hops, seed, tolerance):
    assert (negative, starts, hops) == (None, 1, 0)
    for module in model.prior.network.modules():
        # as they were loaded in inference mode
        for name, weight in module._parameters.items():
            if weight is not None:
                with torch.inference_mode(False):
                    module._parameters[name] = torch.nn.Parameter(weight.clone(), requires_grad=False)
    unconditional, null = model.prior.null_model()
    [start] = trajectory.at(sigmas[:1].tolist())
    links = {"unconditional": unconditional, "null": null, "path": trajectory}
    settings = {"guidance": cfg, "updates": updates, "noise_bias": noise_bias, "tolerance": tolerance}
    return [null_text(model.unthresholded(positive), start, sigmas, **links, **settings)]


def guided_decode(
    model, latent, sigmas, source, target, method, cfg, trajectory, source_cfg, negative=False, corrections=None
):
    if method == "direct":
        # guided away from itself, the source is as without guidance
        target, source = both(model, source, target, cfg, source_cfg or (cfg if negative is None else 1.0), negative)
        return [cycle_sde(target, latent, sigmas, path=trajectory, source=source, eta=0.0)]
    if method == "plain":
        return [ode.euler(both(model, source, target, cfg, cfg, negative)[0], latent, sigmas)]
    assert method == "null-text"
    unconditional, _ = model.prior.null_model()
    links = {"unconditional": unconditional, "corrections": corrections, "guidance": cfg}
    return [corrected_decode(model.unthresholded(target), latent, sigmas, **links)]


def update(model, latent, sigmas, positive, step_size, seed, cfg, clip=None, **settings):
    noise, clip = seeded_noise(seed, LANGEVIN), clip and clip(None)
    model = model.denoiser(positive, cfg)
    return [langevin.langevin(model, latent, sigmas, noise_sampler=noise, step=step_size, clip=clip, **settings)]


def decode(model, latent, sigmas, positive, solver, cfg, clip=None, trajectory=None, mask=None, companion=None):
    if companion is not None:
        return [METHODS[solver](model.denoiser(positive, cfg), latent, sigmas, companion=companion)[0]]
    kept = None if mask is None else trajectory.keep(mask[:, None])
    x = ode.SOLVERS[solver](model.denoiser(positive, cfg), latent, sigmas, clip=kept or (clip and clip(None)))
    return [x if kept is None else kept(x, sigmas[-1].item())]


def both(model, source, target, cfg=3.0, source_cfg=1.0, negative=False):
    """Denoisers of the target, guided away from the source where nothing is connected to negative, and the source."""
    away = source if negative is False else None
    return model.denoiser(target, cfg, away), model.denoiser(source, source_cfg)


def cycle(model, latent, sigmas, source, target, seed, record, eta, form, **guidance):
    assert form == "delta"
    target, source = both(model, source, target, **guidance)
    noise = seeded_noise(seed, RECORD)
    return [translate_by_sde(target, latent, sigmas, source=source, noise_sampler=noise, kind=record, eta=eta)]


def translate(model, latent, sigmas, source, target, kind, seed, solver, mask=None, **guidance):
    target, source = both(model, source, target, **guidance)
    settings = {"source": source, "mask": None if mask is None else mask[:, None]}
    if kind == "ode":
        return [translate_by_ode(target, latent, sigmas, solver=solver, **settings)]
    return [translate_by_sde(target, latent, sigmas, noise_sampler=seeded_noise(seed, RECORD), **settings)]


def differing(model, latent, source, target, seed, cfg, strength, maps, **settings):
    assert cfg == 1
    target, source = both(model, source, target, cfg)
    level, noise = model.path(1, strength)[:1], seeded_noise(seed, MASK_MAPS)
    difference = disagreement(target, latent, level, source=source, noise_sampler=noise, maps=maps)
    return [mask_from(difference, **settings)[:, 0]]


def fill(model, latent, sigmas, positive, solver, noise, repeats, seed, cfg, mask):
    settings = {"solver": solver, "fixed_noise": noise == "fixed", "repeats": repeats, "mask": mask[:, None]}
    model = model.denoiser(positive, cfg)
    return [inpaint(model, latent, sigmas, noise_sampler=seeded_noise(seed, INPAINT), **settings)]


def composite(destination, source, x, y, operation):
    assert operation == "add"
    hole = destination.clone()
    height, width = hole[:, y:, x:].shape[1:]
    hole[:, y:, x:][:, : source.shape[1], : source.shape[2]] += source[:, :height, :width]
    return [hole.clamp(0, 1)]


def sdedit(model, latent, sigmas, positive, seed, repeats, cfg):
    noise = seeded_noise(seed, SDEDIT)
    return [sde.sdedit(model.denoiser(positive, cfg), latent, sigmas, noise_sampler=noise, repeats=repeats)]


ALL = {"depth": 0.4, "steps": 12, "updates": 20, "blocks": 4, "stop_at": 0.0}
PRESETS = {
    "balanced": {**ALL, "step": 2e-2, "updates": 16, "blocks": 8, "stop_at": 1.1, "clip": 1.0, "cfg": 1.0},
    "bold": {**ALL, "step": 1.5e-2, "clip": 1.0, "cfg": 1.0},
    "faded": {**ALL, "step": 3e-3, "clip": None, "cfg": 4.0},
    "noise": {**ALL, "step": 6e-3, "clip": 1.0, "cfg": 1.0, "updates": 10, "blocks": 2, "levels": (2, 0.05)},
}


def code(model, vae, image, positive, preset, seed, samples, negative=None, **custom):
    """The other widgets are for the preset custom."""
    settings = PRESETS[preset] if preset != "custom" else by_widgets(**custom)
    path = to_zero(model.path(settings["steps"], settings["depth"]))
    count, shallowest = settings.get("levels", (1, settings["depth"]))
    x = restore(
        model.denoiser(positive, settings["cfg"]),
        to_latent(image, vae)[0],
        path,
        seed=seed,
        step=settings["step"],
        **{name: settings[name] for name in ("updates", "blocks", "stop_at")},
        levels=update_levels(path, count, model.prior.levels.sigma(round(1000 * shallowest))),
        scale=settings.get("scale", "none"),
        clip=settings["clip"] and ConfidenceClip(settings["clip"], -1.0, 1.0),
        encoder=model.denoiser(negative),
        samples=samples,
    )
    return to_pixels(x, vae)


def by_widgets(step_size, levels, shallowest, eta, clip, mode, clip_at, **settings):
    """What the widgets of the preset custom say, like one of PRESETS; those for other ways are at their defaults."""
    assert (clip, mode, clip_at) == (True, "absolute", "up")
    return settings | {"step": step_size, "clip": eta, "levels": (levels, shallowest)}


def edit(model, vae, image, positive, damage, seed, step_size, temperature, steps, depth, cfg, **fit):
    """ODEdit, on the paper's own kind of path."""
    settings = {"damage": damage, "step": step_size, "temperature": temperature, "seed": seed}
    path = to_zero(model.path(steps, depth, "linspace"))
    return to_pixels(odedit(model.denoiser(positive, cfg), to_latent(image, vae)[0], path, **settings), vae)


def dragged(model, vae, image, positive, points, depth, steps, seed, cfg_start, cfg_end, fit, max_side, **options):
    """Without a negative, so that there is no guidance."""
    pairs, every = [(tuple(pair["from"]), tuple(pair["to"])) for pair in json.loads(points)], []
    options |= {"noise_sampler": seeded_noise(seed, DRAG), "on_step": every.append}
    path = model.path(steps, depth, "linspace")
    x = drag(model.denoiser(positive), to_latent(image, vae)[0], path, pairs=pairs, **options)
    return [*to_pixels(x, vae), *to_pixels(torch.cat(every), vae)]


def as_published(model, vae, image, positive, seed, samples, n, depth, step_size, updates, quirks, eta, start, **_):
    """The authors' code, on the prior's own network; the other widgets are at the defaults of `Official`."""
    mended = {"all": (), "no-scale": ("scale",)}[quirks]
    deepest = {"auto": None, "updates": False}[start]
    settings = Official(
        n=n,
        latent=depth,
        step=step_size,
        updates=updates,
        samples=samples,
        eta=eta,
        mended=mended,
        from_deepest=deepest,
    )
    start, updates = seeded_noise(seed, START), seeded_noise(seed, LANGEVIN)
    x = official_code(
        lambda x, t: model.prior.network(x, t, **model.prior.conditioning(positive, len(x))).sample,
        to_latent(image, vae)[0],
        model.prior.levels.alpha_bar(torch.arange(len(model.prior.levels))),
        settings,
        noise_sampler=lambda x, k: (start if k < 2 else updates)(x, k),
    )
    return to_pixels(x, vae)


def split(sigmas, step):
    return [sigmas[: step + 1], sigmas[step:]]


def lanczos(image, upscale_method, scale_by):
    assert upscale_method == "lanczos"
    size = [round(side * scale_by) for side in (image.shape[2], image.shape[1])]
    pictures = [Image.fromarray(picture) for picture in (255 * image).byte().numpy()]
    larger = [np.array(picture.resize(size, Image.Resampling.LANCZOS), np.float32) for picture in pictures]
    return [torch.from_numpy(np.stack(larger)) / 255]


def stitch(image1, image2, direction, match_image_size, spacing_width, spacing_color):
    return [torch.cat([image1, image2], 2)]


def compare(reference, names, **pictures):
    titles = dict(zip("abc", names.split(", "), strict=False))
    sheet, report = comparison(reference, [(titles[letter], x) for letter, x in sorted(pictures.items())])
    return [torch.from_numpy(np.array(sheet, np.float32))[None] / 255, report]


def stock_heun(noise, guider, sampler, sigmas, latent_image):
    model, conditioning = guider
    return [ode.heun(model.denoiser(conditioning), latent_image, sigmas)]


NODES = {
    "CODE_LoadPixelPrior": load_prior,
    "CODE_ExamplePicture": example,
    "TEST_SmallExample": small_example,
    "CODE_CorruptImage": corrupted,
    "CODE_ClassCondition": lambda model, label: [label],
    "CODE_Schedule": schedule,
    "CODE_ConfidenceClip": confidence_clip,
    "CODE_DDIMInvert": invert,
    "CODE_LangevinUpdate": update,
    "CODE_ODEDecode": decode,
    "CODE_NullText": fit,
    "CODE_GuidedDecode": guided_decode,
    "CODE_SDEdit": sdedit,
    "CODE_CycleSDE": cycle,
    "CODE_Inpaint": fill,
    "CODE_DiffEditMask": differing,
    "CODE_DiffEdit": translate,
    "CODE_DDIB": translate,
    "CODE_Restore": code,
    "CODE_ODEdit": edit,
    "CODE_Drag": dragged,
    "CODE_Official": as_published,
    "CODE_Film": lambda **inputs: [None, *code(samples=1, **inputs)],
    "SolidMask": lambda value, width, height: [torch.full((1, height, width), value)],
    "MaskComposite": composite,
    "SplitSigmas": split,
    "ImageScaleBy": lanczos,
    "ImageStitch": stitch,
    "CODE_CompareImages": compare,
    "VAEEncode": to_latent,
    "VAEDecode": to_pixels,
    "ImageScale": lambda image, **_: [image],  # to the size that it has
    "ImageFromBatch": lambda image, batch_index, length: [image[batch_index : batch_index + length]],
    "DisableNoise": lambda: [None],
    "BasicGuider": lambda model, conditioning: [(model, conditioning)],
    "KSamplerSelect": lambda sampler_name: [sampler_name],
    "SamplerCustomAdvanced": stock_heun,
    "SaveImage": lambda images, filename_prefix: [images],
}


def outputs(prompt, node, made):
    """The outputs of a node of a prompt, from the outputs of those before it; `made` remembers them."""
    if node not in made:
        inputs = {
            name: outputs(prompt, value[0], made)[value[1]] if isinstance(value, list) else value
            for name, value in prompt[node]["inputs"].items()
        }
        made[node] = NODES[prompt[node]["class_type"]](**inputs)
    return made[node]


def saving(prompt):
    [node] = [id for id, node in prompt.items() if node["class_type"] == "SaveImage"]
    return node


def expected(prompt):
    """What SaveImage writes, which rounds down: (B, H, W, 3), 0 to 255."""
    with torch.inference_mode():
        images = outputs(prompt, saving(prompt), {})[0]
    return (255 * images).clamp(0, 255).floor().int().numpy()


@pytest.mark.parametrize("name", RUNNABLE)
def test_its_picture_is_what_the_samplers_give(server, name, tmp_path):
    """Through POST /prompt; then through comfy-cli, which finds the nodes' outputs still cached."""
    prompt = quick(name)
    run = server.run(prompt)
    assert run.succeeded, run.error
    wanted = expected(prompt)
    assert wanted.std() > 10
    # an upscaler rounds to 256 levels on its way; the sums of windows, and Adam's, round in another order
    levels = {"odedit": 2, "whole-photo": 2, "guided-inversion": 3}.get(name, 1)
    assert_same(run.pictures(saving(prompt)), wanted, levels)
    if not comfy():
        pytest.skip("no comfy-cli (pip install comfy-cli)")
    file = tmp_path / f"{name}.json"
    file.write_text(json.dumps(prompt), encoding="utf-8")
    process = comfy_run(server, file)
    assert process.returncode == 0, process.stdout + process.stderr
    [answer] = process.stdout.splitlines()
    outputs = server.history(json.loads(answer)["data"]["prompt_id"])["outputs"]
    assert_same([server.view(**image) for image in outputs[saving(prompt)]["images"]], wanted, levels)


def assert_same(pictures, wanted, levels):
    np.testing.assert_allclose(np.stack([np.asarray(picture, int) for picture in pictures]), wanted, atol=levels)


@pytest.mark.parametrize("name", NEED_A_CHECKPOINT)
def test_a_latent_workflow_lacks_its_checkpoint_and_nothing_else(server, name):
    prompt = shipped(name)
    [picture] = [node["inputs"]["image"] for node in prompt.values() if node["class_type"] == "LoadImage"]
    server.upload(Image.new("RGB", (64, 48), "teal"), picture)
    with pytest.raises(Refused) as refused:
        server.queue(prompt)
    [(node, refusal)] = refused.value.node_errors.items()
    assert prompt[node]["class_type"] == "CheckpointLoaderSimple"
    assert [error["extra_info"]["input_name"] for error in refusal["errors"]] == ["ckpt_name"]


@pytest.mark.parametrize("name", NEED_A_CHECKPOINT)
def test_a_latent_workflow_runs_on_a_tiny_model(server, name):
    """With a model, prompts and a latent of the tests' own in place of the checkpoint's, without its VAE."""
    prompt = shipped(name)
    stands_in = {
        "CheckpointLoaderSimple": ("TEST_TinyModel", {}),
        "CLIPTextEncode": ("TEST_Conditioning", {"tokens": 2, "width": 8}),
        "VAEEncode": ("TEST_Latent", {}),
        "CODE_DecoderInversion": ("TEST_Latent", {}),
        "VAEDecode": ("TEST_Save", {"name": name}),
    }
    looks = ("SaveImage", "CODE_CompareImages", "PreviewAny")
    prompt = {key: node for key, node in prompt.items() if node["class_type"] not in looks}
    for node in prompt.values():
        node["inputs"].pop("vae", None)
        if node["class_type"] in stands_in:
            links = {"latent": node["inputs"]["samples"]} if "samples" in node["inputs"] else {}
            node["class_type"], widgets = stands_in[node["class_type"]]
            node["inputs"] = {**defaults(server, node["class_type"]), **widgets, **links}
    run = server.run(prompt)
    assert run.succeeded, run.error
    restored = load_file(server.output / f"{name}.safetensors")["latent"]
    assert restored.isfinite().all()
    assert 0.1 < restored.std() < 10


def defaults(server, class_type):
    """What a node's widgets hold before anybody touches them."""
    required = server.object_info()[class_type]["input"].get("required", {})
    options = {name: options for name, (_, options) in required.items()}
    return {name: option.get("default", option.get("options", [""])[0]) for name, option in options.items()}
