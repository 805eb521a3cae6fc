"""Calibrate the automatic mode for a prior: what it says about known damages, and what restores each of them best."""

import torch

from ..priors.calibration import Calibration, discriminants
from ..priors.photos import resized, seed_for
from ..samplers.noise_levels import decode_path
from ..samplers.statistics import read
from .benchmark import eight_bits, frechet_distances, of_bits
from .classifier import in_batches
from .corruptions import MILD, SEVERE
from .metrics import psnr
from .presets import PRESETS
from .restoring import encoder_of, plan, run
from .settings import Settings

# presets to choose from: those that ask for neither a class nor a mask, and do not do nearly the same as another
CANDIDATES = ("light", "smooth", "faithful", "balanced", "noise", "bold", "hazy")
# how far up to read, and in how many steps
DEPTH, STEPS = 0.4, 6
# of realism against fidelity, in dB for a unit of the Fréchet distance
WEIGHTS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
BATCH = 50


def damages():
    """{kind: damage(pictures, seed=)}: none, and twelve of all families at severities 2 and 5."""
    both = (("mild", MILD), ("severe", SEVERE))
    known = {f"{how} {name}": f for how, all in both for family in all.values() for name, f in family.items()}
    return {"no damage": lambda pictures, seed=0: pictures, **known}


@torch.inference_mode()
def calibrate(prior, photos, classifier, read_from=150, restored=12, seed=0, on_call=None):
    """(Calibration, numbers) of a prior from `photos`, as `read_photos` gives them, that it need not have seen.

    read_from: how many photos are read with each kind of damage; restored: how many of them are restored with each
    candidate. The same photos for all, so that what is learnt is the damage. Network calls: `calibrate_calls`.
    """
    if restored < 2 or read_from < max(restored, 8):
        raise ValueError("Calibrating reads at least 8 photos with each damage, and restores at least 2 of them.")
    if len(photos) < read_from:
        raise ValueError(f"There are {len(photos)} photos and {read_from} are to be read: give more, or take fewer.")
    order = torch.randperm(len(photos), generator=torch.Generator().manual_seed(seed))[:read_from]
    clean = 2 * resized(photos.pictures[order], prior.size) - 1
    damaged = {
        kind: of_bits(eight_bits(damage(clean, seed=seed_for(seed, kind)))) for kind, damage in damages().items()
    }
    levels = decode_path(prior.levels, prior.levels.depth(fraction=DEPTH), STEPS, "karras").flip(0)
    seen = torch.stack([statistics(prior, pictures, levels, seed, on_call) for pictures in damaged.values()])
    mean, directions, centres = discriminants(seen)

    inputs = [pictures[:restored] for pictures in damaged.values()]
    fidelity, features = outcomes(prior, clean[:restored], inputs, classifier, seed, on_call)
    real = in_batches(classifier.features, clean.to(prior.device))
    choices = policy(fidelity, features, real)
    calibration = Calibration(
        levels=levels.cpu(),
        mean=mean,
        directions=directions,
        centres=centres,
        kinds=tuple(damaged),
        choices=tuple(CANDIDATES[i] for i in choices),
        settings={name: PRESETS[name] for name in CANDIDATES},
    )
    return calibration, summary(calibration, choices, fidelity, features, real, seen)


def calibrate_calls(prior, read_from, restored):
    """How many network calls `calibrate` makes."""
    calls = sum(plan(prior, Settings(**PRESETS[name])).calls for name in CANDIDATES)
    return len(damages()) * ((STEPS + 1) * -(-read_from // BATCH) + calls * -(-restored // BATCH))


def statistics(prior, pictures, levels, seed, on_call=None):
    """`statistics.read` of pictures (N, C, H, W) in [-1, 1], in batches; picture i draws with seed + i."""

    def batch(first, pictures):
        encoder = encoder_of(prior, None, True, len(pictures))

        def model(x, sigma):
            x0 = encoder(x, sigma)
            if on_call is not None:
                on_call()
            return x0

        return read(model, pictures.to(prior.device), levels, seed=seed + first).cpu()

    return torch.cat([batch(first, pictures[first : first + BATCH]) for first in range(0, len(pictures), BATCH)])


def outcomes(prior, clean, damaged, classifier, seed, on_call=None):
    """(PSNR to the clean pictures in dB (N, K, M), features (N, K, M, F)) of K damages restored with M candidates."""
    fidelity, features = [], []
    for pictures in damaged:
        restored = [
            torch.cat(
                [
                    run(prior, part, Settings(**PRESETS[name], seed=seed + BATCH * i), on_call).pictures
                    for i, part in enumerate(pictures.split(BATCH))
                ]
            )
            for name in CANDIDATES
        ]
        fidelity.append(torch.stack([torch.tensor(psnr(each, clean)) for each in restored], 1))
        features.append(torch.stack([in_batches(classifier.features, each.to(prior.device)) for each in restored], 1))
    return torch.stack(fidelity, 1).double(), torch.stack(features, 1).double()


def policy(fidelity, features, real):
    """The index of the candidate for each kind, K of them, by (N, K, M) and (N, K, M, F) of `outcomes`.

    Of all that are at least as faithful on average as the most faithful candidate is alone, the one that is most real:
    whose pictures together have the smallest Fréchet distance to the features `real`. Found by improving the choice for
    one kind at a time, for each weight of the two.
    """
    kinds, candidates = fidelity.shape[1:]
    faithful = fidelity.mean(0)

    def quality(choice):
        chosen = features[:, range(kinds), choice]
        once = torch.ones(1, len(chosen)).double()
        return faithful[range(kinds), choice].mean().item(), frechet_distances(chosen, once, real).item()

    def improved(weight):
        def worth(choice):
            ratio, distance = quality(choice)
            return ratio - weight * distance

        choice = max(([m] * kinds for m in range(candidates)), key=worth)
        while True:
            before = list(choice)
            for k in range(kinds):
                choice = max(([*choice[:k], m, *choice[k + 1 :]] for m in range(candidates)), key=worth)
            if choice == before:
                return choice

    least = max(quality([m] * kinds)[0] for m in range(candidates))
    found = [improved(weight) for weight in WEIGHTS]
    return min((choice for choice in found if quality(choice)[0] >= least), key=lambda choice: quality(choice)[1])


def summary(calibration, choices, fidelity, features, real, seen):
    """What was measured, as plain values: each candidate alone and the choice, and how well kinds are told apart."""
    once, kinds = torch.ones(1, len(fidelity)).double(), range(fidelity.shape[1])
    alone = {
        name: (fidelity[..., m].mean().item(), frechet_distances(features[:, :, m], once, real).item())
        for m, name in enumerate(CANDIDATES)
    }
    chosen = features[:, kinds, choices]
    alone["chosen"] = (fidelity[:, kinds, choices].mean().item(), frechet_distances(chosen, once, real).item())
    told = {
        kind: sum(found == kind for found, _, _ in calibration.choose(each)) / len(each)
        for kind, each in zip(calibration.kinds, seen, strict=True)
    }
    return {
        "quality": {name: {"psnr": ratio, "fd": distance} for name, (ratio, distance) in alone.items()},
        "told apart": told,
        "choices": dict(zip(calibration.kinds, calibration.choices, strict=True)),
    }
