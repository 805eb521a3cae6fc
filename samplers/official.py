"""What the CODE authors' public code computes, quirk by quirk, in VP coordinates: to compare with its numbers.

x_vp = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) n throughout. `restore` is the method without the quirks.
"""

import math
from dataclasses import dataclass

import torch

from .denoisers import dynamic_thresholding

# each does in the authors' code what stands here, and can be mended alone
QUIRKS = {
    "clip level": "the clip at level i of the grid is that of timestep i, not of the level's own timestep",
    "unclipped start": "the state that decoding starts from has not been clipped",
    "depth": "latent L updates at index L - 2 of the grid, not L - 1",
    "scale": "the step is multiplied by 100^(1 - i / (n - 1)) at index i, even for a single level",
    "single update": "a block of one update leaves it out",
    "last update": "the noiseless update that ends a block is not thresholded",
    "last step": "the last step of decoding goes up to index 1, and that noisy state is returned",
}


@dataclass(frozen=True)
class Official:
    """Settings of `official_code`: the paper's, where the authors' sources disagree. ValueError where they cannot be.

    n: levels of the grid, timesteps 0, T // n, ... latent: the depth, 2 to n. step: a VP step, scaled at each level.
    updates: at each level, dealt out evenly over `blocks`, the rest dropped. levels, shallowest: how many levels to
    update at, evenly by index from the depth to `shallowest`; one where that is nearer than `levels` to the depth.
    from_deepest: decode from the end of the grid; None: where `clip` is on. clip, langevin_clip, decode_clip: clip in
    each part, in the latter two above the index `clip_above`. threshold: dynamic thresholding in both ways of the ODE.
    std_schedule: with several levels, scale the step by sigma_vp of timestep n - 1 over that of timestep i instead.
    noise_twice: add the start's noise twice, as the notebook does. samples: results for each picture. mended: the
    QUIRKS to leave out.
    """

    n: int = 200
    latent: int = 200
    step: float = 1e-5
    updates: int = 200
    blocks: int = 4
    decay: float = 0.8
    levels: int = 1
    shallowest: int = 20
    from_deepest: bool | None = None
    clip: bool = True
    eta: float = 1.7
    langevin_clip: bool = False
    decode_clip: bool = False
    clip_above: int = 0
    threshold: bool = True
    langevin_threshold: bool = True
    std_schedule: bool = False
    noise_twice: bool = False
    samples: int = 1
    mended: tuple[str, ...] = ()

    def __post_init__(self):
        if unknown := sorted(set(self.mended) - set(QUIRKS)):
            raise ValueError(f"The quirk {unknown[0]!r} is unknown: take some of {', '.join(QUIRKS)}.")
        if not 2 <= self.latent <= self.n:
            raise ValueError(f"The latent {self.latent} is not on the grid: take one of 2 to {self.n}.")
        if self.samples < 1 or self.updates < 0 or self.shallowest < 0:
            raise ValueError("The official code takes at least 1 sample, and updates and a shallowest level from 0.")

    def has(self, quirk):
        return quirk not in self.mended

    @property
    def deepest_updated(self):
        """The index of the deepest level to update at."""
        return self.latent - 1 - self.has("depth")

    @property
    def several(self):
        return self.levels > 1 and self.deepest_updated + 1 > self.shallowest + self.levels

    @property
    def updated(self):
        """The indices of the levels to update at, ascending."""
        if not self.several:
            return [self.deepest_updated]
        stride = (self.deepest_updated - self.shallowest) / (self.levels - 1)
        return [*(int(self.shallowest + k * stride) for k in range(self.levels - 1)), self.deepest_updated]

    @property
    def start(self):
        """The index that decoding starts from."""
        return self.n - 1 if (self.clip if self.from_deepest is None else self.from_deepest) else self.deepest_updated

    @property
    def block_steps(self):
        """The step of each block, before the scale of a level."""
        return [self.step * self.decay**block for block in range(max(1, self.blocks))]

    @property
    def block_updates(self):
        return self.updates // max(1, self.blocks)

    @property
    def calls(self):
        """The network calls of `official_code`; the authors go on encoding to the end of the grid, to no effect."""
        return self.start + self.start + 1 + len(self.updated) * max(1, self.blocks) * (self.block_updates + 1)


