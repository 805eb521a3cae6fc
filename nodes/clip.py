"""Confidence Clip."""

from dataclasses import dataclass

import comfy.model_management
import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..samplers import clipping
from ..samplers.checks import one_level_or_descending
from . import sockets
from .guider import samples_of, ve_sigmas
from .pixel_prior import PixelModel

RANGES = ["auto", "fixed"]


@dataclass(frozen=True)
class ClipSettings:
    """CODE_CLIP: eta and the range of clean data in the model's scale, numbers or tensors; None is yet to be read."""

    eta: float
    low: torch.Tensor | float | None
    high: torch.Tensor | float | None

    def clip_for(self, x, clean=None):
        """The samplers' clip for states like x; where its range is not known it is read from a clean latent."""
        low, high = self.low, self.high
        if low is None:
            if clean is None:
                raise ValueError(
                    "The clip does not know the range of this model's latents: connect the clean latent to the "
                    "reference of Confidence Clip, or give a fixed range."
                )
            low, high = data_range(clean)
        if not (fits(low, x) and fits(high, x)):
            raise ValueError(
                "The clip is for latents of other channels or another batch: give Confidence Clip this MODEL and this "
                "picture's latent."
            )
        return clipping.ConfidenceClip(self.eta, *(torch.as_tensor(v).to(x, non_blocking=True) for v in (low, high)))


def fits(bound, x):
    """Whether a bound of the clip, a number or a tensor, broadcasts to x and leaves its shape."""
    try:
        return torch.broadcast_shapes(torch.as_tensor(bound).shape, x.shape) == x.shape
    except RuntimeError:
        return False


def data_range(clean):
    """The lowest and highest value of each picture and channel, (B, C, 1, ...)."""
    places = tuple(range(2, clean.ndim))
    return clean.amin(places, keepdim=True), clean.amax(places, keepdim=True)


def mask_of(clip, samples):
    """MASK (B, H, W) of where a clip moved any channel; 0 without a clip."""
    moved = None if clip is None else clip.clipped
    moved = torch.zeros_like(samples, dtype=torch.bool) if moved is None else moved
    mask = moved.any(1).reshape(-1, *samples.shape[-2:]).float()
    return mask.to(comfy.model_management.intermediate_device())


def numbers(text, name, channels, ndim):
    """A number, or one for each channel as (C, 1, ...), from what stands in a text field."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, channels) or not torch.tensor(values).isfinite().all():
        raise ValueError(
            f"{name} is {text[:40]!r}: give a number, or {channels} with commas between, one for each channel."
        )
    return values[0] if len(values) == 1 else torch.tensor(values).view(-1, *[1] * (ndim - 2))


class ConfidenceClip(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_ConfidenceClip",
            display_name="Confidence Clip",
            category="CODE",
            description="Holds noisy latents inside the interval where clean data plus noise must lie [CBC]. Connect "
            "the clip to DDIM Invert, or a latent and its sigmas to clip that one.",
            inputs=[
                sockets.model(),
                sockets.eta(),
                io.Combo.Input(
                    "data_range",
                    options=RANGES,
                    default="auto",
                    tooltip="auto: [-1, 1] for pixels, each channel's range in the picture for latents. fixed: low "
                    "and high below.",
                ),
                io.String.Input(
                    "low",
                    default="",
                    tooltip="For fixed only: the lowest clean value in the model's scale, a number or one a channel "
                    "with commas.",
                ),
                io.String.Input(
                    "high",
                    default="",
                    tooltip="For fixed only: the highest clean value in the model's scale, a number or one a channel "
                    "with commas.",
                ),
                io.Latent.Input(
                    "latent", optional=True, tooltip="A noisy latent to clip here, at the level of sigmas."
                ),
                io.Sigmas.Input("sigmas", optional=True, tooltip="The latent's noise level: the first is taken."),
                io.Latent.Input(
                    "reference",
                    optional=True,
                    tooltip="The clean latent that auto takes the range from. Latent models need it for clipping "
                    "here, in Langevin and in Decode; Invert knows its own.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The latent, clipped. Needs latent and sigmas."),
                io.Mask.Output(display_name="clipped", tooltip="1 where the latent was clipped, at the latent's size."),
                sockets.Clip.Output(
                    display_name="clip", tooltip="For DDIM Invert, Langevin Latent Update and ODE Decode."
                ),
            ],
        )

    @classmethod
    def execute(cls, model, eta, data_range, low, high, latent=None, sigmas=None, reference=None):
        sockets.check_choice("data range", data_range, RANGES)
        settings = clip_settings(model, eta, data_range, low, high, reference)
        if (latent is None) != (sigmas is None):
            raise ValueError(
                "Clipping a latent takes both latent and sigmas, its noise level: connect the other one too."
            )
        if latent is None:
            nothing = ExecutionBlocker("Confidence Clip has no latent to give out: connect its latent and sigmas.")
            return io.NodeOutput(nothing, nothing, settings)
        format, samples = model.get_model_object("latent_format"), samples_of(model, latent)
        clip = settings.clip_for(samples)
        clipped = clip(format.process_in(samples), ve_sigmas(model, sigmas, one_level_or_descending)[0].item())
        return io.NodeOutput({**latent, "samples": format.process_out(clipped)}, mask_of(clip, samples), settings)


def clip_settings(model, eta, data_range_kind="auto", low="", high="", reference=None):
    """The CODE_CLIP of Confidence Clip's widgets."""
    clipping.ConfidenceClip(eta)  # refuses an eta here, not in the node that comes to use it
    format = model.get_model_object("latent_format")
    if data_range_kind == "fixed":
        ndim = 2 + format.latent_dimensions
        low, high = (numbers(text, name, format.latent_channels, ndim) for text, name in ((low, "low"), (high, "high")))
        if not (torch.as_tensor(low) < torch.as_tensor(high)).all():
            raise ValueError("low must lie below high in every channel: swap them.")
        return ClipSettings(eta, low, high)
    if isinstance(model.model, PixelModel):
        return ClipSettings(eta, -1.0, 1.0)
    if reference is not None:
        return ClipSettings(eta, *data_range(format.process_in(samples_of(model, reference))))
    return ClipSettings(eta, None, None)
