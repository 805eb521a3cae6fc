"""ODE Decode."""

from comfy_api.latest import io

from . import sockets
from .clip import heat_of
from .guider import Guided, Progress, samples_of, ve_sigmas
from .masks import latent_mask, mask_in
from .solvers import solver_method


def decode(
    guided,
    samples,
    path,
    callback,
    *,
    solver="ab2",
    sampler=None,
    clip=None,
    trajectory=None,
    mask=None,
    resets=None,
    companion=None,
):
    """The LATENT tensor at the end of a decode `path`, and the clip that it went through. clip: ClipSettings.

    trajectory, mask: where the mask, (B or 1, 1, H, W), is 0, each state is reset to the inversion's, and the end to
    the picture itself. resets: how often in all, where this path is a part of the way; None: before each of its
    steps, and at the end.
    """
    made = {}

    def down(model, x, sigmas, extra_args, callback, disable):
        made["clip"], kept = clip and clip.clip_for(x), None
        if mask is not None:
            kept = trajectory.map(lambda state: state.to(x)).keep(mask.to(x), resets=resets or len(sigmas))
        method = solver_method(solver, sampler, _both(made["clip"], kept), companion)
        x = method(model, x, sigmas, extra_args, callback, disable)
        return kept(x, sigmas[-1].item()) if kept else x

    return guided.run(down, samples, path, callback), made["clip"]


def _both(first, second):
    if first is None or second is None:
        return first or second
    return lambda x, sigma: second(first(x, sigma), sigma)


def check_fits(trajectory, samples):
    """ValueError where the inversion was of a picture of another size or batch, or kept nothing between its ends."""
    if len(trajectory.states) < 3:
        raise ValueError("An inversion by ComfyUI's sampler keeps no states: disconnect the sampler of DDIM Invert.")
    held = trajectory.states[0.0].shape
    if held[1:] != samples.shape[1:] or held[0] not in (1, len(samples)):
        raise ValueError("The trajectory is that of another picture: connect the one of the latent's own DDIM Invert.")


class ODEDecode(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_ODEDecode",
            display_name="ODE Decode",
            category="CODE",
            description="Brings a noisy latent down the probability-flow ODE to a picture, without adding noise.",
            inputs=[
                sockets.model(),
                sockets.latent("The noisy latent, from DDIM Invert or Langevin Latent Update."),
                sockets.sigmas("From the deepest level down, as DDIM Invert gives them out."),
                sockets.positive(),
                sockets.solver(),
                *sockets.guidance(),
                sockets.clip(sockets.CLIP_HERE),
                sockets.sampler(),
                sockets.Trajectory.Input(
                    "trajectory",
                    optional=True,
                    tooltip="From DDIM Invert. With a mask, what is outside it is held to these states at every step.",
                ),
                sockets.mask(" Needs trajectory."),
                sockets.Companion.Input(
                    "companion",
                    optional=True,
                    tooltip="From DDIM Invert, for the solvers edict, bdia and belm, which come back only with it. It "
                    "fits the latent as inverted: after Langevin updates or a clip take another solver.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The restored picture, for VAE Decode."),
                sockets.heat(),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        latent,
        sigmas,
        positive,
        solver,
        negative=None,
        cfg=1.0,
        clip=None,
        sampler=None,
        trajectory=None,
        mask=None,
        companion=None,
    ):
        samples = samples_of(model, latent)
        path, mask = ve_sigmas(model, sigmas), mask_in(latent, mask)
        if mask is not None:
            mask = latent_mask(model, mask, samples)
            if trajectory is None:
                raise ValueError("A mask keeps what the inversion saw: connect DDIM Invert's trajectory as well.")
            check_fits(trajectory, samples)
        decoded, used = decode(
            Guided(model, positive, negative, cfg),
            samples,
            path,
            Progress(model, len(path) - 1).part(len(path) - 1),
            solver=solver,
            sampler=sampler,
            clip=clip,
            trajectory=trajectory,
            mask=mask,
            companion=companion,
        )
        return io.NodeOutput({**latent, "samples": decoded}, heat_of(used, samples))
