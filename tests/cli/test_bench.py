import csv
import io
import os
import re
import signal
from importlib import util
from importlib.metadata import version

import numpy as np
import psutil
import pytest
import torch
from confident_ode.cli import bench as bench_module
from confident_ode.cli.app import BENCH_METHODS
from confident_ode.cli.bench import assigned, damaged, read_all, read_config, usable
from confident_ode.corruptions import catalogue
from confident_ode.evaluation import benchmark, methods, perceptual, report
from confident_ode.evaluation.benchmark import Restorer
from confident_ode.evaluation.cases import Case, cases_of
from confident_ode.evaluation.methods import Automatic
from PIL import Image
from prior.tiny import write_prior

METHODS = """
corruptions = ["masking_random_color", "hue_shift"]

[code]
steps = 3
updates = 2
blocks = 1
stop_at = 0

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
depth = [0.1, 0.3, 0.5]
samples = 2
"""
NAMES = ["Original", "Damaged", "DDIM", "CODE", "SDEdit 0.1", "SDEdit 0.3", "SDEdit 0.5"]
COUNTS = [1, 1, 1, 1, 2, 2, 2]
QUICK = """
corruptions = ["masking_random_color", "hue_shift"]

[code]
steps = 2
updates = 1
blocks = 1
stop_at = 0

[[method]]
name = "CODE"

[[method]]
name = "SDEdit"
method = "sdedit"
steps = 1
depth = [0.1, 0.5]
"""
# of QUICK: the batches of 4 photos by 3, of 2 damages, of CODE and of SDEdit at 2 depths
OF_CODE, OF_SDEDIT = 2 * 2, 2 * 2 * 2
PARTS = f"parts-{version('confident-ode')}"
HELD_OUT = 9
REPORT_METHODS = BENCH_METHODS.with_name("report.toml")


@pytest.fixture
def few(monkeypatch):
    """5 pictures are enough for a Fréchet distance, and a few resamples for an interval."""
    monkeypatch.setattr(benchmark, "FEATURES", 1)
    monkeypatch.setattr(benchmark.resamples, "__defaults__", (20, 0))


@pytest.fixture
def undrawn(few, monkeypatch):
    """Figures take most of the time."""
    monkeypatch.setattr(report.Figure, "png", b"")
    monkeypatch.setattr(report.Figure, "svg", "")


class Means(torch.nn.Module):
    """A classifier whose two features are the means of red and of green."""

    def features(self, pictures):
        return pictures.mean((2, 3))[:, :2]


@pytest.fixture
def quick(undrawn, monkeypatch):
    """Nor does the flower classifier look."""
    monkeypatch.setattr(benchmark, "load_classifier", lambda device: Means())


