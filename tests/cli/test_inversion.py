"""Measuring inversions: what it writes, and what it refuses."""

import numpy as np
import pytest
import torch
from confident_ode.cli.inversion import measure_inversions
from confident_ode.evaluation.inversion import WAYS, Inverter, misnamed, noised, psnrs
from confident_ode.priors.loading import load
from PIL import Image

PICTURES = ("inversions.png", "robustness.png", "pictures.png")


def measure(photos, output, prior, count=2, steps=3, depth=0.5):
    measure_inversions(photos, output, str(prior), count, depth, steps, 7.5, 2, 0, "val", "cpu")


def inverter(folder):
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.tensor([0, 1, 0])
    return Inverter(load(folder), pictures, labels, 1 - labels, guidance=7.5, steps=4, updates=3, batch=2)


def test_a_report_and_its_pictures(flower_photos, two_flowers, tmp_path, capsys):
    measure(flower_photos, tmp_path, two_flowers)
    report = (tmp_path / "inversions.md").read_text()
    assert report in capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in report.splitlines() if line.startswith("|")]
    assert [row[0] for row in rows if row[0] in WAYS] == [*WAYS, *WAYS]
    exact = {row[0] for row in rows if len(row) == 8 and row[3] == "100.00"}
    assert exact == {"direct", "direct, away from source"}
    assert all(np.asarray(Image.open(tmp_path / name)).std() > 10 for name in PICTURES)
    assert "](robustness.png)" in report


def test_what_comes_back(two_flowers):
    """Direct inversion to the bit, negative prompt as without guidance, and a fit better than plain DDIM."""
    ours = inverter(two_flowers)
    back = {way: psnrs(ours.came_back(way)[:, 0], ours.photos).mean().item() for way in WAYS}
    assert back["direct"] == back["direct, away from source"] == 100
    assert back["DDIM"] < back["direct, source unguided"] < 100
    assert back["negative prompt"] == pytest.approx(back["guidance 1"], abs=1e-3)
    assert back["DDIM"] < back["Null-Text"] + 1e-6
    assert back["Null-Text"] < back["TOP, noise at every step"]


def test_a_picture_comes_back_alike_in_any_batch(two_flowers):
    ours = inverter(two_flowers)
    alone = Inverter(**{**vars(ours), "batch": 1})
    for way in WAYS:
        torch.testing.assert_close(alone.came_back(way, (True,)), ours.came_back(way, (True,)), rtol=0, atol=2e-3)


def test_noise_and_wrong_names(two_flowers):
    ours = inverter(two_flowers)
    assert (noised(ours, 10).photos - ours.photos).std().item() == pytest.approx(10 / 127.5, rel=0.2)
    assert noised(ours, 300).photos.abs().max() <= 1
    assert torch.equal(misnamed(ours).labels, ours.targets)


@pytest.mark.parametrize("change", [{"count": 1}, {"steps": 1}, {"depth": 0}])
def test_what_it_cannot_do_it_says_before_it_starts(flower_photos, two_flowers, tmp_path, change):
    with pytest.raises(ValueError, match="takes 2 or more photos and steps"):
        measure(flower_photos, tmp_path / "out", two_flowers, **change)
    assert not (tmp_path / "out").exists()


def test_it_is_a_command(command, flower_photos, two_flowers, tmp_path):
    result = command("inversions", flower_photos, "-o", tmp_path / "out", "--prior", two_flowers, "--count", 1)
    assert result.exit_code == 2
    assert "takes 2 or more photos and steps" in result.stderr
