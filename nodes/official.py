"""CODE as Published: what the authors' public code computes, in one node."""

from functools import partial

import torch
from comfy_api.latest import io

from ..evaluation.restoring import official
from ..evaluation.settings import QUIRKS, quirks_of
from ..samplers.clipping import ConfidenceClip
from ..samplers.official import Official
from ..samplers.restore import check_parts, decode_parts
from . import sockets
from .guider import Guided, Progress, samples_of
from .langevin import calls_told
from .pixel_prior import PixelModel
from .restore import checked_image, fitted, report, size_told

# where decoding starts, as `Official.from_deepest` has it
STARTS = {"auto": None, "updates": False, "deepest": True}


def restored_as_published(guided, x, path, settings, seed):
    """The LATENT tensor (B * samples, 3, h, w) that `official_code` makes of x, (B, 3, h, w), by an `Official`.

    guided: Guided, of a pixel prior. path: the VE levels from the start of the way down to 0.
    """
    published = partial(official, seed=seed, levels=guided.model.model.prior.levels, settings=settings)
    return guided.run(published, x, path, Progress(guided.model, settings.calls).part(settings.calls))


class OfficialCode(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_Official",
            display_name="CODE as Published",
            category="CODE",
            description="Restores a picture as the CODE authors' public code does, quirk by quirk, with a pixel prior. "
            "To compare with their numbers; to restore, take CODE Restore.",
            inputs=[
                *sockets.damaged_picture(),
                sockets.seed("Draws the noise of the start and of the updates: another seed, another restoration."),
                io.Int.Input(
                    "samples",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="How many restorations of each picture, to pick from. They share one inversion.",
                ),
                io.Int.Input(
                    "n",
                    default=200,
                    min=2,
                    max=1000,
                    optional=True,
                    tooltip="Noise levels of the whole schedule [N], one network call each way. Fewer come back less "
                    "exactly: the picture changes where it was whole.",
                ),
                io.Int.Input(
                    "depth",
                    default=200,
                    min=2,
                    max=1000,
                    optional=True,
                    tooltip="At which of the n levels the updates take place [L]. Higher looks more real and is less "
                    "faithful; n, the default, is all the way up.",
                ),
                io.Float.Input(
                    "step_size",
                    default=1e-5,
                    min=0.0,
                    max=2.0,
                    step=1e-6,
                    round=False,
                    optional=True,
                    tooltip="How far each update moves [epsilon, a VP step], times 1 at the deepest level and up to "
                    "100 at the cleanest. Higher is more realism, less fidelity.",
                ),
                io.Int.Input(
                    "updates",
                    default=200,
                    min=0,
                    max=10000,
                    optional=True,
                    tooltip="How many updates at each level [K], one network call each. More is more realism and less "
                    "fidelity. What does not divide by blocks is dropped.",
                ),
                io.Int.Input(
                    "blocks",
                    default=4,
                    min=1,
                    max=1000,
                    optional=True,
                    tooltip="The updates are dealt over this many blocks, each with a smaller step and an update "
                    "without noise: more blocks move less.",
                ),
                io.Float.Input(
                    "decay",
                    default=0.8,
                    min=0.01,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="The step is multiplied by this after each block. Lower settles sooner.",
                ),
                io.Int.Input(
                    "levels",
                    default=1,
                    min=1,
                    max=100,
                    optional=True,
                    tooltip="At how many levels the updates take place, evenly from depth to shallowest. More take "
                    "out more noise, and more time.",
                ),
                io.Int.Input(
                    "shallowest",
                    default=20,
                    min=0,
                    max=1000,
                    optional=True,
                    tooltip="For several levels: the cleanest of them, counted like depth. Lower mends finer detail.",
                ),
                io.Float.Input(
                    "eta",
                    default=1.7,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    round=False,
                    optional=True,
                    tooltip="How many standard deviations of noise the clips believe [eta]. Lower takes out more "
                    "damage, and strong colours with it.",
                ),
                io.Boolean.Input(
                    "clip_up",
                    default=True,
                    optional=True,
                    tooltip="Clips while inverting, which takes out damage that no noise explains.",
                ),
                io.Boolean.Input(
                    "clip_updates",
                    default=False,
                    optional=True,
                    tooltip="Clips in the updates as well, so that they invent less.",
                ),
                io.Boolean.Input(
                    "clip_down",
                    default=False,
                    optional=True,
                    tooltip="Clips while decoding as well: more fidelity, less contrast.",
                ),
                io.Boolean.Input(
                    "threshold",
                    default=True,
                    optional=True,
                    tooltip="Dynamic thresholding both ways of the ODE: keeps colours from running over. Leave Load "
                    "Pixel Prior's off, which would act everywhere.",
                ),
                io.Boolean.Input(
                    "threshold_updates",
                    default=True,
                    optional=True,
                    tooltip="Dynamic thresholding in the updates: keeps colours from running over there.",
                ),
                io.Combo.Input(
                    "start",
                    options=list(STARTS),
                    default="auto",
                    optional=True,
                    tooltip="Where the way down starts. deepest: all the way up, less faithful. updates: at the "
                    "deepest level to update at. auto, theirs: deepest where clip_up is on.",
                ),
                io.String.Input(
                    "quirks",
                    default="all",
                    optional=True,
                    tooltip="Which of their code's quirks are kept: all, none, or names with commas; no-scale is all "
                    "but this. Without clip-level or scale far more of the damage stays, unless eta and step_size make "
                    "up for it. The help lists them.",
                ),
                *sockets.fit_widgets(),
            ],
            outputs=[
                io.Image.Output(
                    display_name="restored", tooltip="The restorations; samples of one picture follow each other."
                ),
                io.Image.Output(display_name="seen", tooltip="The input as the model saw it, to compare with."),
                io.String.Output(
                    display_name="report", tooltip="Network calls, how far the picture was moved, and its size."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        vae,
        image,
        positive,
        seed,
        samples,
        depth=200,
        step_size=1e-5,
        eta=1.7,
        clip_up=True,
        clip_updates=False,
        clip_down=False,
        threshold_updates=True,
        start="auto",
        quirks="all",
        fit="crop",
        max_side=sockets.MAX_SIDE,
        **same,
    ):
        sockets.check_choice("start", start, STARTS)
        if not (isinstance(model.model, PixelModel) and model.model.prior.prediction == "epsilon"):
            raise ValueError(
                "The authors' code is for pixel priors that predict the noise: connect Load Pixel Prior, or take CODE "
                "Restore for this model."
            )
        kept = quirks_of(quirks)
        settings = Official(
            latent=depth,
            step=step_size,
            samples=samples,
            eta=ConfidenceClip(eta).eta,
            clip=clip_up,
            langevin_clip=clip_updates,
            decode_clip=clip_down,
            langevin_threshold=threshold_updates,
            from_deepest=STARTS[start],
            std_schedule="std schedule" in kept,
            noise_twice="second noise" in kept,
            mended=tuple(quirk for quirk in QUIRKS if quirk not in kept),
            **same,
        )
        path, parts = way_down(model.model.prior.levels, settings)
        seen = fitted(model, vae, checked_image(image), fit, max_side)
        x = samples_of(model, {"samples": vae.encode(seen)})
        restored = restored_as_published(Guided(model, positive), x, path, settings, seed)
        pictures = vae.decode(restored).clamp(0, 1)
        inputs, size = seen.repeat_interleave(samples, 0), size_told(model, image, seen)
        return io.NodeOutput(
            pictures, seen, report(calls_told(settings.calls), parts, step_size, None, pictures, inputs, size)
        )


def way_down(levels, settings):
    """(VE levels from the start to 0, parts as of `decode_parts`) of an `Official`; ValueError where it cannot be."""
    if settings.n > len(levels):
        raise ValueError(f"The prior has {len(levels)} noise levels, fewer than n, {settings.n}: take a smaller n.")
    stride = len(levels) // settings.n
    grid = levels.sigma(stride * torch.arange(settings.n, device=levels.sigmas.device)).cpu()
    path, updated = torch.cat([grid.flip(0), grid.new_zeros(1)]), grid[settings.updated]
    parts = decode_parts(path, updated, "geometric" if settings.has("scale") else "none")
    check_parts(parts, settings.step, settings.updates, settings.blocks, settings.decay)
    return path[settings.n - 1 - settings.start :], parts
