"""Measure methods of restoring on many photos and damages: how faithful, how real, and how sure that is.

Everything is of P pictures x D damages x K results, and knows of which photo it is, so that photos can be resampled
with all that was made of them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from ..priors.export import tiled, write
from ..priors.loading import load
from ..priors.photos import seed_for
from ..priors.train import mixed_precision
from .classifier import FEATURES, in_batches, load_classifier
from .fingerprints import fingerprint, fingerprint_of
from .metrics import psnr, ssim

PER_FEATURE = 5  # pictures that a Fréchet distance takes at least
RESAMPLES = 1000
KEPT = 4  # results that the paper keeps of each picture
SAME = 60.0  # dB: what rounding to 8 bits leaves of two equal pictures
# of every picture: what it is called, and the decimals that are shown
MEASURES = {
    "psnr_to_clean": ("PSNR to clean, dB", 2),
    "ssim_to_clean": ("SSIM to clean", 3),
    "l2_to_clean": ("L2 to clean", 2),
    "features_to_clean": ("features to clean", 3),
    "psnr_to_input": ("PSNR to input, dB", 2),
    "ssim_to_input": ("SSIM to input", 3),
    "l2_to_input": ("L2 to input", 2),
}
# of `perceptual`, where its weights are
LPIPS = {"lpips": ("LPIPS to clean", 3)}
COLUMNS = {**MEASURES, **LPIPS, "fd": ("FD-flowers", 3), "fid": ("FID", 2)}


def eight_bits(pictures):
    """[-1, 1] -> uint8, as a file holds them."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte().contiguous()


def of_bits(pictures):
    """uint8 -> [-1, 1]."""
    return pictures / 127.5 - 1


def damaged(clean, damage, seed, folder, about):
    """uint8 (P, C, H, W) of clean pictures like that, by damage(pictures, seed=); kept in `folder` for the next time.

    about: what the damage is called, and how severe.
    """
    path = folder / f"input_{fingerprint(about, seed, clean)}.safetensors"
    if not path.exists():
        write(path, save({"pictures": eight_bits(damage(of_bits(clean), seed=seed_for(seed, about[0])))}))
    return read_part(path)["pictures"]


def check_enough(photos, damages):
    """ValueError where a Fréchet distance over all of it would mean nothing."""
    least = PER_FEATURE * FEATURES
    if photos * damages < least:
        raise ValueError(
            f"FD-flowers takes at least {least} pictures, {PER_FEATURE} for each feature, and {photos} photos × "
            f"{damages} damages are {photos * damages}: take at least {-(-least // damages)} photos."
        )


@dataclass(frozen=True)
class Task:
    """A batch to restore: a method, pictures uint8 (B, C, H, W), and the seed of the first."""

    method: object
    pictures: np.ndarray
    seed: int


@dataclass(frozen=True)
class Restorer:
    """What does a Task: the prior of a name, the classifier, and the precision of their networks.

    device: "auto" takes a GPU where the process that computes has one.
    """

    name: str
    device: str
    precision: str

    @cached_property
    def prior(self):
        return load(self.name, self.device)

    @cached_property
    def classifier(self):
        return load_classifier(device=self.prior.device)

    @cached_property
    def mark(self):
        """The fingerprint of all that results depend on, beside their tasks."""
        with mixed_precision(self.prior.device, self.precision):
            mixed = torch.is_autocast_enabled(self.prior.device.type)
        return fingerprint(fingerprint_of(self.prior), *self.classifier.state_dict().values(), mixed)

    def __reduce__(self):
        """Another process loads the networks itself."""
        return Restorer, (self.name, self.device, self.precision)

    def itself(self):
        return self

    def features(self, pictures):
        """(N, FEATURES) of uint8 pictures."""
        return in_batches(lambda some: self.classifier.features(of_bits(some.to(self.prior.device))), pictures)

    def __call__(self, task):
        """{pictures: uint8, features, calls, seconds: (B, ...)} of a Task, as numpy."""
        start = time.perf_counter()
        with mixed_precision(self.prior.device, self.precision):
            restored, calls = task.method.restore(self.prior, of_bits(torch.from_numpy(task.pictures)), task.seed)
        seconds = (time.perf_counter() - start) / len(restored)
        restored = eight_bits(restored.cpu())
        return {
            "pictures": restored.numpy(),
            "features": self.features(restored).numpy(),
            "calls": np.array(calls),
            "seconds": np.full(len(restored), seconds),
        }


@dataclass(frozen=True)
class Made:
    """The files of a method's results for a damage: for each of its samples, those of the batches."""

    files: list[list[Path]]

    def read(self):
        """{pictures: uint8 (P, K, C, H, W), features, calls, seconds}."""
        samples = [[read_part(path) for path in batches] for batches in self.files]
        return {
            name: torch.stack([torch.cat([part[name] for part in batches]) for batches in samples], 1)
            for name in samples[0][0]
        }


