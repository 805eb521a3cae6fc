"""How exactly an inversion returns on diffusion and flow schedules, by solver and grid: a table of decisions.md.

python tests/speed/step_variable.py    PSNR in dB, about 50 network calls up and down, to half of the schedule
"""

from functools import partial

import torch
from confident_ode.samplers.denoisers import mixture_denoiser
from confident_ode.samplers.noise_levels import (
    NoiseLevels,
    decode_path,
    linear_betas,
    scaled_linear_betas,
    sigma_of_tau,
)
from confident_ode.samplers.ode import ab2, dpmpp_2m, euler, heun

CALLS = 50
TAUS = torch.arange(1, 1001, dtype=torch.float64) / 1000
SCHEDULES = {
    "DDPM, linear": NoiseLevels(linear_betas()),
    "Stable Diffusion": NoiseLevels(scaled_linear_betas()),
    "flow": NoiseLevels.of_sigmas(sigma_of_tau(TAUS)),
    "flow, shift 3": NoiseLevels.of_sigmas(sigma_of_tau(3 * TAUS / (1 + 2 * TAUS))),
}
SOLVERS = {
    "euler": euler,
    "heun": heun,
    "ab2, log sigma": ab2,
    "ab2, sigma": partial(ab2, variable="sigma"),
    "dpmpp_2m": dpmpp_2m,
}


def pictures():
    """Four means of 3 x 8 x 8 and a draw about each: data with as many modes, whose denoiser is known."""
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = draw(4, 3, 8, 8)
    return mixture_denoiser([0.25] * 4, means, [0.05] * 4), means + 0.05**0.5 * draw(4, 3, 8, 8)


def round_trip(solve, levels, spacing, steps):
    """PSNR in dB of a picture carried to half of the schedule and back, the peak being what the pictures span."""
    model, x = pictures()
    down = decode_path(levels, levels.depth(fraction=0.5), steps, spacing)
    error = (solve(model, solve(model, x, down.flip(0)), down) - x).square().mean()
    return 10 * torch.log10((x.max() - x.min()) ** 2 / error).item()


def main():
    print(f"{'':18}" + "".join(f"{name + ' karras/even':>32}" for name in SCHEDULES))
    for name, solve in SOLVERS.items():
        steps = CALLS // 4 if name == "heun" else CALLS // 2
        rows = ([round_trip(solve, levels, s, steps) for s in ("karras", "linspace")] for levels in SCHEDULES.values())
        print(f"{name:18}" + "".join(f"{karras:25.1f} / {even:4.1f}" for karras, even in rows))


if __name__ == "__main__":
    main()
