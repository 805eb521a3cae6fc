"""Noise levels: timestep <-> alpha_bar <-> sigma, the grids of the field, and VP, VE and flow coordinates.

    variable     meaning
    betas        beta_t, variance added at timestep t (Ho et al. 2020)
    alpha_bar    product of (1 - beta_s) up to t; the CODE paper writes alpha_t
    sigma        VE noise level, sqrt((1 - alpha_bar) / alpha_bar) (Karras et al. 2022)
    tau          time of a rectified flow x = (1 - tau) x0 + tau n, tau = sigma / (1 + sigma)

A state in VE coordinates is x = x_vp / sqrt(alpha_bar) = x_flow / (1 - tau), so that x = x0 + sigma n.
"""

import math

import torch

SPACINGS = ("linspace", "leading", "trailing", "karras")


def linear_betas(total=1000, start=1e-4, end=2e-2):
    """DDPM's betas (Ho et al. 2020), diffusers' "linear": float64 of shape (total,)."""
    return torch.linspace(start, end, total, dtype=torch.float64)


def scaled_linear_betas(total=1000, start=8.5e-4, end=1.2e-2):
    """Stable Diffusion's betas, linear in their square root, diffusers' "scaled_linear": float64 of shape (total,)."""
    return torch.linspace(start**0.5, end**0.5, total, dtype=torch.float64) ** 2


