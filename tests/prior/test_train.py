import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch
from confident_ode.priors import photos as photos_module
from confident_ode.priors import train as module
from confident_ode.priors.export import export, sheet
from confident_ode.priors.loading import load
from confident_ode.priors.photos import Photos, coloured, cropped, order, read_photos, resized
from confident_ode.priors.train import (
    ARCHITECTURES,
    Architecture,
    Training,
    even_timesteps,
    min_snr_weights,
    read_checkpoint,
    train,
    update_average,
    without_class,
)
from PIL import Image
from prior.tiny import write_prior

TINY = "Architecture((8, 32), layers=1, dropout=0.1, batch=4, rate=1e-3)"
PARTS = [".checkpoint.pt.part", "checkpoint.pt", "sheets"]
SHORT = {"architecture": "tiny", "size": 16, "precision": "fp32"}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """A network and sheets of samples that take no time."""
    monkeypatch.setitem(ARCHITECTURES, "tiny", eval(TINY, {"Architecture": Architecture}))  # noqa: S307
    monkeypatch.setattr(module, "sheet", partial(sheet, columns=1, steps=3))


def picture(path, size=(40, 36), seed=0):
    """A soft gradient with a colour of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = np.random.default_rng(seed).integers(60, 255, 3)
    ramp = np.linspace(0.2, 1, size[0] * size[1]).reshape(size[1], size[0], 1)
    Image.fromarray((ramp * colour).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Five cats and four dogs."""
    for i in range(9):
        picture(tmp_path / "photos" / ("dog" if i % 2 else "cat") / f"{i}.png", seed=i)
    return tmp_path / "photos"


def final(output):
    return read_checkpoint(output / "checkpoint.pt")


def assert_same(a, b):
    """Weights, averages, the optimizer's memory and the curve, bit for bit."""
    for name in ("network", "average"):
        assert all(torch.equal(a[name][key], b[name][key]) for key in a[name])
    moments = zip(a["optimizer"]["state"].values(), b["optimizer"]["state"].values(), strict=True)
    assert all(torch.equal(one[key], other[key]) for one, other in moments for key in one)
    assert torch.equal(a["losses"], b["losses"])
    assert (a["step"], a["validations"]) == (b["step"], b["validations"])


def stopped_at(monkeypatch, step):
    """Ctrl-C as that step begins."""
    learn = Training.learn

    def learn_or_stop(self, *arguments):
        if self.step == step:
            raise KeyboardInterrupt
        learn(self, *arguments)

    monkeypatch.setattr(Training, "learn", learn_or_stop)


