"""CODE Restore: all of it in one node."""

from dataclasses import dataclass

import comfy.utils
import torch
from comfy_api.latest import io

from ..evaluation.metrics import psnr
from ..samplers.langevin import langevin_calls, large_step
from ..samplers.noise import item_seeds
from ..samplers.restore import STEP_SCALES, check_parts, decode_parts, restore_calls, tightest, update_levels
from . import sockets
from .clip import clip_settings, heat_of, mask_of
from .decode import decode, resets_on
from .guider import Guided, Progress, noise_levels, samples_of
from .invert import invert
from .langevin import update
from .masks import latent_mask, masks_of
from .pixel_prior import PixelModel
from .schedule import path_for

DECAY, TEMPERATURE = 0.8, 1.0


@dataclass(frozen=True)
class Settings:
    """How CODE Restore restores; the names are its widgets'."""

    depth: float = 0.4
    steps: int = 25
    step_size: float = 2e-3
    updates: int = 60
    blocks: int = 4
    clip: bool = True
    eta: float = 1.0
    cfg: float = 1.0
    levels: int = 1
    shallowest: float = 0.1
    scale: str = "none"

    def langevin(self):
        return {"updates": self.updates, "blocks": self.blocks, "decay": DECAY, "temperature": TEMPERATURE}

    def levels_on(self, model, path):
        """The VE levels of a decode path that the updates take place at, (levels,), or none."""
        if not self.updates:
            return path[:0]
        if self.levels == 1:
            return path[:1]
        table, _ = noise_levels(model)
        return update_levels(path, self.levels, table.sigma(table.depth(fraction=self.shallowest)).item())


PRESETS = {
    "balanced": Settings(),
    "detail": Settings(depth=0.3, step_size=1e-3, updates=30, eta=1.3, levels=2, shallowest=0.05),
    "noise": Settings(updates=30, levels=2, shallowest=0.05),
    "blocks": Settings(depth=0.5, eta=0.7),
    "strokes": Settings(depth=0.5, step_size=5e-3),
    "masked": Settings(depth=0.7, eta=0.7),
    "faded": Settings(step_size=1e-3, clip=False, cfg=7.0),
    "faithful": Settings(depth=0.3, step_size=1e-3),
    "bold": Settings(step_size=5e-3),
}


def fitted(model, vae, pictures):
    """(B, H, W, C) cut and scaled to the square that a pixel prior knows, else cut to what the VAE encodes."""
    if not isinstance(model.model, PixelModel):
        cropped = vae.vae_encode_crop_pixels(pictures)
        if not cropped.numel():
            raise ValueError(
                f"The picture is {pictures.shape[2]}x{pictures.shape[1]} and this VAE needs at least "
                f"{vae.spacial_compression_encode()} pixels a side: enlarge it."
            )
        return cropped
    size = model.model.prior.size
    method = "bicubic" if min(pictures.shape[1:3]) < size else "area"
    square = comfy.utils.common_upscale(pictures.movedim(-1, 1), size, size, method, "center")
    return square.movedim(1, -1).clamp(0, 1)


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
                    options=[*PRESETS, "custom"],
                    default="balanced",
                    tooltip="What is wrong. balanced: anything. detail: blur, light noise. noise: heavy noise, wrong "
                    "pixels. blocks: missing blocks, lines. strokes: a sketch in colours. masked: what a mask marks. "
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
                *sockets.schedule_widgets(optional=True),
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
            ],
            outputs=[
                io.Image.Output(
                    display_name="restored", tooltip="The restorations; samples of one picture follow each other."
                ),
                io.Image.Output(display_name="seen", tooltip="The input as the model saw it, to compare with."),
                io.String.Output(
                    display_name="report", tooltip="Network calls, clipping, and how far the picture was moved."
                ),
                sockets.heat("What was not believed: in how many of the steps up the clip moved each place."),
            ],
        )

    @classmethod
    def execute(cls, model, vae, image, positive, preset, seed, samples, negative=None, mask=None, **custom):
        sockets.check_choice("preset", preset, [*PRESETS, "custom"])
        if preset == "masked" and mask is None:
            raise ValueError("The preset masked restores what a mask marks: connect one, or take another preset.")
        if samples < 1:
            raise ValueError(f"There are {samples} samples to make of each picture: take 1 or more.")
        settings = PRESETS.get(preset) or Settings(**custom)
        sockets.check_choice("scale", settings.scale, STEP_SCALES)
        if not (settings.updates or settings.clip or settings.cfg != 1):
            raise ValueError("With no updates, no clip and cfg 1 nothing would change: turn one of them on.")
        seen = fitted(model, vae, checked_image(image))
        x = samples_of(model, {"samples": vae.encode(seen)})
        mask = fitted_mask(model, vae, image, mask)
        mask = None if mask is None else latent_mask(model, mask, x)
        path, _ = path_for(model, settings.steps, settings.depth)
        levels, langevin = settings.levels_on(model, path), settings.langevin()
        parts = decode_parts(path, levels, settings.scale)
        check_parts(parts, settings.step_size, **langevin)
        # a label and guidance belong to the way down
        up, down = Guided(model, negative or positive), Guided(model, positive, negative, settings.cfg)
        restored, used = restored_latent(
            up,
            down,
            x,
            parts,
            seeds=item_seeds(seed, len(x) * samples),
            samples=samples,
            clip=clip_settings(model, settings.eta) if settings.clip else None,
            mask=mask,
            step=settings.step_size,
            **langevin,
        )
        pictures, heat = vae.decode(restored).clamp(0, 1), heat_of(used, x)
        calls = restore_calls(path, settings.updates, settings.blocks, levels=levels)
        clipped = mask_of(heat).mean().item() if used else None
        said = report(calls, parts, settings.step_size, clipped, pictures, seen.repeat_interleave(samples, 0))
        return io.NodeOutput(pictures, seen, said, heat)


