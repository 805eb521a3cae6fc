"""Measure methods of restoring on many photos and damages: how faithful, how real, and how sure that is.

Everything is of P photos x D damages, so that photos can be resampled with all that was made of them.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from ..priors.calibration import TENSORS
from ..priors.export import write
from ..priors.photos import seed_for
from ..samplers.noise_levels import decode_path
from . import automatic
from .classifier import FEATURES, in_batches
from .frechet import Gaussian
from .metrics import psnr, ssim
from .presets import PRESETS
from .restoring import plan, run, run_sdedit
from .settings import Settings, depth_of

PER_FEATURE = 5  # pictures that a Fréchet distance takes at least
RESAMPLES = 1000
SAME = 60.0  # dB: what rounding to 8 bits leaves of two equal pictures
# of every picture: what it is called, and the decimals that are shown
MEASURES = {
    "psnr_to_clean": ("PSNR to clean, dB", 2),
    "ssim_to_clean": ("SSIM to clean", 3),
    "psnr_to_input": ("PSNR to input, dB", 2),
    "l2_to_input": ("L2 to input", 2),
}
COLUMNS = {**MEASURES, "fd": ("FD-flowers", 3)}


@dataclass(frozen=True)
class Restoration:
    """A method of `restoring.run`. Other ways have the same attributes and functions, and a line in `method_of`.

    curve: the name that methods share which differ in depth only, or None.
    """

    name: str
    settings: Settings
    curve: str | None = None

    def calls(self, prior):
        """The most network calls for a picture; ValueError where the prior cannot be used so."""
        return plan(prior, self.settings).calls

    def about(self, prior):
        """All that the result depends on, beside the prior's network, the pictures and the seed, for JSON."""
        return self.settings.used()

    def restore(self, prior, pictures, seed, on_call):
        """(restored, network calls of each) of pictures (B, C, H, W) in [-1, 1], picture i with seed + i."""
        result = run(prior, pictures, replace(self.settings, seed=seed), on_call)
        return result.pictures, [result.nfe] * len(pictures)


@dataclass(frozen=True)
class SDEdit(Restoration):
    """SDEdit by strided ancestral steps, as deep and in as many steps as the settings say."""

    def calls(self, prior):
        return len(self._path(prior)) - 1

    def about(self, prior):
        return {**asdict(self.settings), "method": "sdedit"}

    def restore(self, prior, pictures, seed, on_call):
        result = run_sdedit(prior, pictures, replace(self.settings, seed=seed), self._path(prior), on_call)
        return result.pictures, [result.nfe] * len(pictures)

    def _path(self, prior):
        timestep = prior.levels.depth(**depth_of(self.settings.depth))
        path = decode_path(prior.levels, timestep, min(self.settings.steps, int(timestep)), self.settings.spacing)
        return torch.cat([path, path.new_zeros(1)])


@dataclass(frozen=True)
class Automatic(Restoration):
    """The automatic mode, whose settings differ from picture to picture."""

    def calls(self, prior):
        return automatic.most_calls(prior, self.settings)

    def about(self, prior):
        known = automatic.calibration_of(prior)
        rules = fingerprint(known.kinds, known.choices, known.settings, *(getattr(known, name) for name in TENSORS))
        return {**self.settings.used(), "method": "automatic", "calibration": rules}

    def restore(self, prior, pictures, seed, on_call):
        return automatic.run_chosen(prior, pictures, replace(self.settings, seed=seed), on_call)


def method_of(name, values, curve=None):
    """The method of a dictionary of settings, whose `method` may be sdedit or automatic; ValueError with one sentence.

    A `preset` names settings on which the others are laid.
    """
    values = dict(values)
    preset = values.pop("preset", "balanced")
    if preset not in PRESETS:
        raise ValueError(f"The preset {preset!r} is unknown: take one of {', '.join(PRESETS)}.")
    values = {**PRESETS[preset], **values}
    if values.get("method") == "automatic":
        return Automatic(name, _one_each(Settings.of({**values, "method": "code"})), curve)
    if values.get("method") == "sdedit":
        given = {"spacing": "linspace", **values, "method": "code"}
        return SDEdit(name, _one_each(Settings.of(given)), curve)
    return Restoration(name, _one_each(Settings.of(values)), curve)


def _one_each(settings):
    if settings.samples != 1 or settings.sdedit or settings.seed:
        raise ValueError("A benchmark makes one picture of each, with a seed of its own: leave samples and seed out.")
    return settings


