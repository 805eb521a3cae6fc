"""DDIM Invert."""

import comfy.model_management
from comfy_api.latest import io

from ..evaluation.metrics import psnr
from ..samplers.checks import noise_path
from ..samplers.noise import START, seeded_noise
from ..samplers.ode import network_calls
from ..samplers.restore import encode_path
from ..samplers.trajectory import Trajectory
from . import sockets
from .clip import heat_of, mask_of
from .guider import Guided, Progress, item_seeds, native_sigmas, samples_of, ve_sigmas
from .pixel_prior import PixelModel
from .solvers import solver_method


def _at_rest(x):
    return x.to(comfy.model_management.intermediate_device())


def decode_order(sigmas):
    """The levels from the deepest down, from either order."""
    return sigmas.flip(0) if sigmas[0] < sigmas[-1] else sigmas


def invert(guided, samples, path, callback, *, solver="ab2", sampler=None, clip=None, seeds=None):
    """The LATENT tensor at the depth of a decode `path`, with the Trajectory and the clip that it went through.

    clip: ClipSettings. seeds: one for each item, to start from x + sigma_min n as the network has seen it, or None.
    """
    up, made = encode_path(path), {}

    def encode(model, x, sigmas, extra_args, callback, disable):
        trajectory, made["clip"] = Trajectory(x), clip and clip.clip_for(x, clean=x)
        if seeds is not None:
            x = x + up[0].item() * seeded_noise(seeds, START)(x, 0)

        def report(state):
            # ComfyUI's samplers report in other ways, from which the states cannot be told
            if sampler is None:
                trajectory(state)
            callback(state)

        method = solver_method(solver, sampler, made["clip"])
        x = trajectory.reached(up[-1].item(), method(model, x, sigmas, extra_args, report, disable))
        made["trajectory"] = trajectory.map(_at_rest)
        return x

    # ends at up[-1], whichever way the levels are handed over
    return guided.run(encode, samples, up, callback), made["trajectory"], made["clip"]


def comes_back(model, back, samples):
    """The PSNR in dB of the worst picture of a batch; the peak is the range of pixels, or what the latents span."""
    peak = 2.0 if isinstance(model.model, PixelModel) else (samples.max() - samples.min()).item() or 1.0
    return min(psnr(back.flatten(2, -2), samples.flatten(2, -2), peak))


class DDIMInvert(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_DDIMInvert",
            display_name="DDIM Invert",
            category="CODE",
            description="Carries a picture up the probability-flow ODE to the depth of the sigmas, so that ODE "
            "Decode can bring it back, or Langevin updates can change it on the way.",
            inputs=[
                sockets.model(),
                sockets.latent("The picture, encoded with the VAE that belongs to the model."),
                sockets.sigmas("From CODE Schedule, in either order."),
                sockets.positive(),
                sockets.solver(),
                io.Boolean.Input(
                    "add_noise",
                    default=False,
                    tooltip="Adds noise of the lowest level first, as the paper's code does. Rarely visible; off "
                    "comes back more exactly.",
                ),
                sockets.seed("Draws the noise of add_noise.", changes=False),
                io.Boolean.Input(
                    "measure",
                    default=False,
                    tooltip="Decodes the result once more to say in the report how exactly the picture comes back. "
                    "Takes as long again.",
                ),
                *sockets.guidance("Leave it at 1: a guided inversion does not come back. Guide on the way down."),
                sockets.clip(),
                sockets.sampler(),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The noisy latent at the depth."),
                io.Sigmas.Output(display_name="sigmas", tooltip="The same levels in decode order."),
                sockets.Trajectory.Output(
                    display_name="trajectory", tooltip="All states on the way up, by which ODE Decode keeps an area."
                ),
                io.Mask.Output(
                    display_name="clipped", tooltip="1 where the clip moved anything, at the latent's size."
                ),
                io.String.Output(
                    display_name="report", tooltip="Depth, network calls, clipping, and how it comes back."
                ),
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
        add_noise,
        seed,
        measure,
        negative=None,
        cfg=1.0,
        clip=None,
        sampler=None,
    ):
        samples = samples_of(model, latent)
        sigmas = decode_order(ve_sigmas(model, sigmas, noise_path))
        path = sigmas[:-1] if sigmas[-1] == 0 else sigmas
        if len(path) < 2:
            raise ValueError("An inversion climbs over at least two levels above 0: give CODE Schedule more steps.")
        solver_method(solver, sampler, clip)
        guided, steps = Guided(model, positive, negative, cfg), len(path) - 1
        progress = Progress(model, steps + measure * (len(sigmas) - 1))
        seeds = item_seeds(latent, seed) if add_noise else None
        inverted, trajectory, used = invert(
            guided, samples, path, progress.part(steps), solver=solver, sampler=sampler, clip=clip, seeds=seeds
        )
        heat = heat_of(used, samples)
        mask = mask_of(heat)
        report = [f"{steps} steps up to sigma {path[0]:.4g}"]
        if sampler is None:
            report[0] += f", {network_calls(solver, path.flip(0))} network calls"
        if used:
            report.append(f"{mask.mean():.1%} of the picture clipped")
        if measure:
            back = guided.run(solver_method(solver, sampler), inverted, sigmas, progress.part(len(sigmas) - 1))
            report.append(f"decoded again it comes back at {comes_back(model, back, samples):.1f} dB PSNR")
        out = {**latent, "samples": inverted}
        return io.NodeOutput(out, native_sigmas(model, sigmas), trajectory, mask, "; ".join(report) + ".", heat)
