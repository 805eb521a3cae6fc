"""Fields over the plane, given what is drawn for them, and pictures seen at other places of it.

y, x: coordinates that broadcast to (B, 1, H, W), in the field's own unit of length. Numbers drawn for each picture are
(B, 1, 1, 1). The formulas and constants are those of ImageNet-C-bar (Mintun, Kirillov and Xie 2021).
"""

import itertools
import math

import torch
from torch.nn.functional import grid_sample


def pixels(pictures):
    """Rows (H, 1) and columns (1, W), counted from 0."""
    rows, columns = (torch.arange(side).to(pictures) for side in pictures.shape[-2:])
    return rows[:, None], columns[None]


def looked_up(pictures, rows, columns, padding_mode="zeros"):
    """The pictures at rows and columns that broadcast to (B, h, w), in pixels: bilinear, and black outside."""
    places = sampling_grid(pictures, rows, columns).expand(len(pictures), -1, -1, -1)
    return (grid_sample(pictures + 1, places, padding_mode=padding_mode, align_corners=False) - 1).clamp(-1, 1)


def sampling_grid(pictures, rows, columns):
    """Rows and columns in pixels, as grid_sample counts them: x first, from -1 to 1 across the picture."""
    height, width = pictures.shape[-2:]
    return torch.stack(torch.broadcast_tensors((2 * columns + 1) / width, (2 * rows + 1) / height), -1) - 1


def ease(t):
    """Smoothstep: from 0 to 1 with no slope at either end."""
    return t * t * (3 - 2 * t)


def plasma(y, x, time, iterations, sharpness):
    """(B, 3, H, W) in [-1, 1]: waves that bend one another 4 to 6 times, each time finer and weaker."""
    for step in range(6):
        weight = (step < iterations) * (2.25 - sharpness) ** -step
        across = weight * torch.cos(1.93**step * y + time / 1.15**step)
        down = weight * torch.sin(1.93**step * x + time / 1.15**step)
        y, x = y + down + 0.3 * across, x + across - 0.3 * down
    return torch.cat([(x - time).sin(), ((y + x + time.sin()) / 2).sin(), (y + time).sin()], 1)


def voronoi(y, x, stir):
    """(B, 1, H, W) in [0, 1]: distance to the nearest of one point in each unit cell, for coordinates of 1 and more."""

    def shift(number):
        return number.sin() * number.sqrt() * stir * 0.0025 % 1

    nearest = torch.ones_like(y + x + stir)
    for down, across in itertools.product((-1, 0, 1), repeat=2):
        row, column = y.floor() + down, x.floor() + across
        point_y = row + shift(99.41 * column + 88.48 * row)
        point_x = column + shift(13.85 * column + 47.77 * row)
        nearest = torch.minimum(nearest, torch.hypot(point_y - y, point_x - x))
    return nearest


def caustic(y, x, time):
    """(B, 1, H, W) in [0, 1]: light on the ground of a pool, of period 1."""
    start_y, start_x = (2 * math.pi * (along % 1) - 250 for along in (y, x))
    y, x, light = start_y, start_x, 1
    for step in range(1, 6):
        t = time * (1 - 3.5 / step)
        y, x = start_y + (t - y).cos() + (t + x).sin(), start_x + (t - x).sin() + (t + y).cos()
        light = light + 200 / torch.hypot(start_y / (y + t).sin(), start_x / (x + t).cos())
    return (1.17 - (light / 5) ** 1.4).abs().pow(8).clamp(0, 1)


def star(y, x, lengths, rays, decay):
    """(B, 1, H, W) in [0, 1]: a star about the origin, 1 within its rays and falling with distance to the -2 decay.

    lengths: (B, N) of the rays, of which the first `rays` count.
    """
    turn = (torch.atan2(x, y) + math.pi) / (2 * math.pi) * rays
    ray = turn.floor()
    past = turn - ray

    def length(ray):
        return lengths.gather(1, (ray % rays).long().flatten(1)).view_as(ray)

    reach = length(ray).lerp(length(ray + 1), past)
    glow = (reach**2 / (y**2 + x**2 + 1e-4)) ** decay
    return (glow * (1 - (past - 0.5) ** 2)).clamp(0, 1)


def perlin(y, x, gradients):
    """Gradient noise, (B, 1, H, W), for y of (H, 1) and x of (1, W) within the lattice of gradients (B, 2, N, N)."""
    row, column = y.floor(), x.floor()
    down, across = y - row, x - column
    row, column = row.long(), column.long()

    def slope(i, j):
        along_y, along_x = gradients[:, :, row + i, column + j].unbind(1)
        return along_y * (down - i) + along_x * (across - j)

    upper = slope(0, 0).lerp(slope(0, 1), ease(across).expand(*down.shape[:-1], -1))
    lower = slope(1, 0).lerp(slope(1, 1), ease(across))
    return 1.5 * upper.lerp(lower, ease(down))[:, None]


def turbulence(y, x, gradients):
    """(B, 1, H, W), at least 0: five octaves of perlin noise without its sign, each half as high as the last."""
    return sum(perlin(2**octave * y, 2**octave * x, gradients).abs() / 2**octave for octave in range(5))


def coloured(phases, amplitude):
    """Waves of the given phases (..., H, W) in turns and amplitudes (H, W) by frequency, of standard deviation 1."""
    field = torch.fft.ifft2(amplitude * torch.exp(2j * math.pi * phases)).real
    return field / field.std((-2, -1), correction=0, keepdim=True)


def frequency(pictures):
    """(H, W): length of each frequency of the Fourier transform, in cycles a pixel."""
    down, across = (torch.fft.fftfreq(side).to(pictures) for side in pictures.shape[-2:])
    return torch.hypot(down[:, None], across)


def between_lines(size, starts, ends):
    """(B, 1, H, W): share of the light that passes lines one pixel wide, from starts to ends, (B, N, 2) in (y, x)."""
    run = ends - starts
    steep = run[..., :1].abs() > run[..., 1:].abs()
    # along its longer axis a line meets every pixel once, and covers at most four across
    (start, start_across), (end, _), (run, run_across) = (
        torch.where(steep, pair, pair.flip(-1)).unsqueeze(-2).unbind(-1) for pair in (starts, ends, run)
    )
    along = torch.arange(max(size)).to(starts)
    middle = start_across + run_across / run * (along - start)
    upright = run.abs() / torch.hypot(run, run_across)
    reached = (along >= torch.minimum(start, end)) & (along <= torch.maximum(start, end))
    passing = torch.ones(len(starts), size[0] * size[1]).to(starts)
    for offset in (-1, 0, 1, 2):
        across = middle.floor() + offset
        y, x = torch.where(steep, along, across), torch.where(steep, across, along)
        seen = reached & (y >= 0) & (y < size[0]) & (x >= 0) & (x < size[1])
        covered = (1 - (across - middle).abs() * upright).clamp(min=0) * seen
        place = torch.where(seen, y * size[1] + x, 0).long()
        passing = passing.scatter_reduce(1, place.flatten(1), 1 - covered.flatten(1), "prod")
    return passing.view(-1, 1, *size)