class TestTraining:
    def test_the_loss_falls_and_the_same_seed_gives_the_same(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "WARM_UP", 10)
        train(folder, tmp_path / "a", steps=60, seed=3, **SHORT)
        train(folder, tmp_path / "b", steps=1, seed=3, **SHORT)
        train(folder, tmp_path / "c", steps=1, seed=4, **SHORT)
        losses = final(tmp_path / "a")["losses"]
        assert losses[-10:].mean() < 0.8 * losses[:10].mean()
        # what comes later depends on how many steps there are, by the cosine
        assert final(tmp_path / "b")["losses"][0] == losses[0]
        assert final(tmp_path / "c")["losses"][0] != losses[0]

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_a_stopped_training_goes_on_as_if_it_had_not_been(self, folder, tmp_path, monkeypatch, precision):
        options = {**SHORT, "precision": precision, "steps": 8, "every": 3, "val": folder}
        train(folder, tmp_path / "whole", **options)
        monkeypatch.setattr(module, "SAVE_AFTER", 0)
        with monkeypatch.context() as patched:
            stopped_at(patched, 5)
            with pytest.raises(KeyboardInterrupt):
                train(folder, tmp_path / "parts", **options)
        assert final(tmp_path / "parts")["step"] == 5
        train(folder, tmp_path / "parts", **options)
        assert_same(final(tmp_path / "whole"), final(tmp_path / "parts"))
        for file in ("curve.csv", "sheets/00000003.png", "sheets/00000008.png", "prior/samples.png"):
            assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()

    @pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
    def test_kill_9_in_the_middle_of_writing_a_checkpoint(self, folder, tmp_path):
        train(folder, tmp_path / "whole", steps=10, **SHORT)
        code = f"""
import os
from confident_ode.priors import export, train as module
from confident_ode.priors.train import ARCHITECTURES, Architecture
ARCHITECTURES["tiny"] = {TINY}
module.SAVE_AFTER = 0
written, rename = [], os.replace
def rename_or_die(source, target):
    written.append(target)
    if len(written) == 8:
        os.kill(os.getpid(), 9)
    rename(source, target)
export.os.replace = rename_or_die
module.train({str(folder)!r}, {str(tmp_path / "parts")!r}, steps=10, **{SHORT!r})
"""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == PARTS
        assert final(tmp_path / "parts")["step"] == 6
        train(folder, tmp_path / "parts", steps=10, **SHORT)
        assert_same(final(tmp_path / "whole"), final(tmp_path / "parts"))

    def test_a_finished_training_is_left_as_it_is(self, folder, tmp_path, monkeypatch):
        train(folder, tmp_path / "out", steps=3, **SHORT)
        before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()}
        stopped_at(monkeypatch, 3)
        train(folder, tmp_path / "out", steps=3)
        assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()} == before

    def test_minutes_are_of_the_clock_and_go_on_where_they_were(self, folder, tmp_path):
        train(folder, tmp_path / "out", minutes=0.01, **SHORT)
        state = final(tmp_path / "out")
        assert 0.6 <= state["seconds"] < 60
        assert state["step"] >= 1
        train(folder, tmp_path / "out", minutes=(state["seconds"] + 0.3) / 60)
        assert final(tmp_path / "out")["step"] > state["step"]

    def test_a_start_from_a_prior(self, folder, tmp_path):
        first = train(folder, tmp_path / "first", steps=3, **SHORT)
        second = train(folder, tmp_path / "second", steps=1, init=str(first), precision="fp32")
        before, after = (load(prior).network.state_dict() for prior in (first, second))
        # the first step of the warm-up hardly moves a weight
        assert max((before[key] - after[key]).abs().max() for key in before) < 1e-3
        assert final(tmp_path / "second")["step"] == 1

    def test_a_folder_without_classes(self, tmp_path):
        for i in range(2):
            picture(tmp_path / "photos" / f"{i}.jpg", seed=i)
        prior = load(train(tmp_path / "photos", tmp_path / "out", steps=2, **SHORT))
        assert (prior.classes, prior.null) == ((), None)