def tasks_of(method, restorer, pictures, seed, batch):
    """[(file name, Task) for each batch] for each of the method's samples; the name says all that it depends on."""
    about = method.about(restorer.prior)

    def one(sample, first):
        part = pictures[first : first + batch]
        own = (seed + (sample << 32) + first) % 2**64
        return f"{fingerprint(restorer.mark, about, own, part)}.safetensors", Task(method, part.numpy(), own)

    return [[one(sample, first) for first in range(0, len(pictures), batch)] for sample in range(method.samples)]


def planned(methods, restorer, inputs, folder, seed, batch):
    """({(method, damage): Made}, {file: Task} of what is not there yet), for {damage: pictures (P, C, H, W)}."""
    made, missing = {}, {}
    for method, (damage, pictures) in product(methods, inputs.items()):
        samples = tasks_of(method, restorer, pictures, seed, batch)
        made[method.name, damage] = Made([[folder / name for name, _ in batches] for batches in samples])
        # methods of the same settings share their files
        missing |= {folder / name: task for batches in samples for name, task in batches}
    return made, {path: task for path, task in missing.items() if not path.exists()}


def finish(missing, restorer, work, on_done):
    """Do the Tasks of `planned`, each written whole to its file; on_done(task) after each. work: see `engines.work`."""
    paths, tasks = list(missing), list(missing.values())
    for place, result in work(restorer.itself, tasks):
        write(paths[place], save({name: torch.from_numpy(values) for name, values in result.items()}))
        on_done(tasks[place])


def read_part(path):
    """The tensors of a file; ValueError with one sentence where it is none."""
    try:
        return load_file(path)
    except (SafetensorError, OSError):
        raise ValueError(f"{path} is damaged or may not be read: delete it, and start again.") from None


FACTS = ("calls", "seconds", "features", "inception", "photos")


@dataclass(frozen=True)
class Measured:
    """What was found of a method. scores: {one of MEASURES or LPIPS: (P, D, K)}, float64; calls, seconds: (P, D, K).

    features: (P, D, K, F), float64. inception: (P, D, K, 2048), float32, or (P, D, K, 0). photos: (P, D, K), the number
    of the photo that it is of.
    """

    scores: dict[str, torch.Tensor]
    calls: torch.Tensor
    seconds: torch.Tensor
    features: torch.Tensor
    inception: torch.Tensor
    photos: torch.Tensor

    def map(self, function):
        """That of function(tensor) for each of the tensors."""
        scores = {name: function(values) for name, values in self.scores.items()}
        return Measured(scores, *(function(getattr(self, name)) for name in FACTS))

    def __getitem__(self, damages):
        """That of some of the damages, by their places."""
        return self.map(lambda values: values[:, damages])


def joined(several, dim):
    """One Measured of several, as of more damages (1) or results (2)."""
    scores = {name: torch.cat([each.scores[name] for each in several], dim) for name in several[0].scores}
    return Measured(scores, *(torch.cat([getattr(each, name) for each in several], dim) for name in FACTS))


