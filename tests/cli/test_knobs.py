import numpy as np
import pytest
import torch
from confident_ode.evaluation.knobs import NO_CURVE, NO_UPDATES
from confident_ode.evaluation.restoring import encoder_of
from confident_ode.priors.calibration import Calibration, discriminants
from confident_ode.priors.loading import load
from confident_ode.samplers.noise_levels import decode_path
from confident_ode.samplers.statistics import read
from PIL import Image
from prior.tiny import write_prior

QUICK = ("--steps", 3, "--updates", 2, "--blocks", 1, "--depths", "0.3,t=400", "--step-sizes", "1e-3,2e-3")
# random weights find nothing wrong with any photo
NEVER = ("--stop-at", 0)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """A tiny prior with a calibration beside it, whose every choice is the preset light."""
    folder = tmp_path_factory.mktemp("calibrated") / "tiny"
    write_prior(folder)
    prior = load(folder)
    levels = decode_path(prior.levels, prior.levels.depth(fraction=0.4), 2, "karras").flip(0)
    pictures = 2 * torch.rand(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 1
    with torch.inference_mode():
        found = torch.stack([read(encoder_of(prior, None, True, 8), kind, levels) for kind in pictures])
    settings = {"light": {"depth": 0.15}}
    Calibration(levels.cpu(), *discriminants(found), ("a", "b"), ("light",) * 2, settings).save(folder)
    return folder


@pytest.fixture
def knobs(command, prior_folder, tmp_path):
    def made(photo, *arguments, prior=prior_folder, output=tmp_path / "out"):
        return command("knobs", photo, "-o", output, "--prior", prior, *QUICK, *NEVER, *arguments)

    return made


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_four_pictures_and_the_numbers(knobs, calibrated, photo, tmp_path):
    result = knobs(photo(), prior=calibrated)
    assert (result.exit_code, result.stderr) == (0, "")
    assert names(tmp_path / "out") == ["convergence.png", "curve.png", "film.png", "grid.png"]
    for name in names(tmp_path / "out"):
        assert np.asarray(Image.open(tmp_path / "out" / name)).std() > 10
    first, *rows, last = result.stdout.splitlines()
    assert first.startswith("the photo: damage seen ")
    assert [row.split(":")[0] for row in rows] == [
        "depth 0.3, step size 0.001",
        "depth 0.3, step size 0.002",
        "depth t=400, step size 0.001",
        "depth t=400, step size 0.002",
        "depth 0.4, step size 0.02 (balanced)",
    ]
    # five runs of 2 updates, one of 0 and one of 1, and three readings of each and of the photo
    up, down = 4, 5
    calls = 5 * (up + 3 + down) + (up + down) + (up + 2 + down) + 8 * 3
    assert last.endswith(f"grid.png, curve.png, convergence.png, film.png; {calls} network calls")


def test_without_a_calibration_and_without_updates_a_sentence_says_what_is_left_out(knobs, photo, tmp_path):
    result = knobs(photo())
    assert result.exit_code == 0
    assert NO_CURVE in result.stdout.splitlines()
    assert names(tmp_path / "out") == ["convergence.png", "film.png", "grid.png"]
    result = knobs(photo(), "--updates", 0, output=tmp_path / "none")
    assert NO_UPDATES in result.stdout.splitlines()
    assert names(tmp_path / "none") == ["film.png", "grid.png"]


def test_auto_marks_what_it_chooses_and_what_is_said_goes_before(knobs, calibrated, photo):
    chosen = knobs(photo(), "--preset", "auto", prior=calibrated)
    assert "depth 0.15, step size 0.02 (light)" in chosen.stdout
    said = knobs(photo(), "--preset", "auto", "--depth", 0.3, prior=calibrated)
    assert "depth 0.3, step size 0.02 (light)" in said.stdout


@pytest.mark.parametrize("how", ["pad", "stretch", "whole"])
def test_any_fit(knobs, photo, tmp_path, how):
    assert knobs(photo(), "--fit", how).exit_code == 0
    assert "grid.png" in names(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--depths", "0.3,deep"), "not understood"),
        (("--depths", "0.3,2"), "no fraction"),
        (("--step-sizes", "a,b"), "not understood"),
        (("--step-sizes", "1.9"), "unstable"),
        (("--preset", "best"), "unknown"),
        (("--preset", "auto"), "no calibration"),
        (("--guidance", 3), "needs a class"),
        (("--fit", "squeeze"), "unknown"),
    ],
)
def test_bad_values_stop_before_any_picture(knobs, photo, tmp_path, options, words):
    result = knobs(photo(), *options)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert words in line
    assert line.endswith(".")
    assert not (tmp_path / "out").exists()


def test_bad_photos_and_folders_are_one_sentence(knobs, photo, tmp_path):
    (tmp_path / "file").write_text("")
    own = photo("grid.png")
    before = own.read_bytes()
    for result, words in (
        (knobs(tmp_path / "none.png"), "is not there"),
        (knobs(photo(), output=tmp_path / "file"), "is a file"),
        (knobs(own, output=tmp_path), "written over"),
    ):
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert words in line
    assert own.read_bytes() == before