def eight_bits(pictures):
    """[-1, 1] -> uint8, as a file holds them."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte().contiguous()


def of_bits(pictures):
    """uint8 -> [-1, 1]."""
    return pictures / 127.5 - 1


def damaged(clean, damages, seed=0):
    """{damage: uint8 (P, C, H, W)} of clean pictures like that, by {damage: function(pictures, seed=)}."""
    return {name: eight_bits(damage(of_bits(clean), seed=seed_for(seed, name))) for name, damage in damages.items()}


def check_enough(photos, damages):
    """ValueError where a Fréchet distance over all of it would mean nothing."""
    least = PER_FEATURE * FEATURES
    if photos * damages < least:
        raise ValueError(
            f"FD-flowers takes at least {least} pictures, {PER_FEATURE} for each feature, and {photos} photos × "
            f"{damages} damages are {photos * damages}: take at least {-(-least // damages)} photos."
        )


def fingerprint(*facts):
    """12 hex digits of tensors, and of whatever JSON can say."""
    digest = hashlib.sha256()
    for fact in facts:
        if isinstance(fact, torch.Tensor):
            digest.update(f"{fact.dtype} {tuple(fact.shape)}".encode())
            digest.update(fact.cpu().numpy().tobytes())
        else:
            digest.update(json.dumps(fact, sort_keys=True).encode())
    return digest.hexdigest()[:12]


def fingerprint_of(prior):
    """That of a prior's weights and noise levels."""
    weights = prior.network.state_dict()
    return fingerprint(prior.prediction, prior.levels.sigmas, list(weights), *weights.values())


def read_part(path):
    """What a method has made of a damage so far: pictures uint8 (n, C, H, W), features (n, F), calls (n,), or {}."""
    try:
        return load_file(path) if path.exists() else {}
    except (SafetensorError, OSError):
        raise ValueError(f"{path} is damaged or may not be read: delete it, and start again.") from None


def grow_part(part, path, method, prior, pictures, classifier, batch, seed, autocast, on_call):
    """The part with all of the pictures, uint8, restored; it is written, whole or not at all, after each batch."""
    for first in range(len(part.get("calls", ())), len(pictures), batch):
        with autocast:
            restored, calls = method.restore(
                prior, of_bits(pictures[first : first + batch]), (seed + first) % 2**64, on_call
            )
        restored = eight_bits(restored)
        made = {
            "pictures": restored,
            "features": in_batches(classifier.features, of_bits(restored).to(prior.device)),
            "calls": torch.tensor(calls),
        }
        part = {name: torch.cat([part[name], new]) if part else new for name, new in made.items()}
        write(path, save(part))
    return part


@dataclass(frozen=True)
class Measured:
    """What was found of a method. scores: {one of MEASURES: (P, D)}; calls: (P, D); features: (P, D, F). float64."""

    scores: dict[str, torch.Tensor]
    calls: torch.Tensor
    features: torch.Tensor

    def __getitem__(self, damages):
        """That of some of the damages, by their places."""
        scores = {name: values[:, damages] for name, values in self.scores.items()}
        return Measured(scores, self.calls[:, damages], self.features[:, damages])


def measure(clean, inputs, parts):
    """The Measured of a method: clean (P, C, H, W); inputs and parts, a list of D: like it, and as `read_part` says."""
    both = zip(inputs, parts, strict=True)
    rows = [_scores(of_bits(part["pictures"]), of_bits(clean), of_bits(seen)) for seen, part in both]
    return Measured(
        {name: torch.stack([row[name] for row in rows], 1) for name in MEASURES},
        torch.stack([part["calls"] for part in parts], 1).double(),
        torch.stack([part["features"] for part in parts], 1).double(),
    )


def _scores(pictures, clean, seen):
    each = {
        "psnr_to_clean": [min(ratio, SAME) for ratio in psnr(pictures, clean)],
        "ssim_to_clean": ssim(pictures, clean),
        "psnr_to_input": [min(ratio, SAME) for ratio in psnr(pictures, seen)],
        "l2_to_input": ((pictures - seen) / 2).flatten(1).norm(dim=1).tolist(),
    }
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in each.items()}


def resamples(photos, count=RESAMPLES, seed=0):
    """(1 + count, photos): how often each photo is taken; once in the first, then as drawn with replacement."""
    drawn = torch.randint(photos, (count, photos), generator=torch.Generator().manual_seed(seed))
    taken = torch.nn.functional.one_hot(drawn, photos).sum(1)
    return torch.cat([torch.ones(1, photos), taken]).double()


def statistics(measured, weights, references):
    """{one of COLUMNS: (W,)}: the means over all, and the Fréchet distance, for each row of weights (W, P)."""
    share = weights / weights.sum(1, keepdim=True)
    means = {name: share @ values.mean(1) for name, values in measured.scores.items()}
    return {**means, "fd": frechet_distances(measured.features, weights, references)}


