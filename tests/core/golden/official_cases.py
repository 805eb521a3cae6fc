"""What the golden values of the authors' code are recorded from: a small fixed network, pictures, noise, settings.

All of it is plain arithmetic in float64, rounded once to float32, so that it is the same on any machine.
"""

import torch

T = 1000
SHAPE = (2, 3, 5, 5)


def numbers(count, phase):
    """`count` numbers in [-1, 1] that repeat on no grid in use."""
    k = torch.arange(count, dtype=torch.float64)
    return torch.cos(0.37 * k * k + 1.9 * k + phase)


def network(x, t):
    """eps(x_vp, t) of a 3x3 convolution each before and after a tanh, shifted by t: it sees neighbours and channels."""
    inner, outer = (0.3 * numbers(8 * 3 * 9, phase).float() for phase in (0.5, 2.5))
    shift = torch.cos(t.double()[:, None] / 250 + torch.arange(8)).float()[:, :, None, None]
    hidden = torch.tanh(torch.nn.functional.conv2d(x, inner.view(8, 3, 3, 3), padding=1) + shift)
    return 0.7 * x + torch.nn.functional.conv2d(hidden, outer.view(3, 8, 3, 3), padding=1)


def pictures():
    return (1.1 * numbers(2 * 3 * 25, 4.0)).clamp(-1, 1).view(SHAPE).float()


def noise(x, k):
    """The numbered noise: about standard normal in its first two moments."""
    return (2**0.5 * numbers(x.numel(), 0.77 * k * k + k)).view(x.shape).float()


# fields of `Official`; every option in both of its values, alone or with those that it acts on
CASES = {
    "paper": {"n": 20, "latent": 8, "step": 2e-4, "updates": 9, "blocks": 4, "clip": False},
    "clip": {"n": 10, "latent": 6, "step": 2e-4, "updates": 6, "blocks": 2, "clip": True},
    "notebook": {
        "n": 10,
        "latent": 10,
        "step": 1e-4,
        "updates": 6,
        "blocks": 2,
        "levels": 2,
        "shallowest": 2,
        "clip": False,
        "noise_twice": True,
    },
    "all clips": {
        "n": 20,
        "latent": 20,
        "step": 1e-3,
        "updates": 4,
        "blocks": 2,
        "decay": 0.5,
        "levels": 3,
        "shallowest": 1,
        "std_schedule": True,
        "clip": True,
        "eta": 0.8,
        "langevin_clip": True,
        "decode_clip": True,
        "clip_above": 2,
        "samples": 2,
    },
    "no thresholds": {
        "n": 10,
        "latent": 5,
        "step": 1e-4,
        "updates": 5,
        "blocks": 1,
        "levels": 3,
        "shallowest": 2,
        "clip": True,
        "from_deepest": False,
        "threshold": False,
        "langevin_threshold": False,
    },
    "single updates": {
        "n": 10,
        "latent": 7,
        "step": 4e-4,
        "updates": 3,
        "blocks": 3,
        "clip": False,
        "from_deepest": True,
    },
}
