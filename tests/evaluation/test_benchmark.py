import math
import pickle
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from confident_ode.evaluation import benchmark
from confident_ode.evaluation.benchmark import (
    MEASURES,
    Made,
    Measured,
    Restorer,
    Results,
    Task,
    at_distance,
    best,
    best_of,
    check_enough,
    damaged,
    eight_bits,
    finish,
    frechet_distances,
    interval,
    joined,
    measure,
    of_bits,
    over_damages,
    planned,
    read_part,
    resamples,
    statistics,
    tasks_of,
)
from confident_ode.evaluation.engines import work
from confident_ode.evaluation.frechet import Gaussian, frechet_distance
from confident_ode.evaluation.methods import method_of
from prior.tiny import write_prior
from safetensors.torch import save_file

QUICK = {"steps": 2, "updates": 1, "blocks": 1, "stop_at": 0.0}


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bits(*shape, seed=0):
    """uint8 (*shape, 3, 16, 16)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 3, 16, 16), generator=generator, dtype=torch.uint8)


class Means(torch.nn.Module):
    """A classifier whose two features are the means of red and of green."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))

    def features(self, pictures):
        return self.scale * pictures.mean((2, 3))[:, :2]


@dataclass
class Half:
    """A method that halves, adds a little by the seed of each picture, and stops where it begins so many batches."""

    stop_at: int | None = None
    samples: int = 1
    name: str = "half"
    seeds: list = field(default_factory=list)

    def about(self, prior):
        return {"method": "half"}

    def restore(self, prior, pictures, seed):
        if len(self.seeds) == self.stop_at:
            raise KeyboardInterrupt
        self.seeds.append(seed)
        own = torch.tensor([(seed + i) % 2**32 % 31 for i in range(len(pictures))])
        return pictures / 2 + own[:, None, None, None] / 100, [3] * len(pictures)


def restorer_of(name, precision="fp32", scale=1.0):
    """A Restorer with everything loaded, whose classifier is Means."""
    made = Restorer(str(name), "cpu", precision)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "load_classifier", lambda device: Means(scale))
        assert made.classifier.scale == scale
    return made


@pytest.fixture(scope="module")
def restorer(prior_folder):
    return restorer_of(prior_folder)


@pytest.fixture
def no_time(monkeypatch):
    """The seconds are all that differs between two runs."""
    monkeypatch.setattr(benchmark, "time", SimpleNamespace(perf_counter=lambda: 0.0))


def placed(pictures, damages, count, photos, first=0):
    """(pictures, damages, count): of which photo each is, from the first on, and round again after the last."""
    places = (first + torch.arange(pictures * damages)) % photos
    return places.view(damages, pictures).T[..., None].expand(-1, -1, count)


def made_of(pictures, damages, count, photos=None, features=3, seed=0):
    """A Measured of anything, of the same photos for each damage or of so many."""

    def one(i):
        return 1 + drawn(pictures, damages, count, seed=100 * seed + i).abs()

    scores = {name: one(i) for i, name in enumerate(MEASURES)}
    features, inception = (drawn(pictures, damages, count, n, seed=100 * seed + 22) for n in (features, 5))
    return Measured(scores, one(20), one(21), features, inception, placed(pictures, damages, count, photos or pictures))


def repeated(values, photos, taken):
    """(N, ...): the values (P, D, K, ...) one after another, each as often as its photo is taken."""
    return values.flatten(0, 2).repeat_interleave(taken.long()[photos.flatten()], 0)


def numbers_of(photos):
    """How many pictures photos have: all such numbers."""
    return {*photos.flatten().bincount().tolist()}


# 9 pictures for each of 4 damages: of the same photos, of other ones, of some more often than of others, and of a photo
# that has one picture only
PLACED = [(9, {8}), (36, {2}), (13, {4, 6}), (35, {2, 4})]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("count", "numbers"), PLACED)
def test_distances_are_those_of_torchmetrics_for_every_resample_of_the_photos(count, numbers):
    features, references = drawn(9, 4, 2, 6), 1 + drawn(50, 6, seed=1) @ drawn(6, 6, seed=2)
    photos, weights = placed(9, 4, 2, count), resamples(count, 5)
    assert numbers_of(photos) == numbers
    found = frechet_distances(features, photos, weights, Gaussian(references))
    for distance, taken in zip(found, weights, strict=True):
        these = repeated(features, photos, taken)
        assert distance.item() == pytest.approx(frechet_distance(these, references), rel=1e-5)


