"""Measuring edits: what it writes, that the numbers are what they are called, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from confident_ode.cli.editing import another_class, measure_edits, steps_listed
from confident_ode.evaluation import editing
from confident_ode.evaluation.benchmark import resamples
from confident_ode.evaluation.classifier import load_classifier
from confident_ode.evaluation.editing import Editor, Judge, at_distance, blobs, decoding, steps_of, translate_calls
from confident_ode.evaluation.frechet import Gaussian, frechet_distance
from confident_ode.evaluation.metrics import psnr
from confident_ode.priors.loading import load
from PIL import Image
from prior.tiny import write_prior


def measure(photos, output, prior, count=3, inpaint_steps="2,3", steps=10, solver="euler"):
    measure_edits(photos, output, str(prior), count, inpaint_steps, steps, 3.0, solver, 0, "val", "cpu", "fp32")


def test_a_report_curves_and_a_sheet(flower_photos, two_flowers, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(editing, "RETURN_STEPS", 3)
    monkeypatch.setattr("confident_ode.cli.editing.RESAMPLES", 20)
    monkeypatch.setattr(editing, "DEPTHS", {"DDIB": (0.3, 0.6), "DiffEdit": (0.6,)})
    monkeypatch.setattr("confident_ode.cli.editing.DEPTHS", editing.DEPTHS)
    measure(flower_photos, tmp_path, two_flowers)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["editing.md", "editing.png", "pictures.png"]
    report = (tmp_path / "editing.md").read_text()
    assert report in capsys.readouterr().out
    rows = {line.split(" | ")[0].strip("| ") for line in report.splitlines() if line.startswith("|")}
    kinds = {
        f"{kind}, {order} order, {noise} noise"
        for kind in ("ODE", "SDE")
        for order in ("first", "second")
        for noise in ("fresh", "fixed")
    }
    assert rows >= {*kinds, "SDE − ODE", "0.3", "0.6", "DDIM", "Cycle-SDE", "Cycle-SDE, recorded noise"}
    assert "| Cycle-SDE | to the bit | to the bit | to the bit |" in report
    assert "nan" not in report
    for name in ("editing.png", "pictures.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 1}, "at least 2 photos"),
        ({"count": 7}, "6 photos to edit of the classes rose, tulip, and 7 are wanted"),
        ({"inpaint_steps": "50,25"}, "numbers of at least 2 that rise"),
        ({"inpaint_steps": "many"}, "numbers of at least 2 that rise"),
        ({"steps": 5}, "10 steps"),
        ({"solver": "magic"}, "solver 'magic' is unknown"),
    ],
)
def test_what_it_cannot_do_it_says_before_it_starts(flower_photos, two_flowers, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        measure(flower_photos, tmp_path / "out", two_flowers, **change)
    assert not (tmp_path / "out").exists()


def test_a_prior_without_classes_is_refused(flower_photos, tmp_path):
    write_prior(tmp_path / "plain")
    with pytest.raises(ValueError, match="no prior of RGB pictures with classes"):
        measure(flower_photos, tmp_path / "out", tmp_path / "plain")


def test_steps_and_classes():
    assert steps_listed("25,50,100") == [25, 50, 100]
    labels = torch.arange(40) % 5
    targets = another_class(labels, 5)
    assert (targets != labels).all()
    assert targets.bincount().min() >= 6


@pytest.fixture(scope="module")
def editor(two_flowers):
    pictures = 2 * torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 1
    return Editor(load(two_flowers), pictures, torch.tensor([0, 1, 0]), torch.tensor([1, 0, 1]), batch=2)


def judge_of(pictures, **options):
    classifier = load_classifier()
    real = torch.randn(200, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Judge(pictures, classifier, Gaussian(real), resamples(len(pictures), 20), **options), real


def test_the_numbers_are_what_they_are_called(editor):
    edited = (editor.photos + 0.1).clamp(-1, 1)
    judge, real = judge_of(editor.photos, targets=torch.tensor([0, 1, 2]))
    found = judge(edited)
    assert found["psnr"][0] == pytest.approx(np.mean(psnr(edited, editor.photos)), abs=1e-4)
    features = judge.features(edited)
    assert found["fd"][0] == pytest.approx(frechet_distance(features, real), rel=1e-3)
    assert found["l2"][0] == pytest.approx(((edited - editor.photos) / 2).flatten(1).norm(dim=1).mean().item())
    right = judge.classifier(edited).argmax(1) == torch.tensor([0, 1, 2])
    assert found["success"][0] == pytest.approx(right.double().mean().item())
    assert judge(editor.photos)["features"][0] == 0


def test_psnr_of_a_hole_is_that_of_the_hole(editor):
    mask = torch.zeros(3, 1, 16, 16)
    mask[..., :4] = 1
    judge, _ = judge_of(editor.photos)
    edited = editor.photos + 0.2 * mask
    assert judge(edited, mask)["psnr"][0] == pytest.approx(20, abs=1e-3)


def test_holes_have_their_share_and_hang_together():
    masks = blobs(5, 32, 0.2)
    assert masks.mean((1, 2, 3)).tolist() == pytest.approx([0.2] * 5, abs=0.01)
    assert not torch.equal(masks[0], masks[1])
    assert (masks[..., 1:] != masks[..., :-1]).float().mean() < 0.1


@pytest.mark.parametrize("kind", ["ODE", "SDE"])
def test_the_calls_are_counted_and_no_batch_changes_a_result(editor, kind):
    calls = []
    counted = replace(editor, on_call=lambda: calls.append(1))
    both = counted.translated(kind, 0.5, 10)
    assert len(calls) == 2 * translate_calls(kind, 0.5, 10)
    torch.testing.assert_close(both, replace(editor, batch=3).translated(kind, 0.5, 10), rtol=0, atol=1e-3)


def test_what_is_not_filled_in_stays(editor):
    masks = editor.holes("large masks")
    for solver in ("ddpm", "dpmpp_2m"):
        made = editor.inpainted(masks, solver, 4)
        assert torch.equal(made * (1 - masks), editor.photos * (1 - masks))
        assert not torch.equal(made, editor.photos)


def test_a_path_has_the_steps_that_it_says(editor):
    assert len(decoding(editor.prior, 1.0, 25)) == 26
    assert steps_of(0.3, 50) == 15


def test_between_two_depths_a_curve_is_straight_and_beyond_unknown():
    curve = [
        {"l2": torch.tensor([2.0, 2.0]), "fd": torch.tensor([5.0, 6.0])},
        {"l2": torch.tensor([1.0, 1.0]), "fd": torch.tensor([1.0, 2.0])},
    ]
    assert at_distance(curve, torch.tensor([1.5, 1.25]), "fd").tolist() == [3.0, 3.0]
    assert at_distance(curve, torch.tensor([0.5, 3.0]), "fd").isnan().all()


def test_it_is_a_command(command, flower_photos, two_flowers, tmp_path):
    result = command("edits", flower_photos, "-o", tmp_path / "out", "--prior", two_flowers, "--count", 1)
    assert result.exit_code == 2
    assert result.stderr == "Measuring edits takes at least 2 photos, 10 steps, and a seed of at least 0.\n"
    assert not Path(tmp_path / "out").exists()
