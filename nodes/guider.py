"""The bridge: a MODEL with its conditioning runs the samplers inside ComfyUI's own sampling stack.

Progress, previews of the denoised picture, interrupt, guidance, patches and memory management are ComfyUI's. The
samplers work in VE coordinates; for flow models the bridge maps tau = sigma / (1 + sigma) and x_flow = x / (1 + sigma).
"""

import math

import comfy.model_management
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch

from ..samplers.checks import descending, finite
from ..samplers.noise_levels import NoiseLevels, flow_to_ve, sigma_of_tau, tau_of_sigma, ve_to_flow
from .pixel_prior import PixelModel


def model_sampling(model):
    """The MODEL's own relation of timesteps and noise levels; ValueError where it is no diffusion model."""
    sampling = model.get_model_object("model_sampling")
    if isinstance(sampling, comfy.model_sampling.IMG_TO_IMG):
        raise ValueError("This MODEL turns a picture into a picture in one go and has no noise levels to invert.")
    return sampling


def is_flow(model):
    """True for rectified flows (SD3, Flux, Lumina, ...), whose sigma is the time tau in [0, 1]."""
    return isinstance(model_sampling(model), comfy.model_sampling.CONST)


def noise_levels(model):
    """The NoiseLevels of a MODEL, in VE, and whether its network is asked at whole timesteps only."""
    sampling = model_sampling(model)
    sigmas = sampling.sigmas.cpu().double()
    whole = isinstance(sampling, comfy.model_sampling.ModelSamplingDiscrete)
    return NoiseLevels.of_sigmas(sigma_of_tau(sigmas) if is_flow(model) else sigmas), whole


def ve_sigmas(model, sigmas, check=descending):
    """SIGMAS of a MODEL as VE levels, float64 on the CPU; ValueError where `check` or its range refuses them."""
    sigmas = sigmas.detach().cpu().double()
    if is_flow(model):
        if sigmas.numel() and sigmas.max() >= 1:
            raise ValueError(
                "At sigma 1 a flow model sees nothing but noise, from which no picture returns: take less depth."
            )
        sigmas = sigma_of_tau(sigmas)
    check(sigmas)
    highest = noise_levels(model)[0].sigmas[-1].item()
    if sigmas.max() > highest * (1 + 1e-4):
        raise ValueError(
            f"The SIGMAS reach {sigmas.max():.4g}, and this model knows noise up to {highest:.4g}: take less depth, "
            "or the CODE Schedule of this MODEL."
        )
    return sigmas


def native_sigmas(model, sigmas):
    """VE levels as the SIGMAS of a MODEL, float32."""
    return (tau_of_sigma(sigmas) if is_flow(model) else sigmas).float()


def samples_of(model, latent):
    """The tensor of a LATENT for a MODEL, float32; ValueError where it is empty, not finite, or another model's."""
    if not latent["samples"].numel():
        raise ValueError("The latent holds no picture: check what empties the batch before this node.")
    samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"]).float()
    format = model.get_model_object("latent_format")
    channels, ndim = format.latent_channels, 2 + format.latent_dimensions
    if samples.ndim != ndim:
        raise ValueError(
            f"The latent has {samples.ndim} dimensions and the model works on {ndim}, with 4 for pictures and 5 for "
            "videos: encode with the VAE that belongs to this model."
        )
    if samples.shape[1] != channels:
        raise ValueError(
            f"The latent has {samples.shape[1]} channels and the model works on {channels}: encode the picture with "
            "the VAE that belongs to this model."
        )
    return finite_latent(samples)


def finite_latent(samples):
    if not torch.isfinite(samples).all():
        raise ValueError("The latent holds NaN or infinity: check the node that it comes from.")
    return samples


def item_seeds(latent, seed):
    """One seed for each item: seed + its place in the batch it was made in, which batch_index tells."""
    batch = len(latent["samples"])
    places = latent.get("batch_index", range(batch))
    return [seed + i for i in (places if len(places) == batch else range(batch))]


class Progress:
    """One progress bar of `steps` over several runs, with ComfyUI's previews; an interrupt is raised from it."""

    def __init__(self, model, steps):
        self.callback, self.steps, self.done = latent_preview.prepare_callback(model, steps), steps, 0

    def part(self, steps):
        """The callback of a run of `steps`, which counts on from the runs before it."""
        start, self.done = self.done, self.done + steps
        return lambda step, denoised, x, _: self.callback(start + step, denoised, x, self.steps)


def check_guidance(model, positive, negative, cfg, socket="positive"):
    """ValueError where a condition says nothing, or cfg has nothing to guide by. socket: where it came in."""
    if not math.isfinite(cfg):
        raise ValueError(f"The cfg is {cfg}: give a number, 1 to turn it off.")
    if cfg != 1 and negative is None:
        raise ValueError("A cfg other than 1 guides away from something: connect negative, or set cfg to 1.")
    if cfg != 1 and isinstance(model.model, PixelModel) and all(c[1].get("class_label") is None for c in positive):
        raise ValueError(f"A cfg other than 1 turns the picture towards a class: connect Class Condition to {socket}.")
    if not positive:
        raise ValueError(f"The {socket} conditioning is empty: connect a prompt, or the prior's unconditional output.")


