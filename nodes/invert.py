"""DDIM Invert."""

import math

import comfy.model_management
from comfy_api.latest import io

from ..evaluation.metrics import psnr
from ..samplers.checks import noise_path
from ..samplers.noise import START, seeded_noise
from ..samplers.restore import encode_path
from ..samplers.statistics import normality, where_most_grows
from ..samplers.trajectory import Trajectory
from . import sockets
from .clip import heat_of, mask_of
from .guider import Guided, Progress, item_seeds, native_sigmas, samples_of, ve_sigmas
from .pixel_prior import PixelModel
from .solvers import STEEPEST, calls_of, solver_method, too_steep

# dB below which a round trip is to be bettered, and above which it is exact; steps that are few, and few for euler
FAITHFUL, EXACT, FEW, FEW_OF_EULER = 35.0, 60.0, 8, 100


def _at_rest(x):
    return x.to(comfy.model_management.intermediate_device())


def decode_order(sigmas):
    """The levels from the deepest down, from either order."""
    return sigmas.flip(0) if sigmas[0] < sigmas[-1] else sigmas


def invert(guided, samples, path, callback, *, solver="ab2", sampler=None, clip=None, seeds=None, found=None):
    """The LATENT tensor at the depth of a decode `path`, with the Trajectory and the clip that it went through.

    clip: ClipSettings. seeds: one for each item, to start from x + sigma_min n as the network has seen it, or None.
    found: is called with the Companion, if the solver has one.
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

        method = solver_method(solver, sampler, made["clip"], found=found)
        x = trajectory.reached(up[-1].item(), method(model, x, sigmas, extra_args, report, disable))
        made["trajectory"] = trajectory.map(_at_rest)
        return x

    # ends at up[-1], whichever way the levels are handed over
    inverted = guided.run(encode, samples, up, callback)
    made["trajectory"].given = _at_rest(samples)
    return inverted, made["trajectory"], made["clip"]


def comes_back(model, back, samples):
    """The PSNR in dB of the worst picture of a batch; the peak is the range of pixels, or what the latents span."""
    peak = 2.0 if isinstance(model.model, PixelModel) else (samples.max() - samples.min()).item() or 1.0
    return min(psnr(back.flatten(2, -2), samples.flatten(2, -2), peak))


class RoundTrip:
    """An inversion decoded once more: the PSNR, and the levels between which most of the error arises, or None."""

    def __init__(self, guided, inverted, sigmas, samples, trajectory, method, callback):
        levels, errors = [], []

        def lost(x, sigma):
            # an inversion by ComfyUI's sampler keeps its ends only
            if sigma in trajectory.states:
                missed = x - trajectory.states[sigma].to(x)
                levels.append(sigma)
                # in VP, where a state is as large at one level as at another
                errors.append((missed.square().mean() / (1 + sigma**2)).sqrt())

        def down(model, x, sigmas, extra_args, callback, disable):
            def report(state):
                lost(state["x"], state["sigma"])
                callback(state)

            x = method(model, x, sigmas, extra_args, report, disable)
            lost(x, sigmas[-1].item())
            return x

        back = guided.run(down, inverted, sigmas, callback)
        self.psnr = comes_back(guided.model, back, samples)
        self.where = where_most_grows(levels, [error.item() for error in errors])


def state_told(x, sigma):
    """What tells the states x at a level from a normal's, in words."""
    mean, spread, kurtosis, spectrum = normality(x / (1 + sigma**2) ** 0.5)
    bands = ", ".join(f"{power:.2f}" for power in spectrum)
    return (
        f"The latent has mean {mean:.2f}, spread {spread:.2f}, kurtosis {kurtosis:.2f} and, from coarse to fine, the "
        f"spectrum {bands}; noise has 0, 1, 3 and 1."
    )