def frechet_distances(features, weights, references):
    """`frechet.frechet_distance` of features (P, D, F) to references (N, F) for each row of weights (W, P), float64."""
    return Gaussian(references).distances(weights, features.shape[1], features.sum(1), features.mT @ features)


def interval(values):
    """(estimate, low, high) of the first value, the estimate, and those of the resamples: 95 % of their spread.

    It is laid round the estimate: a resample has fewer different photos, which alone makes a Fréchet distance larger.
    """
    estimate, drawn = values[0], values[1:]
    low, high = (drawn - drawn.mean()).quantile(drawn.new_tensor([0.025, 0.975]))
    return estimate.item(), (estimate + low).item(), (estimate + high).item()


def at_distance(curve, distance):
    """(W,): the fd of a list of statistics, interpolated in l2_to_input at the distance (W,); that of an end beyond."""
    distances, fds = (torch.stack([each[name] for each in curve], 1).numpy() for name in ("l2_to_input", "fd"))
    order = distances.argsort(1)
    known, of_known = (np.take_along_axis(values, order, 1) for values in (distances, fds))
    found = [np.interp(*each) for each in zip(distance.numpy(), known, of_known, strict=True)]
    return torch.tensor(np.array(found))


def best(curve, found):
    """The name among `curve` with the smallest fd in {name: statistics}."""
    return min(curve, key=lambda name: found[name]["fd"][0].item())


def shown(values, name):
    """ "12.34 [12.1, 12.5]" of (1 + resamples,) values of one of COLUMNS."""
    return "{0:.{3}f} [{1:.{3}f}, {2:.{3}f}]".format(*interval(values), COLUMNS[name][1])


def markdown(rows):
    """A table of rows of text, the first of which is its head."""
    head, *rest = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([head, f"|{'---|' * len(rows[0])}", *rest])


def overall(found, calls):
    """The table of {method: statistics} and {method: its mean network calls}."""
    names = [title for title, _ in COLUMNS.values()]
    rows = [[name, f"{calls[name]:g}", *(shown(each[key], key) for key in COLUMNS)] for name, each in found.items()]
    return markdown([["method", "calls", *names], *rows])


def differences(found, against):
    """The table of each method's statistics minus those of the method `against`, on the same photos."""
    rows = [
        [name, *(shown(each[key] - found[against][key], key) for key in COLUMNS)]
        for name, each in found.items()
        if name != against
    ]
    return markdown([[f"minus {against}", *(title for title, _ in COLUMNS.values())], *rows])


def by_family(measured, families, references):
    """The table of the fd of each family of damages, {family: their places}, for {method: Measured}."""
    photos = len(next(iter(measured.values())).calls)
    once = torch.ones(1, photos).double()
    rows = [
        [name, *(f"{frechet_distances(each[i].features, once, references).item():.3f}" for i in families.values())]
        for name, each in measured.items()
    ]
    heads = [f"{family}, n = {photos * len(places)}" for family, places in families.items()]
    return markdown([["FD-flowers", *heads], *rows])


def by_damage(measured, damages, key="psnr_to_clean"):
    """The table of the means of a measure for each damage, for {method: Measured}."""
    decimals = MEASURES[key][1]
    means = [each.scores[key].mean(0).tolist() for each in measured.values()]
    rows = [[damage, *(f"{mean[i]:.{decimals}f}" for mean in means)] for i, damage in enumerate(damages)]
    return markdown([[MEASURES[key][0], *measured], *rows])


def matched(found, against, curve, title):
    """A sentence: how real the methods named in `curve` are at the distance from the input that `against` has.

    Their depth 0 is the damaged input.
    """
    ours, theirs = found[against], [found[name] for name in ("Damaged", *curve)]
    distance, farthest = ours["l2_to_input"], max(each["l2_to_input"][0].item() for each in theirs)
    rival = at_distance(theirs, distance)
    where = f"At {against}'s distance from the input, L2 {distance[0]:.2f}, {title}"
    if distance[0] > farthest:
        where = (
            f"{title} goes no farther from the input than L2 {farthest:.2f}, and {against} {distance[0]:.2f}; there it"
        )
    return (
        f"{where} has FD-flowers {shown(rival, 'fd')}, interpolated between depths, and {against} "
        f"{shown(ours['fd'], 'fd')}: {against} minus {title} is {shown(ours['fd'] - rival, 'fd')}. {title} is most "
        f"real as {best(curve, found)}."
    )
