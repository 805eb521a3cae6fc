import pytest
from confident_ode.evaluation.settings import SOLVERS, SPACINGS, Settings, depth_of
from confident_ode.samplers import noise_levels, ode


def test_the_choices_are_those_of_the_core():
    assert set(SOLVERS) == set(ode.SOLVERS)
    assert set(SPACINGS) == set(noise_levels.SPACINGS)


@pytest.mark.parametrize(
    ("depth", "meant"),
    [
        (0.4, {"fraction": 0.4}),
        ("0.4", {"fraction": 0.4}),
        (1, {"fraction": 1.0}),
        ("t=400", {"timestep": 400.0}),
        ("sigma = 1.2", {"sigma": 1.2}),
    ],
)
def test_depths(depth, meant):
    assert depth_of(depth) == meant


@pytest.mark.parametrize("depth", ["deep", "s=3", "t=", "", "t=4=5"])
def test_depths_that_mean_nothing(depth):
    with pytest.raises(ValueError, match=r"give a fraction, t=400 or sigma=1\.2"):
        Settings(depth=depth)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"solver": "rk4"}, "take one of ab2"),
        ({"spacing": "even"}, "take one of karras"),
        ({"steps": 0}, "whole number of at least 1"),
        ({"steps": 2.5}, "whole number"),
        ({"updates": -1}, "at least 0"),
        ({"blocks": 0}, "at least 1"),
        ({"samples": 0}, "at least 1"),
        ({"samples": True}, "whole number"),
        ({"seed": -1}, "at least 0"),
        ({"step_size": -1e-3}, "step size is -0.001"),
        ({"eta": float("nan")}, "eta is nan"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"guidance": -1.0}, "guidance"),
        ({"decay": 0.0}, "decay is 0"),
        ({"decay": 2.0}, "decay is 2"),
        ({"sdedit_depth": "x"}, "depth 'x'"),
        ({"strength": 1}, "no setting 'strength'"),
    ],
)
def test_wrong_values_are_one_sentence(values, words):
    with pytest.raises(ValueError, match=words) as caught:
        Settings.of(values)
    assert "\n" not in str(caught.value)
