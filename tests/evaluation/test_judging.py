import json

import pytest
import torch
from confident_ode.evaluation.classifier import Classifier, load_classifier
from confident_ode.evaluation.judging import VIEWS, denoising, judge, judge_calls, nearest, view
from confident_ode.evaluation.train_classifier import save
from confident_ode.priors.photos import Photos
from PIL import Image


def made(count, seed, side=32):
    """Photos of smooth colours, like no other."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return Photos((255 * smooth).to(torch.uint8), torch.arange(count) % 2, ("cat", "dog"))


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return Classifier(["cat", "dog"], 16, (8, 8)).eval().requires_grad_(False)


def test_every_part_is_measured_and_calls_are_as_planned(prior, classifier):
    calls = []
    numbers, pictures = judge(
        prior, made(9, 0), made(6, 1), classifier, samples=11, steps=2, on_call=lambda: calls.append(1)
    )
    assert len(calls) == judge_calls(11, 2, 6)
    assert json.loads(json.dumps(numbers))["fd"].keys() == {
        "samples to held-out photos",
        "samples to training photos",
        "held-out to training photos",
    }
    assert all(0 <= share <= 1 for share in numbers["agreement"].values())
    assert pictures["samples.png"].size == (5 * 16, 2 * 16)
    assert pictures["nearest.png"].width > 4 * 16


def test_the_error_of_a_network_that_sees_the_picture_is_none(prior):
    x = torch.rand(3, 3, 16, 16) * 2 - 1

    class Oracle:
        levels, device = prior.levels, prior.device

        def model(self, threshold):
            return lambda y, sigma: x.clone()

        def conditioning(self, label, batch):
            return {}

    found = denoising(Oracle(), x)
    assert list(found) == list(range(50, 1000, 100))
    for level in found.values():
        assert level["error"] < 1e-5
        assert level["psnr"] > 60


def test_a_blind_network_has_the_error_of_the_picture(prior):
    x = torch.full((2, 3, 16, 16), 0.5)

    class Blind:
        levels, device = prior.levels, prior.device

        def model(self, threshold):
            return lambda y, sigma: torch.zeros_like(y)

        def conditioning(self, label, batch):
            return {}

    for t, level in denoising(Blind(), x).items():
        assert level["error"] == pytest.approx((0.5 / prior.levels.sigma(t).item()) ** 2, rel=0.05)
        assert level["psnr"] == pytest.approx(12.04, abs=0.01)


class TestCopies:
    @pytest.mark.parametrize("place", range(len(VIEWS)))
    def test_a_copy_is_found_however_it_was_cut(self, classifier, place):
        photos = made(60, 2)
        found = nearest(view(photos.pictures[7:8], 16, place), photos, 16, classifier)
        for space in ("pixels", "features"):
            assert found[space].photo.tolist() == [7]
            assert found[space].distance.item() < 2e-3
            assert found[space].ratio.item() < 0.05
        assert found["pixels"].view.tolist() == [place]

    def test_another_picture_is_no_copy(self, classifier):
        photos = made(60, 2)
        found = nearest(view(made(20, 3).pictures, 16, 0), photos, 16, classifier)
        assert found["pixels"].ratio.min() > 0.4

    def test_the_nearest_is_that_of_a_search_one_by_one(self, classifier):
        photos, pictures = made(5, 4), view(made(3, 5).pictures, 16, 0)
        found = nearest(pictures, photos, 16, classifier)["pixels"]
        for i, picture in enumerate(pictures):
            distances = [
                ((view(photos.pictures[j : j + 1], 16, k) - picture).square().mean().sqrt().item(), j, k)
                for j in range(5)
                for k in range(len(VIEWS))
            ]
            assert (found.distance[i].item(), found.photo[i].item()) == (
                pytest.approx(min(distances)[0], rel=1e-4),
                min(distances)[1],
            )


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path):
        """Photos of two classes, a third held out."""
        rows, photos = ["file,class,split"], made(12, 6)
        for i, picture in enumerate(photos.pictures):
            split = "val" if i % 3 == 0 else "train"
            (tmp_path / "photos" / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.movedim(0, -1).numpy()).save(tmp_path / "photos" / split / f"{i}.png")
            rows.append(f"{i}.png,{photos.classes[photos.labels[i]]},{split}")
        (tmp_path / "photos" / "CREDITS.csv").write_text("\n".join(rows))
        return tmp_path / "photos"

    def test_it_writes_what_it_found(self, command, prior_folder, folder, classifier, tmp_path):
        save(classifier, tmp_path / "classifier", {})
        result = command(
            "priors", "judge", prior_folder, folder, "-o", tmp_path / "out", "--samples", 4, "--steps", 2,
            "--classifier", tmp_path / "classifier",
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
        numbers = json.loads((tmp_path / "out" / "judgement.json").read_text())
        assert numbers["samples"] == 4
        assert f"{numbers['fd']['samples to held-out photos']:.3f}" in result.stdout
        with Image.open(tmp_path / "out" / "samples.png") as image:
            assert image.size == (2 * 16, 2 * 16)

    def test_without_held_out_photos_it_asks_for_them(self, command, prior_folder, folder, tmp_path):
        (folder / "CREDITS.csv").unlink()
        result = command("priors", "judge", prior_folder, folder, "-o", tmp_path / "out")
        assert result.exit_code == 2
        assert result.stderr == "Judging needs photos that were not trained on too: give their folder with --val.\n"

    def test_a_classifier_is_trained_and_ranked(self, command, folder, tmp_path):
        result = command("priors", "classifier", folder, "-o", tmp_path / "out", "--epochs", 1)
        assert result.exit_code == 2, result.stdout
        assert "64×64" in result.stderr
        for name in ("train", "val"):
            for path in (folder / name).iterdir():
                with Image.open(path) as image:
                    image.resize((128, 128)).save(path)
        result = command("priors", "classifier", folder, "-o", tmp_path / "out", "--epochs", 1)
        assert result.exit_code == 0, result.stderr
        assert "held-out photos" in result.stdout
        assert load_classifier(tmp_path / "out").classes == ("cat", "dog")
