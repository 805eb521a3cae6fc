"""Annealed Langevin updates at one noise level: they move a noisy state towards likely pictures of that level."""

import math
import warnings

import torch

from . import fused
from .checks import one_level_or_descending
from .denoisers import per_item
from .noise import SeededNoise
from .ode import prepare, report, to_eps

# what a step r means: the VP step e that it makes at a level of noise variance v = sigma_vp^2
STEP_MODES = {
    "absolute": lambda r, v: r,
    "relative": lambda r, v: r * v,
    "snr": lambda r, v: 2 * (1 - v) * v * r**2,
}


def langevin(
    model,
    x,
    sigmas,
    extra_args=None,
    callback=None,
    disable=None,
    *,
    noise_sampler,
    step,
    updates,
    blocks=1,
    decay=0.8,
    temperature=1.0,
    noiseless_last=True,
    clip=None,
    mode="absolute",
    stop_at=0.0,
):
    """`updates` Langevin updates at the level sigmas[0], the first, or only one, of a path in decode order.

    In VP, with the paper's step e and score = -eps / sigma_vp (Algorithm 1 of CODE, its sign corrected):

        x + e score + sqrt(2 e T) z,   in VE   x - e (1 + s^2) / s eps + sqrt(2 e (1 + s^2) T) z

    step: ValueError unless 0 < e < 2 sigma_vp^2, beyond which the updates diverge; a warning above a quarter of that.
    mode: "absolute", e = step, the paper's; "relative", e = step * sigma_vp^2; "snr", the signal-to-noise ratio of Song
    et al. (2021), e = 2 alpha_bar (step |z| / |score|)^2 for each picture, |z|^2 by its mean: `step` is checked for a
    state with the noise of its level, |eps| = |z|, and e held to that quarter where the state has less. blocks: the
    updates are dealt out evenly over this many annealing blocks, and `step` is multiplied by `decay` after each.
    noiseless_last: end each block with one more update without noise. temperature: T, 1 samples the level's
    distribution, 0 climbs it. noise_sampler(x, step) gives the noise of a numbered update. clip(x, sigma), if given,
    acts before each network call. Network calls: updates + blocks (see `langevin_calls`).

    stop_at: a picture is left as it is from the first call on at which its mean eps^2 is at most this, 0 never; the
    calls end with the block in which the last one came to rest. A state that the model knows has at most 1 on average,
    as eps = E[n | x]: what damage leaves above that, and no more, the updates then take away. Not in the paper.
    """
    x, s, denoise, clip = prepare(model, x, sigmas, extra_args, clip, check=one_level_or_descending)
    s = s[0]
    check_updates(s, step, updates, blocks, decay, temperature, mode, stop_at=stop_at)
    if advice := large_step(step, s, mode):
        warnings.warn(advice, stacklevel=2)
    if isinstance(noise_sampler, SeededNoise):
        noise_sampler.seeds(x)  # to the device before the loop
    drawn = calls = 0
    moving = Moving(x, stop_at)
    for block, noisy in enumerate(block_sizes(updates, blocks)):
        if moving.known_at_rest():
            break
        e = vp_step(step * decay**block, s, mode)
        share, diffusion = e * (1 + s**2) / s**2, math.sqrt(2 * e * (1 + s**2) * temperature)
        for k in range(noisy + noiseless_last):
            x = clip(x, s)
            denoised = denoise(x, 0)
            report(callback, calls, x, s, denoised)
            gain = 1
            if mode == "snr" or stop_at:
                power = to_eps(x, s, denoised).square().flatten(1).mean(1)
                gain = _snr_gain(power, safe_vp_step(s) / e) if mode == "snr" else gain
                gain = per_item(gain * moving.of(power), x)
            # x - e (1 + s^2) / s eps, in one operation
            if k < noisy:
                x = fused.langevin_step(x, denoised, share, diffusion, gain, noise_sampler, drawn)
                drawn += 1
            else:
                x = torch.lerp(x, denoised, share * gain)
            calls += 1
        moving.tell()
    return x


def _snr_gain(power, most):
    """|z|^2 / |eps|^2 of each picture, at most `most`: by how much its e differs from that of a state of pure noise."""
    return (1 / power).clamp(max=most)