def write_photo(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path):
    """A folder of 6 and 9 photos, the latter named against the order of the table."""
    folder, rows = tmp_path / "photos", ["split,file,class"]
    for split, count in (("train", 6), ("val", HELD_OUT)):
        for i in range(count):
            rows.append(f"{split},photo-{count - i}.png,flower")
            write_photo(folder / split / f"photo-{count - i}.png", 100 * count + i)
    (folder / "CREDITS.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture
def bench(command, prior_folder, photos, tmp_path):
    """bench(options, methods=text) -> the result of the benchmark into tmp_path / "out"."""

    def run(*options, methods=QUICK, prior=prior_folder, folder=photos, output=tmp_path / "out"):
        file = tmp_path / "methods.toml"
        file.write_text(methods)
        return command(
            *("bench", folder, "-o", output, "--prior", prior, "--methods", file, "--count", 4, "--batch", 3, *options)
        )

    return run


def table(folder):
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def numbers(text, title):
    """{name of a row: its cells} of the table of a Markdown report that has such a head."""
    lines = iter(text.splitlines())
    head = next(line for line in lines if line.startswith(f"| {title} |"))
    rows = [head]
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append(line)
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {row[0]: dict(zip(cells[0][1:], row[1:], strict=True)) for row in cells[2:]}


def photos_of(rows):
    """{corruption: the names of its photos}."""
    found = {}
    for row in rows:
        found.setdefault(row["corruption"], set()).add(row["photo"])
    return found


def mean_psnrs(rows):
    """{(damage, method): the mean PSNR to the clean photo}, the damage with its severity where there are several."""
    severities, each = {row["severity"] for row in rows}, {}
    for row in rows:
        damage = row["corruption"] if len(severities) == 1 else f"{row['corruption']}, {row['severity']}"
        each.setdefault((damage, row["method"]), []).append(float(row["psnr_to_clean"]))
    return {place: sum(values) / len(values) for place, values in each.items()}


def test_a_row_for_each_result_and_a_report_of_tables_figures_and_pictures(few, bench, tmp_path):
    result = bench(methods=METHODS)
    assert (result.exit_code, result.stderr) == (0, "")
    out = tmp_path / "out"
    rows = table(out)
    assert len(rows) == 4 * 2 * sum(COUNTS)
    # of 9 by name the second half is 5 to 9, of which each damage has 4
    assert {row["photo"] for row in rows} == {f"photo-{i}.png" for i in (5, 6, 7, 8, 9)}
    assert [len(names) for names in photos_of(rows).values()] == [4, 4]
    assert {(row["family"], row["corruption"], row["severity"]) for row in rows} == {
        ("masks", "masking_random_color", "5"),
        ("c-bar", "hue_shift", "5"),
    }
    of = {name: [row for row in rows if row["method"] == name] for name in NAMES}
    assert list(dict.fromkeys(row["method"] for row in rows)) == NAMES
    assert [sorted({row["result"] for row in of[name]}) for name in NAMES] == [["0", "1"][:count] for count in COUNTS]
    calls = [{float(row["calls"]) for row in of[name]} for name in NAMES]
    assert calls == [{0}, {0}, {9}, {12}, {3}, {3}, {3}]
    assert {float(row["psnr_to_clean"]) for row in of["Original"]} == {60.0}
    assert {float(row["psnr_to_input"]) for row in of["Damaged"]} == {60.0}
    assert {float(row["features_to_clean"]) for row in of["Original"]} == {0.0}
    assert all(0 < float(row["l2_to_input"]) < 28 for name in NAMES[2:] for row in of[name])
    # samples are of different chance
    places = [
        {(row["photo"], row["corruption"]): row["l2_to_input"] for row in each}
        for each in ([row for row in of["SDEdit 0.5"] if row["result"] == k] for k in "01")
    ]
    assert all(places[0][place] != places[1][place] for place in places[0])

    text = (out / "report.md").read_text(encoding="utf-8")
    assert text in result.stdout
    assert "report.html, report.md, results.csv." in result.stdout
    assert (
        "tiny, 16×16; 2 damages of severity 5, 4 photos for each, 5 in all of the second half of the split 'val' by "
        "name: n = 8 damaged pictures. At most 12 network calls for a result."
    ) in text
    assert "masks, n = 4 | c-bar, n = 4" in text
    assert "| minus CODE | PSNR" in text
    assert "SDEdit is most real as SDEdit 0." in text
    assert "| SDEdit, best 4 of 6 | 32 |" in text
    assert [*numbers(text, "method")] == NAMES
    shown = numbers(text, "PSNR to clean, dB")
    for (damage, method), mean in mean_psnrs(rows).items():
        if method in shown[damage]:
            assert float(shown[damage][method]) == pytest.approx(mean, abs=0.006)
    figures = re.findall(r"\n!\[[^\]]+\]\((.*)\)\n", text)
    assert figures == ["tradeoff.png", "calls.png", "gains.png", "features.png"]
    assert sorted(contents(out)) == sorted(["report.html", "report.md", "results.csv", *figures])
    for name in figures:
        assert Image.open(out / name).size[0] > 500
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    # two damages in six columns, and in those of the depths and what they were made of
    assert page.count('src="data:image/webp;base64,') == 2 * (5 + 4)
    assert "<td>SDEdit, best 4 of 6</td>" in page


def test_the_same_rows_as_parquet(quick, bench, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="no pyarrow")
    assert bench().exit_code == 0
    result = bench("--table", "parquet")
    assert result.exit_code == 0
    assert "report.html, report.md, results.parquet." in result.stdout
    read = parquet.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    rows = table(tmp_path / "out")
    assert [*read[0]] == [*rows[0]]
    assert len(read) == len(rows)
    for one, other in zip(read, rows, strict=True):
        words = ("photo", "family", "corruption", "method")
        assert [one[name] for name in words] == [other[name] for name in words]
        assert all(one[name] == float(other[name]) for name in one.keys() - {*words})


@pytest.fixture
def counted(monkeypatch):
    """What CODE and SDEdit restore: [(name of the method, pictures)]."""
    restored = []
    for kind in (methods.Restoration, methods.SDEdit):

        def restore(self, prior, pictures, seed, own=kind.restore):
            restored.append((self.name, len(pictures)))
            return own(self, prior, pictures, seed)

        monkeypatch.setattr(kind, "restore", restore)
    return restored


def test_what_is_done_is_not_done_again_and_the_result_is_the_same(quick, bench, counted, tmp_path):
    assert bench().exit_code == 0
    out = tmp_path / "out"
    parts, results = contents(out / PARTS), contents(out)
    assert len(counted) == OF_CODE + OF_SDEDIT
    assert len(parts) == len(counted) + 2
    counted.clear()
    gone = [name for name in parts if not name.startswith("input_")][:3]
    for name in gone:
        (out / PARTS / name).unlink()
    (out / "report.html").unlink()
    assert bench().exit_code == 0
    assert len(counted) == 3
    again = contents(out / PARTS)
    assert again.keys() == parts.keys()
    # of which only the seconds differ
    assert {name for name in parts if again[name] != parts[name]} <= {*gone}
    assert contents(out) == results
    counted.clear()
    assert bench().exit_code == 0
    assert counted == []


def test_ctrl_c_loses_one_batch_at_most(quick, bench, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert bench(output=whole).exit_code == 0
    act = benchmark.Restorer.__call__
    for batches, done in ((0, 0), (1, 1), (4, 5), (6, 11)):
        begun = []

        def interrupted(self, task, begun=begun, batches=batches):
            begun.append(task)
            if len(begun) > batches:
                raise KeyboardInterrupt
            return act(self, task)

        with monkeypatch.context() as patch:
            patch.setattr(benchmark.Restorer, "__call__", interrupted)
            result = bench(output=cut)
        assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")
        assert len(contents(cut / PARTS)) == 2 + done
        assert not contents(cut)
    assert bench(output=cut).exit_code == 0
    assert contents(cut) == contents(whole)


def test_a_failure_is_told_and_what_is_done_is_kept(quick, bench, tmp_path, monkeypatch):
    act = benchmark.Restorer.__call__

    def failing(self, task):
        if task.method.name == "SDEdit 0.1":
            raise MemoryError("too much")
        return act(self, task)

    with monkeypatch.context() as patch:
        patch.setattr(benchmark.Restorer, "__call__", failing)
        result = bench()
    assert result.exit_code == 2
    assert "too much" in result.stderr
    assert result.stderr.endswith("What is done is kept: the same command goes on.\n")
    assert len(contents(tmp_path / "out" / PARTS)) == 2 + OF_CODE + OF_SDEDIT // 2
    assert bench().exit_code == 0


def test_parts_of_anything_else_are_not_mixed_in(quick, bench, photos, tmp_path):
    known = set()

    def new(*options, **named):
        """(damaged pictures, batches) that were made."""
        assert bench(*options, **named).exit_code == 0
        found = {path.name for path in (tmp_path / "out" / PARTS).iterdir()} - known
        known.update(found)
        inputs = sum(name.startswith("input_") for name in found)
        return inputs, len(found) - inputs

    everything = OF_CODE + OF_SDEDIT
    assert new() == (2, everything)
    # SDEdit takes nothing from CODE's settings
    assert new(methods=QUICK.replace("updates = 1", "updates = 2")) == (0, OF_CODE)
    assert new("--seed", 1) == (2, everything)
    assert new("--severity", 4) == (2, everything)
    # a second picture of each, beside the first
    assert new(methods=QUICK + "samples = 2") == (0, OF_SDEDIT)
    # of a photo that is another, the batches that it is in, and no more
    Image.new("RGB", (20, 20), "red").save(photos / "val" / "photo-5.png")
    other = assigned(5, 4, 2, 0) == 0
    batches = sum(part.any(0).sum().item() for part in other.split(3))
    assert new() == (other.any(0).sum().item(), 3 * batches)


def test_damages_of_one_name_are_not_taken_for_each_other(tmp_path):
    """Our contrast is not that of ImageNet-C, and both may have left their pictures in one folder."""
    clean = torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)

    def one(family, scale):
        case = Case("contrast", 5, family, lambda pictures, seed: scale * pictures)
        return damaged([case], clean, torch.tensor([[0], [1]]), 0, tmp_path)["contrast"]

    assert not torch.equal(one("colour", 0.1), one("imagenet-c", 0.5))


def test_each_damage_is_done_to_its_photos(tmp_path):
    clean = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
    places = torch.tensor([[0, 4], [3, 1], [2, 0]])
    cases = [Case("as it is", 5, "none", lambda pictures, seed: pictures), Case("back", 5, "none", lambda p, seed: -p)]
    seen = damaged(cases, clean, places, 0, tmp_path)
    assert {name: pictures[:, 0, 0, 0].tolist() for name, pictures in seen.items()} == {
        "as it is": [0, 3, 2],
        "back": [251, 254, 255],
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("photos", "count", "damages"), [(5, 4, 2), (9, 7, 12), (100, 7, 3), (6, 6, 4), (1, 1, 3)])
def test_all_photos_are_damaged_about_as_often_and_none_twice_in_a_damage(photos, count, damages, seed):
    places = assigned(photos, count, damages, seed)
    assert places.shape == (count, damages)
    for own in places.T:
        assert len({*own.tolist()}) == count
    often = places.flatten().bincount(minlength=photos)
    assert len(often) == photos
    assert often.max() - often.min() <= 1


def test_which_photo_is_damaged_how_is_drawn_by_the_seed():
    first = assigned(40, 7, 3, 0)
    assert torch.equal(first, assigned(40, 7, 3, 0))
    assert not torch.equal(first, assigned(40, 7, 3, 1))
    # over all seeds any photo as often
    often = torch.stack([assigned(9, 3, 2, seed) for seed in range(600)]).flatten().bincount(minlength=9) / 400
    assert often.tolist() == pytest.approx([1] * 9, abs=0.2)


@pytest.mark.parametrize(("photos", "count", "expected"), [(5, 3, [0, 1, 3]), (5, 5, [0, 1, 2, 3, 4]), (9, 2, [0, 4])])
def test_the_same_photos_are_spread_evenly_over_all(photos, count, expected):
    for seed in range(2):
        assert assigned(photos, count, 3, seed, same=True).tolist() == [[place] * 3 for place in expected]


@pytest.mark.parametrize("same", [False, True])
def test_too_few_photos_are_one_sentence(same):
    assert assigned(5, 5, 3, 0, same).shape == (5, 3)
    with pytest.raises(ValueError, match=r"^There are 5 photos to restore: take --count 5 at most\.$"):
        assigned(5, 6, 3, 0, same)


def test_the_same_photos_for_every_damage(quick, bench, tmp_path):
    assert bench("--count", 3).exit_code == 0
    one, other = photos_of(table(tmp_path / "out")).values()
    assert (len(one), len(other), len(one | other)) == (3, 3, 5)
    assert bench("--count", 3, "--same-photos").exit_code == 0
    one, other = photos_of(table(tmp_path / "out")).values()
    assert one == other == {"photo-5.png", "photo-6.png", "photo-8.png"}
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "2 damages of severity 5, 3 photos for each, 3 in all of the second half" in text


@pytest.mark.parametrize("options", [(), ("--same-photos",)])
def test_rows_name_the_photo_that_their_picture_is_of(quick, bench, photos, tmp_path, monkeypatch, options):
    own, seen = benchmark.damaged, {}

    def kept(clean, damage, seed, folder, about):
        seen[about[0]] = own(clean, damage, seed, folder, about)
        return seen[about[0]]

    monkeypatch.setattr(benchmark, "damaged", kept)
    assert bench(*options).exit_code == 0
    rows = table(tmp_path / "out")
    clean = dict(zip(*read_all([(path, None) for path in (photos / "val").iterdir()], 16), strict=True))
    of = {}
    for row in rows:
        of.setdefault((row["method"], row["corruption"]), []).append(row)
    for damage, pictures in seen.items():
        for row, original, picture in zip(of["Damaged", damage], of["Original", damage], pictures, strict=True):
            error = (picture.double() - clean[row["photo"]].double()).square().mean().item() / 255**2
            assert float(row["psnr_to_clean"]) == pytest.approx(-10 * np.log10(error), abs=1e-3)
            assert original["psnr_to_input"] == row["psnr_to_clean"]
        names = [[row["photo"] for row in each] for (_, corruption), each in of.items() if corruption == damage]
        assert len(names) == 5
        assert all(each == names[0] for each in names)


def test_a_photo_that_cannot_be_used_is_told_and_left_out(quick, bench, photos, tmp_path):
    (photos / "val" / "photo-5.png").write_bytes(b"nothing of the kind")
    Image.new("RGB", (8, 8)).save(photos / "train" / "photo-1.png")
    result = bench("--count", 3)
    assert result.exit_code == 0
    first, second = result.stderr.splitlines()
    assert "photo-5.png is not a picture" in first
    assert "photo-1.png is 8×8 pixels, and the prior 16×16" in second
    assert {row["photo"] for row in table(tmp_path / "out")} == {f"photo-{i}.png" for i in (6, 7, 8, 9)}


def test_a_folder_without_a_table_gives_every_second_photo(quick, bench, tmp_path):
    folder = tmp_path / "any"
    for i in range(10):
        write_photo(folder / ("below" if i > 6 else "") / f"photo-{i}.png", i)
    (folder / "notes.txt").write_text("no picture")
    result = bench(folder=folder)
    assert (result.exit_code, result.stderr) == (0, "")
    # in the order of their paths, those of the folder below first
    expected = {"photo-8.png", "photo-0.png", "photo-2.png", "photo-4.png", "photo-6.png"}
    assert {row["photo"] for row in table(tmp_path / "out")} == expected
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "4 photos for each, 5 in all of every second one by name: n = 8 damaged pictures." in text
    assert "of 5 other photos" in text


def test_corruptions_and_severities_of_the_command_line_go_before_the_file_s(quick, bench, tmp_path):
    options = ("--corruption", "masking_random_color", "--corruption", "ripple", "--severity", 2, "--severity", 5)
    result = bench(*options)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = table(tmp_path / "out")
    assert {(row["corruption"], row["severity"]) for row in rows} == {
        (name, severity) for name in ("masking_random_color", "ripple") for severity in "25"
    }
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "4 damages of severity 2 and 5, 4 photos for each, 5 in all of" in text
    assert "by name: n = 16 damaged pictures." in text
    assert "masks, n = 8 | c-bar, n = 8" in text
    assert sorted(numbers(text, "PSNR to clean, dB")) == [
        f"{name}, {severity}" for name in ("masking_random_color", "ripple") for severity in "25"
    ]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<th>ripple, 2</th>") == 2


def test_rows_of_several_severities_are_those_of_their_damages(quick, bench, tmp_path):
    assert bench("--severity", 1, "--severity", 5).exit_code == 0
    shown = numbers((tmp_path / "out" / "report.md").read_text(encoding="utf-8"), "PSNR to clean, dB")
    means = mean_psnrs(table(tmp_path / "out"))
    assert {damage: float(each["Damaged"]) for damage, each in shown.items()} == {
        damage: pytest.approx(means[damage, "Damaged"], abs=0.006) for damage in shown
    }


def test_what_cannot_be_made_here_is_told_and_left_out(quick, without_library, bench, tmp_path):
    result = bench("--corruption", "snow", "--corruption", "masks")
    assert result.exit_code == 0
    (line,) = result.stderr.splitlines()
    assert line == 'Left out are snow: pip install "confident-ode[corruptions]" makes them.'
    assert {row["family"] for row in table(tmp_path / "out")} == {"masks"}


def test_automatic_is_left_out_where_there_is_no_calibration(quick, bench, tmp_path):
    result = bench(methods=QUICK + '[[method]]\nname = "chosen"\nmethod = "automatic"\n')
    assert result.exit_code == 0
    (line,) = result.stderr.splitlines()
    assert line.endswith("tiny has no calibration: the automatic method is left out.")
    assert list(dict.fromkeys(row["method"] for row in table(tmp_path / "out"))) == [
        *("Original", "Damaged", "CODE", "SDEdit 0.1", "SDEdit 0.5")
    ]


def test_over_a_ray_cluster_whose_process_is_killed_it_is_the_same(undrawn, bench, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason='no ray (pip install "confident-ode[ray]")')
    # with as many threads as here it is the same to the last bit
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # long enough for most of it to be left when the first batch comes
    local, spread, slow = tmp_path / "local", tmp_path / "ray", QUICK.replace("steps = 1", "steps = 40")
    assert bench(output=local, methods=slow).exit_code == 0
    own, seen = benchmark.write, []

    def not_here(self, task):
        raise AssertionError("a batch was restored in this process")

    def killing(path, content):
        own(path, content)
        if not path.name.startswith("input_"):
            working = [each.pid for each in psutil.Process().children(True) if "RayWorker" in "".join(each.cmdline())]
            if not seen:
                os.kill(working[0], signal.SIGKILL)
            seen.append(working)

    monkeypatch.setattr(benchmark.Restorer, "__call__", not_here)
    monkeypatch.setattr(benchmark, "write", killing)
    # one worker: most of the time goes into what it imports
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        result = bench("--engine", "ray", output=spread, methods=slow)
    finally:
        ray.shutdown()
    assert result.exit_code == 0, result.stderr
    assert len(seen) == OF_CODE + OF_SDEDIT
    assert seen[-1]
    assert not {*seen[0]} & {*seen[-1]}
    assert (spread / "results.csv").read_bytes() == (local / "results.csv").read_bytes()


CODE_AGAIN = '[[method]]\nname = "CODE"\n'
WRONG = [
    (["--count", 2], {}, "at least 5 pictures, 5 for each feature, and 2 photos × 2 damages are 4: take at least 3"),
    (["--count", 6], {}, "There are 5 photos to restore: take --count 5 at most"),
    (["--count", 0], {}, "at least 1 photo"),
    (["--batch", 0], {}, "a batch of at least 1"),
    (["--seed", -1], {}, "a seed of at least 0"),
    (["--split", "test"], {}, "names no photos of the split 'test'"),
    (["--table", "xlsx"], {}, "The table 'xlsx' is unknown: take one of csv, parquet"),
    (["--corruption", "rippel"], {}, "no corruption 'rippel': did you mean 'ripple'?"),
    (["--corruption", "twelve", "--corruption", "ripple"], {}, "The twelve damages are compared alone"),
    (["--corruption", "twelve", "--severity", 3], {}, "The twelve damages have the severities 2 and 5"),
    (["--severity", 7], {}, "no severity 7: take some of 1, 2, 3, 4, 5"),
    ([], {"prior": "nothing"}, "There is no prior 'nothing'"),
    ([], {"methods": "methods ="}, "is not a TOML file"),
    ([], {"methods": "calls = 10"}, "has no methods"),
    ([], {"methods": "method = 3"}, "has no methods"),
    ([], {"methods": QUICK + CODE_AGAIN}, "has two methods 'CODE'"),
    ([], {"methods": QUICK.replace('"CODE"', '"ours"')}, "has no method 'CODE' to compare with"),
    ([], {"methods": 'against = "ours"\n' + QUICK}, "has no method 'ours' to compare with"),
    ([], {"methods": QUICK + "strength = 1"}, "There is no setting 'strength'"),
    ([], {"methods": QUICK.replace("0.1, 0.5", '"deep"')}, "The depth 'deep' is not understood"),
    ([], {"methods": QUICK.replace("0.1, 0.5", "1.5")}, "SDEdit 1.5: The depth 1.5 is no fraction"),
    ([], {"methods": "calls = 8\n" + QUICK}, "CODE makes 9 network calls for a picture, and 8 are allowed"),
    ([], {"methods": QUICK.replace('"hue_shift"', '"scratches"')}, "There is no corruption 'scratches'"),
    ([], {"methods": QUICK.replace('["masking_random_color", "hue_shift"]', '"all"')}, "write them in brackets"),
    ([], {"methods": "severities = 5\n" + QUICK}, "write them in brackets"),
    ([], {"methods": "severities = []\n" + QUICK}, "name corruptions and severities"),
    ([], {"methods": QUICK.replace('name = "SDEdit"', "name = 1")}, "A method has no name"),
    ([], {"methods": QUICK + "samples = 0"}, "There cannot be 0 samples"),
    ([], {"methods": QUICK + "seed = 2"}, "gives each picture a seed"),
]
LATE = [
    ([], {"methods": QUICK.replace('name = "SDEdit"', 'name = "Damaged"').replace("[0.1, 0.5]", "0.1")}, "'Damaged'"),
    ([], {"methods": 'calls = "many"\n' + QUICK}, "'many'"),
    ([], {"methods": QUICK.replace("[0.1, 0.5]", "[]")}, "SDEdit"),
    (["--precision", "fp8"], {}, "precision 'fp8' is unknown"),
    (["--engine", "spark"], {}, "The engine 'spark' is unknown: take one of local, ray"),
]


@pytest.mark.parametrize(("options", "named", "words"), [*WRONG, *LATE])
def test_what_is_wrong_is_one_sentence_before_anything_is_made(few, bench, tmp_path, options, named, words):
    result = bench(*options, **named)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert words in line
    assert line.endswith((".", "?"))
    assert not (tmp_path / "out").exists()


def test_what_is_not_installed_is_one_sentence_first(few, without_library, bench, tmp_path, monkeypatch):
    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "ray" else found(name, *rest))
    monkeypatch.setattr(bench_module, "find_spec", lambda name: None)
    for options, words in (
        (["--corruption", "snow"], "snow needs one more package, in the Python that runs this: pip install imagecorr"),
        (["--table", "parquet"], "A parquet table needs a package more: pip install pyarrow"),
        (["--engine", "ray"], 'The engine ray needs a package more: pip install "confident-ode[ray]"'),
    ):
        result = bench(*options)
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert words in line
        assert not (tmp_path / "out").exists(), options


