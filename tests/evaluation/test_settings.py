from dataclasses import fields

import pytest
from confident_ode.evaluation.settings import (
    DAMAGES,
    METHODS,
    MORE_QUIRKS,
    PARTS,
    QUIRKS,
    SOLVERS,
    SPACINGS,
    STEP_MODES,
    STEP_SCALES,
    UNUSED,
    Settings,
    depth_of,
    parts_of,
    quirks_of,
    range_of,
)
from confident_ode.samplers import langevin, noise_levels, ode, odedit, official, restore


def test_the_choices_are_those_of_the_core():
    assert set(SOLVERS) == set(ode.SOLVERS)
    assert set(SPACINGS) == set(noise_levels.SPACINGS)
    assert set(STEP_SCALES) == set(restore.STEP_SCALES)
    assert set(STEP_MODES) == set(langevin.STEP_MODES)
    assert set(DAMAGES) == set(odedit.ODEDIT_UPDATES)
    assert tuple(official.QUIRKS) == QUIRKS


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
    other |= {"step_scale": "sigma", "step_mode": "snr", "decay": 0.5, "noiseless_last": False, "start": "deepest"}
    other |= {"clip_range": "around=0.1", "quirks": "none"}
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
        ({"stop_at": -0.1}, "stop at is -0.1: take a number that is not below 0"),
        ({"stop_at": float("inf")}, "stop at is inf"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"guidance": -1.0}, "guidance"),
        ({"decay": 0.0}, "decay is 0"),
        ({"decay": 2.0}, "decay is 2"),
        ({"sdedit_depth": "x"}, "depth 'x'"),
        ({"start": "above"}, "take one of updates, deepest"),
        ({"clip_at": "side"}, "parts 'side' are not understood: take some of up, updates, down"),
        ({"clip_at": ""}, "parts ''"),
        ({"threshold_at": "up,side"}, "parts 'up,side'"),
        ({"clip_range": "wide"}, "clip range 'wide' is not understood: take pixels"),
        ({"clip_range": "pixels=1"}, "clip range"),
        ({"clip_range": "fixed=1,-1"}, "clip range"),
        ({"clip_range": "fixed=-1,inf"}, "clip range"),
        ({"clip_range": "fixed=-1"}, "clip range"),
        ({"clip_range": "quantiles=0.5"}, "clip range"),
        ({"clip_range": "around=-0.1"}, "clip range"),
        ({"clip_range": "around=x"}, "clip range"),
        ({"method": "official", "quirks": "some"}, "take all, none, or some of clip-level"),
        ({"method": "official", "quirks": "all,no-some"}, "quirks 'all,no-some'"),
        ({"method": "official", "quirks": ""}, "quirks ''"),
        ({"method": "official", "threshold_at": "up,updates"}, "up and down alike"),
        ({"strength": 1}, "no setting 'strength'"),
    ],
)
def test_wrong_values_are_one_sentence(values, words):
    with pytest.raises(ValueError, match=words) as caught:
        Settings.of(values)
    assert "\n" not in str(caught.value)


def test_parts_come_in_the_order_of_the_way():
    assert parts_of("down, up") == parts_of("up+down+up") == ("up", "down")
    assert Settings().clipped == ("up",)
    assert Settings().thresholded == PARTS
    assert Settings(clip=False, clip_at="up,down").clipped == ()
    assert Settings(threshold_at="down").thresholded == ("down",)
    assert Settings(threshold=False, threshold_at="down").thresholded == ()


def test_who_says_where_wants_it():
    """Where the method's default is without."""
    assert Settings.of({"method": "odedit"}).clipped == Settings.of({"method": "odedit"}).thresholded == ()
    assert Settings.of({"method": "odedit", "clip_at": "down"}).clipped == ("down",)
    assert Settings.of({"method": "odedit", "clip_range": "quantiles=0.01"}).clipped == ("up",)
    assert Settings.of({"method": "odedit", "threshold_at": "down"}).thresholded == ("down",)
    assert Settings.of({"clip_at": "down", "clip": False}).clipped == ()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("pixels", ("pixels", ())),
        ("fixed=-0.8,0.9", ("fixed", (-0.8, 0.9))),
        ("quantiles=0.01", ("quantiles", (0.01,))),
        ("around=0", ("around", (0.0,))),
    ],
)
def test_clip_ranges(text, meant):
    assert range_of(text) == meant


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("all", QUIRKS),
        ("none", ()),
        ("scale, clip-level", ("clip level", "scale")),
        ("no-scale", tuple(quirk for quirk in QUIRKS if quirk != "scale")),
        ("all,no-scale+no-depth", tuple(quirk for quirk in QUIRKS if quirk not in ("scale", "depth"))),
        ("all,second-noise,std schedule", (*QUIRKS, *MORE_QUIRKS)),
    ],
)
def test_quirks(text, kept):
    assert quirks_of(text) == kept