def test_a_photo_that_has_no_picture_changes_no_distance():
    features, references, photos = drawn(9, 1, 2, 6), Gaussian(drawn(50, 6, seed=1)), placed(9, 1, 2, 9)
    weights, others = resamples(9, 5), 3 * torch.ones(6, 2).double()
    found = frechet_distances(features, photos + 1, torch.cat([others[:, :1], weights, others[:, 1:]], 1), references)
    torch.testing.assert_close(found, frechet_distances(features, photos, weights, references))


def test_a_distance_of_few_pictures_of_features_that_never_vary_is_a_number():
    features = torch.ones(3, 1, 1, 6, dtype=torch.float64)
    found = frechet_distances(features, placed(3, 1, 1, 3), resamples(3, 2), Gaussian(torch.zeros(8, 6)))
    torch.testing.assert_close(found, torch.full((3,), 6.0, dtype=torch.float64))


def test_resamples_take_as_many_photos_and_the_first_takes_each_once():
    weights = resamples(20, 300, seed=1)
    assert weights.shape == (301, 20)
    assert (weights.sum(1) == 20).all()
    assert (weights[0] == 1).all()
    assert weights[1:].mean(0).tolist() == pytest.approx([1] * 20, abs=0.25)
    assert torch.equal(weights, resamples(20, 300, seed=1))
    assert not torch.equal(weights, resamples(20, 300, seed=2))


def test_an_interval_is_that_of_the_mean_of_normals():
    values = drawn(40, 3, seed=5) + drawn(40, 1, seed=6)
    weights = resamples(40, 4000)
    estimate, low, high = interval(weights @ values.mean(1) / 40)
    assert estimate == pytest.approx(values.mean().item())
    # photos are what is drawn, so that the damages of a photo do not count as so many photos
    error = 1.96 * values.mean(1).std().item() / math.sqrt(40)
    assert (estimate - low, high - estimate) == pytest.approx((error, error), rel=0.1)


def test_an_interval_lies_round_its_estimate_where_resamples_are_biased():
    estimate, low, high = interval(torch.tensor([1.0, *torch.linspace(5, 6, 1001)]))
    assert (estimate, low, high) == pytest.approx((1.0, 1 - 0.475, 1 + 0.475), abs=1e-4)


def test_measures_are_of_each_photo_and_result():
    photos, places = bits(5), torch.tensor([3, 0, 4])
    clean, seen, known_of_all = photos[places], bits(3, seed=1), drawn(5, 2, seed=2)
    known = known_of_all[places]
    results = {
        "pictures": torch.stack([bits(3, seed=3), clean], 1),
        "features": torch.stack([drawn(3, 2, seed=4), known + torch.tensor([3.0, 4.0])], 1),
        "calls": torch.tensor([[5, 0], [6, 1], [7, 2]]),
        "seconds": torch.tensor([[0.5, 0.0], [0.6, 0.0], [0.7, 0.0]]),
    }
    found = measure(results, places, photos, known_of_all, seen)
    assert found.photos.tolist() == [[[3, 3]], [[0, 0]], [[4, 4]]]
    assert {name: tuple(values.shape) for name, values in found.scores.items()} == dict.fromkeys(MEASURES, (3, 1, 2))
    assert found.calls.tolist() == [[[5, 0]], [[6, 1]], [[7, 2]]]
    assert found.seconds[:, 0, 0].tolist() == pytest.approx([0.5, 0.6, 0.7])
    assert torch.equal(found.features[:, 0], results["features"])
    assert {values.dtype for values in found.scores.values()} == {torch.float64}

    def error(k, references):
        return (results["pictures"][:, k].double() - references.double()).flatten(1) / 255

    for k, (name, references) in product(range(2), (("clean", clean), ("input", seen))):
        ratios = [min(60.0, -10 * math.log10(e.item() or 1e-9)) for e in error(k, references).square().mean(1)]
        assert found.scores[f"psnr_to_{name}"][:, 0, k].tolist() == pytest.approx(ratios, rel=1e-4)
        lengths = error(k, references).norm(dim=1).tolist()
        assert found.scores[f"l2_to_{name}"][:, 0, k].tolist() == pytest.approx(lengths, rel=1e-5)
    # equal pictures have a PSNR that can be averaged
    assert found.scores["psnr_to_clean"][:, 0, 1].tolist() == [60.0] * 3
    assert found.scores["ssim_to_clean"][:, 0, 1].tolist() == pytest.approx([1] * 3)
    assert all(found.scores["ssim_to_input"][:, 0, 1] < 0.5)
    assert found.scores["features_to_clean"][:, 0, 1].tolist() == pytest.approx([5] * 3)
    distances = (results["features"][:, 0] - known).norm(dim=1).tolist()
    assert found.scores["features_to_clean"][:, 0, 0].tolist() == pytest.approx(distances)