@pytest.mark.parametrize(
    ("option", "metric", "words"),
    [
        ("--lpips", "LearnedPerceptualImagePatchSimilarity", "LPIPS needs the torchvision"),
        ("--fid", "NoTrainInceptionV3", "FID needs torch-fidelity"),
    ],
)
def test_measures_that_are_not_to_be_had_are_told_before_anything_is_made(
    quick, bench, tmp_path, monkeypatch, option, metric, words
):
    def missing(*arguments, **options):
        raise ModuleNotFoundError("it is not installed.")

    monkeypatch.setattr(perceptual, metric, missing)
    result = bench(option)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert words in line
    assert not (tmp_path / "out").exists()


def test_lpips_and_fid_are_in_the_tables(quick, bench, tmp_path, monkeypatch):
    monkeypatch.setattr(perceptual, "lpips", lambda device: lambda pictures, _: pictures[:, 0, 0, 0] / 255)
    monkeypatch.setattr(perceptual, "inception", lambda device: lambda pictures: pictures[:, :, 0, 0].float())
    assert bench("--lpips", "--fid").exit_code == 0
    rows = table(tmp_path / "out")
    assert len({row["lpips"] for row in rows if row["method"] == "Original"}) > 1
    assert all(0 <= float(row["lpips"]) <= 1 for row in rows)
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert re.search(r"\| n \| LPIPS to clean \| .* \| FD-flowers \| FID \|", text)


