from dataclasses import fields

import pytest
from confident_ode.evaluation.settings import (
    DAMAGES,
    METHODS,
    SOLVERS,
    SPACINGS,
    STEP_MODES,
    STEP_SCALES,
    UNUSED,
    Settings,
    depth_of,
)
from confident_ode.samplers import langevin, noise_levels, ode, odedit, official, restore


def test_the_choices_are_those_of_the_core():
    assert set(SOLVERS) == set(ode.SOLVERS)
    assert set(SPACINGS) == set(noise_levels.SPACINGS)
    assert set(STEP_SCALES) == set(restore.STEP_SCALES)
    assert set(STEP_MODES) == set(langevin.STEP_MODES)
    assert set(DAMAGES) == set(odedit.ODEDIT_UPDATES)


def test_the_defaults_of_the_authors_code_are_the_core_s():
    ours, theirs = Settings.of({"method": "official"}), official.Official()
    assert (ours.steps, ours.step_size) == (theirs.n, theirs.step)
    for name in ("updates", "blocks", "decay", "levels", "clip", "eta", "threshold", "samples"):
        assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_its_defaults_and_refuses_what_it_does_not_use(method):
    names, default = {field.name for field in fields(Settings)}, Settings.of({"method": method})
    assert METHODS[method].keys() | set(UNUSED[method]) <= names
    assert default.used().keys() == names - set(UNUSED[method])
    assert Settings.of({"method": method, "depth": 0.3, "seed": 4}).steps == default.steps
    other = {"clip": True, "damage": "heavy", "solver": "heun", "spacing": "leading", "shallowest": 0.2}
    other |= {"step_scale": "sigma", "step_mode": "snr", "decay": 0.5}
    for name in UNUSED[method]:
        Settings.of({"method": method, name: getattr(default, name)})
        with pytest.raises(ValueError, match=f"{method} does not use {name.replace('_', ' ')}: leave it out"):
            Settings.of({"method": method, name: other.get(name, 7)})


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
        ({"method": "magic"}, "take one of code"),
        ({"method": ["code"]}, "take one of code"),
        ({"method": "odedit", "damage": "none"}, "take one of light"),
        ({"step_mode": "bold"}, "step mode 'bold' is unknown: take one of absolute"),
        ({"step_scale": "bold"}, "take one of none"),
        ({"levels": 0}, "at least 1"),
        ({"shallowest": "x"}, "depth 'x'"),
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
