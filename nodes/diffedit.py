"""DiffEdit Mask, and DiffEdit."""

import torch
from comfy_api.latest import io

from ..samplers.checks import finite
from ..samplers.diffedit import disagreement, mask_from
from ..samplers.noise import MASK_MAPS, seeded_noise
from . import sockets
from .ddib import translated
from .guider import Progress, Translating, item_seeds, noise_levels, samples_of

RATIO, THRESHOLD = 3.0, 0.5


class DiffEditMask(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_DiffEditMask",
            display_name="DiffEdit Mask",
            category="CODE",
            description="Finds where a picture has to change to show something else: where the model sees the noised "
            "picture differently under the two conditions.",
            inputs=[
                sockets.model(),
                sockets.latent("The picture, encoded and clean."),
                *sockets.source_and_target(),
                sockets.seed("Draws the noise of the maps.", changes=False),
                *sockets.guidance(
                    "Guidance of both conditions, the paper's 7.5. It makes all differences larger alike, so that the "
                    "mask stays as it is, unless the model thresholds; 1 takes half the time."
                ),
                io.Float.Input(
                    "strength",
                    default=0.5,
                    min=0.001,
                    max=1.0,
                    step=0.05,
                    round=False,
                    optional=True,
                    tooltip="How much noise the picture gets, as a fraction of the schedule. Higher compares larger "
                    "shapes, and near 1 finds hardly anything; lower compares details.",
                ),
                io.Int.Input(
                    "maps",
                    default=10,
                    min=1,
                    max=1000,
                    optional=True,
                    tooltip="Over how many draws of the noise is averaged, two network calls each. More is cleaner, "
                    "and takes longer.",
                ),
                io.Float.Input(
                    "ratio",
                    default=RATIO,
                    min=0.01,
                    max=100.0,
                    step=0.1,
                    round=False,
                    optional=True,
                    tooltip="Differences above this many times their mean count as so much. Higher finds less.",
                ),
                io.Float.Input(
                    "threshold",
                    default=THRESHOLD,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=False,
                    optional=True,
                    tooltip="From which share of that a place is in the mask. Lower makes it larger.",
                ),
                io.Int.Input(
                    "grow",
                    default=0,
                    min=0,
                    max=1024,
                    optional=True,
                    tooltip="By how many pixels of the picture the mask is widened.",
                ),
                io.Float.Input(
                    "blur",
                    default=0.0,
                    min=0.0,
                    max=256.0,
                    step=0.5,
                    round=False,
                    optional=True,
                    tooltip="By how many pixels of the picture its edge is made soft, so that no seam shows.",
                ),
            ],
            outputs=[
                io.Mask.Output(display_name="mask", tooltip="1 where to change; the picture's size. For DiffEdit."),
                io.Image.Output(
                    display_name="heat",
                    tooltip="How much the two conditions disagree about each place, white where most: for setting the "
                    "threshold.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        latent,
        source,
        target,
        seed,
        negative=None,
        cfg=1.0,
        strength=0.5,
        maps=10,
        ratio=RATIO,
        threshold=THRESHOLD,
        grow=0,
        blur=0.0,
    ):
        check_mask(ratio, threshold, grow, blur)
        samples, level = samples_of(model, latent), level_at(model, strength)
        noise, made = seeded_noise(item_seeds(latent, seed), MASK_MAPS), {}

        def compare(model, x, sigmas, extra_args, callback, disable, source):
            made["difference"] = disagreement(
                model, x, sigmas, extra_args, callback, source=source, noise_sampler=noise, maps=maps
            )
            return x

        translating = Translating(model, source, target, negative, cfg, cfg)
        translating.run(compare, samples, level, Progress(model, maps).part(maps))
        difference = at_picture_size(model, finite(made["difference"], "The difference").cpu())
        most = ratio * difference.mean((1, 2, 3), keepdim=True)
        heat = (difference.minimum(most) / most).nan_to_num()
        mask = mask_from(difference, ratio, threshold, grow, blur)
        return io.NodeOutput(mask[:, 0], heat.movedim(1, -1).expand(-1, -1, -1, 3))


def check_mask(ratio, threshold, grow, blur):
    """ValueError for what is no number, or out of range over a link."""
    if not (0 < ratio < float("inf") and 0 <= threshold <= 1):
        raise ValueError(
            f"The ratio is {ratio:g} and the threshold {threshold:g}: take a ratio above 0, and a threshold of 0 to 1."
        )
    if grow < 0 or not 0 <= blur < float("inf"):
        raise ValueError(f"The mask is grown by {grow} and blurred by {blur:g} pixels: take 0 or more.")


def level_at(model, strength):
    """The VE level at a fraction of a MODEL's schedule, (1,), float64; ValueError where there is none."""
    levels, whole = noise_levels(model)
    timestep = levels.depth(fraction=strength)
    return levels.sigma(round(timestep) if whole else timestep).reshape(1).cpu()


def at_picture_size(model, x):
    """A map (B, 1, ..., h, w) of latents as (B, 1, H, W) of pictures; frames are averaged."""
    # ComfyUI 0.3 keeps the scale to itself; it is 8 for all but a few
    scale = getattr(model.get_model_object("latent_format"), "spacial_downscale_ratio", None) or 8
    x = x.reshape(len(x), 1, -1, *x.shape[-2:]).mean(2)
    return torch.nn.functional.interpolate(x, scale_factor=scale, mode="nearest-exact")


class DiffEdit(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_DiffEdit",
            display_name="DiffEdit",
            category="CODE",
            description="Translates what lies inside a mask from one class or prompt into another; what lies outside "
            "stays as it was.",
            inputs=[
                sockets.model(),
                sockets.latent("The picture, encoded and clean."),
                sockets.sigmas(
                    "From CODE Schedule. Deeper changes more inside the mask: about 0.6 to begin with [t0; 0.3 to 0.8]."
                ),
                *sockets.source_and_target(),
                sockets.edit_mask(optional=False, more=" From DiffEdit Mask, or painted."),
                sockets.kind(),
                sockets.seed("Draws the noise of sde: another seed, another edit."),
                *sockets.translating_guidance(),
                sockets.ode_solver(),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The edited picture, for VAE Decode.")],
        )

    @classmethod
    def execute(cls, **inputs):
        return io.NodeOutput(translated(**inputs))
