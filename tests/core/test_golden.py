"""Whole loops, pinned: any changed coefficient, order of draws or level shows here.

The figures are what `figures(LOOPS[name]())` printed when the core was made and its parts had been checked against
closed forms. The model, the pictures and the noise are plain arithmetic in float64; only `restore` draws seeded noise,
whose normals are equal to 1e-6 on any machine.
"""

import pytest
import torch
from confident_ode.samplers.clipping import ConfidenceClip
from confident_ode.samplers.denoisers import mixture_denoiser
from confident_ode.samplers.langevin import langevin
from confident_ode.samplers.noise_levels import decode_path
from confident_ode.samplers.ode import SOLVERS, ab2, euler
from confident_ode.samplers.restore import restore
from confident_ode.samplers.sde import sdedit
from core.toys import F64, LEVELS

PIXEL = torch.arange(16, dtype=F64).view(1, 4, 4)
MEANS = torch.stack([torch.sin(k * PIXEL + k) for k in (1, 2, 3)])
MODEL = mixture_denoiser(torch.tensor([0.5, 0.3, 0.2], dtype=F64), MEANS, torch.tensor([0.04, 0.01, 0.09], dtype=F64))
PICTURES = torch.stack([0.8 * MEANS[0] + 0.4 * torch.cos(PIXEL * PIXEL), 0.7 * MEANS[2] - 0.5 * torch.cos(3 * PIXEL)])
STATE = {"up": PICTURES, "down": PICTURES + 3.4 * torch.stack([torch.cos(5 * PIXEL), torch.sin(7 * PIXEL)])}
DOWN = torch.cat([decode_path(LEVELS, 500, 8), torch.zeros(1, dtype=F64)])
PATH = {"up": DOWN[:-1].flip(0), "down": DOWN}


def arithmetic_noise(x, step):
    return 1.3 * torch.cos(torch.arange(x.numel(), dtype=F64) * (step + 1.7)).view(x.shape)


def figures(x):
    """The sum, the sum of squares, and two values."""
    return [x.sum().item(), x.square().sum().item(), x[0, 0, 0, 1].item(), x[1, 0, 2, 3].item()]


def solved(solve, direction, **options):
    return lambda: solve(MODEL, STATE[direction], PATH[direction], **options)


LOOPS = {
    **{f"{name} {way}": solved(solve, way) for name, solve in SOLVERS.items() for way in ("up", "down")},
    "euler up, clipped": solved(euler, "up", clip=ConfidenceClip(0.5)),
    "euler up, target": solved(euler, "up", convention="target"),
    "ab2 up, sigma, euler": solved(ab2, "up", variable="sigma", start="euler"),
    "langevin": lambda: langevin(
        MODEL, STATE["down"], DOWN, noise_sampler=arithmetic_noise, step=0.05, updates=7, blocks=3, temperature=0.6
    ),
    "sdedit": lambda: sdedit(
        MODEL, PICTURES, DOWN, noise_sampler=arithmetic_noise, mask=(PIXEL < 5).to(F64), repeats=2, eta=0.8
    ),
    "restore": lambda: restore(
        MODEL, PICTURES, DOWN, seed=11, step=0.05, updates=9, clip=ConfidenceClip(0.7), samples=2
    ),
}
GOLDEN = {
    "euler up": [12.190019027, 299.28118198, 1.6761513167, 0.89833641784],
    "euler down": [1.7951922717, 15.73973005, 0.89323921873, -0.73648875346],
    "heun up": [15.657777613, 477.62104843, 1.984848342, 1.3409601178],
    "heun down": [2.0197092308, 15.930069602, 0.91340768813, -0.64312144483],
    "ab2 up": [16.155226422, 502.21998738, 2.0356372192, 1.3703622227],
    "ab2 down": [1.9549236706, 15.964078921, 0.90960674642, -0.65664214664],
    "dpmpp_2m up": [12.805040267, 340.41348975, 1.8175990463, 1.0143680772],
    "dpmpp_2m down": [2.1522253602, 15.921215826, 0.91693419546, -0.55737093093],
    "euler up, clipped": [11.564444605, 178.38215911, 1.7372004149, 0.86918217127],
    "euler up, target": [15.349639263, 382.51442362, 2.5131632968, 0.44737547448],
    "ab2 up, sigma, euler": [14.928807663, 469.4185032, 2.0212126993, 1.3096053924],
    "langevin": [10.457355589, 177.23510916, 1.372163128, 1.5577853392],
    "sdedit": [2.1440162161, 15.026256759, 0.94355886381, -0.45242042724],
    "restore": [6.8205021416, 30.957819671, 0.91941596759, -0.49721858146],
}


@pytest.mark.parametrize("name", LOOPS)
def test_the_loop_gives_what_it_gave(name):
    assert figures(LOOPS[name]()) == pytest.approx(GOLDEN[name], rel=1e-5 if name == "restore" else 1e-9)