class TestPrior:
    def test_it_is_a_prior_folder_that_restores(self, folder, tmp_path):
        (folder / "CREDITS.csv").write_text(
            "file,class,split,credit\n"
            + "".join(f"cat/{i}.png,{'kitten' if i else ''},,me\n" for i in range(0, 9, 2))
            + "1.png,,val,me\n"
        )
        picture(folder / "val" / "1.png")
        made = train(folder, tmp_path / "cats", steps=2, **SHORT)
        prior = load(made)
        assert (prior.classes, prior.null, prior.size) == (("kitten",), 1, 16)
        assert (prior.prediction, prior.schedule) == ("epsilon", "linear, 1000 steps")
        average = final(tmp_path / "cats")["average"]
        weights = prior.network.state_dict()
        assert all(torch.equal(weights[key], average[key].half().float()) for key in weights)
        names = {
            "README.md",
            "CREDITS.csv",
            "curve.csv",
            "curve.png",
            "samples.png",
            "model_index.json",
            "unet",
            "scheduler",
        }
        assert {path.name for path in made.iterdir()} == names
        head, row = (made / "curve.csv").read_text().splitlines()
        assert head.startswith("step,loss,held_out,t50,")
        assert len(row.split(",")) == 13
        card = (made / "README.md").read_text(encoding="utf-8")
        assert "4 of kitten" in card
        assert "5 photos" in card

    def test_the_command_line_trains_and_restores(self, folder, tmp_path):
        from confident_ode.cli.app import app
        from typer.testing import CliRunner

        options = ["--steps", "2", "--size", "16", "--architecture", "tiny", "--precision", "fp32"]
        done = CliRunner().invoke(app, ["priors", "train", str(folder), "-o", str(tmp_path / "out"), *options])
        assert done.exit_code == 0, done.stderr
        prior = tmp_path / "out" / "prior"
        assert done.stdout == f"{prior} is ready: confident-ode restore PHOTO -o DIR --prior {prior}\n"
        photo = str(folder / "cat" / "0.png")
        options = ["--prior", str(prior), "--steps", "4", "--updates", "4", "--label", "dog", "--guidance", "2"]
        done = CliRunner().invoke(app, ["restore", photo, "-o", str(tmp_path / "restored"), *options])
        assert done.exit_code == 0, done.stderr
        done = CliRunner().invoke(app, ["priors", "train", str(tmp_path / "none"), "-o", "out", "--steps", "2"])
        assert done.exit_code == 2
        assert "There is no folder" in done.stderr

    @pytest.mark.parametrize(("name", "least", "most"), [("small", 7e6, 8e6), ("large", 8e6, 14e6)])
    def test_shards_and_sizes(self, tmp_path, name, least, most):
        asked = {"size": 64, "classes": ["a", "b"], "seed": 0, "rate": 1e-4, "batch": 1, "init": None}
        asked["config"] = ARCHITECTURES[name].config(64, ["a", "b"])
        training = Training(asked, torch.device("cpu"))
        assert least <= training.parameters <= most
        training.losses, training.step = [1.0], 1
        photos = Photos(torch.zeros(2, 3, 128, 128, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"))
        export(training, photos, b"", tmp_path / "prior")
        sizes = [path.stat().st_size for path in (tmp_path / "prior").rglob("*.safetensors")]
        assert max(sizes) <= 15e6
        assert sum(sizes) <= 28e6


class TestErrors:
    def refused(self, *arguments, **options):
        with pytest.raises((ValueError, OSError)) as error:
            train(*arguments, **{"steps": 2, **SHORT, **options})
        message = str(error.value)
        assert "\n" not in message
        assert message.endswith(".")
        return message

    def test_bad_pictures_are_skipped_and_named(self, folder, tmp_path, capsys):
        (folder / "cat" / "text.png").write_text("no picture")
        (folder / "cat" / "cut.png").write_bytes((folder / "cat" / "0.png").read_bytes()[:150])
        picture(folder / "dog" / "small.png", size=(40, 15))
        Image.new("I;16", (20, 20)).save(folder / "dog" / "deep.png")
        (folder / "notes.txt").write_text("not a picture, and not meant as one")
        picture(folder / ".thumbnails" / "hidden.png")
        train(folder, tmp_path / "out", steps=1, **SHORT)
        lines = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
        assert sorted(lines) == [
            f"{folder / 'cat' / 'cut.png'} is skipped: it is damaged, or may not be read.",
            f"{folder / 'cat' / 'text.png'} is skipped: it is not a picture that can be read.",
            f"{folder / 'dog' / 'deep.png'} is skipped: its pixels have more than 8 bits.",
            f"{folder / 'dog' / 'small.png'} is skipped: it is 40×15 pixels, and the model 16×16.",
        ]

    def test_folders_that_are_of_no_use(self, folder, tmp_path):
        assert "There is no folder" in self.refused(tmp_path / "none", tmp_path / "out")
        (tmp_path / "empty").mkdir()
        assert "no photo that can be used" in self.refused(tmp_path / "empty", tmp_path / "out")
        picture(folder / "fish" / "0.png")
        assert "The class 'fish' of" in self.refused(folder, tmp_path / "out")
        (folder / "fish" / "0.png").write_text("no picture")
        assert "has no photo" in self.refused(folder, tmp_path / "out")
        (folder / "CREDITS.csv").write_text("name\na.png\n")
        assert "no column 'file'" in self.refused(folder, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.skipif(os.name != "posix", reason="a limit on the size of files is POSIX's")
    def test_a_full_disk_leaves_the_old_checkpoint_and_prior_whole(self, folder, tmp_path, monkeypatch):
        out = tmp_path / "out"
        train(folder, out, steps=3, **SHORT)
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        with file_limit(20_000):
            message = self.refused(folder, out, steps=6)
        assert f"{out / 'checkpoint.pt'} could not be written (file too large): make room" in message
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
        training = Training.resumed(final(out), torch.device("cpu"))
        with file_limit(20_000), pytest.raises(OSError, match=r"prior could not be written \(.*\): make room"):
            export(training, read_photos(folder, 16), b"", out / "prior")
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
        train(folder, out, steps=6, **SHORT)
        assert final(out)["step"] == 6

    def test_checkpoints_that_do_not_fit(self, folder, tmp_path):
        out = tmp_path / "out"
        train(folder, out, steps=1, **SHORT)
        assert "was begun with architecture tiny, not small" in self.refused(folder, out, architecture="small")
        assert "was begun with size 16, not 32" in self.refused(folder, out, size=32)
        (folder / "dog").rename(folder / "wolf")
        assert "knows the classes cat, dog, and" in self.refused(folder, out)
        whole = (out / "checkpoint.pt").read_bytes()
        for bad in (b"", whole[: len(whole) // 2], b"junk"):
            (out / "checkpoint.pt").write_bytes(bad)
            assert "is damaged, or no checkpoint" in self.refused(folder, out)

    def test_a_checkpoint_runs_no_code(self, folder, tmp_path):
        (tmp_path / "out").mkdir()
        torch.save({"asked": Trap(tmp_path / "sprung")}, tmp_path / "out" / "checkpoint.pt")
        assert "no checkpoint of this trainer" in self.refused(folder, tmp_path / "out")
        assert not (tmp_path / "sprung").exists()

    def test_priors_that_are_no_start(self, folder, tmp_path):
        write_prior(tmp_path / "v", scheduler={"prediction_type": "v_prediction"})
        write_prior(tmp_path / "fish", unet={"num_class_embeds": 3}, labels={"0": "cod", "1": "eel"})
        write_prior(tmp_path / "no_null", unet={"num_class_embeds": 2}, labels={"0": "cat", "1": "dog"})
        new = {"architecture": None, "size": None}
        out = tmp_path / "out"
        assert "must predict eps" in self.refused(folder, out, **new, init=str(tmp_path / "v"))
        assert "knows the classes cod, eel" in self.refused(folder, out, **new, init=str(tmp_path / "fish"))
        assert "no null class" in self.refused(folder, out, **new, init=str(tmp_path / "no_null"))
        assert "leave --architecture" in self.refused(folder, out, init=str(tmp_path / "v"))
        write_prior(tmp_path / "cats", unet={"num_class_embeds": 3}, labels={"0": "cat", "1": "dog"})
        small = {**new, "size": 24, "init": str(tmp_path / "cats")}
        assert "is of 16×16 pixels: leave --size out, or grow it with --size 32." in self.refused(folder, out, **small)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"steps": None}, "Say how long"),
            ({"minutes": 1.0}, "Say how long"),
            ({"steps": 0}, "no length"),
            ({"size": 17}, "cannot be halved"),
            ({"size": -8}, "size is -8"),
            ({"architecture": "huge"}, "take one of small, large"),
            ({"precision": "fp8"}, "take one of auto, bf16, fp32"),
            ({"rate": 0.0}, "rate is 0"),
        ],
    )
    def test_options(self, folder, tmp_path, options, words):
        assert words in self.refused(folder, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_gpu_that_is_not_there(self, folder, tmp_path):
        assert "device 'cuda' is not there" in self.refused(folder, tmp_path / "out", device="cuda")

    def test_a_training_that_blows_up(self, folder, tmp_path):
        message = self.refused(folder, tmp_path / "out", rate=1e30, steps=40)
        assert "lower --rate" in message


class Trap:
    """A pickle of this makes the file `path` when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@contextmanager
def file_limit(size):
    """No file may grow beyond `size` bytes."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestPhotos:
    def test_resizing_is_pillows(self):
        pixels = np.random.default_rng(0).integers(90, 170, (32, 32, 3), dtype=np.uint8)
        wanted = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.LANCZOS))
        found = resized(torch.from_numpy(pixels).permute(2, 0, 1)[None], 16)[0].permute(1, 2, 0) * 255
        assert np.abs(found.numpy() - wanted).max() <= 1.01

    def test_a_crop_is_where_it_is_said_to_be(self):
        ramp = torch.arange(64, dtype=torch.uint8).expand(2, 3, 64, 64) * 2
        found = resized(ramp, 16, left=torch.tensor([0.0, 16.0]), top=0.0, side=torch.tensor([64.0, 32.0])) * 255
        # of a linear ramp each pixel is the value at its centre
        centres = torch.arange(16) + 0.5
        torch.testing.assert_close(found[0, 0, 8, 3:-3], (centres * 4 - 0.5)[3:-3] * 2, atol=0.1, rtol=0)
        torch.testing.assert_close(found[1, 0, 8, 3:-3], (16 + centres * 2 - 0.5)[3:-3] * 2, atol=0.1, rtol=0)

    def test_crops_mirror_half_and_stay_in_range(self):
        torch.manual_seed(0)
        noise = torch.randint(0, 2, (400, 3, 32, 32), dtype=torch.uint8) * 255
        assert cropped(noise, 16).min() >= 0
        assert cropped(noise, 16).max() <= 1
        ramp = (torch.arange(32, dtype=torch.uint8) * 8).expand(400, 3, 32, 32)
        crops = cropped(ramp, 16)
        assert 0.4 < (crops[..., 0] > crops[..., -1])[:, 0, 0].float().mean() < 0.6
        spans = (crops[:, 0, 0, 0] - crops[:, 0, 0, -1]).abs() / (31 * 8 / 255)
        assert 0.7 < spans.min() < 0.8
        assert spans.max() < 1

    def test_colours_keep_black_white_and_the_order_of_tones(self):
        torch.manual_seed(0)
        ramp = torch.linspace(0, 1, 64).expand(500, 3, 1, 64)
        changed = coloured(ramp, 1.0)
        assert (changed[..., 0] == 0).all()
        assert (changed[..., -1] == 1).all()
        assert (changed.diff(dim=-1) > 0).all()
        assert 0.03 < (changed - ramp).abs().max() < 0.1
        assert (changed - ramp).mean().abs() < 0.01
        assert torch.equal(coloured(ramp, 0.0), ramp)

    def test_every_photo_comes_once_a_round(self):
        rows = torch.cat([order(7, 3, seed=1, step=step) for step in range(14)])
        rounds = rows.view(6, 7)
        assert (rounds.sort().values == torch.arange(7)).all()
        assert len({tuple(lap.tolist()) for lap in rounds}) == 6
        assert order(2, 5, seed=1, step=0).shape == (5,)

    def test_a_photo_of_any_kind_becomes_its_centre_square(self, tmp_path):
        wide = Image.new("RGBA", (90, 30), (255, 0, 0, 255))
        wide.paste((0, 0, 0, 0), (30, 0, 60, 30))
        wide.save(tmp_path / "wide.png")
        Image.new("L", (20, 30), 128).save(tmp_path / "grey.webp", lossless=True)
        turned = Image.new("RGB", (200, 100), "blue")
        exif = turned.getexif()
        exif[0x0112] = 6
        turned.save(tmp_path / "turned.jpg", exif=exif)
        photos = read_photos(tmp_path, 16)
        assert photos.pictures.shape == (3, 3, 32, 32)
        grey, turned, wide = photos.pictures
        assert (grey == 128).all()
        assert (wide[:, :, 4:-4] == 255).all()
        assert turned[2].min() > 240
        assert photos.classes == ()

    def test_a_photo_of_no_class_trains_the_null_class(self, folder):
        picture(folder / "stray.png")
        photos = read_photos(folder, 16)
        assert photos.classes == ("cat", "dog")
        assert sorted(photos.labels.tolist()) == [0] * 5 + [1] * 4 + [2]

    def test_seeds_are_apart(self):
        seeds = {photos_module.seed_for(seed, "step", step) for seed in range(30) for step in range(30)}
        assert len(seeds) == 900


