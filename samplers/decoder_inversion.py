"""Decoder inversion: the latent that a VAE decodes to a given picture, of which its encoder is but a guess.

By gradient: Hong et al., On Exact Inversion of DPM-Solvers, CVPR 2024. Without: Hong et al., Gradient-free Decoder
Inversion in Latent Diffusion Models, NeurIPS 2024.
"""

import math
from typing import NamedTuple

import torch

# finer than the 8 bits of a picture's file: 60 dB
TOLERANCE = 1e-6


class Inversion(NamedTuple):
    """The latents of least error that were found, (B, ...), and of each picture: the mean squares, and the updates."""

    latents: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor
    steps: torch.Tensor


def by_gradient(decode, pictures, latents, *, steps=100, rate=0.1, tolerance=TOLERANCE, callback=None):
    """The Inversion of a decoder by Adam on |D(z) - x|^2, starting from the encoder's `latents`.

    decode(z) -> (B, C, H, W) is D, through which gradients pass; what leaves [0, 1] is shown clamped. pictures: x, as
    many, in [0, 1]. steps, rate, tolerance, callback: see `_descended`.

    Runs with gradients whatever mode it is called in; D's weights are left alone, but none may be an inference tensor.
    """

    def look(z):
        z.requires_grad_()
        decoded = decode(z).float()
        shown = decoded.detach().clamp(0, 1)

        def uphill():
            # beyond white and black there is nothing to see, unless the picture is neither
            missed = torch.where(shown == pictures, 0, decoded - pictures)
            # a sum, as the gradient of a mean over a picture is too small for half precision
            return torch.autograd.grad(missed.square().sum(), z)[0]

        return shown, uphill

    with torch.inference_mode(False), torch.enable_grad():
        pictures, latents = pictures.float().clone(), latents.float().clone()
        return _descended(look, pictures, latents, steps, rate, tolerance, callback)


@torch.no_grad()
def gradient_free(encode, decode, pictures, latents, *, steps=100, rate=0.01, tolerance=TOLERANCE, callback=None):
    """The Inversion of a decoder by Adam along E(D(z)) - z_0 in a gradient's place, z_0 = E(x) being `latents`.

    encode(x) -> z is E; the rest as in `by_gradient`. It converges where E(D(z)) grows with z (is cocoercive), to a z
    with E(D(z)) = E(x): the picture's own latent, if it was decoded from one. No call is backwards.
    """
    latents = latents.float()

    def look(z):
        shown = decode(z).float().clamp(0, 1)
        return shown, lambda: encode(shown).float() - latents

    return _descended(look, pictures.float(), latents, steps, rate, tolerance, callback)


def _descended(look, pictures, latents, steps, rate, tolerance, callback):
    """Adam from `latents` along look(z) -> (D(z), the direction to go against), each picture's best being kept.

    At most `steps` updates; a picture's end at a mean square of `tolerance`. rate: Adam's, as a share of the rms of a
    picture's latent, warmed up over a tenth of the steps and then falling as a cosine. callback(step, D(z), least) is
    called after each update, and as step 0 before the first.
    """
    if steps < 0 or not rate > 0:
        raise ValueError("Decoder inversion takes 0 or more steps, at a rate above 0.")
    size = latents.square().flatten(1).mean(1).sqrt().view(-1, *[1] * (latents.ndim - 1))
    size = torch.where(size > 0, size, 1)
    unit = latents / size
    adam = torch.optim.Adam([unit], lr=rate)
    best, used = latents, torch.zeros(len(latents), dtype=torch.long)
    for step in range(steps + 1):
        # the encoder's own to the bit
        z = latents.clone() if step == 0 else size * unit
        shown, uphill = look(z)
        error = (shown - pictures).square().flatten(1).mean(1)
        if step == 0:
            before = least = error
        # what has settled stays, so that a picture comes out alike alone and in a batch
        better = (error < least) & (least > tolerance)
        least = torch.where(better, error, least)
        best = torch.where(better.view(-1, *[1] * (z.ndim - 1)), z.detach(), best)
        if callback is not None:
            callback(step, shown, least)
        # the host waits here: a decode costs more
        going = (least > tolerance).cpu()
        if step == steps or not going.any():
            return Inversion(best, before, least, used)
        used += going
        adam.param_groups[0]["lr"] = rate * _share(step, steps)
        unit.grad = uphill()
        adam.step()


def _share(step, steps):
    """Of the rate: up to 1 over the first tenth of the steps, then down to 0 as a cosine."""
    warm = max(1, steps // 10)
    return (step + 1) / warm if step < warm else 0.5 + 0.5 * math.cos(math.pi * (step - warm) / (steps - warm))
