"""Confidence Clip."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import comfy.model_management
import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..samplers import clipping
from ..samplers.checks import one_level_or_descending
from . import sockets
from .guider import samples_of, ve_sigmas
from .pixel_prior import PixelModel

RANGES = ["auto", "fixed", "quantile", "observation"]


@dataclass(frozen=True)
class ClipSettings:
    """CODE_CLIP: eta and the range of clean data in the model's scale, or how to read it from a clean latent."""

    eta: float
    bounds: tuple | None
    read: Callable = clipping.quantile_range

    def clip_for(self, x, clean=None):
        """The samplers' clip for states like x; where its range is not known it is read from a clean latent."""
        if self.bounds is None and clean is None:
            raise ValueError(
                "The clip does not know the range of clean data: connect the clean latent to the reference of "
                "Confidence Clip, or give a fixed range."
            )
        low, high = self.bounds or self.read(clean)
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


def heat_of(clip, samples):
    """MASK (B, H, W): the share of its calls that a clip moved a place in, of its most moved channel; 0 without one."""
    heat = torch.zeros_like(samples) if clip is None else clip.heat()
    return heat.amax(1).reshape(-1, *samples.shape[-2:]).to(comfy.model_management.intermediate_device())


def mask_of(heat):
    """MASK that is 1 where a clip moved anything."""
    return (heat > 0).float()


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
                    "and high. quantile: each channel's range in the picture without its outermost values. "
                    "observation: round each value of the picture; in Langevin and Decode it keeps them faithful.",
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
                    tooltip="The clean latent that the range is read from. Needed for clipping here, in Langevin and "
                    "in Decode, but for fixed, and auto on pixels; Invert knows its own.",
                ),
                io.Float.Input(
                    "outside",
                    default=0.01,
                    min=0.0,
                    max=0.49,
                    step=0.005,
                    round=False,
                    optional=True,
                    tooltip="For quantile only: the share of values taken for damage at each end. Higher clips more: "
                    "takes out more specks, and strong colours with them.",
                ),
                io.Float.Input(
                    "width",
                    default=0.5,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    round=False,
                    optional=True,
                    tooltip="For observation only: how far the result may lie from the picture, in the model's scale, "
                    "where pixels span 2. Lower is more faithful, and leaves more damage.",
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
    def execute(
        cls,
        model,
        eta,
        data_range,
        low,
        high,
        latent=None,
        sigmas=None,
        reference=None,
        outside=0.01,
        width=0.5,
    ):
        sockets.check_choice("data range", data_range, RANGES)
        settings = clip_settings(model, eta, data_range, low, high, reference, outside, width)
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
        mask = mask_of(heat_of(clip, samples))
        return io.NodeOutput({**latent, "samples": format.process_out(clipped)}, mask, settings)


def clip_settings(model, eta, data_range="auto", low="", high="", reference=None, outside=0.0, width=0.0):
    """The CODE_CLIP of Confidence Clip's widgets."""
    clipping.ConfidenceClip(eta)  # refuses an eta here, not in the node that comes to use it
    format = model.get_model_object("latent_format")
    if data_range == "fixed":
        ndim = 2 + format.latent_dimensions
        low, high = (numbers(text, name, format.latent_channels, ndim) for text, name in ((low, "low"), (high, "high")))
        if not (torch.as_tensor(low) < torch.as_tensor(high)).all():
            raise ValueError("low must lie below high in every channel: swap them.")
        return ClipSettings(eta, (low, high))
    if data_range == "auto" and isinstance(model.model, PixelModel):
        return ClipSettings(eta, (-1.0, 1.0))
    read = {
        "auto": clipping.quantile_range,
        "quantile": partial(clipping.quantile_range, outside=outside),
        "observation": partial(clipping.observation_range, width=width),
    }[data_range]
    read(torch.zeros(1, 1, 1))  # refuses a wrong number here, as above
    return ClipSettings(eta, reference and read(format.process_in(samples_of(model, reference))), read)