def cosine_betas(total=1000, offset=8e-3, maximum=0.999):
    """Betas of alpha_bar(u) = cos^2((u + s) / (1 + s) pi / 2), eq. 17 of Nichol & Dhariwal (2021), (total,)."""
    u = torch.linspace(0, 1, total + 1, dtype=torch.float64)
    alpha_bar = torch.cos((u + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=maximum)


class NoiseLevels:
    """The noise levels a discrete-time model was trained on, and the log-linear interpolation between them.

    betas: (T,), each above 0 and at most 1, or ValueError. A last beta of 1 (zero terminal SNR) is an infinite sigma:
    it can be named, not reached.
    """

    def __init__(self, betas):
        betas = torch.as_tensor(betas, dtype=torch.float64)
        if betas.ndim != 1 or len(betas) < 2 or not bool(((betas > 0) & (betas <= 1)).all()):
            raise ValueError("betas must be a list of at least two numbers above 0 and at most 1.")
        self._set(torch.expm1(-torch.log1p(-betas).cumsum(0)).sqrt())

    @classmethod
    def of_sigmas(cls, sigmas):
        """The levels whose table of VE sigmas, (T,) from the cleanest to the noisiest, is given."""
        levels = object.__new__(cls)
        levels._set(torch.as_tensor(sigmas, dtype=torch.float64))
        return levels

    def _set(self, sigmas):
        if not bool((sigmas.diff() > 0).all()):
            raise ValueError("The betas do not raise the noise at every timestep: the schedule is not usable.")
        self.sigmas = sigmas
        self._inner, self._log_steps = sigmas[1:-1], (sigmas[1:] / sigmas[:-1]).log()

    def __len__(self):
        return len(self.sigmas)

    def to(self, device):
        """The same levels with their table on `device`."""
        levels = object.__new__(NoiseLevels)
        for name, table in vars(self).items():
            setattr(levels, name, table.to(device))
        return levels

    def sigma(self, timestep):
        """sigma at `timestep` in [0, T - 1] (a number or tensor), float64; exact at integers, log-linear between."""
        timestep = torch.as_tensor(timestep, dtype=torch.float64, device=self.sigmas.device)
        low = timestep.floor().clamp(0, len(self) - 2).long()
        below, above = self.sigmas[low], self.sigmas[low + 1]
        return below * (above / below) ** (timestep - low)

    def timestep(self, sigma):
        """The timestep in [0, T - 1] whose noise level is `sigma` (a number or tensor), float64; inverse of `sigma`."""
        sigma = torch.as_tensor(sigma, dtype=torch.float64, device=self.sigmas.device)
        low = torch.searchsorted(self._inner, sigma, right=True)
        # log 1 is 0 to the bit, so that the table's levels are whole
        return low + ((sigma / self.sigmas[low]).log() / self._log_steps[low]).clamp(0, 1)

    def alpha_bar(self, timestep):
        """alpha_bar at `timestep`, float64."""
        return alpha_bar_of_sigma(self.sigma(timestep))

    def depth(self, *, timestep=None, fraction=None, sigma=None):
        """The timestep (a float) meant by exactly one of `timestep`, `fraction` of the chain in (0, 1], or `sigma`.

        Raises ValueError where the depth is not above the first trained level, or beyond the last finite one.
        """
        if (timestep is not None) + (fraction is not None) + (sigma is not None) != 1:
            raise ValueError("Give the depth as one of timestep, fraction or sigma.")
        deepest = len(self) - 1 - int(torch.isinf(self.sigmas[-1]))
        if fraction is not None:
            if not 0 < fraction <= 1:
                raise ValueError(
                    f"The depth {fraction:g} is no fraction of the schedule: take one above 0 and up to 1."
                )
            return float(min(max(round(fraction * len(self)), 1), deepest))
        if sigma is not None:
            low, high = self.sigmas[0].item(), self.sigmas[deepest].item()
            if not low < sigma <= high:
                raise ValueError(
                    f"The depth sigma = {sigma:g} is outside this model: take above {low:.4g} and up to {high:.4g}."
                )
            return self.timestep(sigma).item()
        if not 0 < timestep <= deepest:
            raise ValueError(f"The depth t = {timestep:g} is outside this model: take above 0 and up to {deepest}.")
        return float(timestep)


def timestep_grid(deepest, steps, spacing="linspace"):
    """`steps` + 1 ascending timesteps from 0 to `deepest`, float64: the grids of the field, cut off at a depth.

    linspace: round(i * deepest / steps). leading: i * (deepest // steps), which can stop short of `deepest`.
    trailing: 0, then round(i * (deepest + 1) / steps) - 1. With deepest = T - 1 these are diffusers' grids over the
    whole chain (leading of n levels is steps = n - 1, where T // n = (T - 1) // (n - 1)). Raises ValueError where there
    are more steps than timesteps.
    """
    if steps < 1 or steps != int(steps):
        raise ValueError(f"steps is {steps:g}: take a whole number of at least 1.")
    if steps > deepest:
        raise ValueError(f"{steps} steps do not fit into {deepest:g} timesteps: take fewer steps or a greater depth.")
    i = torch.arange(steps + 1, dtype=torch.float64)
    if spacing == "linspace":
        grid = (i * deepest / steps).round()
        grid[-1] = deepest
        return grid
    if spacing == "leading":
        return i * (deepest // steps)
    if spacing == "trailing":
        grid = (i * (deepest + 1) / steps).round() - 1
        grid[0], grid[-1] = 0, deepest
        if grid[1] <= 0:
            raise ValueError(f"{steps} trailing steps start at timestep 0 twice: take fewer steps.")
        return grid
    raise ValueError(f"The spacing {spacing!r} is unknown: take one of {', '.join(SPACINGS)}.")


def karras_sigmas(steps, sigma_min, sigma_max, rho=7.0):
    """`steps` + 1 ascending levels, evenly spaced in sigma^(1/rho): eq. 5 of Karras et al. (2022), float64."""
    return torch.linspace(sigma_min ** (1 / rho), sigma_max ** (1 / rho), steps + 1, dtype=torch.float64) ** rho


def trained_timesteps(timesteps):
    """The nearest whole timesteps of an ascending grid that starts at 0, moved apart where two would be the same."""
    i = torch.arange(len(timesteps))
    apart = (timesteps.round() - i).cummax(0).values + i
    return torch.minimum(apart, timesteps[-1].round() - i.flip(0))


def decode_path(levels, deepest, steps, spacing="linspace", trained=False):
    """The descending sigmas of `steps` ODE steps from timestep `deepest` down to the first trained level sigma(0).

    Returns float64 of shape (steps + 1,) on the CPU. Encoding follows it backwards; a restoration appends 0, on which a
    solver returns the denoised picture. `spacing` is one of SPACINGS. trained: only levels that the model was trained
    on, for networks that are asked at whole timesteps. Raises ValueError like `timestep_grid`.
    """
    levels = levels.to("cpu")
    if spacing == "karras":
        timestep_grid(deepest, steps)
        sigmas = karras_sigmas(steps, levels.sigma(0).item(), levels.sigma(deepest).item())
    else:
        sigmas = levels.sigma(timestep_grid(deepest, steps, spacing))
    if trained:
        sigmas = levels.sigma(trained_timesteps(levels.timestep(sigmas)))
    return sigmas.flip(0)


def sigma_of_alpha_bar(alpha_bar):
    """sigma = sqrt((1 - alpha_bar) / alpha_bar)."""
    return ((1 - alpha_bar) / alpha_bar) ** 0.5


def alpha_bar_of_sigma(sigma):
    """alpha_bar = 1 / (1 + sigma^2)."""
    return 1 / (1 + sigma**2)


def sigma_of_tau(tau):
    """sigma = tau / (1 - tau) for a flow time tau in [0, 1)."""
    return tau / (1 - tau)


def tau_of_sigma(sigma):
    """tau = sigma / (1 + sigma)."""
    return sigma / (1 + sigma)


def vp_to_ve(x, sigma):
    """x_vp / sqrt(alpha_bar), with sigma a number or a tensor that broadcasts."""
    return x * (1 + sigma**2) ** 0.5


def ve_to_vp(x, sigma):
    """x * sqrt(alpha_bar), with sigma a number or a tensor that broadcasts."""
    return x / (1 + sigma**2) ** 0.5


def flow_to_ve(x, tau):
    """x_flow / (1 - tau), tau below 1."""
    return x / (1 - tau)


def ve_to_flow(x, sigma):
    """x * (1 - tau) = x / (1 + sigma)."""
    return x / (1 + sigma)
