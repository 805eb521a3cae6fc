"""The 17 corruptions of the ImageNet-C family that CODE's paper uses, by the library imagecorruptions-imaug.

It needs numba and OpenCV, so it is an extra, and imported only here, when it is used. It takes one 8-bit picture at a
time, and draws from three generators: numpy's global one, which is left as it was found, scikit-image's and numba's.

Its blurs, weather and warps are measured in pixels of photos: a blur of six pixels leaves little of a picture of 64. So
for them a picture whose shorter side is below 256 is enlarged to that and brought back, and looks as damaged as a large
one. Larger pictures are damaged at their own size, as the library does.
"""

import contextlib
from functools import partial
from importlib import metadata

import numpy as np
import torch
from PIL import Image

LIBRARY = "imagecorruptions-imaug"
SIDE = 256
FILTER = Image.Resampling.LANCZOS
# measured in pixels of a picture of 256 or more
IN_PIXELS = (
    "motion_blur",
    "frost",
    "fog",
    "elastic_transform",
    "snow",
    "spatter",
    "glass_blur",
    "gaussian_blur",
)
PER_PIXEL = (
    "speckle_noise",
    "impulse_noise",
    "shot_noise",
    "jpeg_compression",
    "pixelate",
    "brightness",
    "saturate",
    "gaussian_noise",
    "contrast",
)
# they draw from another generator than numpy's global one, and take a seed for it
SEEDED = ("impulse_noise", "glass_blur")


def installed():
    """Whether the library is there. `imagecorruptions`, an older one of the same import name, does not count."""
    try:
        return bool(metadata.version(LIBRARY))
    except metadata.PackageNotFoundError:
        return False


def damage(name, pictures, severity=5, seed=0):
    """The corruption of that name of RGB pictures (B, 3, H, W) in [-1, 1], rounded to 8 bits; picture i with seed + i.

    Raises ValueError, which says what to install, where the library is missing or does not load.
    """
    function = _library(name)
    images = [_damaged(function, name, picture, severity, seed + i) for i, picture in enumerate(pictures)]
    return torch.stack([_picture(image) for image in images]).to(pictures)


def check_installed(name):
    """ValueError, which says what to install for the corruption of that name, where the library is missing."""
    if not installed():
        raise ValueError(f"{name} needs one more package, in the Python that runs this: pip install {LIBRARY}.")


def _library(name):
    """The library's function."""
    check_installed(name)
    try:
        from imagecorruptions import corruption_dict
    except ImportError as error:
        raise ValueError(f"{LIBRARY} is there but does not load, install it again: {error}.") from None
    return corruption_dict[name]


def _damaged(function, name, picture, severity, seed):
    """(3, H, W) in [-1, 1] after the library's function, as an 8-bit image."""
    image = large = _image(picture)
    if name in IN_PIXELS and min(image.size) < SIDE:
        large = image.resize([round(side * SIDE / min(image.size)) for side in image.size], FILTER)
    # 32 bits, the most that numpy's and numba's generators take
    number = int(np.random.SeedSequence(seed % 2**64).generate_state(1)[0])
    with _numpy_seeded(number):
        pixels = np.uint8(function(large, severity, **({"seed": number} if name in SEEDED else {})))
    damaged = Image.fromarray(pixels)
    if large is image:
        return damaged
    # what is not touched, as between the drops of spatter, does not change by being enlarged either
    touched = Image.fromarray((pixels != np.asarray(large)).any(-1)).convert("L")
    touched = touched.resize(image.size, Image.Resampling.BOX)
    return Image.composite(damaged.resize(image.size, FILTER), image, touched)


@contextlib.contextmanager
def _numpy_seeded(number):
    """numpy's global generator, seeded inside and as it was after."""
    state = np.random.get_state()
    np.random.seed(number)
    try:
        yield
    finally:
        np.random.set_state(state)


def _image(picture):
    pixels = (picture.clamp(-1, 1) + 1) * 127.5
    return Image.fromarray(pixels.round().byte().movedim(0, -1).cpu().numpy())


def _picture(image):
    return torch.from_numpy(np.asarray(image, dtype=np.float32)).movedim(-1, 0) / 127.5 - 1


IMAGENET_C = {name: partial(damage, name) for name in (*PER_PIXEL, *IN_PIXELS)}