def test_lpips_and_inception_are_of_each_result_where_they_are_to_be_had():
    photos, places, seen = bits(4), torch.tensor([2, 3, 0]), bits(3, seed=1)
    clean = photos[places]
    results = {
        "pictures": bits(3, 2, seed=3),
        "features": drawn(3, 2, 2),
        "calls": torch.zeros(3, 2),
        "seconds": torch.zeros(3, 2),
    }
    without = measure(results, places, photos, drawn(4, 2), seen)
    assert (without.inception.shape, "lpips" in without.scores) == ((3, 1, 2, 0), False)

    def apart(pictures, references):
        assert pictures.dtype == references.dtype == torch.uint8
        return (pictures.float() - references.float()).mean((1, 2, 3))

    found = measure(results, places, photos, drawn(4, 2), seen, apart, lambda pictures: pictures[:, :, 0, 0].float())
    assert [*found.scores] == [*MEASURES, "lpips"]
    for i, k in product(range(3), range(2)):
        picture = results["pictures"][i, k]
        assert found.scores["lpips"][i, 0, k] == pytest.approx((picture.float() - clean[i].float()).mean().item())
        assert found.inception[i, 0, k].tolist() == picture[:, 0, 0].tolist()
    for name in MEASURES:
        assert torch.equal(found.scores[name], without.scores[name])
    # and stay with what is made of them
    assert "lpips" in joined([found, found], 2).scores
    assert statistics(found, resamples(4, 4), Gaussian(drawn(20, 2)))["lpips"].shape == (5,)


@pytest.mark.parametrize(("count", "numbers"), PLACED)
def test_statistics_are_means_over_all_that_was_made_of_the_photos_and_the_distance(count, numbers):
    measured, weights, references = made_of(9, 4, 2, count), resamples(count, 5), Gaussian(drawn(20, 3, seed=9))
    assert numbers_of(measured.photos) == numbers
    found = statistics(measured, weights, references)
    assert {tuple(values.shape) for values in found.values()} == {(6,)}
    assert [*found] == [*MEASURES, "fd"]
    for name in MEASURES:
        for value, taken in zip(found[name], weights, strict=True):
            these = repeated(measured.scores[name], measured.photos, taken)
            assert value.item() == pytest.approx(these.mean().item())
    distances = frechet_distances(measured.features, measured.photos, weights, references)
    torch.testing.assert_close(found["fd"], distances)


def test_some_of_the_damages_by_their_places():
    measured = made_of(4, 3, 2, 7)
    some = measured[[2, 0]]
    for name in MEASURES:
        assert torch.equal(some.scores[name], measured.scores[name][:, [2, 0]])
    for name in ("calls", "seconds", "features", "inception", "photos"):
        assert torch.equal(getattr(some, name), getattr(measured, name)[:, [2, 0]])


@pytest.mark.parametrize(("dim", "shape"), [(1, (4, 6, 2)), (2, (4, 3, 4))])
def test_several_are_joined_as_of_more_damages_or_results(dim, shape):
    one, two = made_of(4, 3, 2, 7, seed=1), made_of(4, 3, 2, 9, seed=2)
    both = joined([one, two], dim)
    assert (both.features.shape, both.inception.shape) == ((*shape, 3), (*shape, 5))
    for name in MEASURES:
        assert torch.equal(both.scores[name], torch.cat([one.scores[name], two.scores[name]], dim))
    for name in ("calls", "seconds", "photos"):
        values = getattr(both, name)
        assert values.shape == shape
        assert torch.equal(values.select(dim, 0), getattr(one, name).select(dim, 0))
        assert torch.equal(values.select(dim, shape[dim] - 1), getattr(two, name).select(dim, -1))


