"""The steps of the samplers that would pass over memory several times, each as one Triton kernel on a GPU.

What a step computes is its plain torch here. That is what runs on a CPU, in float64, where gradients are wanted, and on
a GPU without Triton or where a kernel failed or differed when `check` tried it: the kernels draw the same noise, and
agree to 1e-6. CONFIDENT_ODE_FUSED=0 in the environment turns them off. Euler's step and a Langevin update without noise
are not here: they are one torch.lerp, which no kernel betters.
"""

import importlib.util
import math
import os
import warnings

import torch

from .noise import SeededNoise, seeded_noise

# the devices that were tried, and whether the kernels work there
WORKING = {}


def fit(x, *states, bounds=()):
    """Whether kernels work on these: float32 without gradients; a state may be None, and a bound a number."""
    tensors = [x, *(t for t in (*states, *bounds) if isinstance(t, torch.Tensor))]
    return (
        WORKING.get(x.device, False)
        and x.numel() < 2**31
        and all(t.device == x.device and t.dtype == torch.float32 and not t.requires_grad for t in tensors)
        and all(state is None or state.shape == x.shape for state in states)
    )


def langevin_step(x, denoised, share, diffusion, gain, noise_sampler, step):
    """lerp(x, denoised, share gain) + diffusion sqrt(gain) noise_sampler(x, step); gain: 1, or (B, 1, 1, 1).

    The kernel draws the noise itself where it is `SeededNoise`; any other has no kernel.
    """
    if isinstance(noise_sampler, SeededNoise) and fit(x, denoised):
        return _kernels().langevin(x, denoised, share, diffusion, gain, noise_sampler, step)
    return torch.lerp(x, denoised, share * gain) + diffusion * gain**0.5 * noise_sampler(x, step)


def ode_step(x, denoised, s, h, last=None, w=0.0):
    """x + h eps, with w (eps - last) added where there is a `last`, and eps = (x - denoised) / s itself."""
    if fit(x, denoised, last):
        return _kernels().ode(x, x, denoised, last, s, h, w)
    eps = (x - denoised) / s
    return (x + h * eps if last is None else x + h * eps + w * (eps - last)), eps


def heun_step(x, eps, y, denoised, s, h):
    """x + h / 2 (eps + (y - denoised) / s), y being the x + h eps that has the level s."""
    if fit(x, eps, y, denoised):
        return _kernels().ode(x, y, denoised, eps, s, h, -h / 2, keep=False)[0]
    return x + h / 2 * (eps + (y - denoised) / s)


def clip_step(x, low, high, width, times, counts, call):
    """clamp(x, low - width, high + width); adds what it moved to `times`, and how many of each item to counts[call].

    low, high: numbers, or tensors that broadcast to x. times: int16 like x, contiguous. counts: int32, (calls, B).
    """
    if fit(x, bounds=(low, high)):
        return _kernels().clip(x, low, high, width, times, counts, call)
    inside = x.clamp(min=low - width).clamp(max=high + width).to(x.dtype)
    moved = inside != x
    times.add_(moved)
    counts[call] += moved.flatten(1).sum(1, dtype=torch.int32)
    return inside


def threshold(x0, ratio, maximum):
    """clamp(x0 / k, -1, 1), k = clamp(quantile(|x0|, ratio), 1, maximum) of each item; a kernel where maximum < 1.5."""
    if maximum < 1.5 and fit(x0):
        return _kernels().threshold(x0, ratio, maximum)
    k = _high_quantile(x0.abs().flatten(1), ratio).clamp(1, maximum)
    return (x0 / k.view(-1, *[1] * (x0.ndim - 1))).clamp(-1, 1)


def _high_quantile(values, ratio):
    """values.quantile(ratio, dim=1) for a ratio near 1, several times faster: only the largest values are sorted."""
    place = ratio * (values.shape[1] - 1)
    low = math.floor(place)
    largest = values.topk(values.shape[1] - low, dim=1).values
    return torch.lerp(largest[:, -1], largest[:, -2:][:, 0], place - low)


def _kernels():
    # not before a GPU asks: Triton takes long to import, and there is none for some systems
    from . import kernels

    return kernels


def check(device):
    """Try the kernels once on a device, which waits for it, so before a loop; warns where they do not work."""
    if device in WORKING:
        return
    WORKING[device] = False
    if os.environ.get("CONFIDENT_ODE_FUSED") == "0" or importlib.util.find_spec("triton") is None:
        return
    try:
        plain = samples(device)
        WORKING[device] = True  # or nothing would launch
        torch.testing.assert_close(samples(device), plain, rtol=1e-6, atol=1e-6)
    except Exception as error:  # a compiler may fail in any way
        WORKING[device] = False
        reason = str(error).partition("\n")[0] or type(error).__name__
        warnings.warn(f"Plain torch replaces the fused steps on {device}: {reason}", RuntimeWarning, stacklevel=2)


def samples(device):
    """What the steps give for a small state, by every form of the kernels."""
    noise = seeded_noise(2**63 - 1)
    x, y, z, width = (noise(torch.empty(2, 3, 33, 31, device=device), k) for k in range(4))
    moved, eps = ode_step(x, y, 2.0, 0.3)
    results = [moved, eps, *ode_step(x, y, 2.0, 0.3, z, 0.2), heun_step(x, eps, z, y, 2.0, 0.3)]
    results += [langevin_step(x, y, 0.1, 0.3, gain, noise, 5) for gain in (1, y[:, :1, :1, :1].abs())]
    for low, high in ((-0.5, 0.5), (-width.abs(), 0.5), (-0.5, width.abs()), (y.amin((2, 3), True), width.abs())):
        times, counts = torch.zeros_like(x, dtype=torch.int16), torch.zeros(2, 2, dtype=torch.int32, device=device)
        results += [clip_step(x, low, high, 0.1, times, counts, 1), times, counts]
    return [*results, threshold(0.5 * x, 0.98, 1.3)]
