import os
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from confident_ode.cli import demo as module
from confident_ode.cli.app import DEMO_SETTINGS
from confident_ode.cli.demo import built_in_photo, code_settings, read_settings, restored_rows
from confident_ode.cli.pictures import fit
from confident_ode.evaluation.metrics import psnr
from confident_ode.evaluation.restoring import plan, run
from confident_ode.evaluation.settings import Settings
from confident_ode.evaluation.sheets import TILE
from confident_ode.priors.loading import load
from PIL import Image
from prior.tiny import write_prior

HEAD = """
prior = "{prior}"
label = "cat"
sdedit_depths = [0.2, 0.4]

[code]
steps = 4
updates = 2
blocks = 1
stop_at = 0
"""
DAMAGES = """
[[damage]]
name = "noise [/b]"
kind = "gaussian_noise"
options = { strength = 0.5 }

[[damage]]
kind = "contrast"
code = { guidance = 3.0, steps = 5 }
"""


@pytest.fixture
def demo(command, prior_folder, tmp_path):
    """demo(*arguments, toml=...) -> the result of the demonstration with these settings, into tmp_path / "out"."""

    def shown(*arguments, toml=HEAD + DAMAGES, output=tmp_path / "out"):
        settings = tmp_path / "settings.toml"
        settings.write_text(toml.replace("{prior}", prior_folder.as_posix()))
        return command("demo", *arguments, "--settings", settings, "-o", output)

    return shown


@pytest.fixture
def settings_used(monkeypatch):
    """A list that the settings of each restoration with CODE are added to."""
    used = []

    def noted(prior, pictures, settings, on_call=None):
        used.append(settings)
        return run(prior, pictures, settings, on_call)

    monkeypatch.setattr(module, "run", noted)
    return used


def only_sentence(result):
    """The one sentence on stderr of a command that failed."""
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.endswith(".")
    return line


def test_a_photo_gives_a_sheet_and_a_table(demo, photo, tmp_path):
    path = photo("a [b] é.png")
    before = path.read_bytes()
    result = demo(path, output=tmp_path / "out [c]")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [file.name for file in (tmp_path / "out [c]").iterdir()] == ["demo.png"]
    sheet = Image.open(tmp_path / "out [c]" / "demo.png")
    assert (sheet.mode, sheet.format) == ("RGB", "PNG")
    assert 4 * TILE < sheet.width < 4 * TILE + 400
    assert 2 * TILE < sheet.height < 2 * TILE + 300
    assert np.asarray(sheet).std() > 20
    for words in ("noise [/b]", "contrast", str(tmp_path / "out [c]" / "demo.png")):
        assert words in result.stdout
    # ab2: 4 + 1 up, 5 + 1 down; 2 updates and the one that ends a block; then the same with 5 steps
    calls = [line.split()[-2] for line in result.stdout.splitlines() if line.split()[:1] in (["noise"], ["contrast"])]
    assert calls == ["14", "16"]
    assert path.read_bytes() == before


def test_a_terminal_that_cannot_show_a_name_is_no_failure(photo, prior_folder, tmp_path):
    settings, out = tmp_path / "settings.toml", tmp_path / "日本"
    settings.write_text((HEAD + DAMAGES).replace("{prior}", prior_folder.as_posix()))
    command = [sys.executable, "-c", "from confident_ode.cli import main; main()", "demo", photo("é.png")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*command, "--settings", settings, "-o", out], capture_output=True, env=environment, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u65e5\u672c" in done.stdout
    assert (out / "demo.png").exists()


def test_the_same_again_gives_the_same_sheet(demo, photo, tmp_path):
    path, sheet = photo(), tmp_path / "out" / "demo.png"
    demo(path)
    first = sheet.read_bytes()
    demo(path)
    assert sheet.read_bytes() == first
    demo(path, toml="seed = 1\n" + HEAD + DAMAGES)
    assert sheet.read_bytes() != first


def test_a_label_only_where_there_is_guidance():
    values = {"guidance": 3.0, "steps": 7}
    guided = code_settings(values, "cat", 5)
    assert (guided.label, guided.guidance, guided.seed, guided.steps) == ("cat", 3.0, 5, 7)
    for settings in (code_settings(values, None, 5), code_settings({"steps": 7}, "cat", 5)):
        assert (settings.label, settings.guidance, settings.seed, settings.steps) == (None, 1.0, 5, 7)


