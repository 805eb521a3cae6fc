"""Seeded noise by the counter-based generator Philox4x32-10 (Salmon et al. 2011).

The number at a place depends on nothing but (seed, step, stream, position), so an item of a batch gets the same noise
alone and in any batch, on every device, in any order, and there is no state to carry. Integers are equal everywhere,
normals to about 1e-6.
"""

import copy
import math

import torch

MASK = 0xFFFFFFFF
CHUNK = 1 << 16
# what is drawn for one purpose is independent of what is drawn for another from the same seed
START, LANGEVIN, SDEDIT, RECORD, INPAINT, MASK_MAPS, DRAG, NULL_TEXT = range(8)


def philox(counter, key):
    """Philox4x32-10: four 32-bit words (int64 tensors that broadcast, or ints), two key words -> four random words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        # int64 products wrap, which keeps all 64 bits: the mask undoes the sign that the shift drags in
        c0, c1, c2, c3 = (p1 >> 32 & MASK) ^ c1 ^ k0, p1 & MASK, (p0 >> 32 & MASK) ^ c3 ^ k1, p0 & MASK
        k0, k1 = k0 + 0x9E3779B9 & MASK, k1 + 0xBB67AE85 & MASK
    return c0, c1, c2, c3


def box_muller(a, b):
    """Two words of 32 random bits -> two independent standard normals, float32 (Box & Muller 1958)."""
    u, v = ((bits >> 8).float().add(0.5).mul(2**-24) for bits in (a, b))
    radius, angle = (-2 * u.log()).sqrt(), 2 * math.pi * v
    return radius * angle.cos(), radius * angle.sin()


def normals(count, steps, seeds, stream=0):
    """Standard normals of shape (len(steps), len(seeds), count), float32; steps and seeds are int64 tensors."""
    position = torch.arange((count + 3) // 4, device=seeds.device)
    words = philox(
        (position, steps[:, None, None], stream, 0),
        (seeds[:, None] & MASK, seeds[:, None] >> 32 & MASK),
    )
    pairs = box_muller(words[0], words[1]) + box_muller(words[2], words[3])
    return torch.stack(pairs, -1).flatten(2)[..., :count]


class SeededNoise:
    """A noise_sampler(x, step) -> standard normals like x, the same for the same (seed, stream, step).

    seed: a 64-bit integer, item i of the batch then draws with seed + i, or a list with one seed for each item.
    stream: sets apart what is drawn for different purposes from one seed.
    """

    def __init__(self, seed, stream=0):
        self.seed, self.stream, self.first, self._cache = seed, stream, 0, {}

    def __call__(self, x, step):
        count, step = x[0].numel(), self.first + step
        # some ten thousand numbers at a time, so that small pictures do not pay for many small operations
        length = max(1, CHUNK // (len(x) * count))
        place = (x.shape, x.device, step // length)
        if self._cache.get("place") != place:
            first = step // length * length
            steps = torch.arange(first, first + length, device=x.device)
            self._cache.update(place=place, drawn=normals(count, steps, self.seeds(x), self.stream))
        return self._cache["drawn"][step % length].view(x.shape).to(x.dtype)

    def shifted(self, by):
        """This noise from step `by` on, counted from 0."""
        later = copy.copy(self)
        later.first += by
        return later

    def seeds(self, x):
        """The seed of each item of x, int64 on its device, to which they are copied once."""
        place = (len(x), x.device)
        if self._cache.get("seeded") != place:
            # non-blocking, as this falls between two network calls
            seeds = torch.tensor(item_seeds(self.seed, len(x))).to(x.device, non_blocking=True)
            self._cache.update(seeded=place, seeds=seeds)
        return self._cache["seeds"]


def seeded_noise(seed, stream=0):
    """`SeededNoise` of a seed, or of one for each item."""
    return SeededNoise(seed, stream)


def item_seeds(seed, batch):
    """seed + i for each item, or the given list of one seed each, as integers that fit 64 bits with a sign."""
    if isinstance(seed, int):
        seed = [seed + i for i in range(batch)]
    if len(seed) != batch:
        raise ValueError(f"There are {len(seed)} seeds for a batch of {batch}: give one each, or a single number.")
    return [(s & (1 << 64) - 1) - (1 << 64) * (s >> 63 & 1) for s in seed]
