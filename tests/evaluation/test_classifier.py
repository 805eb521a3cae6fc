import json

import numpy as np
import pytest
import torch
from confident_ode.evaluation.classifier import Classifier, agreement, class_names, in_batches, load_classifier
from confident_ode.evaluation.frechet import frechet_distance, severities
from confident_ode.evaluation.train_classifier import save, train_classifier, varied
from confident_ode.priors.loading import load
from confident_ode.priors.photos import Photos
from confident_ode.priors.sampling import sample
from PIL import Image


@pytest.fixture(scope="module")
def classifier():
    return load_classifier()


@pytest.fixture
def folder(tmp_path):
    """Red and blue photos with some texture, a fourth of them held out."""
    rows = ["file,class,split"]
    for i in range(32):
        colour, split = (("blue", 2), ("red", 0))[i % 2], "val" if i % 8 < 2 else "train"
        pixels = np.random.default_rng(i).integers(0, 120, (40, 40, 3), dtype=np.uint8)
        pixels[..., colour[1]] += 130
        (tmp_path / "photos" / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / split / f"{i}.png")
        rows.append(f"{i}.png,{colour[0]},{split}")
    (tmp_path / "photos" / "CREDITS.csv").write_text("\n".join(rows))
    return tmp_path / "photos"


def test_the_bundled_one_is_small_and_gives_64_features(classifier):
    assert classifier.classes == ("daisy", "dandelion", "rose", "sunflower", "tulip")
    pictures = torch.rand(3, 3, 32, 48) * 2 - 1
    assert classifier(pictures).shape == (3, 5)
    features = classifier.features(pictures)
    assert features.shape == (3, 64)
    assert (features >= 0).all()


def test_pictures_of_any_size_are_seen_at_one(classifier):
    coarse = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    small = torch.nn.functional.interpolate(coarse, (64, 64), mode="bicubic")
    large = small.repeat_interleave(2, -1).repeat_interleave(2, -2)
    wanted = classifier.features(small)
    torch.testing.assert_close(classifier.features(large), wanted, rtol=0, atol=0.05 * wanted.abs().max().item())


def test_it_learns_what_tells_classes_apart_and_repeats(folder, tmp_path):
    said = []
    about = train_classifier(folder, tmp_path / "a", epochs=200, size=16, tell=said.append)
    assert about["accuracy"] == 1
    assert not said
    assert train_classifier(folder, tmp_path / "b", epochs=200, size=16) == about
    a, b = (load_classifier(tmp_path / name) for name in "ab")
    for mine, other in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        assert torch.equal(mine, other)
    assert json.loads((tmp_path / "a" / "config.json").read_text())["accuracy"] == 1
    red = torch.tensor([0.6, -0.6, -0.6]).view(1, 3, 1, 1).expand(1, 3, 20, 20)
    assert a.classes[a(red).argmax(1)] == "red"


def test_photos_of_one_class_cannot_be_told_apart(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for i in range(2):
            Image.new("RGB", (40, 40), (i, 90, 90)).save(tmp_path / split / f"{i}.png")
    lines = [f"{i}.png,cat,{split}" for split in ("train", "val") for i in range(2)]
    (tmp_path / "CREDITS.csv").write_text("\n".join(["file,class,split", *lines]))
    with pytest.raises(ValueError, match="no two classes"):
        train_classifier(tmp_path, tmp_path / "out", epochs=1, size=16)


def test_varied_pictures_stay_in_range_and_are_never_flat(folder):
    torch.manual_seed(0)
    ramp = torch.arange(32).mul(8).to(torch.uint8).expand(200, 3, 32, 32).contiguous()
    crops = varied(ramp, 16)
    assert crops.shape == (200, 3, 16, 16)
    assert crops.abs().max() <= 1
    slope = (crops[..., -1] - crops[..., 0]).mean((1, 2))
    assert (slope > 0).any()
    assert (slope < 0).any()
    assert crops.flatten(1).std(1).min() > 0.05


class TestLoading:
    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(ValueError, match=r"config\.json is missing"):
            load_classifier(tmp_path)

    @pytest.mark.parametrize("damage", ["config", "weights", "shapes"])
    def test_a_damaged_one_is_refused(self, tmp_path, damage):
        save(Classifier(["a", "b"], channels=(8, 8)), tmp_path, {})
        if damage == "config":
            (tmp_path / "config.json").write_text("[1, 2")
        elif damage == "weights":
            (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0 nothing")
        else:
            config = json.loads((tmp_path / "config.json").read_text())
            (tmp_path / "config.json").write_text(json.dumps({**config, "classes": ["a"]}))
        with pytest.raises(ValueError, match="damaged classifier"):
            load_classifier(tmp_path)


def test_agreement_is_by_name(classifier):
    pictures = torch.rand(4, 3, 32, 32) * 2 - 1
    found = [classifier.classes[i] for i in classifier(pictures).argmax(1)]
    assert agreement(classifier, pictures, found) == 1
    assert agreement(classifier, pictures, [*found[:3], "cat"]) == 0.75
    assert agreement(classifier, pictures, ["cat"] * 4) is None


def test_photos_without_a_class_have_no_name():
    photos = Photos(torch.zeros(2, 3, 4, 4), torch.tensor([1, 2]), ("cat", "dog"))
    assert class_names(photos) == ["dog", ""]


def test_batches_are_joined():
    x = torch.arange(10.0).view(10, 1)
    assert torch.equal(in_batches(lambda part: part + 1, x, batch=3), x + 1)


class TestFrechet:
    def test_of_gaussians_it_is_what_it_should_be(self):
        chance = torch.Generator().manual_seed(0)
        a, b = (torch.randn(20000, 4, generator=chance) for _ in range(2))
        assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
        assert frechet_distance(a, 3 * b + 1) == pytest.approx(4 * (1 + 4), rel=0.03)

    def test_fd_flowers_ranks_damages_by_severity(self, classifier):
        pictures = sample(load("flowers32"), [i % 5 for i in range(150)], steps=12, guidance=2)
        for damage, distances in severities(classifier, pictures).items():
            assert distances == sorted(distances), damage
            assert distances[-1] > 3 * distances[0] > 0