class TestMathematics:
    def test_a_seventh_of_the_labels_become_null(self):
        torch.manual_seed(0)
        labels = without_class(torch.zeros(20_000, dtype=torch.long), 5)
        assert set(labels.tolist()) == {0, 5}
        assert 0.14 < (labels == 5).float().mean() < 0.16

    def test_timesteps_are_even_over_the_chain(self):
        torch.manual_seed(0)
        t = even_timesteps(10, "cpu")
        assert sorted((t // 100).tolist()) == list(range(10))
        many = torch.cat([even_timesteps(10, "cpu") for _ in range(2000)])
        assert many.min() == 0
        assert many.max() == 999
        assert abs(many.float().mean() - 499.5) < 2

    def test_the_average_of_the_weights(self):
        average, network = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        torch.nn.init.constant_(average.weight, 0.0)
        expected = 0.0
        for step, value in enumerate([1.0, 2.0, 5.0]):
            torch.nn.init.constant_(network.weight, value)
            update_average(average, network, step)
            decay = (1 + step) / (10 + step)
            expected = decay * expected + (1 - decay) * value
        assert average.weight.item() == pytest.approx(expected)
        torch.nn.init.constant_(network.weight, 0.0)
        update_average(average, network, 10**7)
        assert average.weight.item() == pytest.approx(0.9999 * expected)

    def test_the_loss_is_that_of_ddpm(self):
        asked = {"size": 16, "classes": [], "seed": 0, "rate": 1e-4, "batch": 1}
        asked["config"] = ARCHITECTURES["tiny"].config(16, [])
        training = Training(asked, torch.device("cpu"), "fp32")
        seen = {}

        def oracle(noisy, t, labels):
            seen.update(noisy=noisy, t=t)
            return type("Output", (), {"sample": torch.zeros_like(noisy)})

        x, noise = torch.full((2, 3, 16, 16), 0.5), torch.ones(2, 3, 16, 16)
        t = torch.tensor([0, 999])
        assert training.errors(oracle, x, t, None, noise).tolist() == pytest.approx([1] * len(x))
        alpha_bar = np.cumprod(1 - np.linspace(1e-4, 2e-2, 1000))[[0, 999]]
        wanted = np.sqrt(alpha_bar) * 0.5 + np.sqrt(1 - alpha_bar)
        np.testing.assert_allclose(seen["noisy"][:, 0, 0, 0], wanted, rtol=1e-5)

    def test_the_last_grains_of_noise_weigh_less(self):
        snr = torch.tensor([100.0, 10.0, 5.0, 0.01])
        assert min_snr_weights(snr / (1 + snr)).tolist() == pytest.approx([0.05, 0.5, 1, 1])

    def test_the_rate_warms_up_and_falls_to_a_fiftieth(self, folder):
        asked = {"size": 16, "classes": ["cat", "dog"], "seed": 0, "rate": 1e-3, "batch": 2}
        asked["config"] = ARCHITECTURES["tiny"].config(16, ["cat", "dog"])
        training, photos = Training(asked, torch.device("cpu"), "fp32"), read_photos(folder, 16)
        rates = []
        for step, share in ((0, 0.0), (99, 0.0), (1000, 0.0), (1000, 0.5), (1000, 1.0)):
            training.step = step
            training.learn(photos, share)
            rates.append(training.optimizer.param_groups[0]["lr"] / 1e-3)
        assert rates == pytest.approx([1 / 200, 0.5, 1, 0.51, 0.02])

    def test_checkpoints_hold_plain_values(self, folder, tmp_path):
        train(folder, tmp_path / "out", steps=1, val=folder, **SHORT)
        state = final(tmp_path / "out")
        assert json.loads(state["asked"])["classes"] == ["cat", "dog"]
        assert list(state["validations"][1]) == list(module.LEVELS)
