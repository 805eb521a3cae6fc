"""Restoring pictures with a prior: one function for a batch, which the commands and the demo share."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count

import torch

from ..samplers.checks import finite
from ..samplers.clipping import ConfidenceClip, observation_range, quantile_range
from ..samplers.denoisers import CallCounter, per_item
from ..samplers.langevin import large_step
from ..samplers.noise import LANGEVIN, SDEDIT, START, item_seeds, seeded_noise
from ..samplers.noise_levels import decode_path, vp_to_ve
from ..samplers.ode import report
from ..samplers.odedit import ODEDIT, ODEDIT_UPDATES, odedit, odedit_calls, odedit_levels
from ..samplers.official import QUIRKS, Official, official_code
from ..samplers.restore import check_parts, decode_parts, restore, restore_calls, tightest, update_levels
from ..samplers.sde import sdedit
from ..samplers.windows import windowed
from .settings import PARTS, depth_of, quirks_of, range_of

# windows that the network is given together: what a 256-pixel prior does with 4 pictures
PIXELS_AT_ONCE = 4 * 256**2


@dataclass(frozen=True)
class Plan:
    """What settings mean for a prior: the decode paths, (n,) with a last 0, the depth, and the network calls.

    levels: the VE sigmas of the updates, deepest first, empty where there are none. method: a function with the
    signature of `restore`, which takes seed, samples, and for each part of the way a denoiser and a clip. advice: a
    sentence, or None. clip, threshold: the parts for which it is given a clip, and a denoiser that is thresholded.
    sdedit_sigmas: SDEdit's path, if asked for.
    """

    sigmas: torch.Tensor
    timestep: float
    levels: tuple[float, ...]
    calls: int
    advice: str | None
    method: Callable = field(repr=False)
    clip: tuple[str, ...]
    threshold: tuple[str, ...]
    sdedit_sigmas: torch.Tensor | None = None

    @property
    def sigma(self):
        return self.sigmas[0].item()

    @property
    def all_calls(self):
        return self.calls + (0 if self.sdedit_sigmas is None else len(self.sdedit_sigmas) - 1)


@dataclass(frozen=True)
class Clipped:
    """What the clip of one part of the way did. heat: the share of its calls that moved a place, (B, H, W) in [0, 1].

    The largest of its channels'. moved: the share of values that any call moved, one for each item. shares: the share
    that each call moved, of all items; sigmas: its noise level.
    """

    heat: torch.Tensor
    moved: tuple[float, ...]
    shares: tuple[float, ...]
    sigmas: tuple[float, ...]

    @classmethod
    def by(cls, clip):
        """That of a ConfidenceClip that has been called."""
        moved = clip.clipped.flatten(1).float().mean(1)
        return cls(
            clip.heat().amax(1).cpu(), *(tuple(v.tolist()) for v in (moved, clip.shares.mean(1))), tuple(clip.sigmas)
        )


@dataclass(frozen=True)
class Result:
    """Restored pictures (B * samples, C, H, W) in [-1, 1] on the CPU, sample j of picture i at i * samples + j.

    nfe: network calls. clips: what the clip did in each part of the way where there is one, of B items up and of
    B * samples later; empty where the method does not say. sdedit: the Result of SDEdit on the same pictures, if asked
    for.
    """

    pictures: torch.Tensor
    nfe: int
    seconds: float
    clips: dict[str, Clipped] = field(default_factory=dict)
    sdedit: "Result | None" = None

    @property
    def clipped(self):
        """The share of values that the clip moved on the way up, one for each picture, empty without one there."""
        return self.clips["up"].moved if "up" in self.clips else ()


def plan(prior, settings):
    """The Plan of `settings` for `prior`; ValueError with one sentence where they do not go together."""
    planned = PLANS[settings.method](prior, settings)
    prior.model(settings.guidance, bool(settings.thresholded))
    prior.conditioning(settings.label, 1)
    if settings.guidance != 1 and settings.label is None:
        raise ValueError("Guidance needs a class to guide to: give a label, or take guidance 1.")
    if not settings.sdedit:
        return planned
    depth = settings.depth if settings.sdedit_depth is None else settings.sdedit_depth
    deepest = prior.levels.depth(**depth_of(depth))
    # as many calls as the method may make, where the depth has room for them
    rival, _ = _path(prior, depth, max(1, min(planned.calls - 1, int(deepest))), "linspace")
    return replace(planned, sdedit_sigmas=rival)


def _plan_code(prior, settings):
    deepest = 1.0 if settings.start == "deepest" else settings.depth
    path, timestep = _path(prior, deepest, settings.steps, settings.spacing)
    # from the depth on, which the path to it begins with
    updated = path if deepest == settings.depth else path[path <= _sigma(prior, settings.depth)]
    levels = updated[:1]
    if settings.levels > 1:
        levels = update_levels(updated, settings.levels, _sigma(prior, settings.shallowest))
    langevin = {
        "step": settings.step_size,
        "updates": settings.updates,
        "blocks": settings.blocks,
        "decay": settings.decay,
        "temperature": settings.temperature,
        "mode": settings.step_mode,
        "stop_at": settings.stop_at,
    }
    ways = {"solver": settings.solver, "levels": levels, "noiseless_last": settings.noiseless_last}
    return Plan(
        sigmas=path,
        timestep=timestep,
        levels=tuple(levels.tolist()) if settings.updates else (),
        calls=restore_calls(path, settings.updates, settings.blocks, **ways),
        advice=_advice(path, levels, settings.step_scale, **langevin) if settings.updates else None,
        method=partial(restore, scale=settings.step_scale, **ways, **langevin),
        clip=settings.clipped,
        threshold=settings.thresholded,
    )


def _plan_odedit(prior, settings):
    path, timestep = _path(prior, settings.depth, settings.steps, settings.spacing)
    levels, updates = odedit_levels(path, settings.levels), ODEDIT_UPDATES[settings.damage]
    langevin = {"step": settings.step_size, "temperature": settings.temperature}
    return Plan(
        sigmas=path,
        timestep=timestep,
        levels=tuple(levels.unique().flip(0).tolist()),
        calls=odedit_calls(path, settings.damage, settings.levels),
        advice=_advice(path, levels, "sigma", updates=updates, blocks=ODEDIT["blocks"], **langevin),
        method=partial(odedit, damage=settings.damage, count=settings.levels, **langevin),
        clip=settings.clipped,
        threshold=settings.thresholded,
    )


def _plan_official(prior, settings):
    stride = len(prior.levels) // settings.steps
    if settings.steps < 2 or not stride:
        raise ValueError(f"The official code takes 2 to {len(prior.levels)} steps, the levels of its grid.")
    latent, shallowest = (
        min(round(prior.levels.depth(**depth_of(depth)) / stride), settings.steps)
        for depth in (settings.depth, settings.shallowest)
    )
    quirks, way = quirks_of(settings.quirks), settings.thresholded
    asked = Official(
        n=settings.steps,
        latent=max(2, latent),
        step=settings.step_size,
        updates=settings.updates,
        blocks=settings.blocks,
        decay=settings.decay,
        levels=settings.levels,
        shallowest=shallowest,
        from_deepest=settings.start and settings.start == "deepest",
        clip="up" in settings.clipped,
        langevin_clip="updates" in settings.clipped,
        decode_clip="down" in settings.clipped,
        eta=settings.eta,
        threshold="down" in way,
        langevin_threshold="updates" in way,
        std_schedule="std schedule" in quirks,
        noise_twice="second noise" in quirks,
        samples=settings.samples,
        mended=tuple(quirk for quirk in QUIRKS if quirk not in quirks),
    )
    grid = prior.levels.sigma(stride * torch.arange(asked.n)).cpu()
    path, levels = torch.cat([grid.flip(0), grid.new_zeros(1)]), grid[asked.updated].flip(0)
    langevin = {"updates": asked.updates, "blocks": max(1, asked.blocks), "decay": asked.decay}
    return Plan(
        sigmas=path[asked.n - 1 - asked.start :],
        timestep=float(stride * asked.start),
        levels=tuple(levels.tolist()),
        calls=asked.calls,
        advice=_advice(path, levels, "geometric" if asked.has("scale") else "none", step=asked.step, **langevin),
        method=partial(official, levels=prior.levels, settings=asked),
        # it does both itself
        clip=(),
        threshold=(),
    )


PLANS = {"code": _plan_code, "odedit": _plan_odedit, "official": _plan_official}


def official(model, x, sigmas, extra_args=None, callback=None, disable=None, *, seed, levels, settings, **_):
    """`official_code` in the signature of `restore`; its clips are its own, and `model` does all parts of the way.

    levels: the NoiseLevels of the model. settings: an Official. callback: called once a network call.
    """
    seeds = item_seeds(seed, len(x) * settings.samples)
    start, updates = seeded_noise(seeds[:: settings.samples], START), seeded_noise(seeds, LANGEVIN)
    timesteps, calls = torch.arange(len(levels), device=levels.sigmas.device), count()
    table = levels.sigma(timesteps).to(x.device)

    def network(x_vp, t):
        sigma = table[t].to(x_vp)
        s = per_item(sigma, x_vp)
        y = vp_to_ve(x_vp, s)
        denoised = model(y, sigma, **_of_each(extra_args or {}, len(y) // len(x)))
        report(callback, next(calls), y, sigma[0], denoised)
        return (y - denoised) / s

    restored = official_code(
        network,
        x,
        levels.alpha_bar(timesteps),
        settings,
        noise_sampler=lambda x, k: (start if k < 2 else updates)(x, k),
    )
    return finite(restored, "The restored picture")


def _of_each(conditioning, samples):
    """Conditioning of pictures as that of `samples` of each."""
    return {
        name: value.repeat_interleave(samples, 0) if isinstance(value, torch.Tensor) else value
        for name, value in conditioning.items()
    }


def _advice(path, levels, scale, *, step, mode="absolute", **langevin):
    """Advice on the step at the update level that allows the smallest, or None; ValueError where it is unstable."""
    parts = decode_parts(path, levels, scale)
    check_parts(parts, step, mode=mode, **langevin)
    sigma, factor = tightest(parts, mode)
    return large_step(step, sigma, mode, factor)


@torch.inference_mode()
def run(prior, pictures, settings, on_call=None, callback=None, seeds=None):
    """The Result of restoring `pictures`, (B, C, H, W) in [-1, 1]; on_call() is called after each network call.

    Pictures larger than the prior's are restored in windows, and all windows of all pictures are one network call.
    callback: that of the samplers, which the method "official" does not call. seeds: one for each result, in place of
    those that follow the settings' seed. Raises ValueError like `plan`, where a
    picture is smaller than the prior's, or where the network gives NaN or infinity.
    """
    planned = plan(prior, settings)
    pictures = pictures.to(prior.device)
    up, updates, down = (part in planned.threshold for part in PARTS)
    encoder = CallCounter(encoder_of(prior, settings.label, up, len(pictures)), on_call)
    corrector, model = (CallCounter(_denoiser(prior, settings.guidance, part), on_call) for part in (updates, down))
    conditioning = prior.conditioning(settings.label, len(pictures))
    clips = {part: _clip(settings, pictures, part) for part in planned.clip}
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the plan holds it
        restored = planned.method(
            model,
            pictures,
            planned.sigmas,
            conditioning,
            callback,
            seed=settings.seed if seeds is None else seeds,
            samples=settings.samples,
            encoder=encoder,
            corrector=corrector,
            clip=clips.get("up"),
            langevin_clip=clips.get("updates"),
            decode_clip=clips.get("down"),
        )
    restored = restored.clamp(-1, 1).cpu()
    seconds = time.perf_counter() - start
    # without updates theirs is not called
    clipped = {part: Clipped.by(clip) for part, clip in clips.items() if clip.sigmas}
    rival = run_sdedit(prior, pictures, settings, planned.sdedit_sigmas, on_call) if settings.sdedit else None
    return Result(restored, encoder.calls + corrector.calls + model.calls, seconds, clipped, rival)


def _clip(settings, pictures, part):
    """The ConfidenceClip of a part of the way, whose range may be that of the pictures or of places in them."""
    kind, numbers = range_of(settings.clip_range)
    ranges = {
        "pixels": lambda: (-1.0, 1.0),
        "fixed": lambda low, high: (low, high),
        "quantiles": partial(quantile_range, pictures),
        "around": partial(observation_range, pictures),
    }
    low, high = ranges[kind](*numbers)
    if part != "up" and isinstance(low, torch.Tensor):
        low, high = (bound.repeat_interleave(settings.samples, 0) for bound in (low, high))
    return ConfidenceClip(settings.eta, low, high)


@torch.inference_mode()
def run_sdedit(prior, pictures, settings, sigmas, on_call=None):
    """The Result of SDEdit down the path `sigmas`, with the seeds, samples, label and guidance of `settings`."""
    model = CallCounter(_denoiser(prior, settings.guidance, "down" in settings.thresholded), on_call)
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


def encoder_of(prior, label, threshold, batch):
    """The denoiser that reads a picture: without guidance, and without a label where the prior can do without."""
    label = label if prior.null is None else None
    return partial(_denoiser(prior, 1.0, threshold), **prior.conditioning(label, batch))


def _denoiser(prior, guidance, threshold):
    """The prior's denoiser, for pictures of its size and larger ones."""
    return windowed(prior.model(guidance, threshold), prior.size, max(1, PIXELS_AT_ONCE // prior.size**2))


def _sigma(prior, depth):
    """The VE sigma of a depth."""
    return prior.levels.sigma(prior.levels.depth(**depth_of(depth))).item()


def _path(prior, depth, steps, spacing):
    """(sigmas with a last 0, timestep) of a depth."""
    timestep = prior.levels.depth(**depth_of(depth))
    sigmas = decode_path(prior.levels, timestep, steps, spacing)
    return torch.cat([sigmas, sigmas.new_zeros(1)]), timestep
