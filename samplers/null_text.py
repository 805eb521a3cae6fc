"""Null-Text optimisation (2211.09794) and latent-TOP: DDIM inversion that comes back under guidance.

What guidance leads away from, the null condition, is moved a little at each level, until the guided step arrives where
the inversion without guidance came from. TOP also moves the state.
"""

from dataclasses import dataclass

import torch

from .ode import levels_for, prepare, report
from .sde import sde_path

# at which steps TOP moves the state: none is Null-Text, the first is the paper's, every one comes back best
NOISE_BIASES = ("off", "first", "every")
# how far the random starting points lie from the null condition and the state, in their own units
SPREAD = 0.01


@dataclass(frozen=True)
class Corrections:
    """What `null_text` found for a path of n steps: nulls, (n, B, ...), and what is added to each state, or None.

    noise: (n, B, C, H, W), in VP units. sigmas: the n + 1 levels of the path.
    """

    nulls: torch.Tensor
    noise: torch.Tensor | None
    sigmas: tuple[float, ...]

    def map(self, change):
        """The Corrections of change(tensor) for each tensor."""
        return Corrections(change(self.nulls), None if self.noise is None else change(self.noise), self.sigmas)


def null_text(
    model,
    x,
    sigmas,
    extra_args=None,
    callback=None,
    disable=None,
    *,
    unconditional,
    null,
    path,
    guidance=7.5,
    updates=10,
    rate=1e-2,
    tolerance=1e-5,
    noise_bias="off",
    starts=1,
    hops=0,
    noise_sampler=None,
):
    """The Corrections that take guided DDIM from the state x at sigmas[0] down along the states of `path`.

    At each level, Adam's `updates` of the null condition e, and of the noise bias b if there is one, make

        mean |Y_next - DDIM(x + b; x0(x | e) + w (x0(x | model) - x0(x | e)))|^2 / (1 + s_next^2)

    smaller, starting from the last level's e (eq. 4 of Null-Text; Algorithm 1 of latent-TOP). x: (B, C, H, W).
    path: a Trajectory with the states at all of `sigmas`, of an inversion without guidance. model: the denoiser under
    the condition, unconditional: unconditional(x, sigma, null), under the null condition, which is a tensor (B or 1,
    ...), started from `null`. guidance: w. rate: Adam's, falling by half along the path. tolerance: a picture's updates
    end at a loss of tolerance * (1 + 2 i) at the level i. noise_bias: one of NOISE_BIASES. starts, hops: at the first
    level, of as many random starting points the one with the least loss is taken (20 in latent-TOP), and, hops times,
    again from around what was found; noise_sampler(x, k) draws them.

    Runs with gradients whatever mode it is called in; the models' weights are left alone, but none of them may be an
    inference tensor. Network calls: at most 2 * updates + 2 a step, a third of them backwards, and those of the starts.
    """
    if noise_bias not in NOISE_BIASES:
        raise ValueError(f"The noise bias {noise_bias!r} is unknown: take one of {', '.join(NOISE_BIASES)}.")
    if updates < 0 or starts < 1 or hops < 0 or not rate > 0:
        raise ValueError("Null-Text takes 0 or more updates of a rate above 0, at least 1 start, and 0 or more hops.")
    nulls, biases = [], []
    with torch.inference_mode(False), torch.enable_grad():
        x, s, denoise, _ = prepare(model, x.clone(), sigmas, extra_args, check=sde_path)
        denoise_null = _at_levels(unconditional, x, sigmas, extra_args)
        null = null.clone().expand(len(x), *null.shape[1:]).contiguous()
        for i, target in enumerate(path.at(s[1:])):
            step = _Step(denoise, denoise_null, i, x, target.to(x).clone(), s, guidance)
            bias = torch.zeros_like(x) if noise_bias == "every" or (noise_bias == "first" and i == 0) else None
            options = {"rate": rate * (1 - i / (2 * len(s) - 2)), "tolerance": tolerance * (1 + 2 * i)}
            many = (starts, hops, noise_sampler) if i == 0 else (1, 0, None)
            null, bias = _best(step, null, bias, updates, options, *many)
            with torch.no_grad():
                denoised, x_next = step.taken(null, bias)
            report(callback, i, x, s[i], denoised)
            x = x_next
            nulls.append(null)
            biases.append(bias)
    noise = None
    if noise_bias != "off":
        noise = torch.stack([torch.zeros_like(x) if bias is None else bias for bias in biases])
    return Corrections(torch.stack(nulls), noise, tuple(s))


