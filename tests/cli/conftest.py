import numpy as np
import pytest
from PIL import Image
from prior.tiny import write_prior


@pytest.fixture
def photo(tmp_path):
    """photo(name, size, mode) -> the path of a picture with a smooth pattern."""

    def made(name="photo.png", size=(40, 24), mode="RGB", **options):
        y, x = np.mgrid[: size[1], : size[0]]
        pixels = np.stack([x * 255 / size[0], y * 255 / size[1], 255 - x * 200 / size[0]], -1).astype(np.uint8)
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels).convert(mode).save(path, **options)
        return path

    return made


@pytest.fixture(scope="session")
def two_flowers(tmp_path_factory):
    """The folder of a tiny prior of random weights that knows two flowers."""
    folder = tmp_path_factory.mktemp("prior") / "tiny"
    write_prior(folder, unet={"num_class_embeds": 3}, labels={"0": "rose", "1": "tulip"})
    return folder


@pytest.fixture(scope="session")
def flower_photos(tmp_path_factory):
    """A folder of twelve pictures of noise in two classes, every second of which is there to edit."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(12):
        path = folder / ("rose" if i < 6 else "tulip") / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (16, 16, 3), np.uint8)).save(path)
    return folder
