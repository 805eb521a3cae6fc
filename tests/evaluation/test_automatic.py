from dataclasses import replace

import pytest
import torch
from confident_ode.evaluation import calibrating
from confident_ode.evaluation.automatic import choose, most_calls, run_chosen
from confident_ode.evaluation.calibrating import calibrate, calibrate_calls, damages, moments_of, policy, quality
from confident_ode.evaluation.classifier import Classifier
from confident_ode.evaluation.frechet import Gaussian
from confident_ode.evaluation.presets import PRESETS
from confident_ode.evaluation.restoring import run
from confident_ode.evaluation.settings import Settings
from confident_ode.priors.calibration import Calibration
from confident_ode.priors.loading import load
from confident_ode.priors.photos import Photos
from confident_ode.samplers.statistics import STATISTICS

QUICK = Settings(steps=4, updates=4, blocks=2, stop_at=0.0)
SETTINGS = {"light": {"depth": 0.2}, "strong": {"depth": 0.5, "updates": 8, "eta": 0.7}}


@pytest.fixture(scope="module")
def plain(prior_folder):
    return load(prior_folder)


@pytest.fixture(scope="module")
def prior(plain):
    """Calibrated so that the mean of what it sees first tells dark pictures from light ones."""
    brightness = torch.zeros(2 * STATISTICS, 1)
    brightness[STATISTICS - 2] = 1
    calibration = Calibration(
        levels=torch.tensor([0.02, 0.5]),
        mean=torch.zeros(2 * STATISTICS),
        directions=brightness,
        centres=torch.tensor([[-0.5], [0.5]]),
        kinds=("dark", "light"),
        choices=("light", "strong"),
        settings=SETTINGS,
    )
    return replace(plain, calibration=calibration)


@pytest.fixture(scope="module")
def pictures():
    drawn = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    # at so little noise a network of random weights leaves the brightness nearly as it is
    return drawn * 0.4 + torch.tensor([-0.9, 0.5, -0.9, 0.5])[:, None, None, None]


def test_each_picture_is_restored_as_if_alone_with_what_was_chosen_for_it(prior, pictures):
    base = replace(QUICK, seed=5)
    found = choose(prior, pictures, base)
    assert [kind for kind, _, _ in found] == ["dark", "light", "dark", "light"]
    assert [name for _, name, _ in found] == ["light", "strong", "light", "strong"]
    calls = []
    restored, counted = run_chosen(prior, pictures, base, lambda: calls.append(1))
    for i, (_, name, settings) in enumerate(found):
        assert settings == replace(base, **SETTINGS[name])
        alone = run(prior, pictures[i : i + 1], replace(settings, seed=5 + i))
        assert torch.allclose(restored[i], alone.pictures[0], atol=1e-4)
        assert counted[i] == alone.nfe + 2
    assert max(counted) <= most_calls(prior, base)
    # those with the same settings share their calls
    assert len(calls) == 2 + sum(run(prior, pictures[:1], found[i][2]).nfe for i in (0, 1))


def test_a_prior_that_is_not_calibrated_is_refused_in_one_sentence(plain, pictures):
    for use in (lambda: choose(plain, pictures, QUICK), lambda: most_calls(plain, QUICK)):
        with pytest.raises(ValueError, match=r"has no calibration.*priors calibrate.*preset"):
            use()


def test_calibrating_reads_and_restores_as_planned(plain, monkeypatch):
    torch.manual_seed(0)
    classifier = Classifier(["cat", "dog"], 16, (8, 8)).eval().requires_grad_(False)
    photos = Photos(torch.randint(0, 256, (9, 3, 16, 16), dtype=torch.uint8), torch.zeros(9), ("cat",))
    monkeypatch.setattr(calibrating, "CANDIDATES", ("light", "smooth"))
    monkeypatch.setitem(PRESETS, "light", {"steps": 2, "updates": 0})
    monkeypatch.setitem(PRESETS, "smooth", {"steps": 3, "updates": 0})
    known = dict(list(damages().items())[::8])
    monkeypatch.setattr(calibrating, "damages", lambda: known)
    calls = []
    found, numbers = calibrate(plain, photos, classifier, 8, 2, on_call=lambda: calls.append(1))
    assert len(calls) == calibrate_calls(plain, 8, 2)
    assert found.kinds == tuple(known)
    assert found.kinds[0] == "no damage"
    assert set(found.choices) <= {"light", "smooth"}
    assert found.settings["smooth"] == PRESETS["smooth"]
    assert numbers["quality"].keys() == {"light", "smooth", "chosen"}
    assert numbers["choices"] == dict(zip(found.kinds, found.choices, strict=True))
    # of what it was made from, though random weights say little
    assert sum(numbers["told apart"].values()) / len(known) > 0.8
    again, _ = calibrate(plain, photos, classifier, 8, 2)
    assert torch.equal(found.centres, again.centres)
    assert found.choices == again.choices
    with pytest.raises(ValueError, match="9 photos and 20"):
        calibrate(plain, photos, classifier, 20, 2)
    with pytest.raises(ValueError, match="at least 8"):
        calibrate(plain, photos, classifier, 8, 1)


def test_the_policy_is_more_faithful_than_any_candidate_alone_and_spends_some_of_that_on_realism():
    draw = torch.Generator().manual_seed(0)
    real, sure = Gaussian(torch.randn(400, 4, generator=draw)), torch.eye(2).double()
    # for the first kind, candidate 0 is more faithful and as real; for the second, candidate 1 is more real
    features = torch.randn(100, 2, 2, 4, generator=draw).double()
    features[:, 1, 0] += 3
    fidelity = torch.tensor([[20.0, 10.0], [15.0, 15.1]]).expand(100, 2, 2).double()
    assert policy(fidelity, moments_of(features), real, sure) == [0, 1]
    ratio, distance = quality([0, 1], fidelity, moments_of(features), real, sure)
    assert ratio == pytest.approx((20 + 15.1) / 2)
    together = features[:, [0, 1], [0, 1]].flatten(0, 1)
    assert distance == pytest.approx(real.distances(torch.ones(1, 1).double(), 200, *moments(together)).item())
    # where realism costs too much, it stays with the faithful
    assert policy(fidelity - torch.tensor([[0.0, 0.0], [0.0, 9.0]]), moments_of(features), real, sure) == [0, 0]


def test_the_policy_knows_what_is_taken_for_what():
    draw = torch.Generator().manual_seed(0)
    real, features = Gaussian(torch.randn(400, 4, generator=draw)), torch.randn(100, 2, 2, 4, generator=draw).double()
    # the second kind gains a little by candidate 1, which ruins the first
    fidelity = torch.tensor([[20.0, 10.0], [15.0, 16.0]]).expand(100, 2, 2).double()
    assert policy(fidelity, moments_of(features), real, torch.eye(2).double()) == [0, 1]
    # half of the first are taken for the second
    assert policy(fidelity, moments_of(features), real, torch.tensor([[0.5, 0.5], [0.0, 1.0]]).double()) == [0, 0]


def moments(features):
    """(1, F) and (1, F, F): the sums of features (N, F) and of their outer products."""
    return features.sum(0, keepdim=True), (features.T @ features)[None]


def test_every_damage_of_the_calibration_is_of_pictures():
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    for kind, damage in damages().items():
        seen = damage(pictures, seed=3)
        assert seen.shape == pictures.shape
        assert seen.abs().max() <= 1
        assert torch.equal(seen, pictures) == (kind == "no damage")