def official_code(network, x, alpha_bar, settings, *, noise_sampler, on_stage=None):
    """Restore x, (B, C, H, W) in [-1, 1], by the authors' code: (B * samples, C, H, W), a picture's samples together.

    network(x_vp, t) -> eps, t: (B,) of whole timesteps. alpha_bar: (T,), at least n of them. settings: an `Official`.
    noise_sampler(x, k): normals like x; k = 0 is the start's, 1 its second, from 2 on those of the updates in turn.
    on_stage(name, index, x): told of the states "encoded" at each index from 0 to the start, "updated" after each
    block, and "decoded" after each step down from an index. Network calls: `settings.calls`.
    """
    if len(alpha_bar) < settings.n:
        raise ValueError(f"The schedule has {len(alpha_bar)} timesteps, fewer than the {settings.n} of the grid.")
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    chain, tell, start = _Chain(network, alpha_bar, settings, x.device), on_stage or (lambda *_: None), settings.start

    for k in range(1 + settings.noise_twice):
        x = x + 0.01 * noise_sampler(x, k)
    tell("encoded", 0, x)
    for i in range(start):
        x = chain.ddim(chain.clipped(x, i) if settings.clip and i > 0 else x, i, i + 1)
        tell("encoded", i + 1, x)
    if settings.clip and not settings.has("unclipped start"):
        x = chain.clipped(x, start)

    x, drawn = x.repeat_interleave(settings.samples, 0), 2
    for i in range(start, -1, -1):
        if i in settings.updated:
            for step in settings.block_steps:
                x = chain.update(x, i, step * chain.scale(i), noise_sampler, drawn)
                drawn += settings.block_updates
                tell("updated", i, x)
        up_at_last = i == 0 and settings.has("last step")
        clipped = settings.decode_clip and i > settings.clip_above
        x = chain.ddim(chain.clipped(x, i) if clipped else x, i, 1 if up_at_last else i - 1)
        tell("decoded", i, x)
    return x


class _Chain:
    """The steps of the authors' code at the indices of their grid; index -1 is the clean picture."""

    def __init__(self, network, alpha_bar, settings, device):
        stride = len(alpha_bar) // settings.n
        self.network, self.settings = network, settings
        self.timesteps = stride * torch.arange(settings.n, device=device)
        self.table = alpha_bar.tolist()
        self.levels = [_signal_and_noise(self.table[i * stride]) for i in range(settings.n)] + [(1.0, 0.0)]
        self.threshold = dynamic_thresholding(lambda x0, _: x0)

    def clipped(self, x, i):
        a, s = _signal_and_noise(self.table[i]) if self.settings.has("clip level") else self.levels[i]
        bound = a + self.settings.eta * s
        return x.clamp(-bound, bound)

    def eps(self, x, i, thresholded):
        eps = self.network(x, self.timesteps[i].expand(len(x)))
        if not thresholded:
            return eps
        a, s = self.levels[i]
        return (x - a * self.threshold((x - s * eps) / a, None)) / s

    def ddim(self, x, i, to):
        (a, s), (a_to, s_to) = self.levels[i], self.levels[to]
        eps = self.eps(x, i, self.settings.threshold)
        return a_to / a * (x - s * eps) + s_to * eps

    def scale(self, i):
        if not self.settings.has("scale"):
            return 1.0
        last = self.settings.n - 1
        if self.settings.std_schedule and self.settings.several:
            return math.sqrt((1 - self.table[last]) / (1 - self.table[i]))
        return 100 ** (1 - i / last)

    def update(self, x, i, step, noise_sampler, drawn):
        """One block of Langevin updates of the VP step `step`, whose noise is numbered from `drawn`, and the last."""
        settings, s = self.settings, self.levels[i][1]
        clip = settings.langevin_clip and i > settings.clip_above
        for k in range(drawn, drawn + settings.block_updates):
            x = self.clipped(x, i) if clip else x
            eps = self.eps(x, i, settings.langevin_threshold)
            if settings.block_updates > 1 or not settings.has("single update"):
                x = x - step / s * eps + math.sqrt(2 * step) * noise_sampler(x, k)
        x = self.clipped(x, i) if clip else x
        thresholded = settings.langevin_threshold and not settings.has("last update")
        return x - step / s * self.eps(x, i, thresholded)


def _signal_and_noise(alpha_bar):
    return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
