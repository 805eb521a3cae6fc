import numpy as np
import pytest
from confident_ode.evaluation.examples import EXAMPLES, FOLDER, PRIOR, drawn
from confident_ode.priors.loading import load
from PIL import Image


@pytest.fixture(scope="module")
def prior():
    return load(PRIOR)


def test_every_example_is_there_and_every_class_has_one(prior):
    assert {path.stem for path in FOLDER.glob("*.png")} == set(EXAMPLES)
    assert {label for label, _ in EXAMPLES.values()} == set(prior.classes)
    for name, (label, _) in EXAMPLES.items():
        assert name.rpartition("-")[0] == label
        with Image.open(FOLDER / f"{name}.png") as picture:
            assert (picture.mode, picture.size) == ("RGB", (prior.size, prior.size))


def test_an_example_is_what_the_prior_draws(prior):
    again = np.asarray(drawn(prior, *EXAMPLES["sunflower-1"]), dtype=int)
    with Image.open(FOLDER / "sunflower-1.png") as picture:
        # versions and machines round differently, on the way and to 8 bits
        assert np.abs(again - np.asarray(picture, dtype=int)).max() <= 2
