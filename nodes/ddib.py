"""DDIB, and what it shares with DiffEdit."""

from comfy_api.latest import io

from ..samplers.ddib import translate_by_ode, translate_by_sde
from ..samplers.noise import RECORD, seeded_noise
from ..samplers.restore import encode_path
from . import sockets
from .guider import Progress, Translating, item_seeds, samples_of, ve_sigmas
from .masks import latent_mask


def translated(
    model,
    latent,
    sigmas,
    source,
    target,
    kind,
    seed,
    negative=None,
    cfg=sockets.EDIT_CFG,
    source_cfg=1.0,
    solver="ab2",
    mask=None,
):
    """The LATENT of a picture brought from what a source says of it to a target, inside a MASK if there is one."""
    sockets.check_choice("kind", kind, sockets.KINDS)
    samples, path = samples_of(model, latent), ve_sigmas(model, sigmas)
    mask = None if mask is None else latent_mask(model, mask, samples)
    by_ode, noise = kind == "ode", seeded_noise(item_seeds(latent, seed), RECORD)

    def edit(model, x, sigmas, extra_args, callback, disable, source):
        common = {"source": source, "mask": None if mask is None else mask.to(x)}
        if by_ode:
            return translate_by_ode(model, x, sigmas, extra_args, callback, solver=solver, **common)
        return translate_by_sde(model, x, sigmas, extra_args, callback, noise_sampler=noise, **common)

    steps = len(path) - 1 + by_ode * (len(encode_path(path)) - 1)
    translating = Translating(model, source, target, negative, cfg, source_cfg)
    edited = translating.edit(edit, samples, path, Progress(model, steps).part(steps))
    return {**latent, "samples": edited}


class DDIB(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_DDIB",
            display_name="DDIB",
            category="CODE",
            description="Translates a whole picture from one class or prompt into another, and keeps its layout and "
            "colours.",
            inputs=[
                sockets.model(),
                sockets.latent("The picture, encoded and clean."),
                sockets.sigmas(
                    "From CODE Schedule. Deeper keeps less of the picture: about 0.6 to begin with; 1 is the paper's."
                ),
                *sockets.source_and_target(),
                sockets.kind(),
                sockets.seed("Draws the noise of sde: another seed, another picture."),
                *sockets.translating_guidance(),
                sockets.ode_solver(),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The translated picture, for VAE Decode.")],
        )

    @classmethod
    def execute(cls, **inputs):
        return io.NodeOutput(translated(**inputs))
