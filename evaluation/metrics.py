"""Fidelity of pictures in [-1, 1], one number each."""

import math

from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

DATA_RANGE = 2.0


def psnr(pictures, references, data_range=DATA_RANGE):
    """10 log10(data_range^2 / mean squared error) in dB of each of (B, C, H, W), floats; infinite where equal."""
    ratio = peak_signal_noise_ratio(pictures, references, data_range=data_range, reduction="none", dim=(1, 2, 3))
    return ratio.tolist()


def ssim(pictures, references):
    """Structural similarity of each of (B, C, H, W), at least 8 x 8, as floats up to 1 (Wang et al. 2004).

    The window is their 11 x 11 Gaussian; torchmetrics reflects the picture at its border, and counts the border too.
    """
    return structural_similarity_index_measure(pictures, references, data_range=DATA_RANGE, reduction="none").tolist()


def or_none(value):
    """The number, or None where it is infinite or undefined, which JSON cannot say."""
    return value if math.isfinite(value) else None