def test_a_photo_of_one_s_own_has_a_label_only_if_given(demo, photo, settings_used):
    demo(photo())
    demo(photo(), "--label", "dog")
    assert [(used.label, used.guidance) for used in settings_used] == [(None, 1), (None, 1), (None, 1), ("dog", 3)]


def test_the_built_in_photo_has_the_label_of_the_settings(demo, settings_used):
    pytest.importorskip("sklearn.datasets")
    assert demo().exit_code == 0
    assert demo("--label", "dog").exit_code == 0
    assert [used.label for used in settings_used] == [None, "cat", None, "dog"]


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("prior = ", "is not a TOML file"),
        ("", "has no prior"),
        (HEAD, "has no damage"),
        (DAMAGES + HEAD, "has no prior"),
        (HEAD.replace("[0.2, 0.4]", "0.4") + DAMAGES, "has no sdedit_depths"),
        (HEAD.replace("[0.2, 0.4]", "[]") + DAMAGES, "has no sdedit_depths"),
        (HEAD.replace('"{prior}"', "3") + DAMAGES, "has no prior"),
        (HEAD.replace("{prior}", "nothing") + DAMAGES, "There is no prior 'nothing'"),
        (HEAD + "[damage]\nkind = 'contrast'", "has no damage"),
        ("damage = [3]\n" + HEAD, "is no table"),
        (HEAD + DAMAGES + "[[damage]]\nkind = 'contrast'\ncode = 3", "is no table"),
        (HEAD + DAMAGES + "[[damage]]\nname = 'rain'", "names the damage None: take one of"),
        (HEAD + DAMAGES + "[[damage]]\nkind = 'rain'", "names the damage 'rain': take one of"),
        (HEAD + "stepps = 3" + DAMAGES, "There is no setting 'stepps'"),
        (HEAD + "eta = 'wide'" + DAMAGES, "eta is 'wide'"),
        (HEAD + "method = 'odedit'" + DAMAGES, "leave the method out"),
        (HEAD + "depth = 2" + DAMAGES, "no fraction"),
        (HEAD.replace("0.4]", "2]") + DAMAGES, "no fraction"),
        ("seed = -1\n" + HEAD + DAMAGES, "seed is -1"),
        (HEAD + DAMAGES.replace("strength", "strenght"), "what it takes is strength,"),
        (HEAD + DAMAGES.replace("0.5", "'heavy'"), "what it takes is strength,"),
        (HEAD + DAMAGES.replace("{ strength = 0.5 }", "3"), "what it takes is strength,"),
        (HEAD + DAMAGES.replace("strength", "seed"), "what it takes is strength,"),
        (
            HEAD + DAMAGES + "[[damage]]\nkind = 'mask_blocks'\noptions = {cells = 0}",
            "takes is fraction, cells, value,",
        ),
    ],
)
def test_wrong_settings_are_one_sentence_before_anything_is_written(demo, photo, tmp_path, toml, words):
    # the sheet's folder may be there, and is empty
    assert words in only_sentence(demo(photo(), toml=toml))
    assert not list((tmp_path / "out").glob("*"))


def test_what_is_missing_is_named(demo, command, photo, tmp_path):
    assert "is not there" in only_sentence(demo(tmp_path / "none.png"))
    assert "is a folder" in only_sentence(demo(tmp_path))
    assert "take one of cat, dog" in only_sentence(demo(photo(), "--label", "fish"))
    missing = only_sentence(command("demo", photo(), "--settings", tmp_path / "none.toml", "-o", tmp_path / "out"))
    assert "none.toml cannot be read: no such file" in missing
    (tmp_path / "latin.toml").write_bytes(b"prior = '\xe9'")
    assert "is not a TOML file" in only_sentence(command("demo", "--settings", tmp_path / "latin.toml"))


def test_a_photo_is_never_written_over(demo, photo, tmp_path):
    path = photo("demo.png")
    before = path.read_bytes()
    assert "would be written over" in only_sentence(demo(path, output=tmp_path))
    assert path.read_bytes() == before


