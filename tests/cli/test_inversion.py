"""Measuring inversions: what it writes, and what it refuses."""

import numpy as np
import pytest
import torch
from confident_ode.cli.inversion import measure_inversions
from confident_ode.evaluation.inversion import WAYS, Inverter, misnamed, noised, psnrs
from confident_ode.priors.loading import load
from PIL import Image
from prior.tiny import write_prior


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    """A tiny prior of random weights that knows two flowers."""
    folder = tmp_path_factory.mktemp("prior") / "tiny"
    write_prior(folder, unet={"num_class_embeds": 3}, labels={"0": "rose", "1": "tulip"})
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve pictures of noise in two classes, every second of which is there to invert."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(12):
        path = folder / ("rose" if i < 6 else "tulip") / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (16, 16, 3), np.uint8)).save(path)
    return folder


def measure(photos, output, prior, count=2, steps=3, depth=0.5):
    measure_inversions(photos, output, str(prior), count, depth, steps, 7.5, 2, 0, "val", "cpu")


def inverter(prior):
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.tensor([0, 1, 0])
    return Inverter(load(prior), pictures, labels, 1 - labels, guidance=7.5, steps=4, updates=3, batch=2)


def test_a_report_and_a_sheet(photos, prior, tmp_path, capsys):
    measure(photos, tmp_path, prior)
    report = (tmp_path / "inversions.md").read_text()
    assert report in capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in report.splitlines() if line.startswith("|")]
    assert [row[0] for row in rows if row[0] in WAYS] == [*WAYS, *WAYS]
    assert all(row[3] == "100.00" for row in rows if row[0] == "direct" and len(row) == 8)
    assert np.asarray(Image.open(tmp_path / "inversions.png")).std() > 10


def test_what_comes_back(prior):
    """Direct inversion to the bit, negative prompt as without guidance, and a fit better than plain DDIM."""
    ours = inverter(prior)
    back = {way: psnrs(ours.came_back(way)[:, 0], ours.photos).mean().item() for way in WAYS}
    assert back["direct"] == 100
    assert back["negative prompt"] == pytest.approx(back["guidance 1"], abs=1e-3)
    assert back["DDIM"] < back["Null-Text"] + 1e-6
    assert back["Null-Text"] < back["TOP, noise at every step"]


def test_a_picture_comes_back_alike_in_any_batch(prior):
    ours = inverter(prior)
    alone = Inverter(**{**vars(ours), "batch": 1})
    for way in WAYS:
        torch.testing.assert_close(alone.came_back(way, (True,)), ours.came_back(way, (True,)), rtol=0, atol=2e-3)


def test_noise_and_wrong_names(prior):
    ours = inverter(prior)
    assert (noised(ours, 10).photos - ours.photos).std().item() == pytest.approx(10 / 127.5, rel=0.2)
    assert noised(ours, 300).photos.abs().max() <= 1
    assert torch.equal(misnamed(ours).labels, ours.targets)


@pytest.mark.parametrize("change", [{"count": 1}, {"steps": 1}, {"depth": 0}])
def test_what_it_cannot_do_it_says_before_it_starts(photos, prior, tmp_path, change):
    with pytest.raises(ValueError, match="takes 2 or more photos and steps"):
        measure(photos, tmp_path / "out", prior, **change)
    assert not (tmp_path / "out").exists()