def corrected_decode(
    model, x, sigmas, extra_args=None, callback=None, disable=None, *, unconditional, corrections, guidance=7.5
):
    """Guided DDIM from the state x at sigmas[0] down, with the null conditions and noise of `corrections`.

    model: the denoiser under the condition, which may be another than that of `null_text`: then this is an edit.
    Arguments as there. Network calls: 2 a step. Raises ValueError where the corrections are for other levels.
    """
    x, s, denoise, _ = prepare(model, x, sigmas, extra_args, check=sde_path)
    denoise_null = _at_levels(unconditional, x, sigmas, extra_args)
    if tuple(s) != corrections.sigmas:
        raise ValueError("The corrections were found on other noise levels: decode with the SIGMAS they came with.")
    for i in range(len(s) - 1):
        step = _Step(denoise, denoise_null, i, x, None, s, guidance)
        noise = None if corrections.noise is None else corrections.noise[i].to(x)
        denoised, x_next = step.taken(corrections.nulls[i].to(x), noise)
        report(callback, i, x, s[i], denoised)
        x = x_next
    return x


def _at_levels(unconditional, x, sigmas, extra_args):
    rows = levels_for(x, sigmas)
    return lambda x, i, null: unconditional(x, rows[i], null, **(extra_args or {}))


class _Step:
    """The guided step from the level i of a path s, as a function of the null condition and the noise bias."""

    def __init__(self, denoise, denoise_null, i, x, target, s, guidance):
        self.denoise, self.denoise_null, self.i, self.x, self.target = denoise, denoise_null, i, x, target
        self.s, self.s_next, self.guidance, self._known = s[i], s[i + 1], guidance, None

    def conditional(self, y):
        if y is not self.x:
            return self.denoise(y, self.i)
        if self._known is None:
            with torch.no_grad():
                self._known = self.denoise(y, self.i)
        return self._known

    def taken(self, null, bias=None):
        """(x0-hat, the next state)."""
        y = self.x if bias is None else self.x + (1 + self.s**2) ** 0.5 * bias
        unconditional = self.denoise_null(y, self.i, null)
        denoised = unconditional + self.guidance * (self.conditional(y) - unconditional)
        return denoised, torch.lerp(y, denoised, 1 - self.s_next / self.s)

    def loss(self, null, bias=None):
        """(B,): the mean square by which it misses the target, in VP."""
        missed = self.taken(null, bias)[1] - self.target
        return missed.square().flatten(1).mean(1) / (1 + self.s_next**2)


def _best(step, null, bias, updates, options, starts, hops, noise_sampler):
    """The (null, bias) of least loss for each picture, from the best of `starts`, and again `hops` times from there."""
    found = None
    for hop in range(hops + 1):
        moved = _start(step, *(found or (null, bias)), starts, hop * starts, noise_sampler)
        moved = _optimised(step, *moved, updates, **options)
        found = moved if found is None else _better(step, found, moved)
    return found


def _start(step, null, bias, starts, drawn, noise_sampler):
    best = null, bias
    for k in range(drawn, drawn + starts - 1):
        shifted = [
            value if value is None else value + SPREAD * _normals(value, noise_sampler, 2 * k + part)
            for part, value in enumerate((null, bias))
        ]
        best = _better(step, best, shifted)
    return best


def _normals(like, noise_sampler, k):
    # four axes, as for pictures
    return noise_sampler(like.reshape(len(like), -1, 1, 1), k).view(like.shape)


@torch.no_grad()
def _better(step, one, other):
    """Of two (null, bias), for each picture that of less loss."""
    wins = step.loss(*other) < step.loss(*one)
    return tuple(a if a is None else torch.where(_rows(wins, a), b, a) for a, b in zip(one, other, strict=True))


def _optimised(step, null, bias, updates, rate, tolerance):
    """The (null, bias) of least loss that Adam comes by, for each picture."""
    moved = [value.detach().clone().requires_grad_() for value in (null, bias) if value is not None]
    best, least = [value.detach().clone() for value in moved], torch.full_like(step.x[:, 0, 0, 0], torch.inf)
    adam = torch.optim.Adam(moved, lr=rate)
    for update in range(updates + 1):
        loss = step.loss(*moved)
        # what has settled stays, so that a picture comes out alike alone and in a batch
        better = (loss.detach() < least) & (least > tolerance)
        least = torch.where(better, loss.detach(), least)
        best = [torch.where(_rows(better, old), new.detach(), old) for new, old in zip(moved, best, strict=True)]
        # the host waits here: a call backwards costs more
        if update == updates or (least <= tolerance).all():
            return best[0], best[1] if bias is not None else None
        for value, gradient in zip(moved, torch.autograd.grad(loss.sum(), moved), strict=True):
            value.grad = gradient
        adam.step()


def _rows(flags, like):
    return flags.view(-1, *[1] * (like.ndim - 1))
