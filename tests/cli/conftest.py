import numpy as np
import pytest
from PIL import Image
from prior.tiny import write_prior
from typer.testing import CliRunner


@pytest.fixture(scope="session")
def prior_folder(tmp_path_factory):
    """A tiny prior of 16x16 pictures with the classes cat and dog, and a null class."""
    folder = tmp_path_factory.mktemp("prior") / "tiny"
    write_prior(folder, unet={"num_class_embeds": 3}, labels={"0": "cat", "1": "dog"})
    return folder


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


@pytest.fixture
def command():
    """command(*arguments) -> the result of `confident-ode` with them: exit_code, stdout, stderr."""
    from confident_ode.cli.app import app

    def invoked(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoked
