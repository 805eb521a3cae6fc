import math
import re
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from confident_ode.evaluation import benchmark
from confident_ode.evaluation.benchmark import (
    MEASURES,
    SDEdit,
    at_distance,
    check_enough,
    damaged,
    eight_bits,
    fingerprint,
    fingerprint_of,
    frechet_distances,
    grow_part,
    interval,
    matched,
    measure,
    method_of,
    of_bits,
    read_part,
    resamples,
    statistics,
)
from confident_ode.evaluation.frechet import frechet_distance
from confident_ode.evaluation.presets import PRESETS
from confident_ode.evaluation.restoring import plan
from confident_ode.evaluation.settings import Settings
from confident_ode.priors.calibration import Calibration
from confident_ode.priors.loading import load
from confident_ode.samplers.statistics import STATISTICS

NO_CAST = torch.autocast("cpu", torch.bfloat16, enabled=False)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bits(count, seed=0, size=16):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)


class Classifier:
    """Its two features are the means of red and of green."""

    def features(self, pictures):
        return pictures.mean((2, 3))[:, :2]


@dataclass
class Half:
    """A method that halves, and stops after so many batches."""

    stop_at: int | None = None
    name: str = "half"
    curve: str | None = None
    seeds: tuple = ()

    def restore(self, prior, pictures, seed, on_call):
        if len(self.seeds) == self.stop_at:
            raise KeyboardInterrupt
        self.seeds += (seed,)
        on_call()
        return pictures / 2, [3] * len(pictures)


@pytest.fixture(scope="module")
def prior(prior_folder):
    return load(prior_folder)


def test_distances_are_those_of_torchmetrics_for_every_resample():
    features, references = drawn(9, 4, 6), 1 + drawn(50, 6, seed=1) @ drawn(6, 6, seed=2)
    weights = resamples(9, 5)
    found = frechet_distances(features, weights, references)
    for distance, taken in zip(found, weights, strict=True):
        these = features.repeat_interleave(taken.long(), 0).flatten(0, 1)
        assert distance.item() == pytest.approx(frechet_distance(these, references), rel=1e-5)


def test_a_distance_of_few_pictures_of_features_that_never_vary_is_a_number():
    features = torch.ones(3, 1, 6, dtype=torch.float64)
    found = frechet_distances(features, resamples(3, 2), torch.zeros(8, 6))
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


def test_measures_are_of_each_photo_and_damage():
    clean, inputs = bits(3), [bits(3, seed=1), bits(3, seed=2)]
    parts = [
        {"pictures": inputs[0], "features": drawn(3, 2), "calls": torch.tensor([5, 6, 7])},
        {"pictures": clean, "features": drawn(3, 2, seed=1), "calls": torch.tensor([0, 0, 0])},
    ]
    found = measure(clean, inputs, parts)
    assert {name: tuple(values.shape) for name, values in found.scores.items()} == dict.fromkeys(MEASURES, (3, 2))
    assert found.calls.tolist() == [[5, 0], [6, 0], [7, 0]]
    assert torch.equal(found.features[:, 1], parts[1]["features"])
    difference = (inputs[0][1].double() - clean[1].double()) / 255
    expected = 10 * math.log10(1 / difference.square().mean().item())
    assert found.scores["psnr_to_clean"][1, 0].item() == pytest.approx(expected, rel=1e-4)
    # equal pictures have a PSNR that can be averaged
    assert found.scores["psnr_to_clean"][:, 1].tolist() == found.scores["psnr_to_input"][:, 0].tolist() == [60.0] * 3
    assert found.scores["ssim_to_clean"][:, 1].tolist() == pytest.approx([1] * 3)
    assert found.scores["l2_to_input"][:, 0].tolist() == [0] * 3
    difference = (inputs[1][2].double() - clean[2].double()) / 255
    assert found.scores["l2_to_input"][2, 1].item() == pytest.approx(difference.norm().item(), rel=1e-5)
    both = statistics(found, resamples(3, 4), drawn(20, 2))
    assert both["psnr_to_clean"][0].item() == pytest.approx(found.scores["psnr_to_clean"].mean().item())
    assert {tuple(values.shape) for values in both.values()} == {(5,)}
    assert found[[1]].calls.tolist() == [[0], [0], [0]]


def test_a_photo_taken_twice_counts_twice():
    clean = bits(2)
    part = {"pictures": bits(2, seed=1), "features": drawn(2, 2), "calls": torch.zeros(2)}
    found = measure(clean, [clean], [part])
    weights = torch.tensor([[1, 1], [2, 0]]).double()
    ratios = statistics(found, weights, drawn(20, 2))["psnr_to_clean"].tolist()
    first, second = found.scores["psnr_to_clean"][:, 0].tolist()
    assert ratios == pytest.approx([(first + second) / 2, first])


def test_bits_and_back():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(eight_bits(of_bits(every)), every)
    assert eight_bits(torch.tensor([-3.0, 0.0, 3.0])).tolist() == [0, 128, 255]
    assert of_bits(every).aminmax() == (-1, 1)


