"""Load Pixel Prior."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..priors.loading import bundled, load
from . import sockets
from .pixel_prior import native_model, pixel_vae


def installed():
    """The folders of priors under models/diffusers, by name."""
    return {
        index.parent.name: index.parent
        for root in folder_paths.get_folder_paths("diffusers")
        for index in sorted(Path(root).glob("*/model_index.json"))
    }


def choices():
    """The names to choose from, the bundled priors first."""
    return [*bundled(), *(name for name in installed() if name not in bundled())]


class LoadPixelPrior(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_LoadPixelPrior",
            display_name="Load Pixel Prior",
            category="CODE",
            description="Loads a small diffusion model that works on pixels, one that comes with the pack or your own.",
            inputs=[
                io.Combo.Input(
                    "prior",
                    options=choices(),
                    default="flowers64",
                    tooltip="What the model knows decides what it can restore. Bundled priors come first, then "
                    "folders in diffusers layout under models/diffusers.",
                ),
                io.String.Input(
                    "hub_id",
                    default="",
                    tooltip="A Hugging Face id, taken in place of the prior above and downloaded once, such as the "
                    "paper's own google/ddpm-ema-celebahq-256, google/ddpm-ema-bedroom-256 and "
                    "google/ddpm-ema-church-256. Safetensors only.",
                ),
                io.Boolean.Input(
                    "dynamic_threshold",
                    default=False,
                    tooltip="Keeps the model's estimate of the picture inside the range of pixels: steadier colours, "
                    "above all with high cfg. Turn it off where an inversion must come back exactly.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="For every node that takes a MODEL, KSampler among them."
                ),
                io.Vae.Output(
                    display_name="vae", tooltip="Pixels to latents and back; this model's latents are pixels."
                ),
                io.Conditioning.Output(
                    display_name="unconditional", tooltip="No class: for positive, or for negative."
                ),
                io.Int.Output(display_name="size", tooltip="The side in pixels that the model was trained at."),
            ],
        )

    @classmethod
    def execute(cls, prior, hub_id, dynamic_threshold):
        if not hub_id.strip():
            sockets.check_choice("prior", prior, choices())
        loaded = load(hub_id.strip() or (prior if prior in bundled() else installed()[prior]))
        return io.NodeOutput(native_model(loaded, dynamic_threshold), pixel_vae(), [[None, {}]], loaded.size)
