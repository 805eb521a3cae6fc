"""Denoisers, model(x, sigma, **conditioning) -> x0-hat: round a network, guided, thresholded, or in closed form.

x: (B, C, H, W) in VE coordinates, sigma: (B,), x0-hat: like x. A network sees its own coordinates, its own timestep
and, where `dtype` is given, its own precision; the state keeps its own.
"""

import torch

from . import fused
from .noise_levels import tau_of_sigma, ve_to_flow, ve_to_vp


def per_item(values, x):
    """(B,) -> (B, 1, 1, 1) in the dtype of x, to multiply a batch item by item."""
    return values.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def _call(network, x, timestep, dtype, conditioning):
    return network(x.to(dtype or x.dtype), timestep.to(torch.float32), **conditioning).to(x.dtype)


def eps_denoiser(network, levels, dtype=None):
    """x0-hat = x - sigma * eps(x_vp, t), for a network(x_vp, t, **conditioning) that predicts eps (Ho et al. 2020)."""

    def denoise(x, sigma, **conditioning):
        s = per_item(sigma, x)
        return x.addcmul(s, _call(network, ve_to_vp(x, s), levels.timestep(sigma), dtype, conditioning), value=-1)

    return denoise


def v_denoiser(network, levels, dtype=None):
    """x0-hat = a x_vp - sqrt(1 - a^2) v, a^2 = alpha_bar, for a network that predicts v (Salimans & Ho 2022)."""

    def denoise(x, sigma, **conditioning):
        s = per_item(sigma, x)
        x_vp = ve_to_vp(x, s)
        return ve_to_vp(x_vp - s * _call(network, x_vp, levels.timestep(sigma), dtype, conditioning), s)

    return denoise


def flow_denoiser(network, dtype=None, time_scale=1000.0):
    """x0-hat = x_flow - tau v, for a rectified flow network(x_flow, time_scale * tau, ...) that predicts v = n - x0."""

    def denoise(x, sigma, **conditioning):
        s = per_item(sigma, x)
        x_flow, tau = ve_to_flow(x, s), tau_of_sigma(sigma)
        return x_flow - per_item(tau, x) * _call(network, x_flow, time_scale * tau, dtype, conditioning)

    return denoise


def classifier_free_guidance(model, scale, null):
    """x0(null) + scale * (x0(condition) - x0(null)), both in one call (Ho & Salimans 2022).

    scale: a number, or scale(sigma) -> (B,), such as a `drag.guidance_ramp`. null: the conditioning that stands for no
    condition, one entry for each that is passed, numbers or tensors that expand to it. At scale 1 this is `model`
    itself, at no extra cost.
    """
    if scale == 1:
        return model

    def guided(x, sigma, **conditioning):
        null_of = {name: _like(null[name], value) for name, value in conditioning.items()}
        both = {name: torch.cat([value, null_of[name]]) for name, value in conditioning.items()}
        conditional, unconditional = model(torch.cat([x, x]), torch.cat([sigma, sigma]), **both).chunk(2)
        strength = per_item(scale(sigma), x) if callable(scale) else scale
        return unconditional + strength * (conditional - unconditional)

    return guided


def _like(null, value):
    return null.to(value).expand_as(value) if isinstance(null, torch.Tensor) else torch.full_like(value, null)


def dynamic_thresholding(model, ratio=0.98, maximum=1.3, *, data_range=(-1.0, 1.0)):
    """clamp(x0 / k, -1, 1) with k = clamp(quantile(|x0|, ratio), 1, maximum) per picture (Saharia et al. 2022).

    Wrap it outside guidance. Only for pixels in [-1, 1]: pass the model's `data_range`, None for a latent model, which
    is refused with ValueError. 0.98 and 1.3 are the values of CODE's authors.
    """
    if data_range is None or tuple(data_range) != (-1.0, 1.0):
        raise ValueError(
            "Dynamic thresholding is for pixels in [-1, 1] and would destroy latents: turn it off for this model."
        )
    if not 0 < ratio <= 1 or not maximum >= 1:
        raise ValueError("Dynamic thresholding takes a ratio above 0 and up to 1, and a maximum of at least 1.")

    def thresholded(x, sigma, **conditioning):
        return fused.threshold(model(x, sigma, **conditioning), ratio, maximum)

    return thresholded


def gaussian_denoiser(mean, variance):
    """E[x0 | x] = (variance x + sigma^2 mean) / (variance + sigma^2), exact for data N(mean, variance); for tests.

    mean, variance: numbers, or tensors that broadcast to one picture.
    """

    def denoise(x, sigma, **_):
        s2 = per_item(sigma, x) ** 2
        return (variance * x + s2 * mean) / (variance + s2)

    return denoise


def mixture_denoiser(weights, means, variances):
    """E[x0 | x] for data from the mixture of weights[k] N(means[k], variances[k] I), exact; for tests.

    weights, variances: (K,); means: (K, C, H, W), or (K,) where a picture is a single number.
    """
    weights, means, variances = (torch.as_tensor(v, dtype=torch.float64) for v in (weights, means, variances))
    log_weights = weights.log()
    means = means.view(-1, 1, 1, 1) if means.ndim == 1 else means

    def denoise(x, sigma, **_):
        s2 = per_item(sigma, x)[:, None] ** 2
        v = variances.to(x).view(1, -1, 1, 1, 1)
        m = means.to(x)[None]
        noisy = v + s2
        distance = ((x[:, None] - m) ** 2).flatten(2).sum(2) / noisy.flatten(1)
        dimension = x[0].numel()
        log_joint = log_weights.to(x) - 0.5 * (distance + dimension * noisy.flatten(1).log())
        r = log_joint.softmax(1)[:, :, None, None, None]
        return (r * (v * x[:, None] + s2 * m) / noisy).sum(1)

    return denoise


class CallCounter:
    """A model that counts its calls in `calls` (the NFE) and, if given, tells `on_call()` after each."""

    def __init__(self, model, on_call=None):
        self.model, self.on_call, self.calls = model, on_call, 0

    def __call__(self, x, sigma, **conditioning):
        x0 = self.model(x, sigma, **conditioning)
        self.calls += 1
        if self.on_call is not None:
            self.on_call()
        return x0
