"""SDEdit, the baseline."""

from comfy_api.latest import io

from ..samplers import sde
from ..samplers.noise import SDEDIT, seeded_noise
from . import sockets
from .guider import Guided, Progress, item_seeds, samples_of, ve_sigmas
from .masks import latent_mask, mask_in


class SDEdit(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_SDEdit",
            display_name="SDEdit (baseline)",
            category="CODE",
            description="Adds random noise to a picture and takes it away again: the baseline to compare CODE with.",
            inputs=[
                sockets.model(),
                sockets.latent("The picture, encoded and clean."),
                sockets.sigmas("From CODE Schedule. Deeper looks more real and keeps less."),
                sockets.positive(),
                sockets.seed("Draws the noise: another seed, another picture."),
                io.Int.Input(
                    "repeats",
                    default=1,
                    min=1,
                    max=100,
                    tooltip="How often the result is taken as the next picture. More moves further from the photo.",
                ),
                *sockets.guidance(),
                sockets.mask(),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The picture, for VAE Decode.")],
        )

    @classmethod
    def execute(cls, model, latent, sigmas, positive, seed, repeats, negative=None, cfg=1.0, mask=None):
        samples, path, mask = samples_of(model, latent), ve_sigmas(model, sigmas), mask_in(latent, mask)
        kept = None if mask is None else 1 - latent_mask(model, mask, samples)

        def edit(model, x, sigmas, extra_args, callback, disable):
            noise = seeded_noise(item_seeds(latent, seed), SDEDIT)
            mask = None if kept is None else kept.to(x)
            return sde.sdedit(model, x, sigmas, extra_args, callback, noise_sampler=noise, mask=mask, repeats=repeats)

        steps = repeats * (len(path) - 1)
        edited = Guided(model, positive, negative, cfg).run(edit, samples, path, Progress(model, steps).part(steps))
        return io.NodeOutput({**latent, "samples": edited})