class Moving:
    """Which pictures of a batch are still updated, and what the host knows of that without waiting."""

    def __init__(self, x, stop_at):
        self.stop_at, self.still = stop_at, torch.ones(len(x), dtype=torch.bool, device=x.device)
        self.any = torch.ones((), dtype=torch.bool, pin_memory=x.is_cuda) if stop_at else None
        # in the host's memory: to look at it asks no device
        self.word, self.arrived = stop_at and self.any.numpy(), torch.cuda.Event() if x.is_cuda else None

    def of(self, power):
        """1 for each picture that no call so far has found at rest, else 0: (B,) like its mean eps^2."""
        if self.stop_at:
            self.still &= ~(power <= self.stop_at)
        return self.still.to(power.dtype)

    def tell(self):
        """Send the host word whether any is moving."""
        if self.stop_at:
            self.any.copy_(self.still.any(), non_blocking=True)
            if self.arrived:
                self.arrived.record()

    def known_at_rest(self):
        """True where word has come that none is."""
        return bool(self.stop_at) and (not self.arrived or self.arrived.query()) and not self.word


def block_sizes(updates, blocks):
    """`updates` dealt out evenly over at most `blocks` non-empty blocks, the first ones taking one more."""
    if updates < 0 or blocks < 1:
        raise ValueError("Langevin takes 0 or more updates in at least 1 block.")
    return [n for n in (updates // blocks + (i < updates % blocks) for i in range(blocks)) if n]


def langevin_calls(updates, blocks=1, noiseless_last=True):
    """How many network calls `langevin` makes: N, and one more for each block that ends without noise."""
    return updates + noiseless_last * len(block_sizes(updates, blocks))


def vp_noise(sigma):
    """sigma_vp^2 = sigma^2 / (1 + sigma^2) of the VE level sigma."""
    return sigma**2 / (1 + sigma**2)


def vp_step(step, sigma, mode="absolute"):
    """The VP step e that `step` makes at the VE level sigma; in the mode "snr" for a state with that level's noise."""
    if mode not in STEP_MODES:
        raise ValueError(f"The step mode {mode!r} is unknown: take one of {', '.join(STEP_MODES)}.")
    return STEP_MODES[mode](step, vp_noise(sigma))


def safe_vp_step(sigma):
    """0.5 sigma_vp^2, a quarter of the step that diverges: the variance then settles at most a third too high."""
    return 0.5 * vp_noise(sigma)


def safe_step(sigma, mode="absolute"):
    """The `step` whose `vp_step` at the VE level sigma is the safe one; every mode is a power of it."""
    ratio = safe_vp_step(sigma) / vp_step(1.0, sigma, mode)
    return ratio**0.5 if mode == "snr" else ratio


def check_updates(sigma, step, updates, blocks=1, decay=0.8, temperature=1.0, mode="absolute", scale=1.0, stop_at=0.0):
    """ValueError where `langevin` cannot work with these at the VE level sigma, its step being scale * step.

    On a Gaussian of variance v updates of the VP step e have the stationary variance v / (1 - e / 2v) and diverge from
    e = 2v; the smallest v that a level can have is its noise, sigma_vp^2 = sigma^2 / (1 + sigma^2).
    """
    block_sizes(updates, blocks)
    if not (step > 0 and vp_step(step * scale, sigma, mode) < 2 * vp_noise(sigma)):
        raise ValueError(
            f"The Langevin step {step:g} is unstable at this depth, sigma {sigma:.3g}: take one above 0 and below "
            f"{safe_step(sigma, mode) / scale:.3g}."
        )
    if not 0 < decay <= 1:
        raise ValueError(f"The decay of the Langevin step is {decay:g}: take one above 0 and up to 1.")
    if not temperature >= 0:
        raise ValueError(f"The temperature of the Langevin noise is {temperature:g}: take 0 or more.")
    if not stop_at >= 0:
        raise ValueError(f"The mean square to stop the updates at is {stop_at:g}: take about 1, or 0 never to stop.")


def large_step(step, sigma, mode="absolute", scale=1.0):
    """A sentence of advice where a stable step is above a quarter of the limit and leaves visible noise, else None."""
    if vp_step(step * scale, sigma, mode) > safe_vp_step(sigma):
        safe = f"{safe_step(sigma, mode) / scale:.3g}"
        return f"The Langevin step {step:g} is large for this depth and leaves noise: below {safe} is safe."
    return None