def test_folders_that_are_of_no_use_are_one_sentence(few, bench, photos, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "few").mkdir()
    for i in range(8):
        write_photo(tmp_path / "few" / f"{i}.png", i)
    for named, words in (
        ({"folder": tmp_path / "empty"}, "There is no photo that can be used"),
        ({"folder": tmp_path / "nowhere"}, "There is no folder"),
        # of 8, 4 others are too few
        ({"folder": tmp_path / "few"}, "at least 5 pictures"),
        ({"output": tmp_path / "file"}, "cannot be used for the results"),
    ):
        result = bench(**named)
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert words in line


def test_a_prior_of_other_pictures_is_one_sentence(few, bench, tmp_path):
    write_prior(tmp_path / "grey", unet={"in_channels": 1, "out_channels": 1})
    result = bench(prior=tmp_path / "grey")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "is not of RGB pictures" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_of_methods_that_is_not_there_is_one_sentence(command, photos, tmp_path):
    result = command("bench", photos, "-o", tmp_path / "out", "--methods", tmp_path / "none.toml")
    assert (result.exit_code, result.stderr) == (
        2,
        f"{tmp_path / 'none.toml'} cannot be read: no such file or directory.\n",
    )


# the files that come along


@pytest.mark.parametrize("file", [BENCH_METHODS, REPORT_METHODS], ids=lambda file: file.stem)
def test_the_papers_four_differ_in_nothing_but_the_clip_and_the_updates(file):
    config = read_config(file)
    of = {method.name: method for method in config.methods}
    four = [of[name] for name in ("DDIM", "DDIM with CBC", "CODE without CBC", "CODE")]
    ours = [method.settings.used() for method in four]
    assert {name for name in ours[0] if len({str(each[name]) for each in ours}) > 1} == {"clip", "updates"}
    assert [each["clip"] for each in ours] == [False, True, False, True]
    assert [each["updates"] > 0 for each in ours] == [False, False, True, True]
    assert {(method.family, method.samples) for method in four} == {(None, 1)}
    assert (config.calls, config.against) == (150, "CODE")


