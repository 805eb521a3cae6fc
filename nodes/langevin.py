"""Langevin Latent Update."""

import warnings

from comfy_api.latest import io

from ..samplers import langevin as core
from ..samplers.checks import one_level_or_descending
from ..samplers.noise import LANGEVIN, seeded_noise
from . import sockets
from .clip import heat_of
from .guider import Guided, Progress, item_seeds, samples_of, ve_sigmas


def update(guided, samples, sigma, callback, *, seeds, drawn=0, clip=None, **settings):
    """The LATENT tensor after Langevin updates at the VE level `sigma`, a (1,) tensor, and the clip used in them.

    drawn: how many updates have drawn from the seeds before. clip: ClipSettings.
    """
    noise, made = seeded_noise(seeds, LANGEVIN), {}

    def updates(model, x, sigmas, extra_args, callback, disable):
        made["clip"] = clip and clip.clip_for(x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the report says it
            return core.langevin(
                model,
                x,
                sigmas,
                extra_args,
                callback,
                noise_sampler=noise.shifted(drawn),
                clip=made["clip"],
                **settings,
            )

    return guided.run(updates, samples, sigma, callback), made["clip"]


def calls_told(calls, may_stop=False):
    """The number of network calls in words; may_stop: whether updates can end before them."""
    return f"{calls} network calls{' at most' if may_stop else ''}"


class LangevinUpdate(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_LangevinUpdate",
            display_name="Langevin Latent Update",
            category="CODE",
            description="Moves a noisy latent towards likely pictures, without changing its noise level.",
            inputs=[
                sockets.model(),
                sockets.latent("The noisy latent, from DDIM Invert."),
                sockets.sigmas("Its noise level: the first of the sigmas that DDIM Invert gives out."),
                sockets.positive(),
                *sockets.langevin_widgets(),
                io.Float.Input(
                    "decay",
                    default=0.8,
                    min=0.01,
                    max=1.0,
                    step=0.05,
                    tooltip="The step is multiplied by this after each block. Lower settles sooner.",
                ),
                io.Float.Input(
                    "temperature",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How much noise each update adds. 1 draws likely pictures, with texture; 0 climbs to the "
                    "likeliest, which is smooth. 0.5 helps where grain is left.",
                ),
                sockets.seed("Draws the noise of the updates: another seed, another restoration."),
                *sockets.guidance(),
                sockets.clip(sockets.CLIP_HERE),
                sockets.step_mode(),
                io.Boolean.Input(
                    "noiseless_last",
                    default=True,
                    optional=True,
                    tooltip="Ends each block with one more update without noise: smoother, and one network call more "
                    "each. Off leaves the grain of the level.",
                ),
                sockets.stop_at(),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The moved latent, at the same noise level."),
                io.String.Output(
                    display_name="report", tooltip="The network calls, and a warning where the step is large."
                ),
                sockets.heat("In how many of the updates the clip moved each place: 0 never, 1 in all."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        latent,
        sigmas,
        positive,
        step_size,
        updates,
        blocks,
        decay,
        temperature,
        seed,
        negative=None,
        cfg=1.0,
        clip=None,
        mode="absolute",
        noiseless_last=True,
        stop_at=0.0,
    ):
        sockets.check_choice("step mode", mode, core.STEP_MODES)
        if updates < 1:
            raise ValueError(f"With {updates} updates nothing would change: take 1 or more.")
        samples = samples_of(model, latent)
        sigma = ve_sigmas(model, sigmas, one_level_or_descending)[:1]
        settings = {
            "updates": updates,
            "blocks": blocks,
            "decay": decay,
            "temperature": temperature,
            "mode": mode,
            "stop_at": stop_at,
        }
        core.check_updates(sigma.item(), step_size, **settings)
        calls = core.langevin_calls(updates, blocks, noiseless_last)
        moved, used = update(
            Guided(model, positive, negative, cfg),
            samples,
            sigma,
            Progress(model, calls).part(calls),
            seeds=item_seeds(latent, seed),
            clip=clip,
            step=step_size,
            noiseless_last=noiseless_last,
            **settings,
        )
        report = f"{calls_told(calls, stop_at)} at sigma {sigma.item():.4g}."
        if advice := core.large_step(step_size, sigma.item(), mode):
            report += f" {advice}"
        return io.NodeOutput({**latent, "samples": moved}, report, heat_of(used, samples))