def test_the_oracle_keeps_the_four_nearest_to_the_clean_photo():
    measured = made_of(3, 2, 7, 5)
    kept = best_of(measured)
    assert kept.features.shape == (3, 2, 4, 3)
    for i, j in product(range(3), range(2)):
        psnrs = measured.scores["psnr_to_clean"][i, j].tolist()
        places = sorted(range(7), key=lambda k: psnrs[k], reverse=True)[:4]
        for name in MEASURES:
            assert kept.scores[name][i, j].tolist() == measured.scores[name][i, j, places].tolist()
        assert kept.calls[i, j].tolist() == measured.calls[i, j, places].tolist()
        assert kept.seconds[i, j].tolist() == measured.seconds[i, j, places].tolist()
        assert torch.equal(kept.features[i, j], measured.features[i, j, places])
        assert torch.equal(kept.inception[i, j], measured.inception[i, j, places])
        assert kept.photos[i, j].tolist() == [(3 * j + i) % 5] * 4
    # where there are no more, all
    assert best_of(made_of(3, 2, 2)).calls.shape == (3, 2, 2)
    assert best_of(replace(measured, inception=torch.zeros(3, 2, 7, 0))).inception.shape == (3, 2, 4, 0)


def test_over_damages_a_psnr_is_that_of_the_pooled_error():
    errors = torch.tensor([[[0.01, 0.03], [0.2, 0.2]], [[0.02, 0.04], [0.2, 0.6]]])
    measured = made_of(2, 2, 2)
    measured.scores["psnr_to_clean"] = -10 * errors.double().log10()
    # of the damages' errors 0.025 and 0.3
    ratios = [-10 * math.log10(error) for error in (0.025, 0.3)]
    mean, deviation = over_damages(measured, "psnr_to_clean")
    assert mean == pytest.approx(sum(ratios) / 2, rel=1e-5)
    assert deviation == pytest.approx((ratios[0] - ratios[1]) / 2, rel=1e-5)
    first, second = (measured.scores["ssim_to_input"][:, j].mean().item() for j in range(2))
    assert over_damages(measured, "ssim_to_input") == pytest.approx(((first + second) / 2, abs(first - second) / 2))


def test_a_curve_is_interpolated_at_a_distance():
    curve = [
        {"l2_to_input": torch.tensor([4.0, 2.0]), "fd": torch.tensor([1.0, 10.0])},
        {"l2_to_input": torch.tensor([1.0, 4.0]), "fd": torch.tensor([7.0, 20.0])},
    ]
    assert at_distance(curve, torch.tensor([2.0, 2.5])).tolist() == [5.0, 12.5]
    assert at_distance(curve, torch.tensor([0.0, 9.0])).tolist() == [7.0, 20.0]


def test_the_best_has_the_smallest_distance_itself_not_its_resamples():
    found = {name: {"fd": torch.tensor(fds)} for name, fds in (("a", [2.0, 0.0]), ("b", [1.0, 9.0]), ("c", [0.5, 0.5]))}
    assert best(["a", "b"], found) == "b"


def test_bits_and_back():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(eight_bits(of_bits(every)), every)
    assert eight_bits(torch.tensor([-3.0, 0.0, 3.0])).tolist() == [0, 128, 255]
    assert of_bits(every).aminmax() == (-1, 1)


@dataclass
class Noise:
    """A damage of other noise for each seed, which counts how often it is made."""

    made: int = 0

    def __call__(self, pictures, seed):
        self.made += 1
        generators = (torch.Generator().manual_seed(seed + i) for i in range(len(pictures)))
        return torch.stack([torch.rand(pictures.shape[1:], generator=generator) for generator in generators])


def test_damages_do_not_share_their_chance_and_photos_do_not_either(tmp_path):
    grey = torch.full((2, 3, 8, 8), 128, dtype=torch.uint8)
    first, other = (damaged(grey, Noise(), 1, tmp_path, (name, 5)) for name in ("a", "b"))
    assert (first.dtype, first.shape) == (torch.uint8, grey.shape)
    assert not torch.equal(first, other)
    assert not torch.equal(first, damaged(grey, Noise(), 2, tmp_path, ("a", 5)))
    assert not torch.equal(first[0], first[1])


