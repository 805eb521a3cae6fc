from dataclasses import replace

import pytest
import torch
from confident_ode.priors.calibration import FILE, Calibration, discriminants, load_calibration
from confident_ode.priors.loading import bundled, layout, load, mark
from confident_ode.samplers.statistics import STATISTICS
from safetensors.torch import load_file, save_file

KINDS = ("no damage", "noise", "fog")


def readings(count=40, seed=0):
    """(3, N, 2, STATISTICS): three kinds, whose means differ by much in two of the numbers, which spread unlike."""
    spread = torch.logspace(-1, 1, 2 * STATISTICS)
    x = spread * torch.randn(3, count, 2 * STATISTICS, generator=torch.Generator().manual_seed(seed)) + 5
    x[1, :, 3] += 6 * spread[3]
    x[2, :, 20] += 6 * spread[20]
    return x.unflatten(2, (2, STATISTICS))


@pytest.fixture
def calibration():
    mean, directions, centres = discriminants(readings())
    return Calibration(
        levels=torch.tensor([0.1, 1.0]),
        mean=mean,
        directions=directions,
        centres=centres,
        kinds=KINDS,
        choices=("light", "strong", "light"),
        settings={"light": {"depth": 0.1}, "strong": {"depth": 0.5, "updates": 9}},
    )


def test_kinds_are_told_apart_whatever_the_units(calibration):
    new = readings(200, seed=1)
    for k, kind in enumerate(KINDS):
        found = calibration.choose(new[k])
        assert sum(named == kind for named, _, _ in found) > 0.97 * len(found)
    assert calibration.choose(new[1][:1]) == [("noise", "strong", {"depth": 0.5, "updates": 9})]
    # two directions for three kinds, in which pictures of a kind spread by about 1
    assert calibration.directions.shape == (2 * STATISTICS, 2)
    assert calibration.centres.shape == (3, 2)
    places = (new.flatten(2) - calibration.mean) @ calibration.directions
    assert places.std(1).mean().item() == pytest.approx(1, abs=0.35)
    # the other numbers do not matter
    assert places[0].mean(0).abs().max() < 0.5


def test_damage_is_the_distance_from_clean_pictures(calibration):
    new = readings(200, seed=1)
    clean, noise, fog = (calibration.damage(each).mean().item() for each in new)
    # 2^(1/2), and what 120 pictures leave unknown of 56 numbers
    assert 1 < clean < 2.2
    assert noise > 3 * clean
    assert fog > 3 * clean


def test_it_comes_back_from_its_file(calibration, tmp_path):
    assert load_calibration(tmp_path) is None
    calibration.save(tmp_path)
    loaded = load_calibration(tmp_path)
    for name, value in vars(calibration).items():
        other = getattr(loaded, name)
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:50]),
        lambda path: path.write_bytes(b""),
        lambda path: save_file(load_file(path), path),
        lambda path: save_file({"levels": torch.ones(2)}, path, {"kinds": "[]", "choices": "[]", "settings": "{}"}),
        lambda path: save_file(load_file(path), path, {"kinds": "[", "choices": "[]", "settings": "{}"}),
    ],
)
def test_a_damaged_file_is_named_in_one_sentence(calibration, tmp_path, spoil):
    calibration.save(tmp_path)
    spoil(tmp_path / FILE)
    with pytest.raises(ValueError, match=r"calibration\.safetensors is damaged: make it anew .*, or delete it\.$"):
        load_calibration(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"choices": ("light",)},
        {"choices": ("light", "strong", "bold")},
        {"mean": torch.zeros(3)},
        {"centres": torch.zeros(3, 5)},
        {"kinds": ("no damage",)},
    ],
)
def test_parts_that_do_not_fit_are_refused(calibration, tmp_path, changed):
    replace(calibration, **changed).save(tmp_path)
    with pytest.raises(ValueError, match="is damaged"):
        load_calibration(tmp_path)


@pytest.mark.parametrize("name", bundled())
def test_the_bundled_priors_are_calibrated(name):
    calibration = load(name).calibration
    assert calibration.kinds[0] == "no damage"
    assert len(calibration.kinds) == 25
    assert len(set(calibration.choices)) > 1


@pytest.mark.parametrize("flat", [False, True])
def test_a_calibration_for_other_weights_is_left_out_with_a_warning(calibration, write, flat):
    folder, _ = write(flat=flat)
    marked = replace(calibration, weights=mark(layout(folder)[0]))
    marked.save(folder)
    assert load(folder).calibration.weights == marked.weights
    replace(calibration, weights="0123456789ab").save(folder)
    with pytest.warns(RuntimeWarning, match="made for other weights, and is left out"):
        assert load(folder).calibration is None


def test_a_prior_without_a_calibration_loads(write):
    assert load(write()[0]).calibration is None
