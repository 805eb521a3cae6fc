"""The steps of `fused` in Triton; imported only where a GPU wants them.

States are float32, (B, C, ...), all of one shape on one device; they are read in the order of their numbers, and the
results are contiguous. A program is for `BLOCK` numbers of one item.
"""

import math
import struct

import torch
import triton
import triton.language as tl

ONE = 0x3F800000  # the bits of 1.0
TOP = tl.constexpr(0x7FFFFFFF)  # above those of any number
BINS = tl.constexpr(2048)
# an item's row: three histograms, and behind them
BELOW, HIGHEST_BELOW, LOWEST_ABOVE, ROW = (tl.constexpr(3 * 2048 + i) for i in range(4))


def launch(kernel, x, *args, block=1024, **options):
    """Run a kernel over the items of x."""
    count = x[0].numel()
    with torch.cuda.device_of(x):
        kernel[triton.cdiv(count, block), len(x)](*args, count, BLOCK=block, **options)


def _new(x):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@triton.jit
def _places(count, BLOCK: tl.constexpr):
    """Where the numbers of a program are in memory, which they are of their item, and whether they are there."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    return tl.program_id(1) * count + i, i, i < count


def langevin(x, denoised, share, diffusion, gain, noise, step):
    """lerp(x, denoised, share * gain) + diffusion * sqrt(gain) * noise(x, step); gain: 1, or one for each item."""
    out, gain = _new(x), gain.contiguous() if isinstance(gain, torch.Tensor) else None
    draw = noise.seeds(x), noise.first + step, noise.stream
    launch(_langevin, x, x.contiguous(), denoised.contiguous(), out, gain, share, diffusion, *draw)
    return out


@triton.jit(do_not_specialize=["step", "stream", "count"])
def _langevin(x, denoised, out, gain, share, diffusion, seeds, step, stream, count, BLOCK: tl.constexpr):
    at, _, there = _places(count, BLOCK)
    item = tl.program_id(1)
    if gain is not None:
        g = tl.load(gain + item)
        share, diffusion = share * g, diffusion * tl.sqrt_rn(g)
    a = tl.load(x + at, there)
    z = _normals(tl.load(seeds + item), step, stream, BLOCK)
    tl.store(out + at, a + share * (tl.load(denoised + at, there) - a) + diffusion * z, there)


@triton.jit
def _normals(seed, step, stream, BLOCK: tl.constexpr):
    """`noise.normals` at the places of a program: a draw of Philox makes four numbers in a row."""
    position = tl.program_id(0) * (BLOCK // 4) + tl.arange(0, BLOCK // 4)
    w0, w1, w2, w3 = tl.philox(seed, position, step, stream, 0)
    z0, z1 = _box_muller(w0, w1)
    z2, z3 = _box_muller(w2, w3)
    return tl.interleave(tl.interleave(z0, z2), tl.interleave(z1, z3))


@triton.jit
def _box_muller(a, b):
    u = ((a >> 8).to(tl.float32) + 0.5) * (1 / 16777216)
    v = ((b >> 8).to(tl.float32) + 0.5) * (1 / 16777216)
    radius, angle = tl.sqrt_rn(-2 * tl.log(u)), 6.283185307179586 * v
    return radius * tl.cos(angle), radius * tl.sin(angle)


def ode(x, y, denoised, last, s, h, w, keep=True):
    """x + h eps + w (eps - last) and eps = (y - denoised) / s; w is 0 without a last, eps None without `keep`."""
    out, eps = _new(x), _new(x) if keep else None
    last = None if last is None else last.contiguous()
    launch(_ode, x, x.contiguous(), y.contiguous(), denoised.contiguous(), last, out, eps, s, h, w)
    return out, eps


@triton.jit(do_not_specialize=["count"])
def _ode(x, y, denoised, last, out, eps, s, h, w, count, BLOCK: tl.constexpr):
    at, _, there = _places(count, BLOCK)
    e = (tl.load(y + at, there) - tl.load(denoised + at, there)) / s
    moved = tl.load(x + at, there) + h * e
    if last is not None:
        moved += w * (e - tl.load(last + at, there))
    tl.store(out + at, moved, there)
    if eps is not None:
        tl.store(eps + at, e, there)


def clip(x, low, high, width, times, counts, call):
    """clamp(x, low - width, high + width); adds what it moved to `times`, and how many of each item to counts[call]."""
    out, channels = _new(x), x.shape[1]
    bounds = [part for bound, sign in ((low, -1), (high, 1)) for part in _bound(bound, sign * width, x)]
    kinds = {"LOW": isinstance(low, torch.Tensor), "HIGH": isinstance(high, torch.Tensor)}
    values = x[0].numel() // channels
    launch(_clip, x, x.contiguous(), out, times, counts, *bounds, width, call * len(x), values, **kinds)
    return out


def _bound(bound, width, x):
    """A bound with the distances in memory between its items, channels and values; a number with `width` added."""
    if not isinstance(bound, torch.Tensor):
        return bound + width, 0, 0, 0
    bound = bound.expand(x.shape).reshape(*x.shape[:2], -1)
    return bound, *bound.stride()


_SIZES = [f"{bound}_{part}" for bound in ("low", "high") for part in ("item", "channel", "value")]


@triton.jit(do_not_specialize=[*_SIZES, "first", "values", "count"])
def _clip(
    x, out, times, counts,
    low, low_item, low_channel, low_value,
    high, high_item, high_channel, high_value,
    width, first, values, count,
    BLOCK: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    at, i, there = _places(count, BLOCK)
    item = tl.program_id(1)
    if LOW:
        low = tl.load(low + item * low_item + i // values * low_channel + i % values * low_value, there) - width
    if HIGH:
        high = tl.load(high + item * high_item + i // values * high_channel + i % values * high_value, there) + width
    a = tl.load(x + at, there)
    # so that what is not a number stays
    inside = tl.where(a < low, low, a)
    inside = tl.where(inside > high, high, inside)
    moved = (inside != a) & there
    tl.store(out + at, inside, there)
    tl.store(times + at, tl.load(times + at, there) + moved.to(tl.int16), there)
    tl.atomic_add(counts + first + item, tl.sum(moved.to(tl.int32), 0), sem="relaxed")


def threshold(x0, ratio, maximum):
    """`fused.threshold` for a maximum whose bits are less than BINS^2 above those of 1.

    The quantile lies between the values of two ranks, and of these only what lies between 1 and `maximum` must be
    known: a histogram of the bits of those values, then one within each of the two bins, tell it to the bit. That is a
    bisection with 2048 ways in place of 2, so in two passes; few values are above 1, so there are few atomics.
    """
    x0, out, place = x0.contiguous(), _new(x0), ratio * (x0[0].numel() - 1)
    rows = torch.zeros(len(x0), ROW.value, dtype=torch.int32, device=x0.device)
    span = ONE, struct.unpack("<i", struct.pack("<f", maximum))[0]
    size = {"block": 4096, "num_warps": 8}
    launch(_coarse, x0, x0, rows, *span, **size)
    launch(_fine, x0, x0, rows, *span, math.floor(place), **size)
    launch(_threshold, x0, x0, out, rows, *span, math.floor(place), place - math.floor(place), **size)
    return out


@triton.jit
def _bits(x, at, there):
    return tl.load(x + at, there, 0.0).to(tl.int32, bitcast=True) & TOP


@triton.jit(do_not_specialize=["first", "last", "count"])
def _coarse(x, rows, first, last, count, BLOCK: tl.constexpr):
    """Count the values between the bits `first` and `last` in bins of 2048, and those below; the nearest outside."""
    at, _, there = _places(count, BLOCK)
    bits, row = _bits(x, at, there), rows + tl.program_id(1) * ROW
    below, above = there & (bits < first), there & (bits > last)
    tl.atomic_add(row + (bits - first) // BINS, 1, there & (bits >= first) & (bits <= last), sem="relaxed")
    tl.atomic_add(row + BELOW, tl.sum(below.to(tl.int32), 0), sem="relaxed")
    tl.atomic_max(row + HIGHEST_BELOW, tl.max(tl.where(below, bits, 0), 0), sem="relaxed")
    tl.atomic_max(row + LOWEST_ABOVE, tl.max(tl.where(above, TOP - bits, 0), 0), sem="relaxed")


@triton.jit
def _bin(bins, rank):
    """The bin of a histogram in which a rank falls, BINS if in none, and the rank within it."""
    counts = tl.load(bins + tl.arange(0, BINS))
    passed = tl.cumsum(counts, 0) <= rank
    return tl.sum(passed.to(tl.int32), 0), rank - tl.sum(tl.where(passed, counts, 0), 0)


@triton.jit(do_not_specialize=["first", "last", "rank", "count"])
def _fine(x, rows, first, last, rank, count, BLOCK: tl.constexpr):
    """Count the values in the bin of `rank` by their bits, and those in that of the next rank."""
    at, _, there = _places(count, BLOCK)
    bits, row = _bits(x, at, there), rows + tl.program_id(1) * ROW
    there = there & (bits >= first) & (bits <= last)
    for j in tl.static_range(2):
        bin, _ = _bin(row, tl.minimum(rank + j, count - 1) - tl.load(row + BELOW))
        within = bits - first - bin * BINS
        tl.atomic_add(row + (1 + j) * BINS + within, 1, there & (within >= 0) & (within < BINS), sem="relaxed")


@triton.jit
def _value(row, first, rank, j: tl.constexpr):
    """The value of a rank if it lies between the ends, else the nearest to them on its side."""
    rank -= tl.load(row + BELOW)
    bin, within = _bin(row, rank)
    found, _ = _bin(row + (1 + j) * BINS, within)
    outside = tl.where(rank < 0, tl.load(row + HIGHEST_BELOW), TOP - tl.load(row + LOWEST_ABOVE))
    bits = tl.where((rank < 0) | (bin == BINS), outside, first + bin * BINS + found)
    return bits.to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=["first", "last", "rank", "count"])
def _threshold(x, out, rows, first, last, rank, weight, count, BLOCK: tl.constexpr):
    at, _, there = _places(count, BLOCK)
    row = rows + tl.program_id(1) * ROW
    a, b = _value(row, first, rank, 0), _value(row, first, tl.minimum(rank + 1, count - 1), 1)
    # as torch.lerp has it
    k = tl.where(weight < 0.5, a + weight * (b - a), b - (b - a) * (1 - weight))
    low, high = first.to(tl.float32, bitcast=True), last.to(tl.float32, bitcast=True)
    k = tl.where(k < low, low, k)
    k = tl.where(k > high, high, k)
    a = tl.div_rn(tl.load(x + at, there), k)
    a = tl.where(a < -1.0, -1.0, a)
    tl.store(out + at, tl.where(a > 1.0, 1.0, a), there)
