"""The corruptions of colour of the C-bar family (Mintun, Kirillov and Xie 2021), (B, 3, H, W) in [-1, 1] in and out.

Picture i of a batch is damaged with seed + i. severity, 1 to 5, is the raw one of CODE's protocol: a strength is
severity / 10 of its maximum, so that 5 is half of it (the sets published as C-bar have calibrated ones instead).
The public code keeps some results in bytes, where 256 starts again from 0: so do these, for all figures have it so.
"""

import torch

from .drawing import each

LUMA = (0.2126, 0.7152, 0.0722)


def bleach_bypass(pictures, severity=5, seed=0):
    """Overlay the picture with its own light, as film developed with its silver left in. Nothing is drawn."""
    colours = (pictures + 1) / 2
    luma = _luma(colours)
    multiplied = _wrapped(2 * colours) * luma
    screened = 1 - 2 * (1 - colours) * (1 - luma)
    overlaid = torch.lerp(multiplied, screened, (10 * (luma - 0.45)).clamp(0, 1))
    return _pictures(_wrapped(torch.lerp(colours, overlaid, 0.1 * severity)))


def technicolor(pictures, severity=5, seed=0):
    """Filter each channel by the mattes of the two others, as in a two-strip film. Nothing is drawn."""
    colours = (pictures + 1) / 2
    # a matte is dark where its channel exceeds the mean of the others
    mattes = 1 - 1.5 * (colours - colours.mean(1, keepdim=True))
    filtered = colours * mattes.roll(1, 1) * mattes.roll(-1, 1)
    return _pictures(_wrapped(torch.lerp(colours, filtered, 0.1 * severity)))


def pseudocolor(pictures, severity=5, seed=0):
    """Mix with a map from light to a ramp of five random colours."""
    drawn = each(pictures, seed, lambda picture, draw: torch.rand(16, generator=draw))
    smoothness = 0.25 + 0.5 * drawn[:, :1, None, None]
    ramp = (255 * drawn[:, 1:]).floor().view(-1, 5, 3).mT
    colours = (pictures + 1) / 2

    position = 4 * _luma(colours)
    step = position.floor().clamp(0, 3)
    within = position - step
    start, end = (_looked_up(ramp, step.long() + i) for i in (0, 1))
    # in bytes a difference is never negative: a channel that should fall rises past white instead
    eased = (end - start).remainder(256) * within**2 * (3 - 2 * within)
    mapped = start + torch.lerp((end - start) * within, eased, smoothness)
    return _pictures(torch.lerp(colours, mapped / 255, 0.05 * severity))


def hue_shift(pictures, severity=5, seed=0):
    """Turn the hue (of hue, saturation, value) by 0.05 * severity of the circle, forwards or backwards."""
    forwards = each(pictures, seed, lambda picture, draw: torch.rand(1, generator=draw)) >= 0.5
    turn = 0.3 * severity * torch.where(forwards, 1, -1)[:, :, None, None].to(pictures)
    colours = (pictures + 1) / 2
    value = colours.amax(1, keepdim=True)
    chroma = value - colours.amin(1, keepdim=True)
    # of red, green and blue at 5, 3, 1: how far it falls short of the value, at a hue of 0 to 6
    sector = (_hue(colours, value, chroma) + turn + torch.tensor([5, 3, 1]).to(pictures).view(3, 1, 1)).remainder(6)
    return _pictures(value - chroma * torch.minimum(sector, 4 - sector).clamp(0, 1))


def color_dither(pictures, severity=5, seed=0):
    """Bring each channel to 14 - severity levels, half of a pixel's error passed on to its right. Nothing is drawn.

    Floyd and Steinberg's 7/16, and the 1/16 meant for the row below, both go to the right in the public code, the
    first not in the top row and the second not in the bottom one; the rest is lost. So the rows are independent.
    """
    levels = 14 - int(severity)
    columns = ((pictures + 1) * 127.5).round().unbind(-1)
    shares = torch.zeros(2, pictures.shape[-2]).to(pictures)
    shares[0, 1:], shares[1, :-1] = 7 / 16, 1 / 16

    dithered, error = [], torch.zeros_like(columns[0])
    for column in columns:
        for share in shares:
            column = (column + error * share).clamp(0, 255).floor()
        level = (column * levels / 256).floor()
        dithered.append((255 * level / (levels - 1)).floor())
        error = column - dithered[-1]
    return torch.stack(dithered, -1) / 127.5 - 1


def _luma(colours):
    """(B, 1, H, W): the light of colours in [0, 1]."""
    return (colours * torch.tensor(LUMA).to(colours).view(3, 1, 1)).sum(1, keepdim=True)


def _pictures(colours):
    """Pictures in [-1, 1] of colours in [0, 1]."""
    return (2 * colours - 1).clamp(-1, 1)


def _wrapped(colours):
    """Colours within 256 / 255 of [0, 1] as bytes hold them: 256 becomes 0, and -1 becomes 255."""
    above, below = (255 * colours > 255.999).to(colours), (255 * colours < -0.999).to(colours)
    return colours + (below - above) * 256 / 255


def _looked_up(ramp, step):
    """(B, 3, H, W): the colours (B, 3, 5) of a ramp at the steps (B, 1, H, W)."""
    return ramp.gather(2, step.flatten(2).expand(-1, 3, -1)).view(-1, 3, *step.shape[2:])


def _hue(colours, value, chroma):
    """(B, 1, H, W) in [-1, 5): red is 0, green 2, blue 4. Greys, without chroma, have any."""
    red, green, blue = (colours / chroma.clamp(min=1e-12)).split(1, 1)
    is_red, is_green, _ = (colours == value).split(1, 1)
    return torch.where(is_red, green - blue, torch.where(is_green, 2 + blue - red, 4 + red - green))
