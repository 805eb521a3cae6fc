import numpy as np
import pytest
from confident_ode.corruptions.catalogue import CORRUPTIONS, FAMILIES, LOOKS
from PIL import Image

QUICK = ("--corruption", "ripple", "--corruption", "hue_shift")


@pytest.fixture
def corrupt(command, tmp_path):
    def run(*arguments, output=tmp_path / "out"):
        return command("corrupt", *arguments, "-o", output)

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"), int)


def test_a_picture_for_each_corruption_and_severity_and_a_sheet(corrupt, photo, tmp_path):
    given = photo("my photo.jpg")
    result = corrupt(given, *QUICK, "--severity", 3, "--severity", 1)
    assert (result.exit_code, result.stderr) == (0, "")
    made = [f"my photo_{name}_{severity}.png" for name in ("hue_shift", "ripple") for severity in (1, 3)]
    assert names(tmp_path / "out") == sorted([*made, "my photo_corruptions.png"])
    for name in made:
        assert Image.open(tmp_path / "out" / name).size == Image.open(given).size
    changes = [np.abs(pixels(tmp_path / "out" / name) - pixels(given)).mean() for name in made[2:]]
    assert 0 < changes[0] < changes[1]
    assert pixels(tmp_path / "out" / "my photo_corruptions.png").std() > 10
    assert result.stdout == f"{given} -> {tmp_path / 'out' / 'my photo'}_*: 4 damaged, and a sheet\n"


def test_all_that_there_are_at_severity_five(corrupt, photo, tmp_path):
    pytest.importorskip("imagecorruptions", reason="no imagecorruptions-imaug (pip install it)")
    assert corrupt(photo()).exit_code == 0
    assert names(tmp_path / "out") == sorted(
        [f"photo_{name}_5.png" for name in CORRUPTIONS] + ["photo_corruptions.png"]
    )


def test_a_seed_is_a_damage(corrupt, photo, tmp_path):
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        corrupt(photo(), "--corruption", "masks", "--seed", seed, output=tmp_path / folder)
    for name in (f"photo_{name}_5.png" for name in FAMILIES["masks"]):
        a, b, c = ((tmp_path / folder / name).read_bytes() for folder in "abc")
        assert a == b != c


def test_what_cannot_be_damaged_is_a_line_each_and_the_others_are_made(corrupt, photo, tmp_path):
    broken, cut, tiny = tmp_path / "broken.png", photo("cut.png"), photo("tiny.png", (7, 40))
    broken.write_text("no picture")
    cut.write_bytes(cut.read_bytes()[:90])
    folder, absent = tmp_path / "folder", tmp_path / "absent.png"
    folder.mkdir()
    bad = {
        broken: "is not a picture",
        cut: "damaged or cut off",
        tiny: "at least 8",
        folder: "is a folder",
        absent: "not",
    }
    result = corrupt(*bad, photo("a.png"), photo("more/a.png"), photo("A.jpg"), *QUICK)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == len(bad)
    for line, (path, words) in zip(lines, bad.items(), strict=True):
        assert line.startswith(str(path))
        assert words in line
        assert line.endswith(".")
    # names that are one on some systems get a number, and the sheet is of the first that could be read
    made = [f"{stem}_{name}_5.png" for stem in ("a", "a_2", "A_3") for name in ("hue_shift", "ripple")]
    assert names(tmp_path / "out") == sorted([*made, "a_corruptions.png"])


def test_no_photo_is_written_over(corrupt, photo, tmp_path):
    other = photo("a_ripple_5.png", (30, 30))
    before = other.read_bytes()
    result = corrupt(photo("a.png"), other, *QUICK, output=tmp_path)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "written over" in line
    assert other.read_bytes() == before
    assert "a_ripple_5_ripple_5.png" in names(tmp_path)


def test_the_list_says_what_each_looks_like(command):
    result = command("corrupt", "--list")
    assert result.exit_code == 0
    for name, looks in LOOKS.items():
        assert any(line.split(maxsplit=1)[0] == name and looks in line for line in result.stdout.splitlines() if line)


def test_without_the_library_the_others_are_made_and_a_line_says_what_to_install(
    command, corrupt, photo, tmp_path, without_library
):
    result = corrupt(photo())
    assert result.exit_code == 0
    (line,) = result.stderr.splitlines()
    assert "pip install imagecorruptions-imaug" in line
    assert all(name in line for name in FAMILIES["imagenet-c"])
    assert len(names(tmp_path / "out")) == 30 + 1
    listed = command("corrupt", "--list").stdout
    assert listed.count("cannot run here)") == 17
    assert "pip install imagecorruptions-imaug" in listed


@pytest.mark.parametrize("name", ["snow", "imagenet-c"])
def test_what_cannot_run_at_all_stops_before_any_picture(corrupt, photo, tmp_path, without_library, name):
    result = corrupt(photo(), "--corruption", name)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "pip install imagecorruptions-imaug" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--corruption", "ripples"), "the nearest name is ripple"),
        ((*QUICK, "--severity", 0), "from 1 to 5"),
        ((*QUICK, "--severity", 3, "--severity", 6), "from 1 to 5"),
    ],
)
def test_bad_values_stop_before_any_picture(corrupt, photo, tmp_path, options, words):
    result = corrupt(photo(), *options)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert words in line
    assert line.endswith(".")
    assert not (tmp_path / "out").exists()
