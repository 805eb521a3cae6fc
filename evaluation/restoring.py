"""Restoring pictures with a prior: one function for a batch, which the commands and the demo share."""

import time
import warnings
from dataclasses import dataclass
from functools import partial

import torch

from ..samplers.checks import finite
from ..samplers.clipping import ConfidenceClip
from ..samplers.denoisers import CallCounter
from ..samplers.langevin import check_updates, large_step
from ..samplers.noise import SDEDIT, item_seeds, seeded_noise
from ..samplers.noise_levels import decode_path
from ..samplers.restore import restore, restore_calls
from ..samplers.sde import sdedit
from .settings import depth_of


@dataclass(frozen=True)
class Plan:
    """What settings mean for a prior: the decode paths, (n,) with a last 0, the depth, and the network calls."""

    sigmas: torch.Tensor
    timestep: float
    calls: int
    sdedit_sigmas: torch.Tensor | None
    advice: str | None

    @property
    def sigma(self):
        return self.sigmas[0].item()

    @property
    def all_calls(self):
        return self.calls + (0 if self.sdedit_sigmas is None else len(self.sdedit_sigmas) - 1)


@dataclass(frozen=True)
class Result:
    """Restored pictures (B * samples, C, H, W) in [-1, 1] on the CPU, sample j of picture i at i * samples + j.

    nfe: network calls. clipped: the share of values that the clip moved, one for each picture, empty without a clip.
    sdedit: the Result of SDEdit on the same pictures, if asked for.
    """

    pictures: torch.Tensor
    nfe: int
    seconds: float
    clipped: tuple[float, ...] = ()
    sdedit: "Result | None" = None


def plan(prior, settings):
    """The Plan of `settings` for `prior`; ValueError with one sentence where they do not go together."""
    path, timestep = _path(prior, settings.depth, settings.steps, settings.spacing)
    advice = None
    if settings.updates:
        sigma = path[0].item()
        check_updates(
            sigma, settings.step_size, settings.updates, settings.blocks, settings.decay, settings.temperature
        )
        advice = large_step(settings.step_size, sigma)
    prior.model(settings.guidance, settings.threshold)
    prior.conditioning(settings.label, 1)
    if settings.guidance != 1 and settings.label is None:
        raise ValueError("Guidance needs a class to guide to: give a label, or take guidance 1.")
    calls = restore_calls(path, settings.updates, settings.blocks, settings.solver)
    rival = None
    if settings.sdedit:
        depth = settings.depth if settings.sdedit_depth is None else settings.sdedit_depth
        deepest = prior.levels.depth(**depth_of(depth))
        # as many calls as CODE makes, where the depth has room for them
        rival, _ = _path(prior, depth, max(1, min(calls - 1, int(deepest))), "linspace")
    return Plan(path, timestep, calls, rival, advice)


@torch.inference_mode()
def run(prior, pictures, settings, on_call=None):
    """The Result of restoring `pictures`, (B, C, size, size) in [-1, 1]; on_call() is called after each network call.

    Raises ValueError like `plan`, or where the network gives NaN or infinity.
    """
    planned = plan(prior, settings)
    pictures = pictures.to(prior.device)
    model = CallCounter(prior.model(settings.guidance, settings.threshold), on_call)
    conditioning = prior.conditioning(settings.label, len(pictures))
    encoder = CallCounter(_encoder(prior, settings, len(pictures)), on_call)
    clip = ConfidenceClip(settings.eta) if settings.clip else None
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the plan holds it
        restored = restore(
            model,
            pictures,
            planned.sigmas,
            conditioning,
            seed=settings.seed,
            step=settings.step_size,
            updates=settings.updates,
            blocks=settings.blocks,
            decay=settings.decay,
            temperature=settings.temperature,
            clip=clip,
            solver=settings.solver,
            encoder=encoder,
            samples=settings.samples,
        )
    restored = restored.clamp(-1, 1).cpu()
    seconds = time.perf_counter() - start
    clipped = tuple(clip.clipped.float().mean((1, 2, 3)).tolist()) if clip else ()
    rival = run_sdedit(prior, pictures, settings, planned.sdedit_sigmas, on_call) if settings.sdedit else None
    return Result(restored, encoder.calls + model.calls, seconds, clipped, rival)


@torch.inference_mode()
def run_sdedit(prior, pictures, settings, sigmas, on_call=None):
    """The Result of SDEdit down the path `sigmas`, with the seeds, samples, label and guidance of `settings`."""
    model = CallCounter(prior.model(settings.guidance, settings.threshold), on_call)
    starts = pictures.to(prior.device).repeat_interleave(settings.samples, 0)
    seeds = item_seeds(settings.seed, len(starts))
    start = time.perf_counter()
    edited = sdedit(
        model,
        starts,
        sigmas,
        prior.conditioning(settings.label, len(starts)),
        noise_sampler=seeded_noise(seeds, SDEDIT),
    )
    edited = finite(edited, "SDEdit's picture").clamp(-1, 1).cpu()
    return Result(edited, model.calls, time.perf_counter() - start)


def _encoder(prior, settings, batch):
    """The denoiser that reads a picture: without guidance, and without a label where the prior can do without."""
    label = settings.label if prior.null is None else None
    return partial(prior.model(threshold=settings.threshold), **prior.conditioning(label, batch))


def _path(prior, depth, steps, spacing):
    """(sigmas with a last 0, timestep) of a depth."""
    timestep = prior.levels.depth(**depth_of(depth))
    sigmas = decode_path(prior.levels, timestep, steps, spacing)
    return torch.cat([sigmas, sigmas.new_zeros(1)]), timestep