def test_damages_do_not_share_their_chance_and_photos_do_not_either():
    def noise(pictures, seed):
        return torch.stack([torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed + i)) for i in range(2)])

    grey = torch.full((2, 3, 8, 8), 128, dtype=torch.uint8)
    found = damaged(grey, {"a": noise, "b": noise}, seed=1)
    assert (found["a"].dtype, found["a"].shape) == (torch.uint8, grey.shape)
    assert torch.equal(found["a"], damaged(grey, {"a": noise}, seed=1)["a"])
    assert not torch.equal(found["a"], found["b"])
    assert not torch.equal(found["a"], damaged(grey, {"a": noise}, seed=2)["a"])
    assert not torch.equal(found["a"][0], found["a"][1])


def test_too_few_pictures_are_one_sentence():
    check_enough(27, 12)
    with pytest.raises(ValueError, match=r"at least 320 pictures.* 26 photos × 12 damages are 312: take at least 27"):
        check_enough(26, 12)


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_a_part_goes_on_where_it_was_stopped(tmp_path, batches):
    path, pictures, told = tmp_path / "part.safetensors", bits(5), []
    stopped = Half(stop_at=batches)

    def grow(method):
        where = SimpleNamespace(device=torch.device("cpu"))
        part = read_part(path)
        return grow_part(part, path, method, where, pictures, Classifier(), 2, 7, NO_CAST, lambda: told.append(1))

    with pytest.raises(KeyboardInterrupt):
        grow(stopped)
    assert len(read_part(path).get("calls", ())) == 2 * batches
    again = Half()
    part = grow(again)
    # every batch once, with seeds that go by the place of the picture
    assert stopped.seeds + again.seeds == (7, 9, 11)
    assert len(told) == 3
    assert torch.equal(part["pictures"], eight_bits(of_bits(pictures) / 2))
    torch.testing.assert_close(part["features"], Classifier().features(of_bits(part["pictures"])))
    assert part["calls"].tolist() == [3] * 5
    assert all(torch.equal(part[name], value) for name, value in read_part(path).items())
    assert [file.name for file in tmp_path.iterdir()] == ["part.safetensors"]
    done = Half(stop_at=0)
    assert torch.equal(grow(done)["pictures"], part["pictures"])


def test_a_damaged_part_is_one_sentence(tmp_path):
    path = tmp_path / "part.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"part.safetensors is damaged .* delete it"):
        read_part(path)


def test_fingerprints_tell_apart_what_differs(prior):
    facts = [0, "0", [1], {"a": 1}, torch.zeros(2), torch.zeros(3), torch.zeros(2).double(), torch.ones(2)]
    assert len({fingerprint(fact) for fact in facts}) == len(facts)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    before = fingerprint_of(prior)
    prior.network.to(memory_format=torch.channels_last)
    assert fingerprint_of(prior) == before
    weight = next(prior.network.parameters())
    weight[0, 0, 0, 0] += 1
    assert fingerprint_of(prior) != before
    weight[0, 0, 0, 0] -= 1


def test_methods_restore_each_picture_as_they_do_it_alone(prior):
    pictures = of_bits(bits(3))
    quick = {"steps": 3, "updates": 2, "blocks": 1}
    for values in (quick, {"method": "sdedit", "steps": 4, "depth": 0.3}):
        method, told = method_of("a method", values), []
        together, calls = method.restore(prior, pictures, 5, lambda told=told: told.append(1))
        assert calls == [method.calls(prior)] * 3 == [len(told)] * 3
        alone, _ = method.restore(prior, pictures[2:], 7, lambda: None)
        torch.testing.assert_close(together[2:], alone, rtol=1e-3, atol=1e-3)
        other, _ = method.restore(prior, pictures[2:], 8, lambda: None)
        assert (other - alone).abs().max() > 0.1
    assert method_of("CODE", quick).calls(prior) == plan(prior, Settings(**quick)).calls


def test_sdedit_takes_its_steps_from_the_depth_to_the_end(prior):
    method = method_of("SDEdit 0.3", {"method": "sdedit", "steps": 4, "depth": 0.3}, "SDEdit")
    assert isinstance(method, SDEdit)
    path = method._path(prior)
    assert prior.levels.timestep(path[:-1]).tolist() == pytest.approx([300, 225, 150, 75, 0], abs=0.1)
    assert path[-1] == 0
    assert method.calls(prior) == 5
    # where there are not as many levels
    assert method_of("SDEdit", {"method": "sdedit", "steps": 24, "depth": "t=3"}).calls(prior) == 4
    abouts = [
        method_of("", {"method": way, "depth": depth}).about(prior)
        for way in ("sdedit", "code")
        for depth in (0.3, 0.4)
    ]
    assert len({fingerprint(about) for about in abouts}) == 4


