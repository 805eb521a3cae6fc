"""The theory of "SDE beats ODE" (Nie et al. 2024) where scores are exact: what sampling makes of a wrong start.

A start is wrong where it is not the model's marginal at that noise level, as after any edit. The ODE carries the error
to the picture (Theorem 3.2), the SDE forgets it on the way (Theorem 3.1). All states are in VE coordinates.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ..samplers.denoisers import gaussian_denoiser, mixture_denoiser
from ..samplers.noise import seeded_noise
from ..samplers.noise_levels import NoiseLevels, cosine_betas, decode_path, vp_to_ve
from ..samplers.ode import euler
from ..samplers.sde import ancestral_step

F64 = torch.float64


def ddim(model, x, pair, noise):
    """One step of the ODE from pair[0] to pair[1], which takes no noise."""
    return euler(model, x, pair)


def ddpm(model, x, pair, noise):
    """One step of the SDE from pair[0] to pair[1]."""
    return ancestral_step(x, model(x, pair[:1].expand(len(x))), *pair.tolist(), noise)


STEPS = {"ODE": ddim, "SDE": ddpm}


class Gaussian(NamedTuple):
    """A distribution of numbers."""

    mean: float
    std: float

    def noised(self, sigma):
        """The marginal at the noise level sigma."""
        return Gaussian(self.mean, math.hypot(self.std, sigma))

    def model(self):
        """The exact denoiser of this as data."""
        return gaussian_denoiser(self.mean, self.std**2)


def kl(p, q):
    """KL(p || q) of two Gaussians: ((r - 1 - log r) + (m_p - m_q)^2 / v_q) / 2, r = v_p / v_q."""
    log_ratio = 2 * math.log(p.std / q.std)
    return 0.5 * (math.expm1(log_ratio) - log_ratio + ((p.mean - q.mean) / q.std) ** 2)


def fisher(p, q):
    """E_p |d log p - d log q|^2 of two Gaussians, the Fisher divergence."""
    return (p.std / q.std**2 - 1 / p.std) ** 2 + ((p.mean - q.mean) / q.std**2) ** 2


def pushed(step, data, start, sigmas):
    """The Gaussian `start` at sigmas[0] at every level of a descending path, pushed through steps of the sampler.

    A step is affine in the state and in the noise: three points tell all of it.
    """
    model, states = data.model(), [start]
    noise = torch.tensor([0, 0, 1], dtype=F64).view(-1, 1, 1, 1)
    for pair in sigmas.unfold(0, 2, 1):
        mean, std = states[-1]
        x = torch.tensor([mean, mean + std, mean], dtype=F64).view(-1, 1, 1, 1)
        middle, aside, noisy = step(model, x, pair, noise).flatten().tolist()
        states.append(Gaussian(middle, math.hypot(aside - middle, noisy - middle)))
    return states


def kl_along(step, data, start, sigmas):
    """KL at every level of a path between the states from `start` and those from the right start, by the same steps."""
    right = data.noised(sigmas[0].item())
    return [kl(p, q) for p, q in zip(*(pushed(step, data, each, sigmas) for each in (start, right)), strict=True)]


def kept(data, sigma_start, sigma):
    """rho^2 = (s^2 + sigma^2) / (s^2 + sigma_start^2): how much of the KL of a shifted mean the exact SDE has left."""
    return (data.noised(sigma).std / data.noised(sigma_start).std) ** 2


def exact_sde(data, start, sigma_start, sigma):
    """`start` at sigma_start, brought down to sigma by the exact reverse SDE: Theorem 3.1 in closed form.

    With rho^2 of `kept` the mean's error and the variance's relative one both shrink by it.
    """
    rho2, right = kept(data, sigma_start, sigma), data.noised(sigma)
    excess = rho2 * ((start.std / data.noised(sigma_start).std) ** 2 - 1)
    return Gaussian(data.mean + rho2 * (start.mean - data.mean), right.std * math.sqrt(1 + excess))


@dataclass(frozen=True)
class Mixture:
    """Data from the mixture of weights[k] N(means[k], stds[k]^2), numbers."""

    weights: tuple[float, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]

    def model(self):
        """The exact denoiser."""
        return mixture_denoiser(self.weights, self.means, [std**2 for std in self.stds])

    def density(self, x):
        """p(x) at numbers (N,), float64."""
        weights, _, stds = self._tensors
        return (weights / stds * torch.exp(-0.5 * self._z(x) ** 2)).sum(1) / math.sqrt(2 * math.pi)

    def quantiles(self, count):
        """`count` numbers with equal probability between them, (count,): what perfect samples are when sorted."""
        room = 8 * max(self.stds)
        x = torch.linspace(min(self.means) - room, max(self.means) + room, 20_001, dtype=F64)
        weights, _, _ = self._tensors
        below = (weights * torch.special.ndtr(self._z(x))).sum(1)
        return torch.from_numpy(np.interp((np.arange(count) + 0.5) / count, below, x))

    def distance(self, samples):
        """The Wasserstein-1 distance of samples (N,) to this: how far, on average, each would have to be moved."""
        return (samples.sort().values - self.quantiles(len(samples))).abs().mean().item()

    @property
    def _tensors(self):
        return [torch.tensor(each, dtype=F64) for each in (self.weights, self.means, self.stds)]

    def _z(self, x):
        _, means, stds = self._tensors
        return (x[:, None] - means) / stds


DATA = Mixture((0.4, 0.6), (-1.0, 1.2), (0.25, 0.4))
# of standard normals, in VP units, where the right start is N(0, 1)
PRIORS = {
    "the right start, N(0, 1)": lambda n: n,
    "shifted, N(2, 1)": lambda n: 2 + n,
    "too wide, N(0, 3²)": lambda n: 3 * n,
    "too narrow, N(0, 0.2²)": lambda n: 0.2 * n,
    "uniform on [-3, 3]": lambda n: 6 * torch.special.ndtr(n) - 3,
}


class Outcome(NamedTuple):
    """The samples (N,) that a start was, in VP units, and what each sampler made of it."""

    start: torch.Tensor
    made: dict[str, torch.Tensor]


def sampled(step, model, x, sigmas, noise):
    """x at sigmas[0], brought down a path of n steps of a sampler with `noise`, n like x."""
    for pair, z in zip(sigmas.unfold(0, 2, 1), noise, strict=True):
        x = step(model, x, pair, z)
    return x


def from_priors(count=20_000, steps=100, seed=0, data=DATA):
    """{prior: Outcome}, the paper's Figure 5: the cosine schedule from its end to x0-hat, from each of PRIORS."""
    levels = NoiseLevels(cosine_betas())
    sigmas = torch.cat([decode_path(levels, len(levels) - 1, steps - 1), torch.zeros(1, dtype=F64)])
    model, found = data.model(), {}
    for stream, (name, prior) in enumerate(PRIORS.items()):
        # as one item, of which all numbers are used
        normals = seeded_noise(seed, stream)(torch.empty(1, steps + 1, count, dtype=F64), 0)
        start, *noise = normals.view(-1, count, 1, 1, 1)
        x = prior(start)
        made = {kind: sampled(step, model, vp_to_ve(x, sigmas[0]), sigmas, noise) for kind, step in STEPS.items()}
        found[name] = Outcome(x.flatten(), {kind: y.flatten() for kind, y in made.items()})
    return found