def test_damaged_pictures_are_kept_and_made_once(tmp_path):
    clean, noise = bits(2), Noise()
    once = damaged(clean, noise, 1, tmp_path, ("a", 5))
    (file,) = tmp_path.iterdir()
    assert torch.equal(read_part(file)["pictures"], once)
    assert torch.equal(damaged(clean, noise, 1, tmp_path, ("a", 5)), once)
    assert noise.made == 1
    # but of anything else they are others
    for wanted, about, seed in ((bits(2, seed=1), ("a", 5), 1), (clean, ("a", 4), 1), (clean, ("a", 5), 2)):
        damaged(wanted, noise, seed, tmp_path, about)
    assert (noise.made, len(contents(tmp_path))) == (4, 4)


def test_too_few_pictures_are_one_sentence():
    check_enough(27, 12)
    with pytest.raises(ValueError, match=r"at least 320 pictures.* 26 photos × 12 damages are 312: take at least 27"):
        check_enough(26, 12)


def test_a_damaged_part_is_one_sentence(tmp_path):
    path = tmp_path / "part.safetensors"
    for content in (b"", b"nothing of the kind"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"part.safetensors is damaged .* delete it"):
            read_part(path)


def names_of(restorer, method=None, pictures=None, seed=7, batch=2):
    """The file names of each sample's batches."""
    method = method or method_of("CODE", QUICK)
    samples = tasks_of(method, restorer, bits(5) if pictures is None else pictures, seed, batch)
    return [[name for name, _ in batches] for batches in samples]


def test_files_are_named_by_all_that_they_depend_on(restorer, prior_folder, tmp_path):
    write_prior(tmp_path / "other", scheduler={"beta_end": 0.03})
    other = method_of("CODE", {**QUICK, "eta": 0.5})
    samples = [
        names_of(restorer),
        names_of(restorer, method=other),
        names_of(restorer, seed=8),
        names_of(restorer, pictures=bits(5, seed=1)),
        names_of(restorer_of(tmp_path / "other")),
        names_of(restorer_of(prior_folder, "bf16")),
        names_of(restorer_of(prior_folder, scale=2.0)),
    ]
    assert {len(batches) for (batches,) in samples} == {3}
    assert len({name for (batches,) in samples for name in batches}) == 3 * len(samples)
    assert all(name.endswith(".safetensors") for name in samples[0][0])


def test_files_are_not_named_by_anything_else(restorer, prior_folder):
    (names,) = names_of(restorer)
    assert names_of(restorer_of(prior_folder)) == [names]
    assert names_of(restorer, method=method_of("other", QUICK)) == [names]
    # auto of the CPU is one of the two, and those are told apart
    auto = names_of(restorer_of(prior_folder, "auto"))
    assert auto in ([names], names_of(restorer_of(prior_folder, "bf16")))
    # more samples have those that fewer have, and a changed picture changes its batch only
    assert names_of(restorer, method=method_of("CODE", {**QUICK, "samples": 2}))[0] == names
    changed = bits(5)
    changed[3] = 0
    (others,) = names_of(restorer, pictures=changed)
    assert [name == other for name, other in zip(names, others, strict=True)] == [True, False, True]


def test_pictures_and_samples_have_seeds_of_their_own(restorer):
    samples = tasks_of(Half(samples=3), restorer, bits(5), 7, 2)
    seeds = [[task.seed + i for _, task in batches for i in range(len(task.pictures))] for batches in samples]
    assert seeds[0] == [7, 8, 9, 10, 11]
    assert len({seed for each in seeds for seed in each}) == 15
    assert len({name for batches in samples for name, _ in batches}) == 9
    for batches in samples:
        together = np.concatenate([task.pictures for _, task in batches])
        assert np.array_equal(together, bits(5).numpy())
    ((_, last),) = tasks_of(Half(samples=2), restorer, bits(1), 2**64 - 1, 2)[1]
    assert 0 <= last.seed < 2**64


def test_methods_of_the_same_settings_share_their_files(restorer, tmp_path):
    methods = [
        method_of("one", QUICK),
        method_of("two", {**QUICK, "samples": 2}),
        method_of("three", {**QUICK, "updates": 0}),
    ]
    inputs = {"a": bits(5), "b": bits(5, seed=1)}
    made, missing = planned(methods, restorer, inputs, tmp_path, 0, 2)
    assert [*made] == [(method.name, damage) for method in methods for damage in inputs]
    assert made["one", "a"].files[0] == made["two", "a"].files[0]
    assert set(made["one", "a"].files[0]).isdisjoint(made["three", "a"].files[0])
    # 3 batches of 2 damages: one's, two's second samples, and three's
    assert len(missing) == 3 * 2 * 3
    assert {*missing} == {path for each in made.values() for batches in each.files for path in batches}