@dataclass(frozen=True)
class Results:
    """All that was made of photos, uint8 (N, C, H, W): {damage: pictures (P, C, H, W)}, and {(method, damage): Made}.

    places: (P, D), which photo it is that is damaged. The methods "Original" and "Damaged" made what they say. lpips,
    inception: see `perceptual`, or None.
    """

    restorer: Restorer
    photos: torch.Tensor
    places: torch.Tensor
    inputs: dict[str, torch.Tensor]
    made: dict[tuple[str, str], Made]
    lpips: Callable | None = None
    inception: Callable | None = None

    def of(self, method, damage):
        """What `Made.read` gives."""
        if (method, damage) in self.made:
            return self.made[method, damage].read()
        pictures = self.inputs[damage] if method == "Damaged" else self.photos[self.places[:, self._at(damage)]]
        nothing = torch.zeros(len(pictures), 1)
        features = self.restorer.features(pictures)[:, None]
        return {"pictures": pictures[:, None], "features": features, "calls": nothing, "seconds": nothing}

    def measured(self, method):
        """The Measured of a method."""
        each = [
            measure(self.of(method, damage), places, self.photos, self.known, seen, self.lpips, self.inception)
            for (damage, seen), places in zip(self.inputs.items(), self.places.T, strict=True)
        ]
        return joined(each, 1)

    @cached_property
    def known(self):
        """(N, F), the features of the photos."""
        return self.restorer.features(self.photos)

    def _at(self, damage):
        return list(self.inputs).index(damage)

    def shown(self, method, damage, photos=2):
        """An image of the first results of the first picture, and of others evenly after it, side by side."""
        pictures = self.of(method, damage)["pictures"][:: -(-len(self.places) // photos), 0]
        return tiled(of_bits(pictures), len(pictures))


def measure(results, places, photos, known, seen, lpips=None, inception=None):
    """The Measured, of one damage, of results as `Made.read` gives them.

    places: (P,), of which of the photos, uint8 (N, C, H, W), they are; known: (N, F), the features of these; seen: like
    photos[places], with the damage. lpips, inception: see `perceptual`.
    """
    number, count = results["pictures"].shape[:2]
    pictures, of_clean = results["pictures"].flatten(0, 1), photos[places].repeat_interleave(count, 0)
    scores = _scores(of_bits(pictures), of_bits(of_clean), of_bits(seen.repeat_interleave(count, 0)))
    features = results["features"].double()
    scores["features_to_clean"] = (features - known[places][:, None].double()).norm(dim=2)
    if lpips:
        scores["lpips"] = lpips(pictures, of_clean).double()
    scores = {name: scores[name].view(number, 1, count) for name in (*MEASURES, *LPIPS) if name in scores}
    calls, seconds = (results[name].double()[:, None] for name in ("calls", "seconds"))
    others = inception(pictures).view(number, 1, count, -1) if inception else torch.zeros(number, 1, count, 0)
    return Measured(scores, calls, seconds, features[:, None], others, places[:, None, None].expand(-1, 1, count))


def _scores(pictures, clean, seen):
    def ratio(references):
        return [min(each, SAME) for each in psnr(pictures, references)]

    def distance(references):
        return ((pictures - references) / 2).flatten(1).norm(dim=1).tolist()

    each = {
        "psnr_to_clean": ratio(clean),
        "ssim_to_clean": ssim(pictures, clean),
        "l2_to_clean": distance(clean),
        "psnr_to_input": ratio(seen),
        "ssim_to_input": ssim(pictures, seen),
        "l2_to_input": distance(seen),
    }
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in each.items()}


def best_of(measured, kept=KEPT):
    """The Measured of the `kept` results of each damaged picture with the highest PSNR to the clean one: an oracle."""
    psnrs = measured.scores["psnr_to_clean"]
    places = psnrs.topk(min(kept, psnrs.shape[2]), dim=2).indices

    def chosen(values):
        wanted = places if values.ndim == 3 else places[..., None].expand(*places.shape, values.shape[3])
        return values.gather(2, wanted)

    return measured.map(chosen)


def resamples(photos, count=RESAMPLES, seed=0):
    """(1 + count, photos): how often each photo is taken; once in the first, then as drawn with replacement."""
    drawn = torch.randint(photos, (count, photos), generator=torch.Generator().manual_seed(seed))
    taken = torch.nn.functional.one_hot(drawn, photos).sum(1)
    return torch.cat([torch.ones(1, photos), taken]).double()


def statistics(measured, weights, references):
    """{one of COLUMNS: (W,)}: the means over all, and the Fréchet distance, for each row of weights (W, N)."""
    count = by_photo(torch.ones_like(measured.calls), measured.photos, weights)
    means = {name: by_photo(values, measured.photos, weights) / count for name, values in measured.scores.items()}
    return {**means, "fd": frechet_distances(measured.features, measured.photos, weights, references)}


def by_photo(values, photos, weights):
    """(W,): the sums of values (P, D, K), each taken as often as its photo is, by weights (W, N)."""
    return weights @ values.new_zeros(weights.shape[1]).index_add(0, photos.flatten(), values.flatten())


def frechet_distances(features, photos, weights, references):
    """`frechet.frechet_distance` of features (P, D, K, F) to a `Gaussian` for each row of weights (W, N), float64."""
    of_each = [features[photos == photo] for photo in range(weights.shape[1])]
    counts = weights.new_tensor([len(each) for each in of_each])
    sums = torch.stack([each.sum(0) for each in of_each])
    return references.distances(weights, counts, sums, torch.stack([each.mT @ each for each in of_each]))


def interval(values):
    """(estimate, low, high) of the first value, the estimate, and those of the resamples: 95 % of their spread.

    It is laid round the estimate: a resample has fewer different photos, which alone makes a Fréchet distance larger.
    """
    estimate, drawn = values[0], values[1:]
    low, high = (drawn - drawn.mean()).quantile(drawn.new_tensor([0.025, 0.975]))
    return estimate.item(), (estimate + low).item(), (estimate + high).item()


def over_damages(measured, name):
    """(mean, standard deviation) over the damages of a measure, as the paper's tables have it.

    A PSNR is that of the mean squared error of all of a damage's pictures.
    """
    values = measured.scores[name]
    pooled = -10 * torch.log10((10 ** (-values / 10)).mean((0, 2)))
    each = pooled if name.startswith("psnr") else values.mean((0, 2))
    return each.mean().item(), each.std(correction=0).item()


def at_distance(curve, distance):
    """(W,): the fd of a list of statistics, interpolated in l2_to_input at the distance (W,); that of an end beyond."""
    distances, fds = (torch.stack([each[name] for each in curve], 1).numpy() for name in ("l2_to_input", "fd"))
    order = distances.argsort(1)
    known, of_known = (np.take_along_axis(values, order, 1) for values in (distances, fds))
    found = [np.interp(*each) for each in zip(distance.numpy(), known, of_known, strict=True)]
    return torch.tensor(np.array(found))


def best(names, found):
    """The name among `names` with the smallest fd in {name: statistics}."""
    return min(names, key=lambda name: found[name]["fd"][0].item())
