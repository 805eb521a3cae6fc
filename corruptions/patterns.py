"""Patterns laid over pictures, (B, 3, H, W) in [-1, 1] in and out: fourteen corruptions of the C-bar family.

ImageNet-C-bar (Mintun, Kirillov and Xie 2021), as CODE's authors use it. Severity is their raw one: an amount of
severity / 10 of its maximum, so that 5, at which they test, is half of the maximum; it is not the calibrated severity
of the ImageNet-C-bar dataset. Picture i of a batch is damaged with seed + i.

Lengths are shares of the longer side, as if the picture were cut from a square, and look alike at any size. Only the
sine grating, the blue noises and the width of a line are measured in pixels.
"""

import functools
import math

import torch
from torch.nn.functional import pad

from .damages import gaussian_blur
from .drawing import each
from .fields import (
    between_lines,
    caustic,
    coloured,
    ease,
    frequency,
    looked_up,
    pixels,
    plasma,
    star,
    turbulence,
    voronoi,
)


def uniform(pictures, seed, *ranges):
    """A number in (low, high] for each picture, (B, 1, 1, 1), for every (low, high) of `ranges`."""
    drawn = each(pictures, seed, lambda picture, draw: torch.rand(len(ranges), 1, 1, 1, generator=draw))
    return [high - (high - low) * drawn[:, i] for i, (low, high) in enumerate(ranges)]


def many(pictures, seed, *shape, draw_for=torch.rand):
    """Numbers of `shape` for each picture, independent of its `uniform` ones of the same seed: (B, *shape)."""
    return each(pictures, seed + 2**32, lambda picture, draw: draw_for(shape, generator=draw))


def places(pictures):
    """Rows (H, 1) and columns (1, W) of the pixels, and the longer side."""
    return *pixels(pictures), max(pictures.shape[-2:])


def one_by_one(pattern):
    """The pattern, laid over each picture alone: on a batch, arithmetic may round otherwise than on one picture."""

    @functools.wraps(pattern)
    def over_each(pictures, severity=5, seed=0):
        return torch.cat([pattern(picture, severity, seed + i) for i, picture in enumerate(pictures.split(1))])

    return over_each


@one_by_one
def single_frequency_greyscale(pictures, severity=5, seed=0):
    """Add one sine grating of random direction and frequency, of at most half a cycle a pixel."""
    y, x, _ = places(pictures)
    higher, lower, order, phase = uniform(pictures, seed, (-math.pi, math.pi), (-1, 1), (-1, 1), (0, 2 * math.pi))
    lower = lower * higher.abs()
    down, across = torch.where(order > 0, higher, lower), torch.where(order > 0, lower, higher)
    return (pictures + 2 * 19.6 / 255 * severity * torch.sin(down * y + across * x + phase)).clamp(-1, 1)


@one_by_one
def cocentric_sine_waves(pictures, severity=5, seed=0):
    """Add sawtooth rings about a random point, bent by a sine wave along them."""
    y, x, side = places(pictures)
    height, width = pictures.shape[-2:]
    middle_y, middle_x, waves, bend, spacing = uniform(
        pictures, seed, (0, height), (0, width), (0, 10), (0, side / 10), (0, side / 10)
    )
    y, x = y - middle_y, x - middle_x
    distance = torch.hypot(y, x) + bend * torch.sin(waves * torch.atan2(x, y))
    return (pictures + 2 * 12.8 / 255 * severity * (distance / spacing % 1 - 0.5)).clamp(-1, 1)


@one_by_one
def plasma_noise(pictures, severity=5, seed=0):
    """Mix with coloured waves that bend one another."""
    y, x, side = places(pictures)
    time, iterations, sharpness, scale = uniform(
        pictures, seed, (0, 6 * math.pi), (4, 7), (0.5, 1), (0.075 * side, 0.2 * side)
    )
    amount = 6.4 / 255 * severity
    waves = plasma(y / scale, x / scale, time, iterations.floor(), sharpness)
    return ((1 - amount) * (pictures + 1) + 2 * amount * waves - 1).clamp(-1, 1)


@one_by_one
def voronoi_noise(pictures, severity=5, seed=0):
    """Lighten or darken by the distance to the nearest of a net of points."""
    y, x, side = places(pictures)
    stir, density, size, sign = uniform(pictures, seed, (0, 10), (0.5, 0.9), (0.05 * side, 0.2 * side), (-1, 1))
    cells = ease(density * voronoi(y / size + 1, x / size + 1, stir)) - 0.5
    return (pictures + 0.2 * severity * sign.sign() * cells).clamp(-1, 1)


@one_by_one
def caustic_noise(pictures, severity=5, seed=0):
    """Add the light that waves throw on the ground of a pool."""
    y, x, side = places(pictures)
    time, size = uniform(pictures, seed, (0.5, 2), (0.75 * side, 1.25 * side))
    return (pictures + 0.2 * severity * caustic(y / size, x / size, time)).clamp(-1, 1)


@one_by_one
def sparkles(pictures, severity=5, seed=0):
    """Put five white stars on the picture."""
    y, x, side = places(pictures)
    height, width = pictures.shape[-2:]
    lengths = 0.01 * severity * side * (1 + 0.25 * many(pictures, seed, 5, 200, draw_for=torch.randn))
    lengths = lengths.clamp(min=side / 256)
    drawn = uniform(pictures, seed, *5 * [(0, height), (0, width), (50, 200)])
    dark = 1 - pictures
    for i in range(5):
        middle_y, middle_x, rays = drawn[3 * i : 3 * i + 3]
        dark = dark * (1 - star(y - middle_y, x - middle_x, lengths[:, i], rays.floor(), decay=1))
    return 1 - dark


