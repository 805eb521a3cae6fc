import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from confident_ode.cli import photos, pictures
from confident_ode.cli.pictures import read
from confident_ode.evaluation.film import Film
from confident_ode.evaluation.restoring import plan, run
from confident_ode.evaluation.settings import Settings
from confident_ode.evaluation.sheets import TILE
from confident_ode.priors.loading import WEIGHTS, bundled, load
from PIL import Image
from prior.tiny import write_prior
from safetensors.torch import save_file

QUICK = ("--steps", 4, "--updates", 4, "--blocks", 2)
# random weights find nothing wrong with any photo
NEVER = ("--stop-at", 0)


@pytest.fixture
def restore(command, prior_folder, tmp_path):
    """restore(*photos and options) -> the result of restoring them into tmp_path / "out", quickly."""

    def restored(*arguments, prior=prior_folder, output=tmp_path / "out"):
        never = () if {"--stop-at", "official"}.intersection(arguments) else NEVER
        return command("restore", *arguments, "-o", output, "--prior", prior, *QUICK, *never)

    return restored


def only_sentence(result):
    """The one sentence on stderr of a command that failed."""
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].endswith(".")
    return lines[0]


def files(folder):
    return sorted(os.listdir(folder))


def test_a_photo_gives_a_picture_a_sheet_and_a_report(restore, photo, tmp_path, prior_folder):
    path = photo()
    before = path.read_bytes()
    result = restore(path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert files(tmp_path / "out") == ["photo.json", "photo_restored.png", "photo_sheet.png"]
    assert Image.open(tmp_path / "out" / "photo_restored.png").size == (16, 16)
    assert Image.open(tmp_path / "out" / "photo_sheet.png").width > 2 * 200
    assert path.read_bytes() == before
    assert str(path) in result.stdout


def test_the_report_is_complete(restore, photo, tmp_path, prior_folder):
    path = photo(size=(40, 24))
    restore(
        path,
        "--samples",
        3,
        "--compare",
        "sdedit",
        "--fit",
        "stretch",
        "--label",
        "dog",
        "--seed",
        5,
        "--depth",
        "t=300",
    )
    report = json.loads((tmp_path / "out" / "photo.json").read_text(encoding="utf-8"))
    assert report["input"] == str(path)
    assert report["input_size"] == [40, 24]
    assert report["output_size"] == [27, 16]
    assert (report["fit"], report["prior"], report["device"]) == ("stretch", str(prior_folder), "cpu")
    assert report["settings"].keys() == Settings().used().keys()
    assert report["settings"]["seed"] == 5
    assert report["timestep"] == 300
    assert report["sigma"] == pytest.approx(load(prior_folder).levels.sigma(300).item())
    assert report["update_sigmas"] == [report["sigma"]]
    assert 0 <= report["clipped"] <= 1
    # ab2: 4 + 1 up, 5 + 1 down; 4 updates and 2 that end a block
    assert report["code"]["nfe"] == report["sdedit"]["nfe"] == 17
    for method in ("code", "sdedit"):
        assert report[method]["seconds"] >= 0
        for score in ("psnr_to_input", "ssim_to_input"):
            assert len(report[method][score]) == 3
            assert all(np.isfinite(report[method][score]))
    assert report["output"] == [f"photo_restored_{i}.png" for i in (1, 2, 3)]
    for name in report["output"]:
        assert Image.open(tmp_path / "out" / name).size == (27, 16)
    assert report["version"]


def report_of(folder):
    return json.loads((folder / "photo.json").read_text(encoding="utf-8"))


def test_several_levels_are_in_the_report(restore, photo, tmp_path):
    options = ("--levels", 3, "--shallowest", "t=20", "--step-scale", "geometric", "--step-mode", "relative")
    result = restore(photo(), *options)
    assert (result.exit_code, result.stderr) == (0, "")
    report = report_of(tmp_path / "out")
    wanted = {"levels": 3, "shallowest": "t=20", "step_scale": "geometric", "step_mode": "relative"}
    assert {name: report["settings"][name] for name in wanted} == wanted
    deepest, between, cleanest = report["update_sigmas"]
    assert deepest == report["sigma"] > between > cleanest > 0.03
    # ab2: 4 + 1 up; down in parts of 2, 1 and 2 steps, the solver starting afresh in each; 3 times 4 + 2 updates
    assert report["code"]["nfe"] == 4 + 1 + (2 + 1) + (1 + 1) + (2 + 1) + 3 * 6


def test_odedit_and_the_authors_code_have_their_own_defaults(command, photo, prior_folder, tmp_path):
    nfe = {}
    for method, options in (("odedit", ("--steps", 7)), ("official", ("--steps", 6, "--updates", 8))):
        out = tmp_path / method
        result = command("restore", photo(), "-o", out, "--prior", prior_folder, "--method", method, *options)
        assert (result.exit_code, result.stderr) == (0, "")
        report = report_of(out)
        assert report["settings"]["method"] == method
        assert report["settings"]["depth"] == 1.0
        assert ("quirks" in report["settings"], "damage" in report["settings"]) == (
            method == "official",
            method == "odedit",
        )
        nfe[method] = report[method]["nfe"]
    # 7 up, 8 down, 100 at each of 4 levels; 5 up, 6 down, 8 and the 4 that end a block
    assert nfe == {"odedit": 7 + 8 + 400, "official": 5 + 6 + 8 + 4}


def test_a_whole_photo_has_its_own_size(restore, photo, tmp_path):
    given = (photo(size=(40, 24)), photo("large.png", size=(300, 150)))
    result = restore(*given, "--fit", "whole", "--max-side", 48, "--compare", "sdedit", "--samples", 2)
    assert (result.exit_code, result.stderr) == (0, "")
    small, large = result.stdout.splitlines()
    # windows of 16 pixels, at most 8 apart: 4 across and 2 down
    assert "whole in 8 windows, 40×24 pixels; 17 network calls" in small
    assert "whole in 10 windows, 48×24 of 300×150 pixels; 17 network calls" in large
    report = report_of(tmp_path / "out")
    assert (report["fit"], report["windows"]) == ("whole", 8)
    assert report["input_size"] == report["output_size"] == [40, 24]
    assert report["code"]["nfe"] == report["sdedit"]["nfe"] == 17
    assert Image.open(tmp_path / "out" / "photo_restored_2.png").size == (40, 24)
    assert Image.open(tmp_path / "out" / "large_restored_1.png").size == (48, 24)


def test_a_whole_photo_that_is_as_large_as_a_window_is_restored_as_it_would_be_cropped(restore, photo, tmp_path):
    path, out = photo(size=(16, 16)), tmp_path / "out" / "photo_restored.png"
    restore(path)
    first = out.read_bytes()
    restore(path, "--fit", "whole")
    assert out.read_bytes() == first


def test_a_photo_too_narrow_for_windows_spares_the_others(restore, photo, tmp_path):
    result = restore(photo("narrow.png", size=(200, 9)), photo(size=(20, 20)), "--fit", "whole", "--max-side", 32)
    assert "narrow.png: The picture is 200x9" in only_sentence(result)
    assert (tmp_path / "out" / "photo_restored.png").exists()


def test_a_film_shows_the_way_up_the_updates_and_the_way_down(restore, photo, tmp_path):
    result = restore(photo(), "--film", "--levels", 2, "--shallowest", "t=50", "--samples", 2)
    assert (result.exit_code, result.stderr) == (0, "")
    assert files(tmp_path / "out") == [
        "photo.json",
        "photo_film.png",
        "photo_restored_1.png",
        "photo_restored_2.png",
        "photo_sheet.png",
    ]
    assert report_of(tmp_path / "out")["film"] == "photo_film.png"
    # the input, 4 levels up, 2 updated, 3 down, the result
    film = Image.open(tmp_path / "out" / "photo_film.png")
    assert 11 * TILE < film.width < 12 * TILE
    assert TILE < film.height < 2 * TILE


def test_a_film_has_a_frame_for_each_level(prior_folder):
    prior, settings, film = load(prior_folder), Settings(steps=9, updates=4, blocks=2, stop_at=0.0), Film()
    pictures = torch.zeros(1, 3, 16, 16)
    result = run(prior, pictures, settings, callback=film)
    path = plan(prior, settings).sigmas.tolist()
    # the level of the depth is met by the updates and the first step down
    assert [frame.sigma for frame in film.frames] == pytest.approx([*path[:0:-1][1:], *path[:-1]], rel=1e-6)
    assert [frame.steps for frame in film.frames] == [1] * 9 + [4 + 2 + 1] + [1] * 9
    titles = [title for title, _ in film.columns()]
    assert titles == ["up"] * 4 + ["updated"] + ["down"] * 4
    assert film.columns()[0][1] is film.frames[0]
    # the last step down ends in its estimate
    torch.testing.assert_close(film.columns()[-1][1].picture.clamp(-1, 1), result.pictures)


def test_heat_shows_what_the_clip_moved_in_each_part(restore, photo, tmp_path):
    options = ("--heat", "--clip-at", "up,down", "--clip-range", "around=0.1", "--eta", 0.5, "--samples", 2)
    result = restore(photo(), *options, "--fit", "pad")
    assert (result.exit_code, result.stderr) == (0, "")
    report = report_of(tmp_path / "out")
    assert report["heat"] == "photo_heat.png"
    assert {name: report["settings"][name] for name in ("clip_at", "clip_range")} == {
        "clip_at": "up,down",
        "clip_range": "around=0.1",
    }
    # ab2: 4 + 1 up, 5 + 1 down, where there are two samples
    assert {part: len(clip["sigmas"]) for part, clip in report["clips"].items()} == {"up": 5, "down": 6}
    assert {part: len(clip["clipped"]) for part, clip in report["clips"].items()} == {"up": 1, "down": 2}
    for clip in report["clips"].values():
        assert len(clip["shares"]) == len(clip["sigmas"])
        assert 0 < max(clip["shares"]) <= 1
    assert report["clipped"] == report["clips"]["up"]["clipped"][0]
    assert report["clips"]["down"]["clipped"][0] > 0
    # the input, the way up and the way down
    heat = Image.open(tmp_path / "out" / "photo_heat.png")
    assert 3 * TILE < heat.width < 4 * TILE
    red = np.asarray(heat.convert("RGB"), int)
    assert (red[..., 0] - red[..., 1] > 60).any()


def test_parts_of_the_way_and_the_start_are_in_the_report(restore, photo, tmp_path):
    options = ("--threshold-at", "down", "--noisy-last", "--start", "deepest")
    result = restore(photo(), *options)
    assert (result.exit_code, result.stderr) == (0, "")
    report = report_of(tmp_path / "out")
    wanted = {"threshold_at": "down", "noiseless_last": False, "start": "deepest"}
    assert {name: report["settings"][name] for name in wanted} == wanted
    assert report["timestep"] == 999
    assert report["update_sigmas"][0] < report["sigma"]
    # ab2: 4 + 1 up; down in parts of 3 and 2 steps, the solver starting afresh after the updates, which end with noise
    assert report["code"]["nfe"] == 4 + 1 + (3 + 1) + (2 + 1) + 4


def test_updates_end_where_the_model_finds_nothing_wrong(command, restore, photo, prior_folder, tmp_path):
    """At the end of the first of two blocks, with the photo as it would be without any; by default too."""
    path, made = photo(), {}
    ways = {
        "default": (),
        "told": ("--stop-at", 1.1),
        "later": ("--stop-at", 1e-9),
        "never": NEVER,
        "none": ("--updates", 0),
    }
    for name, options in ways.items():
        out = tmp_path / name
        result = command("restore", path, "-o", out, "--prior", prior_folder, *QUICK, *options)
        assert (result.exit_code, result.stderr) == (0, "")
        report = report_of(out)
        made[name] = report["settings"]["stop_at"], report["code"]["nfe"], (out / "photo_restored.png").read_bytes()
        assert f"{report['code']['nfe']} network calls" in result.stdout
    # ab2: 4 + 1 up, 5 + 1 down; 2 updates and one that ends a block, or twice as many
    picture = made["none"][2]
    assert made["told"] == made["default"] == (1.1, 11 + 3, picture)
    assert made["never"][:2] == (0, 11 + 6)
    assert made["later"] == (1e-9, *made["never"][1:])
    assert made["never"][2] != picture


def test_quirks_are_in_the_report(restore, photo, tmp_path):
    assert restore(photo(), "--method", "official", "--quirks", "no-scale,second-noise").exit_code == 0
    assert report_of(tmp_path / "out")["settings"]["quirks"] == "no-scale,second-noise"


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_any_picture_is_restored(restore, photo, tmp_path, fit):
    ramp = np.linspace(0, 65535, 40 * 24).astype(np.uint16).reshape(24, 40)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    given = [
        photo("alpha.png", mode="RGBA"),
        photo("grey.png", mode="L"),
        photo("turned.jpg", exif=exif),
        photo("large.webp", size=(300, 500)),
        photo("print.tif", mode="CMYK"),
        tmp_path / "deep.png",
    ]
    result = restore(*given, "--fit", fit)
    assert (result.exit_code, result.stderr) == (0, "")
    shapes = {"crop": (16, 16), "pad": (10, 16), "stretch": (16, 27)}
    assert Image.open(tmp_path / "out" / "turned_restored.png").size == shapes[fit]
    for path in given:
        assert (tmp_path / "out" / f"{path.stem}.json").exists()


def test_bad_pictures_are_named_and_the_others_restored(restore, photo, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    cut = photo("cut.jpg", size=(200, 100))
    cut.write_bytes(cut.read_bytes()[:1500])
    one = photo("one.png", size=(1, 1))
    good = [photo("good.png"), photo("too.png")]
    result = restore(tmp_path / "none.png", good[0], tmp_path / "text.png", cut, one, tmp_path, good[1])
    assert result.exit_code == 2
    named = result.stderr.splitlines()
    assert len(named) == 5
    wanted = ["is not there", "not a picture", "damaged or cut off", "1×1 pixels", "is a folder"]
    for line, words in zip(named, wanted, strict=True):
        assert words in line
    assert [name for name in files(tmp_path / "out") if "_restored" in name] == [
        "good_restored.png",
        "too_restored.png",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--depth", "0"), "depth 0 is no fraction"),
        (("--depth", "1.5"), "depth 1.5 is no fraction"),
        (("--depth", "-0.4"), "depth -0.4 is no fraction"),
        (("--depth", "deep"), "depth 'deep' is not understood"),
        (("--step-size", "-0.001"), "step size is -0.001"),
        (("--step-size", "1.9"), "unstable at this depth"),
        (("--label", "fish"), "take one of cat, dog"),
        (("--guidance", "3"), "needs a class"),
        (("--solver", "rk4"), "take one of ab2"),
        (("--fit", "squash"), "take one of crop"),
        (("--fit", "whole", "--max-side", "15"), "take a --max-side of at least that"),
        (("--method", "official", "--film"), "leave --film out"),
        (("--compare", "magic"), "take sdedit"),
        (("--device", "abacus"), "device 'abacus'"),
        (("--eta", "-1"), "eta is -1"),
        (("--stop-at", "-0.1"), "stop at is -0.1: take a number that is not below 0"),
        (("--stop-at", "nan"), "stop at is nan"),
        (("--method", "official", "--stop-at", "1"), "official does not use stop at"),
        (("--samples", "0"), "samples is 0"),
        (("--levels", "0"), "levels is 0"),
        (("--levels", "9"), "does not do for 9"),
        (("--levels", "2", "--shallowest", "0.9"), "does not do for 2"),
        (("--levels", "2", "--shallowest", "t=20", "--step-size", "0.9"), "unstable at this depth, sigma 0."),
        (("--step-mode", "bold"), "take one of absolute, relative, snr"),
        (("--step-scale", "bold"), "take one of none, geometric, sigma"),
        (("--method", "magic"), "take one of code, odedit, official"),
        (("--damage", "heavy"), "code does not use damage"),
        (("--method", "odedit"), "odedit does not use updates"),
        (("--method", "official", "--guidance", "2"), "official does not use guidance"),
        (("--method", "official", "--clip-range", "fixed=-1,2"), "official does not use clip range"),
        (("--method", "official", "--quirks", "some"), "take all, none, or some of clip-level"),
        (("--method", "official", "--threshold-at", "up"), "up and down alike"),
        (("--method", "official", "--heat"), "leave --heat out"),
        (("--heat", "--no-clip"), "leave --heat out, or clip"),
        (("--quirks", "none"), "code does not use quirks"),
        (("--clip-at", "sideways"), "some of up, updates, down"),
        (("--clip-range", "around"), "around=0.5"),
        (("--start", "above"), "take one of updates, deepest"),
    ],
)
def test_wrong_settings_stop_before_any_picture(restore, photo, tmp_path, options, words):
    assert words in only_sentence(restore(photo(), *options))
    assert not (tmp_path / "out").exists()


def spoilt(folder, content):
    write_prior(folder)
    (folder / "unet" / WEIGHTS).write_bytes(content)
    return folder


def test_bad_priors_stop_before_any_picture(restore, photo, tmp_path):
    corrupt = spoilt(tmp_path / "corrupt", b"\xff" * 5000)
    pickled = spoilt(tmp_path / "pickled", b"")
    torch.save({"a": torch.zeros(1)}, pickled / "unet" / WEIGHTS)
    assert "damaged or cut off" in only_sentence(restore(photo(), prior=corrupt))
    assert "pickle under a safetensors name" in only_sentence(restore(photo(), prior=pickled))
    assert "is no diffusers prior" in only_sentence(restore(photo(), prior=tmp_path))
    assert "There is no prior 'nothing'" in only_sentence(restore(photo(), prior="nothing"))
    assert not (tmp_path / "out").exists()


def test_an_unusable_folder_stops_before_any_picture(restore, photo, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert "is a file" in only_sentence(restore(photo(), output=tmp_path / "file"))
    assert "cannot be used" in only_sentence(restore(photo(), output=tmp_path / "file" / "below"))

    def denied(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(photos.tempfile, "TemporaryFile", denied)
    assert "permission denied" in only_sentence(restore(photo()))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_disk_that_fills_up_spares_the_other_pictures(restore, photo, tmp_path, monkeypatch):
    real = pictures.Path.open

    def filling(path, *arguments, **options):
        return real(Path("/dev/full") if path.name.startswith(".full") else path, *arguments, **options)

    monkeypatch.setattr(pictures.Path, "open", filling)
    result = restore(photo("full.png"), photo("good.png"))
    assert "no space left on device" in only_sentence(result)
    assert files(tmp_path / "out") == ["good.json", "good_restored.png", "good_sheet.png"]


def test_nan_of_the_network_is_one_sentence(restore, photo, tmp_path):
    tensors = write_prior(tmp_path / "broken")
    tensors["conv_out.bias"][:] = float("nan")
    save_file(tensors, tmp_path / "broken" / "unet" / WEIGHTS, {"format": "pt"})
    sentence = only_sentence(restore(photo(), prior=tmp_path / "broken"))
    assert "photo.png" in sentence
    assert "NaN" in sentence
    assert files(tmp_path / "out") == []


def test_a_large_step_is_one_line_of_warning(restore, photo, tmp_path):
    result = restore(photo("a.png"), photo("b.png"), "--step-size", "0.5")
    assert result.exit_code == 0
    assert re.fullmatch(r"Warning: The Langevin step 0\.5 is large .*\.\n", result.stderr)


def test_names_never_collide_nor_touch_an_input(restore, photo, tmp_path):
    out = tmp_path / "out"
    given = [
        photo("a/x.png"),
        photo("b/x.jpg"),
        photo("b/X.png"),
        photo("c/x_2.png"),
        photo("out/y_restored.png"),
        photo("d/y.png"),
        photo("a/x.png"),
    ]
    before = {path: path.read_bytes() for path in given}
    result = restore(*given)
    assert (result.exit_code, result.stderr) == (0, "")
    assert {path: path.read_bytes() for path in given} == before
    stems = ["x", "x_2", "X_3", "x_2_2", "y_restored", "y_2", "x_4"]
    assert {json.loads(path.read_text())["input"] for path in out.glob("*.json")} == {str(path) for path in given}
    made = {f"{stem}{end}" for stem in stems for end in (".json", "_restored.png", "_sheet.png")}
    assert set(files(out)) == made | {"y_restored.png"}


def test_restoring_again_gives_the_same_picture(restore, photo, tmp_path):
    path, out = photo(), tmp_path / "out" / "photo_restored.png"
    restore(path)
    first = out.read_bytes()
    restore(photo("other.png", size=(30, 30)), path)
    assert out.read_bytes() == first
    restore(path, "--seed", 1)
    assert out.read_bytes() != first


def test_no_updates_and_little_depth_keep_the_photo(command, photo, prior_folder, tmp_path):
    path = photo(size=(16, 16))
    options = ("--depth", "t=40", "--steps", 40, "--updates", 0, "--no-clip", "--no-threshold")
    command("restore", path, "-o", tmp_path / "out", "--prior", prior_folder, *options)
    restored = np.asarray(read(tmp_path / "out" / "photo_restored.png"), float)
    assert np.abs(restored - np.asarray(read(path), float)).mean() < 12


def test_priors_lists_what_there_is(command):
    result = command("priors")
    assert result.exit_code == 0
    for name in bundled():
        prior = load(name)
        parameters = sum(weight.numel() for weight in prior.network.parameters())
        for words in (
            name,
            f"{prior.size}×{prior.size}",
            f"{parameters / 1e6:.2f} M",
            prior.prediction,
            prior.classes[-1],
        ):
            assert words in result.stdout
    for hub_id in ("google/ddpm-ema-celebahq-256", "google/ddpm-ema-bedroom-256", "google/ddpm-ema-church-256"):
        assert hub_id in result.stdout


def test_convert_makes_a_prior_that_restores(command, restore, photo, tmp_path):
    tensors = write_prior(tmp_path / "old", flat=True)
    (tmp_path / "old" / WEIGHTS).unlink()
    torch.save(tensors, tmp_path / "old" / "diffusion_pytorch_model.bin")
    assert "priors convert" in only_sentence(restore(photo(), prior=tmp_path / "old"))
    result = command("priors", "convert", tmp_path / "old", "-o", tmp_path / "new")
    assert (result.exit_code, result.stderr) == (0, "")
    assert restore(photo(), prior=tmp_path / "new").exit_code == 0
    assert "there already" in only_sentence(command("priors", "convert", tmp_path / "old", "-o", tmp_path / "new"))


def test_help_speaks_of_fidelity_and_realism(command):
    page = command("restore", "--help").stdout
    for words in (
        "Fidelity and realism",
        "--depth",
        "--step-size",
        "--no-clip",
        "--compare",
        "--no-threshold",
        "--method",
        "--levels",
        "--stop-at",
        "--clip-at",
        "--clip-range",
        "--noisy-last",
        "--quirks",
        "--start",
        "--heat",
        "clip-level",
    ):
        assert words in page
