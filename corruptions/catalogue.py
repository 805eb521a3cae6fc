"""The 47 corruptions of CODE's paper by name, in three families, and what each looks like.

Each is a function (pictures, severity=5, seed=0) of RGB pictures (B, 3, H, W) in [-1, 1], of any size from 8 pixels a
side, which gives such pictures. Severity is 1 to 5, the paper's is 5; picture i of a batch is damaged with seed + i.
"""

import difflib

from . import colour, masks, patterns, warps
from .imagenet_c import IMAGENET_C, check_installed, installed

SMALLEST = 8
SEVERITIES = (1, 2, 3, 4, 5)

LOOKS = {
    "motion_blur": "as if the camera moved: smeared along one direction",
    "frost": "behind a frozen window",
    "speckle_noise": "grain that grows with the light",
    "impulse_noise": "salt and pepper: values turn black or white",
    "shot_noise": "grain of too little light, as it is counted in photons",
    "jpeg_compression": "blocks and rings of a small JPEG file",
    "pixelate": "coarse squares",
    "brightness": "too light",
    "fog": "behind white clouds of fog",
    "saturate": "colours washed out at 1 and 2, and glaring from 3",
    "gaussian_noise": "even grain",
    "elastic_transform": "crumpled, as seen through wavy glass",
    "snow": "snow that falls, and a paler picture",
    "spatter": "drops on the lens: water up to 3, then mud",
    "glass_blur": "behind frosted glass",
    "gaussian_blur": "out of focus",
    "contrast": "faded towards its mean colour",
    "single_frequency_greyscale": "light and dark stripes, wide or fine",
    "cocentric_sine_waves": "grooved in wavy rings round a point",
    "plasma_noise": "behind coloured waves",
    "voronoi_noise": "lighter or darker in the middle of cells",
    "caustic_noise": "a net of light, as on the ground of a pool",
    "inverse_sparkles": "white, but for one large star",
    "perlin_noise": "behind faint marble",
    "blue_noise": "fine coloured grain, evenly spread",
    "brownish_noise": "coloured clouds",
    "bleach_bypass": "hard contrast, as of film without its bleach; some lights turn",
    "technicolor": "glaring, as an early colour film; some lights turn",
    "pseudocolor": "colours after the light alone, mixed in",
    "hue_shift": "other hues",
    "color_dither": "few colours, mixed of dots",
    "checkerboard_cutout": "grey squares of a tilted chequerboard",
    "lines": "crossed out with thin grey lines",
    "blue_noise_sample": "pixels all over it are black, evenly spread",
    "caustic_refraction": "under water in the sun: bent and shaded",
    "pinch_and_twirl": "pinched and twisted in places",
    "fish_eye": "seen through hundreds of glass beads",
    "water_drop": "waves round a drop in water",
    "ripple": "waves across and along",
    "perspective_no_bars": "seen from a slant",
    "quadrilateral_no_bars": "pulled at its corners",
    "scatter": "every pixel a little beside its place",
    "chromatic_abberation": "red, green and blue of three sizes, and blurred",
    "transverse_chromatic_abberation": "red, green and blue apart, along one direction",
    "circular_motion_blur": "smeared round the middle, as if the camera turned",
    "masking_random_color": "pixels all over it take one random colour",
    "masking_vline_random_color": "columns take a random value, in each channel on its own",
    "sparkles": "white stars",
    "masking_random_color_random": "pixels all over it take a random colour each",
}


def _of(module, *names):
    return {name: getattr(module, name) for name in names}


FAMILIES = {
    "imagenet-c": IMAGENET_C,
    "c-bar": {
        **_of(
            patterns,
            "single_frequency_greyscale",
            "cocentric_sine_waves",
            "plasma_noise",
            "voronoi_noise",
            "caustic_noise",
            "inverse_sparkles",
            "perlin_noise",
            "blue_noise",
            "brownish_noise",
            "checkerboard_cutout",
            "lines",
            "blue_noise_sample",
            "caustic_refraction",
        ),
        **_of(colour, "bleach_bypass", "technicolor", "pseudocolor", "hue_shift", "color_dither"),
        **_of(
            warps,
            "pinch_and_twirl",
            "fish_eye",
            "water_drop",
            "ripple",
            "perspective_no_bars",
            "quadrilateral_no_bars",
            "scatter",
            "chromatic_abberation",
            "transverse_chromatic_abberation",
            "circular_motion_blur",
        ),
    },
    "masks": _of(masks, "masking_random_color", "masking_vline_random_color"),
}
CORRUPTIONS = {name: function for family in FAMILIES.values() for name, function in family.items()}
# beside the 47: one that the paper's figures leave out, and masking as its words have it
MORE = {**_of(patterns, "sparkles"), **_of(masks, "masking_random_color_random")}


def available():
    """The names of those of the 47, and then of the others, that can run here: all, or those without the library."""
    missing = () if installed() else IMAGENET_C
    return [name for name in (*CORRUPTIONS, *MORE) if name not in missing]


def checked(name, severity=5):
    """The function of that name; ValueError where there is none, the severity is none, or the library is missing."""
    known = {**CORRUPTIONS, **MORE}
    if name not in [*known]:
        [nearest] = difflib.get_close_matches(str(name)[:60], known, 1, 0)
        raise ValueError(f"There is no corruption {str(name)[:40]!r}: the nearest name is {nearest}.")
    if severity not in SEVERITIES:
        raise ValueError(f"There is no severity {severity}: take a whole number from 1 to 5.")
    if name in IMAGENET_C:
        check_installed(name)
    return known[name]


def corrupt(pictures, name, severity=5, seed=0):
    """The corruption `name` of RGB pictures (B, 3, H, W) in [-1, 1]; picture i is damaged with seed + i.

    Raises ValueError with one sentence: an unknown name or severity, a missing library, or other pictures than those.
    """
    function = checked(name, severity)
    if pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ValueError(
            f"Corruptions take RGB pictures, (B, 3, H, W), these are {tuple(pictures.shape)}: convert them."
        )
    if min(pictures.shape[-2:]) < SMALLEST:
        height, width = pictures.shape[-2:]
        raise ValueError(f"The picture is {width}x{height} pixels: give one of at least {SMALLEST} a side.")
    return function(pictures, int(severity), seed)