@one_by_one
def inverse_sparkles(pictures, severity=5, seed=0):
    """Turn the picture to white outside one large star."""
    y, x, side = places(pictures)
    height, width = pictures.shape[-2:]
    lengths = 0.25 * side * (1 + 0.25 * many(pictures, seed, 200, draw_for=torch.randn))
    middle_y, middle_x, rays = uniform(
        pictures, seed, (0.25 * height, 0.75 * height), (0.25 * width, 0.75 * width), (50, 200)
    )
    return 1 - (1 - pictures) * star(y - middle_y, x - middle_x, lengths, rays.floor(), decay=0.13 * severity)


@one_by_one
def perlin_noise(pictures, severity=5, seed=0):
    """Mix with five octaves of perlin noise, the first of eight cells a side."""
    y, x, side = places(pictures)
    gradients = 2 * many(pictures, seed, 2, 129, 129) - 1
    gradients = gradients / gradients.norm(dim=1, keepdim=True)
    clouds = turbulence(8 / side * y, 8 / side * x, gradients).clamp(max=1)
    return pictures + 0.05 * severity * (clouds - pictures)


@one_by_one
def blue_noise(pictures, severity=5, seed=0):
    """Add noise whose amplitude grows with frequency, in each channel on its own."""
    noise = coloured(many(pictures, seed, *pictures.shape[1:]), frequency(pictures))
    return (pictures + 2 * 19.6 / 255 * severity * noise).clamp(-1, 1)


@one_by_one
def brownish_noise(pictures, severity=5, seed=0):
    """Add noise whose amplitude falls with the square of frequency, in each channel on its own."""
    cycles = frequency(pictures) * max(pictures.shape[-2:])
    noise = coloured(many(pictures, seed, *pictures.shape[1:]), 1 / (cycles**2 + 1))
    return (pictures + 2 * 6.4 / 255 * severity * noise).clamp(-1, 1)


@one_by_one
def checkerboard_cutout(pictures, severity=5, seed=0):
    """Fill with grey severity / 10 of the dark squares of a turned chequerboard."""
    y, x, side = places(pictures)
    angle, square = uniform(pictures, seed, (0, 2 * math.pi), (0.1 * side, 0.25 * side))
    # no picture is wider than 29 of the smallest squares
    filled = many(pictures, seed, 32, 32) < 0.1 * severity
    row = ((angle.cos() * y + angle.sin() * x) / square).floor()
    column = ((angle.cos() * x - angle.sin() * y) / square).floor()
    place = (32 * (row % 32) + column % 32).long()
    hit = ((row + column) % 2 == 0) & filled.flatten(1).gather(1, place.flatten(1)).view_as(place)
    return torch.where(hit, 0, pictures)


@one_by_one
def lines(pictures, severity=5, seed=0):
    """Draw grey lines of about one direction, severity / 10 for each pixel of the longer side."""
    height, width = pictures.shape[-2:]
    side = max(height, width)
    angle, spread = (drawn[:, 0] for drawn in uniform(pictures, seed, (0, 2 * math.pi), (0.1, 1)))
    y, x, turn = many(pictures, seed, int(0.1 * severity * side), 3).split(1, -1)
    angle = angle + 2 * math.pi * spread * (turn - 0.5)
    middle = torch.cat([height * y, width * x], -1)
    reach = side * torch.cat([angle.sin(), angle.cos()], -1)
    return pictures * between_lines((height, width), middle - reach, middle + reach)


@one_by_one
def blue_noise_sample(pictures, severity=5, seed=0):
    """Turn to black the pixels where blue noise of standard deviation 1 is lowest."""
    noise = coloured(many(pictures, seed, 1, *pictures.shape[-2:]), frequency(pictures))
    return torch.where(noise > 0.3 * severity - 2.5, pictures, -1)


@one_by_one
def caustic_refraction(pictures, severity=5, seed=0):
    """See the picture through waves of water that bend its light by Snell's law, and shade it."""
    y, x, side = places(pictures)
    time, size = uniform(pictures, seed, (0.5, 2), (0.75 * side, 1.25 * side))
    waves = pad(gaussian_blur(caustic(y / size, x / size, time), sigma=1 / 256), (1, 1, 1, 1))
    # the slopes are those of a picture of 256 pixels
    slope_y = (waves[..., 2:, 1:-1] - waves[..., :-2, 1:-1]) * side / 256
    slope_x = (waves[..., 1:-1, 2:] - waves[..., 1:-1, :-2]) * side / 256
    upright = (slope_y**2 + slope_x**2 + 1).rsqrt()
    eta = 4
    bent = (1 - (1 - upright**2) / eta**2).sqrt() - upright / eta
    # what is almost flat does not bend
    shift = 0.05 * severity * side * upright * bent * (upright < 1 - 1e-3)
    seen = looked_up(pictures, (y + shift * slope_y)[:, 0], (x + shift * slope_x)[:, 0])
    return (seen + 0.4 * severity * (slope_y - slope_x)).clamp(-1, 1)