def test_a_restorer_does_a_task(restorer):
    pictures = bits(3)
    result = restorer(Task(Half(), pictures.numpy(), 2))
    expected = eight_bits(of_bits(pictures) / 2 + torch.tensor([2, 3, 4])[:, None, None, None] / 100)
    assert np.array_equal(result["pictures"], expected.numpy())
    # of what the file holds, not of what was rounded
    assert np.array_equal(result["features"], Means().features(of_bits(expected)).numpy())
    assert result["calls"].tolist() == [3] * 3
    assert result["seconds"].shape == (3,)
    assert (result["seconds"] > 0).all()
    assert len({*result["seconds"].tolist()}) == 1


def test_a_restorer_restores_in_its_precision(restorer, prior_folder):
    task = Task(method_of("CODE", QUICK), bits(2).numpy(), 0)
    exact, short, again = (each(task)["pictures"] for each in (restorer, restorer_of(prior_folder, "bf16"), restorer))
    assert np.array_equal(exact, again)
    assert 0 < np.abs(exact.astype(int) - short).mean() < 20
    with pytest.raises(ValueError, match="precision 'fp8' is unknown"):
        restorer_of(prior_folder, "fp8").mark  # noqa: B018


def test_a_restorer_is_sent_as_its_three_arguments(prior_folder):
    restorer = restorer_of(prior_folder, "bf16")
    assert restorer.mark
    assert {"prior", "classifier", "mark"} <= vars(restorer).keys()
    sent = pickle.dumps(restorer.itself)
    assert len(sent) < 1000
    copy = pickle.loads(sent)()
    assert copy == restorer
    assert vars(copy) == {"name": str(prior_folder), "device": "cpu", "precision": "bf16"}


@pytest.mark.parametrize("batches", range(6))
def test_what_is_interrupted_goes_on_and_ends_as_if_it_had_not_been(restorer, tmp_path, no_time, batches):
    inputs = {"a": bits(5), "b": bits(5, seed=1)}

    def run(folder, method):
        folder.mkdir(exist_ok=True)
        told = []
        made, missing = planned([method], restorer, inputs, folder, 7, 2)
        finish(missing, restorer, work, lambda task: told.append(task.seed))
        assert told == method.seeds
        return made

    whole, stopped, again = Half(), Half(stop_at=batches), Half()
    run(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stopped)
    assert len(contents(tmp_path / "cut")) == batches
    run(tmp_path / "cut", again)
    # every batch once
    assert stopped.seeds + again.seeds == whole.seeds == [7, 9, 11] * 2
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    # what is there is not made again
    assert planned([whole], restorer, inputs, tmp_path / "cut", 7, 2)[1] == {}


def test_a_failure_does_not_take_the_others_along(restorer, tmp_path, monkeypatch):
    restore, method = Half.restore, Half()

    def failing(self, prior, pictures, seed):
        if seed == 9:
            raise ValueError("broken")
        return restore(self, prior, pictures, seed)

    monkeypatch.setattr(Half, "restore", failing)
    made, missing = planned([method], restorer, {"a": bits(5)}, tmp_path, 7, 2)
    with pytest.raises(RuntimeError, match=r"1 of 3 pieces of work failed[^$]*broken"):
        finish(missing, restorer, work, lambda task: None)
    first, second, third = made["half", "a"].files[0]
    assert (first.exists(), second.exists(), third.exists()) == (True, False, True)
    assert [*planned([method], restorer, {"a": bits(5)}, tmp_path, 7, 2)[1]] == [second]


def test_results_are_read_by_photo_and_sample(restorer, tmp_path):
    pictures, method = bits(5), Half(samples=2)
    made, missing = planned([method], restorer, {"a": pictures}, tmp_path, 7, 2)
    finish(missing, restorer, work, lambda task: None)
    results = made["half", "a"].read()
    assert {name: tuple(values.shape) for name, values in results.items()} == {
        "pictures": (5, 2, 3, 16, 16),
        "features": (5, 2, 2),
        "calls": (5, 2),
        "seconds": (5, 2),
    }
    assert results["pictures"].dtype == torch.uint8
    for k, start in enumerate((7, 7 + 2**32)):
        alone = Half().restore(None, of_bits(pictures), start)[0]
        assert torch.equal(results["pictures"][:, k], eight_bits(alone))
    assert torch.equal(results["features"][:, 1], Means().features(of_bits(results["pictures"][:, 1])))


