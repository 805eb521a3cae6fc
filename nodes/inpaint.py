"""Inpaint (SDE/ODE)."""

from comfy_api.latest import io

from ..samplers import inpaint as core
from ..samplers.noise import INPAINT, seeded_noise
from . import sockets
from .guider import Guided, Progress, item_seeds, samples_of, ve_sigmas
from .masks import latent_mask, mask_in

NOISES = {"fresh": False, "fixed": True}


class Inpaint(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_Inpaint",
            display_name="Inpaint (SDE/ODE)",
            category="CODE",
            description="Fills in what a mask covers, from noise; what it leaves out stays as it was, bit for bit.",
            inputs=[
                sockets.model(),
                sockets.latent("The picture, encoded and clean. What the mask covers may hold anything."),
                sockets.sigmas(
                    "From CODE Schedule. Depth 1 forgets what the mask covers; less keeps its colours and shapes."
                ),
                sockets.positive(),
                io.Combo.Input(
                    "solver",
                    options=list(core.INPAINTERS),
                    default="ddpm",
                    tooltip="ddpm and sde_dpmpp_2m draw noise on the way, which fits the new part to the old [Inpaint-"
                    "SDE, Inpaint-SDE-2]; ddim and dpmpp_2m do not [Inpaint-ODE, Inpaint-ODE-2]. Those with 2m are "
                    "sharper in few steps.",
                ),
                io.Combo.Input(
                    "noise",
                    options=list(NOISES),
                    default="fresh",
                    tooltip="The noise on what is kept, which the model sees on the way. fresh: new at each level, "
                    "which fits better. fixed: the same throughout, as in the paper's code and ComfyUI.",
                ),
                io.Int.Input(
                    "repeats",
                    default=1,
                    min=1,
                    max=100,
                    tooltip="How often each step is taken, with noise added between [RePaint]. More fits the new part "
                    "better to the old, and takes as many times as long.",
                ),
                sockets.seed("Draws the noise: another seed, another filling."),
                *sockets.guidance(
                    "Guidance. Higher shows positive more; 1 is off, and lets the picture around the mask decide."
                ),
                sockets.edit_mask(more=" Without it, the mask of the latent, from Set Latent Noise Mask."),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The picture filled in, for VAE Decode.")],
        )

    @classmethod
    def execute(cls, model, latent, sigmas, positive, solver, noise, repeats, seed, negative=None, cfg=1.0, mask=None):
        sockets.check_choice("solver", solver, core.INPAINTERS)
        sockets.check_choice("noise", noise, NOISES)
        samples, path, mask = samples_of(model, latent), ve_sigmas(model, sigmas), mask_in(latent, mask)
        if mask is None:
            raise ValueError("Nothing says what to fill in: connect a mask, or a latent with Set Latent Noise Mask.")
        mask, drawn = latent_mask(model, mask, samples), seeded_noise(item_seeds(latent, seed), INPAINT)

        def fill(model, x, sigmas, extra_args, callback, disable):
            settings = {"solver": solver, "fixed_noise": NOISES[noise], "repeats": repeats}
            return core.inpaint(
                model, x, sigmas, extra_args, callback, mask=mask.to(x), noise_sampler=drawn, **settings
            )

        calls = core.inpaint_calls(path, repeats)
        guided, progress = Guided(model, positive, negative, cfg), Progress(model, calls)
        return io.NodeOutput({**latent, "samples": guided.edit(fill, samples, path, progress.part(calls))})
