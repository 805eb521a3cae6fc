import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from confident_ode.cli import batch as module
from PIL import Image

QUICK = ("--steps", 4, "--updates", 4, "--blocks", 2, "--stop-at", 0)


@pytest.fixture
def folder(photo, tmp_path):
    """A folder of three pictures, one of them in another folder."""
    for name, size in (("a.png", (40, 24)), ("b.png", (24, 40)), ("sub/c.png", (30, 30))):
        photo(f"in/{name}", size)
    return tmp_path / "in"


@pytest.fixture
def batch(command, prior_folder, tmp_path):
    """batch(folder and options) -> the result of restoring it into tmp_path / "out", quickly."""

    def restored(*arguments, output=tmp_path / "out"):
        return command("batch", *arguments, "-o", output, "--prior", prior_folder, *QUICK)

    return restored


def contents(folder):
    """{relative path: bytes} of all files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def done(result):
    """The names of the pictures that a run restored."""
    lines = [line for line in result.stdout.splitlines() if " -> " in line]
    return [Path(line.split(" -> ")[0]).name for line in lines]


def test_pictures_keep_their_places_and_are_what_restore_makes_of_each(
    batch, command, folder, tmp_path, prior_folder, photo
):
    result = batch(folder, "--seed", 3)
    assert (result.exit_code, result.stderr) == (0, "")
    assert list(contents(tmp_path / "out")) == ["a.json", "a.png", "b.json", "b.png", "sub/c.json", "sub/c.png"]
    # whatever came before it
    options = ("-o", tmp_path / "alone", "--prior", prior_folder, *QUICK, "--seed", 3)
    command("restore", folder / "sub/c.png", folder / "b.png", *options)
    for name in ("b", "sub/c"):
        alone = tmp_path / "alone" / f"{Path(name).name}_restored.png"
        assert (tmp_path / "out" / f"{name}.png").read_bytes() == alone.read_bytes()


def test_the_record_says_what_was_made_of_what(batch, folder, tmp_path, prior_folder):
    batch(folder, "--depth", "t=300", "--label", "dog", "--fit", "stretch")
    record = json.loads((tmp_path / "out/a.json").read_text())
    assert record["input"] == str(folder / "a.png")
    assert (record["input_size"], record["output_size"]) == ([40, 24], [27, 16])
    assert (record["prior"], record["fit"], record["together"]) == (str(prior_folder), "stretch", 1)
    settings = record["settings"]
    assert (settings["depth"], settings["label"], settings["steps"], settings["seed"]) == ("t=300", "dog", 4, 0)
    assert {"source", "weights", "version", "calls", "device"} <= record.keys()


def test_what_cannot_be_restored_is_a_line_each_and_listed_at_the_end(batch, folder, tmp_path, photo):
    data = photo("in/whole.jpg", (64, 64)).read_bytes()
    (folder / "broken.jpg").write_bytes(data[: len(data) // 2])
    (folder / "sub/notes.txt").write_text("no picture")
    (folder / "huge.ppm").write_text("P6 30000 30000 255 ")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "nothing").mkdir()
    (folder / "sub/loop").symlink_to(folder)
    (folder / ".hidden.png").write_text("no picture either")
    result = batch(folder)
    assert result.exit_code == 2
    wrong = [
        f"{folder / 'broken.jpg'} is damaged or cut off: the picture cannot be read to its end.",
        f"{folder / 'gone.png'} is not there.",
        f"{folder / 'huge.ppm'} has more pixels than is safe to open: make it smaller first.",
        f"{folder / 'sub/notes.txt'} is not a picture that can be read.",
    ]
    notes = [
        f"{folder / 'nothing'} is empty.",
        f"{folder / 'sub/loop'} is a link to a folder, and is not followed.",
    ]
    assert result.stderr.splitlines() == [*notes, *wrong, "4 could not be restored:", *wrong]
    assert done(result) == ["a.png", "b.png", "c.png", "whole.jpg"]
    # and again, as they may be mended
    assert batch(folder).stderr == result.stderr


def test_a_folder_that_cannot_be_looked_into_fails_alone(batch, folder, monkeypatch):
    look = os.scandir

    def scandir(place):
        if Path(place).name == "sub":
            raise PermissionError(13, "Permission denied", str(place))
        return look(place)

    monkeypatch.setattr(os, "scandir", scandir)
    result = batch(folder)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == f"{folder / 'sub'} cannot be looked into: permission denied."
    assert done(result) == ["a.png", "b.png"]


def test_pictures_that_would_share_a_name_are_kept_apart(batch, folder, tmp_path, photo):
    for name in ("a.bmp", "A.gif", "a.bmp.png"):
        photo(f"in/{name}")
    result = batch(folder)
    assert result.exit_code == 0
    names = {"A.gif": "A.gif.png", "a.bmp": "a.bmp.png", "a.bmp.png": "a.bmp.png.png", "a.png": "a.png.png"}
    for name, made in names.items():
        line = f"{folder / name} shares its name with another picture: its result is {made}."
        assert line in result.stderr.splitlines()
        record = json.loads((tmp_path / "out" / made).with_suffix(".json").read_text())
        assert record["input"] == str(folder / name)
    before = contents(tmp_path / "out")
    assert done(batch(folder)) == []
    assert contents(tmp_path / "out") == before


def test_again_only_what_is_missing_or_changed_is_made(batch, folder, tmp_path, photo):
    batch(folder)
    before = contents(tmp_path / "out")
    assert batch(folder).stdout == "Pictures that are done already: 3.\n"
    (tmp_path / "out/a.png").unlink()
    assert done(batch(folder)) == ["a.png"]
    (tmp_path / "out/b.json").write_text("{")
    assert done(batch(folder)) == ["b.png"]
    assert contents(tmp_path / "out") == before
    photo("in/sub/c.png", (50, 40))
    result = batch(folder)
    assert done(result) == ["c.png"]
    assert "other settings" not in result.stdout
    os.utime(folder / "a.png")
    assert done(batch(folder)) == []


def test_with_other_settings_all_is_made_anew_and_said(batch, folder, tmp_path):
    batch(folder)
    before = contents(tmp_path / "out")
    for options in (("--seed", 1), ("--seed", 1, "--fit", "pad"), ()):
        result = batch(folder, *options)
        assert result.stdout.splitlines()[0] == "Pictures made with other settings, which are made anew: 3."
        assert done(result) == ["a.png", "b.png", "c.png"]
    assert contents(tmp_path / "out") == before


def test_results_among_the_photos_are_not_restored_themselves(batch, folder):
    assert done(batch(folder, output=folder / "out")) == ["a.png", "b.png", "c.png"]
    assert done(batch(folder, output=folder / "out")) == []


def test_pictures_together_differ_by_rounding_only(batch, folder, tmp_path):
    batch(folder)
    batch(folder, "--batch", 2, output=tmp_path / "together")
    for name, together in (("a", 2), ("b", 2), ("sub/c", 1)):
        one, other = (
            np.asarray(Image.open(place / f"{name}.png"), int) for place in (tmp_path / "out", tmp_path / "together")
        )
        assert abs(one - other).max() <= 1
        assert json.loads((tmp_path / "together" / f"{name}.json").read_text())["together"] == together
    # which is no other setting
    assert done(batch(folder, "--batch", 3)) == []


def test_where_some_fail_together_each_is_tried_alone(batch, folder, monkeypatch):
    run = module.run

    def failing(prior, pictures, settings, **options):
        if len(pictures) > 1 or run(prior, pictures, settings).pictures.mean() > 1:
            raise ValueError("The restored picture has values that are no numbers.")
        return run(prior, pictures, settings, **options)

    monkeypatch.setattr(module, "run", failing)
    result = batch(folder, "--batch", 3)
    assert (result.exit_code, done(result)) == (0, ["a.png", "b.png", "c.png"])


def test_an_error_that_nobody_foresaw_is_shown_and_loses_only_its_picture(batch, folder, monkeypatch):
    read = module.read

    def failing(path):
        return read(path) if path.name != "b.png" else {}["b"]

    monkeypatch.setattr(module, "read", failing)
    result = batch(folder)
    assert (result.exit_code, done(result)) == (2, ["a.png", "c.png"])
    assert "KeyError: 'b'" in result.stderr
    lines = ["1 could not be restored:", f"{folder / 'b.png'} is not restored, for the reason above."]
    assert result.stderr.splitlines()[-2:] == lines


def test_a_result_that_cannot_be_written_fails_alone(batch, folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/sub").write_text("a file where a folder should be")
    result = batch(folder)
    assert (result.exit_code, done(result)) == (2, ["a.png", "b.png"])
    assert str(folder / "sub/c.png") in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is sent as on POSIX")
def test_killed_in_the_middle_it_goes_on_to_the_same_results(batch, photo, folder, tmp_path, prior_folder):
    for i in range(9):
        photo(f"in/more/{i}.png", (30 + i, 30))
    options = ("batch", folder, "-o", tmp_path / "out", "--prior", prior_folder, *QUICK)
    command = [sys.executable, "-c", "from confident_ode.cli import main; main()", *map(str, options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert " -> " in running.stdout.readline()
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=60)
    made = len(list((tmp_path / "out").rglob("*.json")))
    assert 1 <= made < 12
    result = batch(folder)
    assert f"Pictures that are done already: {made}." in result.stdout
    assert len(done(result)) == 12 - made
    batch(folder, output=tmp_path / "once")
    assert contents(tmp_path / "once").items() <= contents(tmp_path / "out").items()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray: pip install 'ray[data]'")
def test_over_ray_the_results_and_the_failures_are_the_same(batch, folder, tmp_path, monkeypatch):
    import ray

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_ADDRESS", "local")  # a cluster of its own
    monkeypatch.setenv("RAY_worker_niceness", "0")  # which has its share of a busy machine
    (folder / "notes.txt").write_text("no picture")
    here, there = batch(folder), batch(folder, "--engine", "ray", output=tmp_path / "there")
    assert (there.exit_code, sorted(done(there))) == (2, sorted(done(here)))
    assert "1 could not be restored:" in there.stderr
    assert there.stderr.splitlines()[-1] == here.stderr.splitlines()[-1]
    assert contents(tmp_path / "there") == contents(tmp_path / "out")
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--preset", "best"), "The preset 'best' is unknown"),
        (("--preset", "auto"), "has no calibration"),
        (("--fit", "round"), "The fit 'round' is unknown"),
        (("--fit", "whole", "--max-side", 8), "take a --max-side of at least that"),
        (("--batch", 0), "A batch has at least 1 picture."),
        (("--engine", "spark"), "The engine 'spark' is unknown"),
        (("--label", "bird"), "has no class 'bird'"),
    ],
)
def test_wrong_options_are_one_sentence_before_any_picture(batch, folder, tmp_path, options, words):
    result = batch(folder, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("out/*"))


def test_a_folder_without_pictures_is_one_sentence(batch, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for place, words in (
        (tmp_path / "empty", "There is no picture in"),
        (tmp_path / "none", "is no folder"),
        (folder / "a.png", "is no folder: `confident-ode restore` takes single pictures."),
    ):
        result = batch(place)
        assert result.exit_code == 2
        assert words in result.stderr.splitlines()[-1]
    assert "among the pictures" in batch(folder, output=folder).stderr


def test_it_has_the_options_of_restore_that_make_a_picture(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = command("batch", "--help").stdout
    assert all(name in text for name in ("--preset", "--clip-range", "--guidance", "--max-side", "--engine", "--batch"))
    assert not any(name in text for name in ("--film", "--samples", "--compare"))