def test_the_shipped_settings_are_within_their_budget():
    config, prior = read_settings(DEMO_SETTINGS), load("flowers64")
    assert config["prior"] == "flowers64"
    assert {damage["kind"] for damage in config["damage"]} == {
        "gaussian_noise",
        "mask_pixels",
        "mask_blocks",
        "contrast",
    }
    for damage in config["damage"]:
        settings = code_settings({**config["code"], **damage.get("code", {})}, config["label"], config["seed"])
        for depth in config["sdedit_depths"]:
            planned = plan(prior, replace(settings, sdedit=True, sdedit_depth=depth))
            assert 50 <= planned.calls <= 150
            assert planned.all_calls - planned.calls <= planned.calls
            assert planned.advice is None


@pytest.fixture(scope="module")
def shipped():
    """(original, rows by name): the shipped demonstration, with SDEdit at the depth that suits it best there."""
    pytest.importorskip("sklearn.datasets")
    config, prior = read_settings(DEMO_SETTINGS), load("flowers64")
    original, _ = fit(built_in_photo(), prior.size)
    rows = restored_rows(prior, original, {**config, "sdedit_depths": [0.2]}, config["label"])
    return original, {row.name: row for row in rows}


def gain(row, original):
    return psnr(row.code, original)[0] - psnr(row.damaged, original)[0]


@pytest.mark.parametrize("name", ["heavy noise", "random pixels"])
def test_shipped_noise_is_taken_out_and_better_than_by_sdedit_at_the_same_calls(shipped, name):
    original, rows = shipped
    assert gain(rows[name], original) >= 3
    assert psnr(rows[name].sdedit, original)[0] < psnr(rows[name].code, original)[0]


def test_shipped_blocks_are_filled(shipped):
    original, rows = shipped
    assert gain(rows["blocks masked"], original) >= 1


def test_shipped_contrast_comes_back(shipped):
    original, rows = shipped
    row = rows["low contrast"]
    assert gain(row, original) >= 0
    missing = [abs(picture.std() - original.std()) for picture in (row.code, row.damaged)]
    assert missing[0] < 0.8 * missing[1]


@dataclass
class Recording:
    """A network that notes the pictures and the class labels of each call."""

    network: torch.nn.Module
    calls: list

    def __call__(self, x, t, class_labels):
        self.calls.append((x.clone(), class_labels.tolist()))
        return self.network(x, t, class_labels=class_labels)


@pytest.mark.parametrize("solver", ["ab2", "heun"])
def test_a_label_acts_on_the_way_down_only(prior_folder, solver):
    prior = load(prior_folder)
    cat, dog, null = 0, 1, prior.null
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plain = Settings(steps=4, updates=3, blocks=1, stop_at=0.0, solver=solver)
    heard = {}
    for label, guidance in ((None, 1.0), ("cat", 1.0), ("dog", 3.0)):
        recording = Recording(prior.network, [])
        settings = replace(plain, label=label, guidance=guidance)
        result = run(replace(prior, network=recording), pictures, settings)
        heard[label] = recording.calls
        assert result.nfe == plan(prior, settings).calls
    up = {"ab2": 5, "heun": 8}[solver]
    for calls in heard.values():
        assert [labels for _, labels in calls[:up]] == [[null] * 2] * up
        for (x, _), (without, _) in zip(calls[:up], heard[None], strict=False):
            assert torch.equal(x, without)
    assert {label for _, labels in heard[None] for label in labels} == {null}
    assert {label for _, labels in heard["cat"][up:] for label in labels} == {cat}
    assert {label for _, labels in heard["dog"][up:] for label in labels} == {dog, null}
    # with guidance a call is one of twice the pictures, or two
    assert all(sorted(set(labels)) == [dog, null] for _, labels in heard["dog"][up:] if len(labels) == 4)


def test_a_prior_without_a_null_class_is_given_the_label_on_the_way_up_too(tmp_path):
    write_prior(tmp_path, unet={"num_class_embeds": 2}, labels={"0": "cat", "1": "dog"})
    prior = load(tmp_path)
    recording = Recording(prior.network, [])
    settings = Settings(steps=3, updates=1, blocks=1, label="dog")
    run(replace(prior, network=recording), torch.zeros(1, 3, 16, 16), settings)
    assert {label for _, labels in recording.calls for label in labels} == {1}
