"""CODE Restore: all of it in one node."""

from dataclasses import dataclass

import comfy.utils
import torch
from comfy_api.latest import io

from ..evaluation import presets
from ..evaluation.metrics import psnr
from ..evaluation.settings import parts_of
from ..samplers.langevin import STEP_MODES, langevin_calls, large_step
from ..samplers.noise import item_seeds
from ..samplers.restore import STEP_SCALES, check_parts, decode_parts, restore_calls, tightest, update_levels
from ..samplers.windows import whole_shape, windows_of
from . import sockets
from .automatic import choose
from .clip import clip_settings, heat_of, mask_of
from .decode import decode
from .guider import Guided, Progress, noise_levels, samples_of
from .invert import invert
from .langevin import calls_told, update
from .masks import latent_mask, masks_of
from .pixel_prior import PixelModel
from .schedule import path_for

DECAY, TEMPERATURE = 0.8, 1.0


@dataclass(frozen=True)
class Settings:
    """How CODE Restore restores; the names are its widgets'."""

    depth: float = 0.4
    steps: int = 12
    step_size: float = 2e-2
    updates: int = 16
    blocks: int = 8
    stop_at: float = 1.1
    clip: bool = True
    eta: float = 1.0
    cfg: float = 1.0
    levels: int = 1
    shallowest: float = 0.1
    scale: str = "none"
    mode: str = "absolute"
    clip_at: str = "up"

    def langevin(self):
        return {
            "updates": self.updates,
            "blocks": self.blocks,
            "decay": DECAY,
            "temperature": TEMPERATURE,
            "mode": self.mode,
            "stop_at": self.stop_at,
        }

    def clips(self, model, x, samples):
        """The ClipSettings of each part of the way that is clipped, by its name, for x (B, C, h, w) and its samples."""
        later = {"samples": x.repeat_interleave(samples, 0)}
        return {
            part: clip_settings(model, self.eta, reference=None if part == "up" else later)
            for part in (parts_of(self.clip_at) if self.clip else ())
        }

    def levels_on(self, model, path):
        """The VE levels of a decode path that the updates take place at, (levels,), or none."""
        if not self.updates:
            return path[:0]
        if self.levels == 1:
            return path[:1]
        table, _ = noise_levels(model)
        return update_levels(path, self.levels, table.sigma(table.depth(fraction=self.shallowest)).item())


def settings_of(values):
    """Settings of a dictionary with the names that the commands use."""
    names = {"step_scale": "scale", "step_mode": "mode", "guidance": "cfg"}
    return Settings(**{names.get(name, name): value for name, value in values.items()})


PRESETS = {name: settings_of(values) for name, values in presets.PRESETS.items()}


def fitted(model, vae, pictures, fit="crop", max_side=sockets.MAX_SIDE):
    """(B, H, W, C) as a pixel prior takes it, by `fit` its square or whole; else cut to what the VAE encodes."""
    sockets.check_choice("fit", fit, sockets.FITS)
    if not isinstance(model.model, PixelModel):
        cropped = vae.vae_encode_crop_pixels(pictures)
        if not cropped.numel():
            raise ValueError(
                f"The picture is {pictures.shape[2]}x{pictures.shape[1]} and this VAE needs at least "
                f"{vae.spacial_compression_encode()} pixels a side: enlarge it."
            )
        return cropped
    size, own = model.model.prior.size, pictures.shape[1:3]
    width, height = whole_shape(own[::-1], size, max_side) if fit == "whole" else (size, size)
    method, crop = "bicubic" if min(own) < size else "area", "disabled" if fit == "whole" else "center"
    scaled = comfy.utils.common_upscale(pictures.movedim(-1, 1), width, height, method, crop)
    return scaled.movedim(1, -1).clamp(0, 1)