@pytest.mark.parametrize("file", [BENCH_METHODS, REPORT_METHODS], ids=lambda file: file.stem)
def test_their_methods_can_be_used_with_a_prior_that_comes_along(file, capsys):
    config = read_config(file)
    restorer = Restorer("flowers32", "cpu", "fp32")
    flowers32 = restorer.prior
    assert usable(config.methods, config.calls, restorer) == config.methods
    # the automatic one too
    assert capsys.readouterr().err == ""
    assert any(isinstance(method, Automatic) for method in config.methods)
    most = max(method.calls(flowers32) for method in config.methods)
    with pytest.raises(ValueError, match=f"makes {most} network calls for a picture, and {most - 1} are allowed"):
        usable(config.methods, most - 1, restorer)


def test_what_they_do_to_photos(monkeypatch):
    monkeypatch.setattr(catalogue, "installed", lambda: True)
    config = read_config(BENCH_METHODS)
    assert len(cases_of(config.corruptions, config.severities)[0]) == 12
    config = read_config(REPORT_METHODS)
    assert {case.damage for case in cases_of(config.corruptions, config.severities)[0]} == {*catalogue.CORRUPTIONS}
    assert config.severities == [5]


def test_what_the_files_say_of_families():
    def families(file):
        found = methods.families_of(read_config(file).methods)
        return {name: sum(method.samples for method in members) for name, members in found.items()}

    assert families(BENCH_METHODS) == {"SDEdit": 5}
    # six results of each, of which the paper keeps four, and one over the updates
    assert families(REPORT_METHODS) == {
        "SDEdit": 6,
        "CODE at depths and steps": 6,
        "CODE by updates": 4,
    }


def test_a_table_has_what_csv_can_say():
    rows = [["photo", "psnr"], ['a "b", c.png', 1.5]]
    read = list(csv.reader(io.StringIO(bench_module.content(rows, "csv").decode())))
    assert read == [["photo", "psnr"], ['a "b", c.png', "1.5"]]
