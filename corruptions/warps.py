"""The warps of the C-bar family (Mintun, Kirillov and Xie 2021), (B, 3, H, W) in [-1, 1] in and out.

Picture i of a batch is damaged with seed + i. severity, 1 to 5, is the raw one of CODE's protocol: a strength is
severity / 10 of its maximum, so that 5 is half of it (the sets published as C-bar have calibrated ones instead).
Lengths are shares of the shorter side, places shares of each side; what comes from outside the picture is black.
"""

import math

import torch
from torch.nn.functional import grid_sample

from .drawing import each
from .fields import looked_up, pixels, sampling_grid


def pinch_and_twirl(pictures, severity=5, seed=0):
    """Pinch and twirl a disc in each cell of a grid, either way: five cells to the side, three below 64 pixels."""
    side = min(pictures.shape[-2:])
    cell = side // (5 if side >= 64 else 3)
    rows, columns = pixels(pictures)
    down, across = (place.remainder(cell) - cell / 2 for place in (rows, columns))
    distance = torch.hypot(down, across) / (cell / 2)

    counts = [length // cell for length in pictures.shape[-2:]]
    signs = each(pictures, seed, lambda picture, draw: (torch.rand(counts, generator=draw) < 0.5) * 2 - 1)
    angle = 0.05 * math.pi * severity * _of_cells(signs, cell, *pictures.shape[-2:]) * (1 - distance) ** 2
    pinch = torch.sin(math.pi / 2 * distance).abs().clamp(min=1e-6) ** -(0.04 * severity + 0.1)
    turned = down * angle.cos() - across * angle.sin(), down * angle.sin() + across * angle.cos()

    hit = (distance <= 1) & (rows < counts[0] * cell) & (columns < counts[1] * cell)
    return looked_up(
        pictures,
        rows + torch.where(hit, pinch * turned[0] - down, 0),
        columns + torch.where(hit, pinch * turned[1] - across, 0),
    )


def fish_eye(pictures, severity=5, seed=0):
    """Lay 655 (in a square) hemispheres of glass on the picture, one after the other, of radius 0.05 of the side."""
    height, width = pictures.shape[-2:]
    side = min(height, width)
    radius = max(0.05 * side, 3)
    count = int(0.01 * 256**2 * height * width / side**2)
    centres = each(pictures, seed, lambda picture, draw: torch.rand(count, 2, generator=draw))
    centres = centres * torch.tensor([height, width]).to(pictures)

    # a lens is drawn in a window, moved inside the picture where it would reach out
    window = torch.arange(int(2 * radius) + 1).to(pictures)
    most = torch.tensor([height - len(window), width - len(window)]).to(pictures)
    firsts = torch.minimum((centres - radius).ceil().clamp(min=0), most)

    light = (pictures + 1).contiguous()
    values = light.flatten(2)
    for some_firsts, some_centres in zip(firsts.split(32, 1), centres.split(32, 1), strict=True):
        first, centre = (pair[..., None, None].unbind(2) for pair in (some_firsts, some_centres))
        rows, columns = first[0] + window[:, None], first[1] + window
        grids = sampling_grid(pictures, *_refracted(rows, columns, *centre, radius, eta=0.2 * severity + 1))
        places = (rows.long() * width + columns.long()).flatten(2)[:, :, None].expand(-1, -1, values.shape[1], -1)
        for grid, place in zip(grids.unbind(1), places.unbind(1), strict=True):
            values.scatter_(2, place, grid_sample(light, grid, align_corners=False).flatten(2))
    return (light - 1).clamp(-1, 1)


def water_drop(pictures, severity=5, seed=0):
    """Shift along the radius from a random centre, by a sine of the distance: rings, up to half a side away."""
    height, width = pictures.shape[-2:]
    side = min(height, width)
    drawn = each(pictures, seed, lambda picture, draw: torch.rand(4, generator=draw))[..., None, None]
    rows, columns = pixels(pictures)
    down, across = rows - (0.25 + 0.5 * drawn[:, 0]) * height, columns - (0.25 + 0.5 * drawn[:, 1]) * width
    wavelength, phase = (0.05 + 0.15 * drawn[:, 2]) * side, 2 * math.pi * drawn[:, 3]

    distance = torch.hypot(down, across)
    wave = 0.025 * severity * wavelength * torch.sin(2 * math.pi * distance / wavelength - phase)
    wave = torch.where(distance <= side // 2, wave / distance.clamp(min=1e-6), 0)
    return looked_up(pictures, rows + wave * down, columns + wave * across)


def ripple(pictures, severity=5, seed=0):
    """Shift rows and columns, each by a sine of its own place."""
    side = min(pictures.shape[-2:])
    drawn = each(pictures, seed, lambda picture, draw: torch.rand(2, 2, generator=draw))[..., None, None]
    wavelengths, phases = (0.1 + 0.2 * drawn[:, 0]) * side, 2 * math.pi * drawn[:, 1]

    def shifted(place, wavelength, phase):
        return place + 0.0025 * severity * side * torch.sin(2 * math.pi * place / wavelength + phase)

    rows, columns = pixels(pictures)
    return looked_up(
        pictures, shifted(rows, wavelengths[:, 0], phases[:, 0]), shifted(columns, wavelengths[:, 1], phases[:, 1])
    )


def perspective_no_bars(pictures, severity=5, seed=0):
    """View the picture from aside; where nothing is seen, the picture as it was."""
    signs = each(pictures, seed, lambda picture, draw: (torch.rand(6, generator=draw) < 0.5) * 2 - 1)
    slant_x, slant_y, shift_x, shift_y, zoom_x, zoom_y = (severity * signs[..., None, None]).unbind(1)
    x, y = _shares(pictures)
    depth = 1 + 0.02 * severity * (x + y)
    seen_x = (2 ** (0.015 * zoom_x) * x + 0.01 * slant_x * y + 0.01 * shift_x) / depth
    seen_y = (2 ** (0.015 * zoom_y) * y + 0.01 * slant_y * x + 0.01 * shift_y) / depth
    return _without_bars(pictures, seen_x, seen_y)


def quadrilateral_no_bars(pictures, severity=5, seed=0):
    """Stretch a quadrilateral with random corners over the picture; what it lacks is the picture as it was."""
    drawn = each(pictures, seed, lambda picture, draw: torch.rand(2, 2, 2, generator=draw))
    # by top or bottom, left or right, x or y
    shifts = (severity / 30 * (2 * drawn - 1))[..., None, None]
    x, y = _shares(pictures)
    top, bottom = (torch.lerp(shifts[:, end, 0], shifts[:, end, 1], x) for end in (0, 1))
    shift_x, shift_y = torch.lerp(top, bottom, y).unbind(1)
    return _without_bars(pictures, x + shift_x, y + shift_y)


def scatter(pictures, severity=5, seed=0):
    """Fetch each pixel from a random place not further than 0.01 * severity of the side in rows and in columns."""
    height, width = pictures.shape[-2:]
    drawn = each(pictures, seed, lambda picture, draw: torch.rand(2, height, width, generator=draw))
    down, across = (0.01 * severity * min(height, width) * (2 * drawn - 1)).unbind(1)
    rows, columns = pixels(pictures)
    return looked_up(pictures, (rows + down).clamp(0, height - 1), (columns + across).clamp(0, width - 1))


def chromatic_abberation(pictures, severity=5, seed=0):
    """Shift each channel in a direction of its own, by 0.01 * severity of the side; the spline softens all."""
    height, width = pictures.shape[-2:]
    angles = 2 * math.pi * each(pictures, seed, lambda picture, draw: torch.rand(3, 1, generator=draw))
    length = 0.01 * severity * min(height, width)
    rows, columns = (torch.arange(size).to(pictures) for size in (height, width))
    return _splined(pictures, rows - length * angles.cos(), columns - length * angles.sin())


def transverse_chromatic_abberation(pictures, severity=5, seed=0):
    """Enlarge a random channel by 0.05 * severity of the side, another by half of that; the spline softens all."""
    order = each(pictures, seed, lambda picture, draw: torch.randperm(3, generator=draw))
    scales = 1 + 0.025 * severity * order[..., None]

    def places(size):
        enlarged = (size * scales).round()
        margin = ((enlarged - size) / 2).floor()
        return (torch.arange(size).to(pictures) + margin) * (size - 1) / (enlarged - 1)

    return _splined(pictures, *(places(size) for size in pictures.shape[-2:]))


def circular_motion_blur(pictures, severity=5, seed=0):
    """Average turns about the centre by up to 1.5 * severity degrees, the small ones most. Nothing is drawn."""
    rows, columns = pixels(pictures)
    middle_row, middle_column = ((size - 1) / 2 for size in pictures.shape[-2:])
    down, across = rows - middle_row, columns - middle_column
    turns = torch.linspace(-1, 1, 21, dtype=torch.float64)
    weights = torch.exp(-2 * turns**2) / torch.exp(-2 * turns**2).sum()

    light, out = pictures + 1, torch.zeros_like(pictures)
    for angle, weight in zip((turns * math.radians(1.5 * severity)).tolist(), weights.tolist(), strict=True):
        cos, sin = math.cos(angle), math.sin(angle)
        row, column = middle_row + cos * down - sin * across, middle_column + sin * down + cos * across
        grid = sampling_grid(pictures, row, column).expand(len(pictures), -1, -1, -1)
        turned = grid_sample(light, grid, mode="bicubic", padding_mode="border", align_corners=False)
        # black begins at the centres of the outermost pixels
        inside = ((row - middle_row).abs() <= middle_row) & ((column - middle_column).abs() <= middle_column)
        out += inside * turned * weight
    return (out - 1).clamp(-1, 1)


def _shares(pictures):
    """x (1, W) and y (H, 1) of the pixels' centres, as shares of the sides."""
    height, width = pictures.shape[-2:]
    rows, columns = pixels(pictures)
    return (columns + 0.5) / width, (rows + 0.5) / height


def _without_bars(pictures, x, y):
    """The pictures at (x, y), shares of the sides; where these are outside, the picture as it was."""
    height, width = pictures.shape[-2:]
    inside = (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
    seen = looked_up(pictures, y * height - 0.5, x * width - 0.5, padding_mode="border")
    return torch.where(inside[:, None], seen, pictures)


def _of_cells(values, cell, height, width):
    """(B, H, W): the values (B, n, m) of the cells that the pixels lie in, or that they come after."""
    rows, columns = (
        (torch.arange(size, device=values.device) // cell).clamp(max=count - 1)
        for size, count in zip((height, width), values.shape[1:], strict=True)
    )
    return values[:, rows[:, None], columns]


def _refracted(rows, columns, centre_row, centre_column, radius, eta):
    """Where the eye, above, sees through a hemisphere of glass: Snell's law along each axis."""
    down, across = rows - centre_row, columns - centre_column
    depth = (radius**2 - down**2 - across**2).clamp(min=0).sqrt()

    def bent(offset):
        incidence = torch.atan2(offset, depth)
        return depth * torch.tan(incidence - torch.asin(incidence.sin() / eta))

    return rows - bent(down), columns - bent(across)


def _splined(pictures, rows, columns):
    """The pictures at rows (B, C, H) and columns (B, C, W) of each channel, on cubic B-splines; black outside."""
    return (_splined_along(_splined_along(pictures + 1, columns).mT, rows).mT - 1).clamp(-1, 1)


def _splined_along(light, places):
    """Light (B, C, h, n) along its last axis at the places (B, C, m), mirrored at the ends for the spline only."""
    last = light.shape[-1] - 1
    first = places.floor()
    out = 0
    for tap in (-1, 0, 1, 2):
        mirrored = last - (last - (first + tap).abs()).abs()
        index = mirrored.clamp(0, last).long()[:, :, None].expand(-1, -1, light.shape[2], -1)
        out = out + _cubic_spline(places - first - tap)[:, :, None] * light.gather(-1, index)
    return torch.where(((places >= 0) & (places <= last))[:, :, None], out, 0)


def _cubic_spline(offset):
    """The cubic B-spline, that reaches 2 to either side."""
    far, near = (2 - offset.abs()).clamp(min=0), (1 - offset.abs()).clamp(min=0)
    return far**3 / 6 - 2 / 3 * near**3
