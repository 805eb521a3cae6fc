"""What the core tests share: distributions whose scores are known in closed form, their schedules, small helpers."""

import math
import re

import pytest
import torch
from confident_ode.samplers import denoisers, noise, noise_levels

F64 = torch.float64
LEVELS = noise_levels.NoiseLevels(noise_levels.linear_betas())

G1_MEAN, G1_VARIANCE = 0.3, 0.25
G1 = denoisers.gaussian_denoiser(G1_MEAN, G1_VARIANCE)
GMM1_WEIGHTS, GMM1_MEANS, GMM1_STDS = (torch.tensor(v, dtype=F64) for v in ([0.4, 0.6], [-1.0, 1.2], [0.25, 0.4]))
GMM1 = denoisers.mixture_denoiser(GMM1_WEIGHTS, GMM1_MEANS, GMM1_STDS**2)


def vp_sigmas(t):
    """sigma of the continuous VP schedule beta = 0.1 + 19.9 t: sqrt(exp(0.1 t + 9.95 t^2) - 1)."""
    return torch.expm1(0.1 * t + 9.95 * t**2).sqrt()


def vp_path(steps, end=1.0):
    """Ascending sigmas, t uniform on [1e-3, end]."""
    return vp_sigmas(torch.linspace(1e-3, end, steps + 1, dtype=F64))


def a_of(sigma):
    """sqrt(alpha_bar)."""
    return 1 / (1 + sigma**2) ** 0.5


def numbers(low, high, count):
    """A batch of one-number pictures, evenly spaced."""
    return torch.linspace(low, high, count, dtype=F64).view(-1, 1, 1, 1)


def gmm1_quadrature():
    """Points that cover GMM1 and their probabilities: an expectation without sampling error."""
    x = numbers(-2.2, 3.2, 801)
    z = (x.flatten()[:, None] - GMM1_MEANS) / GMM1_STDS
    weights = (GMM1_WEIGHTS / GMM1_STDS * torch.exp(-0.5 * z**2)).sum(1)
    return x, weights / weights.sum()


def normal_pictures(shape, seed=0, stream=100, dtype=F64):
    """Standard normals that depend on the seed alone."""
    return noise.seeded_noise(seed, stream)(torch.empty(shape), 0).to(dtype)


def smooth_pictures(count, size, channels=1, seed=0):
    """Pictures of low frequencies within [-0.9, 0.9], float64."""
    z = normal_pictures((count, channels, 3, 3), seed)
    u = (torch.arange(size, dtype=F64) + 0.5) / size
    waves = torch.stack([torch.cos(math.pi * k * u) for k in range(3)])
    pictures = torch.einsum("kcij,ix,jy->kcxy", z, waves, waves)
    return 0.9 * pictures / pictures.abs().amax((1, 2, 3), keepdim=True)


class Templates:
    """A picture-like distribution: an even mixture of N(template, std^2 I)."""

    def __init__(self, count, size, channels=1, std=0.08):
        self.means, self.std = smooth_pictures(count, size, channels), std
        weights = torch.full((count,), 1 / count, dtype=F64)
        self.model = denoisers.mixture_denoiser(weights, self.means, torch.full((count,), std**2, dtype=F64))

    def clean(self, count, seed=1):
        """`count` samples."""
        i = torch.arange(count) % len(self.means)
        return self.means[i] + self.std * normal_pictures((count, *self.means.shape[1:]), seed)

    def log_p(self, x):
        """log p of each picture."""
        z2 = (((x[:, None] - self.means) / self.std) ** 2).flatten(2).sum(2)
        dimension = x[0].numel()
        log_joint = -0.5 * (z2 + dimension * math.log(2 * math.pi * self.std**2)) - math.log(len(self.means))
        return log_joint.logsumexp(1)


TOY = Templates(5, 6)


def toy_path(steps=12, depth=500, last_zero=True):
    """A descending path of the DDPM schedule."""
    sigmas = noise_levels.decode_path(LEVELS, depth, steps)
    return torch.cat([sigmas, sigmas.new_zeros(1)]) if last_zero else sigmas


# levels at the flow times k / 128, where timesteps and 1024 tau are whole numbers, which float32 holds exactly
_ALPHA_BAR = noise_levels.alpha_bar_of_sigma(noise_levels.sigma_of_tau(torch.arange(128, dtype=F64) / 128))
TAU_LEVELS = noise_levels.NoiseLevels(1 - _ALPHA_BAR[1:] / _ALPHA_BAR[:-1])


def wrapped(kind, model):
    """`model` turned into a network that predicts eps, v or flow, and back by our wrapper."""

    def eps_network(x_vp, t):
        s = denoisers.per_item(TAU_LEVELS.sigma(t), x_vp)
        x = x_vp * (1 + s**2).sqrt()
        return (x - model(x, s.flatten())) / s

    def v_network(x_vp, t):
        s = denoisers.per_item(TAU_LEVELS.sigma(t), x_vp)
        a, sigma = 1 / (1 + s**2).sqrt(), s / (1 + s**2).sqrt()
        return a * eps_network(x_vp, t) - sigma * model(x_vp / a, s.flatten())

    def flow_network(x_flow, t):
        tau = denoisers.per_item(t.double() / 1024, x_flow)
        x, s = x_flow / (1 - tau), tau / (1 - tau)
        x0 = model(x, s.flatten())
        return (x - x0) / s - x0

    return {
        "eps": denoisers.eps_denoiser(eps_network, TAU_LEVELS),
        "v": denoisers.v_denoiser(v_network, TAU_LEVELS),
        "flow": denoisers.flow_denoiser(flow_network, time_scale=1024.0),
    }[kind]


def psnr(a, b):
    """Per picture, for a range of 2."""
    return 10 * torch.log10(4 / ((a - b) ** 2).mean((1, 2, 3)))


def rms(x):
    return x.pow(2).mean().sqrt().item()


def refuses(message, function, *args, **options):
    """The call raises ValueError in one sentence that matches `message`."""
    with pytest.raises(ValueError, match=message) as caught:
        function(*args, **options)
    text = str(caught.value)
    assert text.endswith(".")
    assert not re.search(r"[.!?] [A-Z]", text)