def advice(solver, sampler, path, cfg, clip, trip=None):
    """Sentences on what keeps an inversion from coming back, and what to change."""
    steps, solver = len(path) - 1, solver if sampler is None else "sampler"
    lossy = trip is None or trip.psnr < FAITHFUL
    if cfg != 1:
        yield "A guided inversion does not come back: set cfg to 1 here, and guide on the way down."
    if clip is not None and trip is not None:
        yield "What was clipped does not come back, as it should not: disconnect the clip to see the solver alone."
    if trip and trip.psnr < EXACT and trip.where and trip.where[1] == 0:
        yield "The last step, to 0, denoises: set to_zero off in CODE Schedule to come back more exactly."
    if factor := too_steep(solver, path):
        yield (
            f"A step multiplies the noise by {factor:.1f}, and exact dpm++ is exact up to {STEEPEST:g}: take karras "
            "sigmas, more steps, or solver fixed point."
        )
    elif solver == "euler" and steps < FEW_OF_EULER and lossy:
        yield f"Euler does not come back well in {steps} steps: take solver ab2, or fixed point."
    elif steps < FEW and lossy:
        yield f"{steps} steps are few to come back: take more."
    elif trip and trip.psnr < FAITHFUL and cfg == 1 and clip is None:
        yield "It does not come back well: take more steps, karras sigmas, or solver fixed point."


def told_by_vae(vae, samples):
    """How well the VAE comes back by itself, in words."""
    image = vae.decode(samples)
    back = vae.decode(vae.encode(image))
    alone = min(psnr(back.movedim(-1, 1), image.movedim(-1, 1), 1.0))
    told = f"The VAE alone comes back {'bit for bit' if alone == math.inf else f'at {alone:.1f} dB PSNR'}."
    return told if alone >= FAITHFUL else f"{told} Decoder Inversion in place of VAE Encode brings it nearer."


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
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="The one that encoded the picture: the report then says how well it comes back by itself, "
                    "without any inversion, which bounds the rest. Changes nothing in the picture.",
                ),
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
                    display_name="report",
                    tooltip="Depth, network calls, clipping, how it comes back and what hinders it, and what tells the "
                    "latent from noise.",
                ),
                sockets.heat(),
                sockets.Companion.Output(
                    display_name="companion",
                    tooltip="The second state of edict, bdia and belm, without which ODE Decode cannot bring the "
                    "picture back. It fits this very latent: Langevin updates or a clip between make it wrong.",
                ),
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
        vae=None,
    ):
        samples = samples_of(model, latent)
        sigmas = decode_order(ve_sigmas(model, sigmas, noise_path))
        path = sigmas[:-1] if sigmas[-1] == 0 else sigmas
        if len(path) < 2:
            raise ValueError("An inversion climbs over at least two levels above 0: give CODE Schedule more steps.")
        solver_method(solver, sampler, clip)
        guided, steps, made = Guided(model, positive, negative, cfg), len(path) - 1, {"companion": None}
        progress = Progress(model, steps + measure * (len(sigmas) - 1))
        inverted, trajectory, used = invert(
            guided,
            samples,
            path,
            progress.part(steps),
            solver=solver,
            sampler=sampler,
            clip=clip,
            seeds=item_seeds(latent, seed) if add_noise else None,
            found=lambda companion: made.update(companion=companion),
        )
        heat = heat_of(used, samples)
        mask = mask_of(heat)
        report = [f"{steps} steps up to sigma {path[0]:.4g}"]
        if sampler is None:
            report[0] += f", {calls_of(solver, path.flip(0))} network calls"
        if used:
            report.append(f"{mask.mean():.1%} of the picture clipped")
        trip = None
        if measure:
            method = solver_method(solver, sampler, companion=made["companion"])
            callback = progress.part(len(sigmas) - 1)
            trip = RoundTrip(guided, inverted, sigmas, samples, trajectory, method, callback)
            report.append(f"decoded again it comes back at {trip.psnr:.1f} dB PSNR")
        report = ["; ".join(report) + "."]
        if trip and trip.where:
            report.append("Most of the error arises between sigma {:.3g} and {:.3g}.".format(*trip.where))
        report += advice(solver, sampler, path, cfg, clip, trip)
        report.append(state_told(trajectory.states[path[0].item()], path[0].item()))
        if vae is not None:
            report.append(told_by_vae(vae, samples))
        out = {**latent, "samples": inverted}
        sigmas = native_sigmas(model, sigmas)
        return io.NodeOutput(out, sigmas, trajectory, mask, " ".join(report), heat, made["companion"])