class Restore(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_Restore",
            display_name="CODE Restore",
            category="CODE",
            description="Restores a picture that is damaged in a way nobody described: inverts it, clips what cannot "
            "be, moves it towards likely pictures, and decodes it.",
            inputs=[
                *sockets.damaged_picture(),
                io.Combo.Input(
                    "preset",
                    options=[*PRESETS, "auto", "custom"],
                    default="balanced",
                    tooltip="What is wrong. auto: sees for itself and chooses (bundled priors, or calibrated ones). "
                    "balanced: anything. light: hardly anything. detail: blur, light noise. noise: heavy noise, wrong "
                    "pixels. smooth: the same, without texture. hazy: fog. blocks: missing blocks, lines. strokes: a "
                    "sketch in colours. masked: what a mask marks. "
                    "faded: fog, contrast, colour (needs a class or prompt, and negative). faithful changes less, bold "
                    "more. custom: the settings below, which the others ignore.",
                ),
                sockets.seed("Draws the noise of the updates: another seed, another restoration."),
                io.Int.Input(
                    "samples",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="How many restorations of each picture, to pick from. They share one inversion.",
                ),
                *sockets.schedule_widgets(optional=True, steps=Settings.steps),
                *sockets.langevin_widgets(optional=True),
                io.Boolean.Input(
                    "clip",
                    default=True,
                    optional=True,
                    tooltip="Confidence clipping on the way up: takes out what no noise explains. Off for low "
                    "contrast.",
                ),
                sockets.eta(optional=True),
                *reversed(sockets.guidance()),
                sockets.mask(),
                *sockets.level_widgets(),
                *sockets.fit_widgets(),
                sockets.step_mode(),
                sockets.clip_at(),
                sockets.stop_at(),
            ],
            outputs=[
                io.Image.Output(
                    display_name="restored", tooltip="The restorations; samples of one picture follow each other."
                ),
                io.Image.Output(display_name="seen", tooltip="The input as the model saw it, to compare with."),
                io.String.Output(
                    display_name="report",
                    tooltip="Network calls, clipping, how far the picture was moved, and its size.",
                ),
                sockets.heat("What was not believed: in how many of the steps up the clip moved each place."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        vae,
        image,
        positive,
        preset,
        seed,
        samples,
        negative=None,
        mask=None,
        fit="crop",
        max_side=sockets.MAX_SIDE,
        **custom,
    ):
        if samples < 1:
            raise ValueError(f"There are {samples} samples to make of each picture: take 1 or more.")
        seen, x, mask = asked_of(model, vae, image, preset, mask, fit, max_side)
        # a label and guidance belong to the way down
        up = Guided(model, negative or positive)
        chosen = chosen_for(up, x, preset, seed, custom)
        seeds, size = item_seeds(seed, len(x) * samples), size_told(model, image, seen)
        groups = [[i for i, other in enumerate(chosen) if other == one] for one in dict.fromkeys(chosen)]
        pictures, heats, said = [], [], []
        for places in groups:
            kind, name, settings = chosen[places[0]]
            down = Guided(model, positive, negative, settings.cfg)
            results = [i * samples + j for i in places for j in range(samples)]
            restored, used, calls, parts = restored_with(
                settings,
                up,
                down,
                x[places],
                seeds=[seeds[i] for i in results],
                samples=samples,
                mask=mask if mask is None or len(mask) == 1 else mask[places],
            )
            pictures.append(vae.decode(restored).clamp(0, 1))
            heats.append(heat_of(used, x[places]))
            clipped, inputs = mask_of(heats[-1]).mean().item() if used else None, seen[places]
            inputs = inputs.repeat_interleave(samples, 0)
            calls = calls_told(calls, settings.updates and settings.stop_at)
            line = report(calls, parts, settings.step_size, clipped, pictures[-1], inputs, size, settings.mode)
            said.append(f"{seen_as(kind, name, places, len(x))}{line}")
        order = torch.tensor([i for places in groups for i in places]).argsort()
        pictures, heat = torch.cat(pictures), torch.cat(heats)[order]
        pictures = pictures.unflatten(0, (len(x), samples))[order].flatten(0, 1)
        return io.NodeOutput(pictures, seen, "\n".join(said), heat)


def asked_of(model, vae, image, preset, mask, fit, max_side):
    """(seen, x, mask): IMAGE as the model sees it, its LATENT tensor, and the mask for that or None."""
    sockets.check_choice("preset", preset, [*PRESETS, "auto", "custom"])
    if preset == "masked" and mask is None:
        raise ValueError("The preset masked restores what a mask marks: connect one, or take another preset.")
    seen = fitted(model, vae, checked_image(image), fit, max_side)
    x = samples_of(model, {"samples": vae.encode(seen)})
    mask = fitted_mask(model, vae, image, mask, fit, max_side)
    return seen, x, None if mask is None else latent_mask(model, mask, x)


def chosen_for(up, x, preset, seed, custom):
    """(kind of damage or "", name, Settings) for each of the LATENT tensor x. custom: the widgets, for that preset."""
    if preset == "auto":
        return [(kind, name, settings_of(values)) for kind, name, values in choose(up, x, seed)]
    # a prompt from before `stop_at` never stopped
    return [("", preset, PRESETS.get(preset) or Settings(**{"stop_at": 0.0, **custom}))] * len(x)


def restored_with(settings, up, down, x, *, seeds, samples, mask):
    """(LATENT tensor, clip used up, network calls, parts of the way down) of `restored_latent` with Settings."""
    model = down.model
    sockets.check_choice("scale", settings.scale, STEP_SCALES)
    sockets.check_choice("mode", settings.mode, STEP_MODES)
    if not (settings.updates or settings.clip or settings.cfg != 1):
        raise ValueError("With no updates, no clip and cfg 1 nothing would change: turn one of them on.")
    path, _ = path_for(model, settings.steps, settings.depth)
    levels, langevin = settings.levels_on(model, path), settings.langevin()
    parts = decode_parts(path, levels, settings.scale)
    check_parts(parts, settings.step_size, **langevin)
    restored, used = restored_latent(
        up,
        down,
        x,
        parts,
        seeds=seeds,
        samples=samples,
        clips=settings.clips(model, x, samples),
        mask=mask,
        step=settings.step_size,
        **langevin,
    )
    return restored, used, restore_calls(path, settings.updates, settings.blocks, levels=levels), parts


def seen_as(kind, name, places, count):
    """What the preset auto took pictures for, and did about it, in words; nothing of another preset."""
    if not kind:
        return ""
    whose = f"Picture {', '.join(str(i + 1) for i in places)}: looks" if count > 1 else "Looks"
    return f"{whose} like {kind}, restored as {name}: "


def restored_latent(
    up, down, x, parts, *, seeds, samples=1, solver="ab2", clips=None, mask=None, step, noiseless_last=True, **langevin
):
    """The LATENT tensor (B * samples, C, h, w) after the way up and the `parts` of the way down, and the clip used up.

    up, down: Guided. x: (B, C, h, w). parts: of `decode_parts`, whose levels are updated at with step times its factor.
    seeds: one for each result. clips: ClipSettings for some of "up", "updates" and "down". mask: (B or 1, 1, h, w), 0
    where x is kept.
    """
    path, clips = torch.cat([*(part[:-1] for part, _ in parts), parts[-1][0][-1:]]), clips or {}
    calls = langevin_calls(langevin["updates"], langevin["blocks"], noiseless_last)
    updated = sum(factor is not None for _, factor in parts)
    progress = Progress(down.model, len(path) - 2 + updated * calls + len(path) - 1)

    x, trajectory, used = invert(
        up, x, path, progress.part(len(path) - 2), solver=solver, clip=clips.get("up"), seeds=seeds[::samples]
    )
    x = x.repeat_interleave(samples, 0)
    if mask is not None:
        mask = mask.repeat_interleave(samples, 0) if len(mask) > 1 else mask
        trajectory = trajectory.map(lambda state: state.repeat_interleave(samples, 0))
    held = {
        "clip": clips.get("down"),
        "mask": mask,
        "trajectory": trajectory,
        "resets": sum(len(part) for part, _ in parts),
    }
    drawn = 0
    for part, factor in parts:
        if factor:
            settings = {
                "step": step * factor,
                "noiseless_last": noiseless_last,
                "clip": clips.get("updates"),
                **langevin,
            }
            x, _ = update(down, x, part[:1], progress.part(calls), seeds=seeds, drawn=drawn, **settings)
            drawn += langevin["updates"]
        x, _ = decode(down, x, part, progress.part(len(part) - 1), solver=solver, **held)
    return x, used


def report(calls, parts, step, clipped, pictures, seen, size=None, mode="absolute"):
    """What was done, in a line, and advice where a step is large. calls: of `calls_told`. size: of `size_told`."""
    levels = [path[0] for path, factor in parts if factor] or [parts[0][0][0]]
    said = [f"{calls} at sigma {', '.join(f'{sigma:.4g}' for sigma in levels)}"]
    if clipped is not None:
        said.append(f"{clipped:.1%} clipped")
    said.append(f"PSNR to the input {', '.join(f'{moved:.1f}' for moved in psnr(2 * pictures, 2 * seen))} dB")
    if size:
        said.append(size)
    level = tightest(parts, mode)
    advice = level and large_step(step, level[0], mode, level[1])
    return "; ".join(said) + "." + (f" {advice}" if advice else "")


def size_told(model, image, seen):
    """What became of the size of a picture, IMAGE as given and as `fitted`, in words; None where nothing did."""
    pixels, own, shape = isinstance(model.model, PixelModel), image.shape[1:3], seen.shape[1:3]
    windows, said = windows_of(shape, model.model.prior.size) if pixels else 1, f"{shape[1]}x{shape[0]}"
    if own != shape:
        # of less than a pixel of the result: that is rounding
        whole = pixels and abs(own[0] * shape[1] - own[1] * shape[0]) <= max(own)
        said += f", {'scaled from' if whole else 'the middle of'} {own[1]}x{own[0]}"
    if windows > 1:
        said += f", in {windows} windows a call"
    return None if own == shape and windows == 1 else said


def checked_image(image):
    """IMAGE as (B, H, W, 3): alpha left out, grey repeated. ValueError where it cannot be, or holds no picture."""
    if not image.numel():
        raise ValueError("The image holds no picture: check what empties the batch before this node.")
    if not image.isfinite().all():
        raise ValueError("The image holds NaN or infinity: check the node that it comes from.")
    height, width, channels = image.shape[1:]
    # one pixel's breadth leaves nothing of a square cut from the middle
    if min(height, width) < 2:
        raise ValueError(f"The image is {width}x{height}: give one of at least 2 pixels a side.")
    if channels == 2:
        raise ValueError("The image has 2 channels, and a picture has 1, 3 or 4: check the node that it comes from.")
    return image[..., :3].expand(-1, -1, -1, 3)


def fitted_mask(model, vae, image, mask, fit="crop", max_side=sockets.MAX_SIDE):
    """The MASK, if any, as `fitted` cuts and scales its picture; ValueError where it has another size."""
    if mask is None:
        return None
    mask = masks_of(mask)
    if mask.shape[1:] != image.shape[1:3]:
        raise ValueError(
            f"The mask is {mask.shape[2]}x{mask.shape[1]} and the picture {image.shape[2]}x{image.shape[1]}: give a "
            "mask of the picture's size."
        )
    return fitted(model, vae, mask[..., None], fit, max_side)[..., 0]