def test_a_preset_is_laid_under_the_settings():
    method = method_of("strokes", {"preset": "strokes", "eta": 0.5})
    assert method.settings == Settings(**PRESETS["strokes"], eta=0.5)
    with pytest.raises(ValueError, match="preset 'thick' is unknown"):
        method_of("", {"preset": "thick"})


def test_the_automatic_method_needs_a_calibration_on_which_its_results_depend(prior):
    method = method_of("automatic", {"method": "automatic"})
    for use in (method.calls, method.about):
        with pytest.raises(ValueError, match="has no calibration"):
            use(prior)
    known = Calibration(
        levels=torch.tensor([0.1, 1.0]),
        mean=torch.zeros(2 * STATISTICS),
        directions=torch.ones(2 * STATISTICS, 1),
        centres=torch.tensor([[-1.0], [1.0]]),
        kinds=("no damage", "fog"),
        choices=("light", "bold"),
        settings={"light": {"steps": 3, "updates": 0}, "bold": {"steps": 4, "updates": 3, "blocks": 1}},
    )
    once, again = (
        replace(prior, calibration=known),
        replace(prior, calibration=replace(known, choices=("bold", "bold"))),
    )
    assert fingerprint(method.about(once)) != fingerprint(method.about(again))
    # two to read, four up, four updates, four down
    assert method.calls(once) == 2 + plan(prior, Settings(steps=4, updates=3, blocks=1)).calls
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    together, calls = method.restore(again, pictures, 5, lambda: None)
    assert calls == [method.calls(once)] * 3
    alone, _ = method.restore(again, pictures[2:], 7, lambda: None)
    torch.testing.assert_close(together[2:], alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("wrong", [{"samples": 2}, {"seed": 1}, {"sdedit": True}])
def test_a_method_makes_one_picture_of_each(wrong):
    with pytest.raises(ValueError, match="one picture of each"):
        method_of("CODE", wrong)


def test_a_curve_is_interpolated_at_a_distance():
    curve = [
        {"l2_to_input": torch.tensor([4.0, 2.0]), "fd": torch.tensor([1.0, 10.0])},
        {"l2_to_input": torch.tensor([1.0, 4.0]), "fd": torch.tensor([7.0, 20.0])},
    ]
    assert at_distance(curve, torch.tensor([2.0, 2.5])).tolist() == [5.0, 12.5]
    assert at_distance(curve, torch.tensor([0.0, 9.0])).tolist() == [7.0, 20.0]


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (2.0, "^At CODE's distance from the input, L2 2.00, SDEdit has FD-flowers 5.000 "),
        (0.5, "^At CODE's distance from the input, L2 0.50, SDEdit has FD-flowers 8.000 "),
        (9.0, "^SDEdit goes no farther from the input than L2 4.00, and CODE 9.00; there it has FD-flowers 1.000 "),
    ],
)
def test_the_sentence_says_at_which_distance(distance, words):
    def of(distance, fd):
        return {"l2_to_input": torch.full((5,), distance), "fd": torch.full((5,), fd)}

    found = {"CODE": of(distance, 3.0), "Damaged": of(0.0, 9.0), "SDEdit 0.1": of(1.0, 7.0), "SDEdit 0.5": of(4.0, 1.0)}
    sentence = matched(found, "CODE", ["SDEdit 0.1", "SDEdit 0.5"], "SDEdit")
    assert re.search(words, sentence)
    assert sentence.endswith("SDEdit is most real as SDEdit 0.5.")
    if distance == 2.0:
        assert "CODE minus SDEdit is -2.000 [-2.000, -2.000]" in sentence


def test_tables_name_every_method_and_what_is_compared():
    clean = bits(4)
    parts = {
        name: [{"pictures": bits(4, i), "features": drawn(4, 2), "calls": torch.full((4,), i)}] * 3
        for i, name in enumerate(("DDIM", "CODE"), 1)
    }
    measured = {name: measure(clean, [bits(4, 9)] * 3, each) for name, each in parts.items()}
    found = {name: statistics(each, resamples(4, 9), drawn(20, 2)) for name, each in measured.items()}
    for table, lines, columns in (
        (benchmark.overall(found, {"DDIM": 1.0, "CODE": 2.5}), 2, 7),
        (benchmark.differences(found, "CODE"), 1, 6),
        (benchmark.by_family(measured, {"noise": [0, 2], "masks": [1]}, drawn(20, 2)), 2, 3),
        (benchmark.by_damage(measured, ["a", "b", "c"]), 3, 3),
    ):
        head, rule, *rows = table.splitlines()
        assert {line.count("|") for line in (head, rule, *rows)} == {columns + 1}
        assert len(rows) == lines
    assert "| CODE | 2.5 |" in benchmark.overall(found, {"DDIM": 1.0, "CODE": 2.5})
    assert "noise, n = 8 | masks, n = 4" in benchmark.by_family(measured, {"noise": [0, 2], "masks": [1]}, drawn(20, 2))
    same = benchmark.differences({"CODE": found["CODE"], "again": found["CODE"]}, "CODE").splitlines()[2]
    assert same.count("0.00 [0.00, 0.00]") == 3
