"""CODE Restore: all of it in one node."""

from dataclasses import dataclass

import comfy.utils
from comfy_api.latest import io

from ..evaluation.metrics import psnr
from ..samplers.langevin import check_updates, langevin_calls
from ..samplers.noise import item_seeds
from ..samplers.ode import network_calls
from ..samplers.restore import encode_path
from . import sockets
from .clip import clip_settings, mask_of
from .decode import decode
from .guider import Guided, Progress, samples_of
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

    def langevin(self):
        return {"updates": self.updates, "blocks": self.blocks, "decay": DECAY, "temperature": TEMPERATURE}


PRESETS = {
    "balanced": Settings(),
    "faithful": Settings(depth=0.3, step_size=1e-3),
    "bold": Settings(step_size=5e-3),
    "blocks": Settings(depth=0.5, eta=0.7),
    "masked": Settings(depth=0.7, eta=0.7),
    "faded": Settings(step_size=1e-3, clip=False, cfg=7.0),
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
                sockets.model(),
                io.Vae.Input("vae", tooltip="The one that belongs to the model."),
                io.Image.Input(
                    "image",
                    tooltip="The damaged picture. For a pixel prior it is cut to a square and scaled to its size.",
                ),
                sockets.positive(),
                io.Combo.Input(
                    "preset",
                    options=[*PRESETS, "custom"],
                    default="balanced",
                    tooltip="balanced: noise, wrong pixels. faithful: light damage, changes less. bold: invents more. "
                    "blocks: masks, strokes. masked: what a mask marks. faded: low contrast, fog (needs a class or "
                    "prompt, and negative). custom: the settings below, which the others ignore.",
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
            ],
            outputs=[
                io.Image.Output(
                    display_name="restored", tooltip="The restorations; samples of one picture follow each other."
                ),
                io.Image.Output(display_name="seen", tooltip="The input as the model saw it, to compare with."),
                io.String.Output(
                    display_name="report", tooltip="Network calls, clipping, and how far the picture was moved."
                ),
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
        if not (settings.updates or settings.clip or settings.cfg != 1):
            raise ValueError("With no updates, no clip and cfg 1 nothing would change: turn one of them on.")
        seen = fitted(model, vae, checked_image(image))
        latent = {"samples": vae.encode(seen)}
        restored, clipped = restored_latent(
            model, latent, positive, negative, settings, seed, samples, fitted_mask(model, vae, image, mask)
        )
        pictures = vae.decode(restored).clamp(0, 1)
        return io.NodeOutput(
            pictures, seen, report(model, settings, pictures, seen.repeat_interleave(samples, 0), clipped)
        )


def restored_latent(model, latent, positive, negative, settings, seed, samples, mask):
    """(B * samples, C, h, w), and the share that was clipped, or None."""
    x, (path, _) = samples_of(model, latent), path_for(model, settings.steps, settings.depth)
    mask = None if mask is None else latent_mask(model, mask, x)
    langevin, seeds = settings.langevin(), item_seeds(seed, len(x) * samples)
    if settings.updates:
        check_updates(path[0].item(), settings.step_size, **langevin)
    # a label and guidance belong to the way down
    up, down = Guided(model, negative or positive), Guided(model, positive, negative, settings.cfg)
    calls, steps = langevin_calls(settings.updates, settings.blocks), len(path) - 1
    progress = Progress(model, steps - 1 + calls + steps)
    clip = clip_settings(model, settings.eta) if settings.clip else None

    x, trajectory, used = invert(up, x, path, progress.part(steps - 1), clip=clip, seeds=seeds[::samples])
    clipped = mask_of(used, x).mean().item() if used else None
    x = x.repeat_interleave(samples, 0)
    if settings.updates:
        x = update(down, x, path[:1], progress.part(calls), seeds=seeds, step=settings.step_size, **langevin)
    if mask is not None:
        mask = mask.repeat_interleave(samples, 0) if len(mask) > 1 else mask
        trajectory = trajectory.map(lambda state: state.repeat_interleave(samples, 0))
    return decode(down, x, path, progress.part(steps), trajectory=trajectory, mask=mask), clipped


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


def report(model, settings, pictures, seen, clipped):
    """What was done, in a line."""
    path, _ = path_for(model, settings.steps, settings.depth)
    calls = network_calls("ab2", encode_path(path)) + network_calls("ab2", path)
    calls += langevin_calls(settings.updates, settings.blocks)
    parts = [f"{calls} network calls at sigma {path[0]:.4g}"]
    if clipped is not None:
        parts.append(f"{clipped:.1%} clipped")
    parts.append(f"PSNR to the input {', '.join(f'{moved:.1f}' for moved in psnr(2 * pictures, 2 * seen))} dB")
    return "; ".join(parts) + "."