@pytest.fixture
def results(restorer, tmp_path):
    """Of 7 photos, 5 for each of 2 damages, with a method that makes the clean photos, then the damaged ones."""
    photos, places = bits(7), placed(5, 2, 1, 7, first=3)[..., 0]
    inputs, made = {"a": bits(5, seed=1), "b": bits(5, seed=2)}, {}
    for (damage, seen), own in zip(inputs.items(), places.T, strict=True):
        files = []
        for k, pictures in enumerate((photos[own], seen)):
            rest = {"calls": torch.full((5,), 4 + k), "seconds": torch.full((5,), 0.5)}
            files.append([tmp_path / f"{damage}{k}"])
            save_file({"pictures": pictures, "features": restorer.features(pictures), **rest}, files[k][0])
        made["both", damage] = Made(files)
    return Results(restorer, photos, places, inputs, made)


def test_what_was_measured_has_the_original_and_the_damaged(results, restorer):
    both, original, seen = (results.measured(name) for name in ("both", "Original", "Damaged"))
    assert [tuple(each.calls.shape) for each in (both, original, seen)] == [(5, 2, 2), (5, 2, 1), (5, 2, 1)]
    for name in MEASURES:
        torch.testing.assert_close(both.scores[name], torch.cat([original.scores[name], seen.scores[name]], 2))
    torch.testing.assert_close(both.features, torch.cat([original.features, seen.features], 2))
    assert both.calls[..., 1].unique().tolist() == [5]
    assert original.calls.unique().tolist() == seen.seconds.unique().tolist() == [0]
    assert original.scores["psnr_to_clean"].unique().tolist() == [60]
    assert seen.scores["l2_to_input"].unique().tolist() == [0]
    assert original.scores["features_to_clean"].unique().tolist() == [0]
    torch.testing.assert_close(seen.features[:, 1, 0], restorer.features(results.inputs["b"]).double())
    assert both.photos.tolist() == [[[(3 + i) % 7] * 2, [1 + i] * 2] for i in range(5)]
    of_photos = restorer.features(results.photos)[[1, 2, 3, 4, 5]]
    distances = (restorer.features(results.inputs["b"]) - of_photos).double().norm(dim=1)
    torch.testing.assert_close(seen.scores["features_to_clean"][:, 1, 0], distances)


def test_results_are_measured_by_lpips_and_inception_too(results):
    of_both = replace(
        results, lpips=lambda pictures, _: pictures[:, 0, 0, 0], inception=lambda p: p[:, :, 0, 0].float()
    )
    measured = of_both.measured("Damaged")
    for place, seen in enumerate(results.inputs.values()):
        assert measured.scores["lpips"][:, place, 0].tolist() == seen[:, 0, 0, 0].tolist()
        assert measured.inception[:, place, 0].tolist() == seen[:, :, 0, 0].tolist()


def test_pictures_are_shown_of_the_first_results_of_photos_evenly(results):
    def pixels(image):
        return torch.from_numpy(np.asarray(image).copy()).movedim(-1, 0)

    # of the second damage photos from 1 on, of the first from 3 on
    shown = pixels(results.shown("both", "b"))
    assert torch.equal(shown, torch.cat([results.photos[1], results.photos[4]], 2))
    shown = pixels(results.shown("Damaged", "b", 5))
    assert torch.equal(shown, torch.cat([*results.inputs["b"]], 2))
    assert torch.equal(pixels(results.shown("Original", "a", 1)), results.photos[3])


def test_a_batch_changes_no_picture(restorer, tmp_path):
    """But for the last digits of sums, which are of one level of 8 bits."""
    made = {}
    for batch in (1, 3):
        plan, missing = planned([method_of("CODE", QUICK)], restorer, {"a": bits(3)}, tmp_path, 0, batch)
        finish(missing, restorer, partial(work, engine="local"), lambda task: None)
        made[batch] = plan["CODE", "a"].read()["pictures"].int()
    assert (made[1] - made[3]).abs().max() <= 1
