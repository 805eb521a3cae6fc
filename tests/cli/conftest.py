import numpy as np
import pytest
from PIL import Image


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
