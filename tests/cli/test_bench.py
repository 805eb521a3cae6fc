import csv

import numpy as np
import pytest
from confident_ode.cli.app import BENCH_METHODS
from confident_ode.cli.bench import methods_of, read_methods
from confident_ode.corruptions.damages import SEVERE
from confident_ode.evaluation import benchmark
from PIL import Image
from prior.tiny import write_prior
from safetensors.torch import load_file

METHODS = """
damages = ["blocks", "gaussian noise"]

[code]
steps = 3
updates = 2
blocks = 1

[[method]]
name = "DDIM"
clip = false
updates = 0

[[method]]
name = "CODE"

[[method]]
name = "SDEdit"
method = "sdedit"
steps = 2
depth = [0.1, 0.5]
"""
NAMES = ["Original", "Damaged", "DDIM", "CODE", "SDEdit 0.1", "SDEdit 0.5"]
HELD_OUT = 9


@pytest.fixture
def few(monkeypatch):
    """5 pictures are enough for a Fréchet distance, and a few resamples for an interval."""
    monkeypatch.setattr(benchmark, "FEATURES", 1)
    monkeypatch.setattr(benchmark.resamples, "__defaults__", (20, 0))


@pytest.fixture
def photos(tmp_path):
    """A folder of 6 and 9 photos, the latter named against the order of the table."""
    folder, draw, rows = tmp_path / "photos", np.random.default_rng(0), ["split,file,class"]
    for split, count in (("train", 6), ("val", HELD_OUT)):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            rows.append(f"{split},photo-{count - i}.png,flower")
            pixels = draw.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / split / f"photo-{count - i}.png")
    (folder / "CREDITS.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture
def bench(command, prior_folder, photos, tmp_path):
    """bench(options, methods=text) -> the result of the benchmark into tmp_path / "out"."""

    def run(*options, methods=METHODS, prior=prior_folder, folder=photos, output=tmp_path / "out"):
        file = tmp_path / "methods.toml"
        file.write_text(methods)
        return command(
            *("bench", folder, "-o", output, "--prior", prior, "--methods", file, "--count", 4, "--batch", 3, *options)
        )

    return run


def table(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_row_for_each_photo_damage_and_method_and_the_tables_and_pictures(few, bench, tmp_path):
    result = bench()
    assert (result.exit_code, result.stderr) == (0, "")
    out = tmp_path / "out"
    rows = table(out)
    assert len(rows) == 4 * 2 * len(NAMES)
    # of 9 by name the second half is 5 to 9, of which 4 are spread evenly
    assert {row["photo"] for row in rows} == {f"photo-{i}.png" for i in (5, 6, 7, 8)}
    assert {(row["family"], row["damage"]) for row in rows} == {("noise", "gaussian noise"), ("masks", "blocks")}
    assert list(dict.fromkeys(row["method"] for row in rows)) == NAMES
    assert {row["method"]: row["calls"] for row in rows} == dict(
        zip(NAMES, ["0", "0", "9", "12", "3", "3"], strict=True)
    )
    of = {name: [row for row in rows if row["method"] == name] for name in NAMES}
    assert (
        {row["psnr_to_clean"] for row in of["Original"]}
        == {row["psnr_to_input"] for row in of["Damaged"]}
        == {"60.0000"}
    )
    assert all(0 < float(row["l2_to_input"]) < 28 for name in NAMES[2:] for row in of[name])
    text = (out / "table.md").read_text(encoding="utf-8")
    assert text in result.stdout
    assert "4 photos spread evenly over the second half of the split 'val'" in text
    assert "n = 8 pictures" in text
    assert "at most 12 network calls" in text
    assert "noise, n = 4 | masks, n = 4" in text
    assert "minus CODE | PSNR" in text
    assert "SDEdit is most real as SDEdit 0." in text
    for name in NAMES:
        assert f"\n| {name} | " in text
    assert Image.open(out / "tradeoff.png").size[0] > 500
    sheet = np.asarray(Image.open(out / "sheet.png"))
    # two photos in each of five columns, enlarged to 224 pixels each, and two rows
    assert 5 * 448 < sheet.shape[1] < 5 * 464 + 200
    assert 2 * 224 < sheet.shape[0] < 2 * 224 + 150


def test_what_is_done_is_not_done_again_and_the_result_is_the_same(few, bench, tmp_path, monkeypatch):
    bench()
    out = tmp_path / "out"
    parts, results = contents(out / "parts"), contents(out)
    assert len(parts) == 2 * 4
    # as if it had been killed in the second batch of one part and before another
    cut, gone = sorted((out / "parts").glob("code_*"))[0], sorted((out / "parts").glob("sdedit-0.1_*"))[0]
    cut.write_bytes(benchmark.save({name: value[:3] for name, value in load_file(cut).items()}))
    gone.unlink()
    restored, restore = [], benchmark.Restoration.restore

    def counted(self, prior, pictures, seed, on_call):
        restored.append((self.name, len(pictures)))
        return restore(self, prior, pictures, seed, on_call)

    monkeypatch.setattr(benchmark.Restoration, "restore", counted)
    assert bench().exit_code == 0
    assert restored == [("CODE", 1)]
    assert contents(out / "parts") == parts
    assert contents(out) == results


def test_parts_of_anything_else_are_not_mixed_in(few, bench, photos, tmp_path):
    other = tmp_path / "other"
    write_prior(other, scheduler={"beta_end": 0.03})
    known = set()

    def new(*options, **named):
        assert bench(*options, **named).exit_code == 0
        found = {path.name for path in (tmp_path / "out" / "parts").iterdir()} - known
        known.update(found)
        return len(found)

    assert new() == 8
    # SDEdit takes nothing from CODE's settings, and DDIM says itself how many updates it makes
    assert new(methods=METHODS.replace("updates = 2", "updates = 3")) == 2
    assert new("--seed", 1) == 8
    assert new("--precision", "bf16") == 8
    assert new(prior=other) == 8
    Image.new("RGB", (20, 20), "red").save(photos / "val" / "photo-5.png")
    assert new() == 8


def test_a_photo_that_cannot_be_used_is_told_and_left_out(few, bench, photos, tmp_path):
    (photos / "val" / "photo-5.png").write_bytes(b"nothing of the kind")
    Image.new("RGB", (8, 8)).save(photos / "train" / "photo-1.png")
    result = bench("--count", 3)
    assert result.exit_code == 0
    first, second = result.stderr.splitlines()
    assert "photo-5.png is not a picture" in first
    assert "photo-1.png is 8×8 pixels, and the prior 16×16" in second
    assert {row["photo"] for row in table(tmp_path / "out")} == {"photo-6.png", "photo-7.png", "photo-8.png"}


@pytest.mark.parametrize(
    ("options", "named", "words"),
    [
        (
            ["--count", 2],
            {},
            "at least 5 pictures, 5 for each feature, and 2 photos × 2 damages are 4: take at least 3",
        ),
        (["--count", 6], {}, "has 5 photos: take --count 5 at most"),
        (["--count", 0], {}, "at least 1 photo"),
        (["--split", "test"], {}, "no CREDITS.csv that names photos of the split 'test'"),
        (["--precision", "fp8"], {}, "precision 'fp8' is unknown"),
        ([], {"prior": "nothing"}, "There is no prior 'nothing'"),
        ([], {"methods": "methods ="}, "is not a TOML file"),
        ([], {"methods": "calls = 10"}, "has no methods"),
        ([], {"methods": METHODS + '[[method]]\nname = "DDIM"'}, "has two methods 'DDIM'"),
        ([], {"methods": METHODS.replace('"CODE"', '"ours"')}, "has no method 'CODE' to compare with"),
        ([], {"methods": METHODS + "strength = 1"}, "There is no setting 'strength'"),
        ([], {"methods": METHODS.replace("0.1, 0.5", '"deep"')}, "The depth 'deep' is not understood"),
        ([], {"methods": METHODS.replace("0.1, 0.5", "1.5")}, "SDEdit 1.5: The depth 1.5 is no fraction"),
        ([], {"methods": "calls = 9\n" + METHODS}, "CODE makes 12 network calls for a picture, and 9 are allowed"),
        ([], {"methods": METHODS.replace('"blocks"', '"scratches"')}, "take some of gaussian noise, speckle"),
        ([], {"methods": METHODS.replace('name = "DDIM"', "name = 1")}, "A method has no name"),
    ],
)
def test_what_is_wrong_is_one_sentence_before_anything_is_made(few, bench, tmp_path, options, named, words):
    result = bench(*options, **named)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert words in line
    assert line.endswith(".")
    assert not (tmp_path / "out").exists()


def test_photos_without_a_table_and_folders_that_are_none(few, bench, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for named, words in (
        ({"folder": tmp_path / "empty"}, "no CREDITS.csv"),
        ({"folder": tmp_path / "nowhere"}, "no CREDITS.csv"),
        ({"output": tmp_path / "file"}, "cannot be used for the results"),
    ):
        result = bench(**named)
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert words in line


def test_the_file_that_comes_along_compares_the_paper_s_methods_on_all_damages():
    methods, damages, most, against = read_methods(BENCH_METHODS)
    names = [method.name for method in methods]
    assert names[:4] == ["DDIM", "DDIM with CBC", "CODE without CBC", "CODE"]
    assert {method.curve for method in methods if method.curve} == {"SDEdit"}
    assert damages == [name for damages in SEVERE.values() for name in damages]
    assert (most, against) == (150, "CODE")
    # the four differ in nothing else
    ours = [method.settings.used() for method in methods[:4]]
    differs = {name for name in ours[0] if len({str(each[name]) for each in ours}) > 1}
    assert differs == {"clip", "updates"}


def test_a_list_of_depths_is_a_curve_of_any_method():
    base = {"steps": 4, "depth": 0.2}
    (one,) = methods_of({"name": "A"}, base)
    assert (one.name, one.curve, one.settings.depth, one.settings.steps) == ("A", None, 0.2, 4)
    first, second = methods_of({"name": "A", "depth": [0.3, "t=500"]}, base)
    assert [first.name, second.name, first.curve, second.curve] == ["A 0.3", "A t=500", "A", "A"]
    assert second.settings.depth == "t=500"
    # what is CODE's is not given to other methods
    (other,) = methods_of({"name": "B", "method": "odedit"}, base)
    assert other.settings.steps == 99