class Guided:
    """A MODEL with conditioning and guidance, on which methods of the core run."""

    def __init__(self, model, positive, negative=None, cfg=1.0):
        check_guidance(model, positive, negative, cfg)
        self.model, self.flow = model, is_flow(model)
        self.guider = comfy.samplers.CFGGuider(model)
        self.guider.set_conds(positive, negative or positive)
        self.guider.set_cfg(cfg)

    def run(self, method, samples, sigmas, callback, seed=0):
        """method(model, x, sigmas, extra_args, callback, disable) from the LATENT `samples` along VE `sigmas`.

        Everything the method sees is in VE coordinates in the model's scale; it returns the state on sigmas[-1].
        """
        sampler = comfy.samplers.KSAMPLER(_in_flow(method, sigmas) if self.flow else _in_ve(method, sigmas))
        run = self.guider.sample(
            torch.zeros_like(samples),
            samples,
            sampler,
            native_sigmas(self.model, sigmas),
            callback=callback,
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed,
        )
        return finite(run.to(comfy.model_management.intermediate_device()), "The result")

    def edit(self, method, samples, sigmas, callback):
        """`run` from a clean picture: what the method leaves as it was is `samples` to the bit, whatever the scale."""
        same = {}

        def edited(model, x, *arguments, **options):
            y = method(model, x, *arguments, **options)
            same["places"] = y == x
            return y

        return as_given(self.run(edited, samples, sigmas, callback), same["places"], samples)


def as_given(result, places, samples):
    """The result of a run, and the LATENT tensor `samples` in the places that came back to the bit."""
    return torch.where(places.to(result.device), samples.to(result), result)


class Translating(Guided):
    """A MODEL with what a picture shows, the source, and what it shall show, the target, each with its guidance.

    A method runs on it as method(model, x, sigmas, extra_args, callback, disable, source=...): both are denoisers, by
    the same network and in the same way, so that where the conditions are equal their answers are, to the bit.
    """

    def __init__(self, model, source, target, negative=None, cfg=1.0, source_cfg=1.0):
        """negative: of both; without one the target is guided away from the source. ValueError: `check_guidance`."""
        check_guidance(model, target, negative or source, cfg, "target")
        check_guidance(model, source, negative, source_cfg, "source")
        self.model, self.flow, self.guider = model, is_flow(model), SourceAndTarget(model)
        self.guider.set_conds(target, negative or source, source, negative or source)
        self.guider.set_cfg(cfg, source_cfg)

    def run(self, method, samples, sigmas, callback, seed=0):
        def sample(model, x, sigmas, extra_args, callback, disable):
            target, source = self.guider.seeing(model)
            return method(target, x, sigmas, extra_args, callback, disable, source=source)

        return super().run(sample, samples, sigmas, callback, seed)


class SourceAndTarget(comfy.samplers.CFGGuider):
    """A CFGGuider of two: that of a target, as which it starts, and that of a source."""

    def set_conds(self, positive, negative, source, source_negative):
        self.inner_set_conds(
            {"positive": positive, "negative": negative, "source": source, "source negative": source_negative}
        )

    def set_cfg(self, cfg, source_cfg):
        self.cfg, self.source_cfg = cfg, source_cfg

    def seeing(self, model):
        """model(x, sigma) as it sees the target, and as it sees the source."""
        pairs = (self.conds, self.cfg), (self.source_conds, self.source_cfg)
        return [self._by(model, *pair) for pair in pairs]

    def _by(self, model, conds, cfg):
        def denoise(x, sigma, **extra_args):
            self.conds, self.cfg = conds, cfg
            return model(x, sigma, **extra_args)

        return denoise

    def inner_sample(self, noise, latent_image, device, sampler, sigmas, denoise_mask, callback, disable, seed, **more):
        every, latent = self.conds, latent_image
        if latent.count_nonzero():
            latent = self.inner_model.process_latent_in(latent)
        # each pair by itself, as a ControlNet or an area of the target's is none of the source's
        self.source_conds = comfy.samplers.process_conds(
            self.inner_model,
            noise,
            {"positive": every["source"], "negative": every["source negative"]},
            device,
            latent,
            denoise_mask,
            seed,
            **more,
        )
        self.conds = {name: every[name] for name in ("positive", "negative")}
        settings = (noise, latent_image, device, sampler, sigmas, denoise_mask, callback, disable, seed)
        sampled = super().inner_sample(*settings, **more)
        # for what is cleaned up after it
        self.conds = every
        return sampled


def _in_ve(method, sigmas):
    def sample(model, x, _, extra_args=None, callback=None, disable=None):
        return method(model, x, sigmas, extra_args, callback, disable)

    return sample


def _in_flow(method, sigmas):
    """A method in VE coordinates as one in x_flow and tau, which is how ComfyUI hands out flow models."""

    def sample(model, x, taus, extra_args=None, callback=None, disable=None):
        def denoise(x, sigma, **extra_args):
            s = sigma.view(-1, *[1] * (x.ndim - 1))
            return model(ve_to_flow(x, s), tau_of_sigma(sigma), **extra_args)

        return ve_to_flow(
            method(denoise, flow_to_ve(x, taus[0]), sigmas, extra_args, callback, disable), sigmas[-1].item()
        )

    return sample
