"""The paper's two masking corruptions, and a third that its text describes: 8 % of the pixels for each severity."""

from .damages import mask_columns, mask_pixels, mask_pixels_alike


def share(severity):
    """The fraction that is masked: 0.08 to 0.4."""
    return 0.08 * severity


def masking_random_color(pictures, severity=5, seed=0):
    """Pixels all over the picture take one random colour."""
    return mask_pixels_alike(pictures, share(severity), seed)


def masking_vline_random_color(pictures, severity=5, seed=0):
    """Whole columns take a random value, in each of red, green and blue on its own."""
    return mask_columns(pictures, share(severity), seed)


def masking_random_color_random(pictures, severity=5, seed=0):
    """Pixels all over the picture take a random colour each."""
    return mask_pixels(pictures, share(severity), seed)