def restored_latent(
    up, down, x, parts, *, seeds, samples=1, solver="ab2", clip=None, mask=None, step, noiseless_last=True, **langevin
):
    """The LATENT tensor (B * samples, C, h, w) after the way up and the `parts` of the way down, and the clip used up.

    up, down: Guided. x: (B, C, h, w). parts: of `decode_parts`, whose levels are updated at with step times its factor.
    seeds: one for each result. clip: ClipSettings. mask: (B or 1, 1, h, w), 0 where x is kept.
    """
    path = torch.cat([*(part[:-1] for part, _ in parts), parts[-1][0][-1:]])
    calls = langevin_calls(langevin["updates"], langevin["blocks"], noiseless_last)
    updated = sum(factor is not None for _, factor in parts)
    progress = Progress(down.model, len(path) - 2 + updated * calls + len(path) - 1)

    x, trajectory, used = invert(
        up, x, path, progress.part(len(path) - 2), solver=solver, clip=clip, seeds=seeds[::samples]
    )
    x = x.repeat_interleave(samples, 0)
    if mask is not None:
        mask = mask.repeat_interleave(samples, 0) if len(mask) > 1 else mask
        trajectory = trajectory.map(lambda state: state.repeat_interleave(samples, 0))
    held = {"mask": mask, "trajectory": trajectory, "resets": sum(resets_on(solver, part) for part, _ in parts)}
    drawn = 0
    for part, factor in parts:
        if factor:
            settings = {"step": step * factor, "noiseless_last": noiseless_last, **langevin}
            x, _ = update(down, x, part[:1], progress.part(calls), seeds=seeds, drawn=drawn, **settings)
            drawn += langevin["updates"]
        x, _ = decode(down, x, part, progress.part(len(part) - 1), solver=solver, **held)
    return x, used


def report(calls, parts, step, clipped, pictures, seen):
    """What was done, in a line, and advice where a step is large."""
    levels = [path[0] for path, factor in parts if factor] or [parts[0][0][0]]
    said = [f"{calls} network calls at sigma {', '.join(f'{sigma:.4g}' for sigma in levels)}"]
    if clipped is not None:
        said.append(f"{clipped:.1%} clipped")
    said.append(f"PSNR to the input {', '.join(f'{moved:.1f}' for moved in psnr(2 * pictures, 2 * seen))} dB")
    level = tightest(parts)
    advice = level and large_step(step, level[0], scale=level[1])
    return "; ".join(said) + "." + (f" {advice}" if advice else "")


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


def fitted_mask(model, vae, image, mask):
    """The MASK, if any, as `fitted` cuts and scales its picture; ValueError where it has another size."""
    if mask is None:
        return None
    mask = masks_of(mask)
    if mask.shape[1:] != image.shape[1:3]:
        raise ValueError(
            f"The mask is {mask.shape[2]}x{mask.shape[1]} and the picture {image.shape[2]}x{image.shape[1]}: give a "
            "mask of the picture's size."
        )
    return fitted(model, vae, mask[..., None])[..., 0]
