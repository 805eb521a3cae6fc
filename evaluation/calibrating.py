"""Calibrate the automatic mode for a prior: what it says about known damages, and what restores each of them best."""

import contextlib
from dataclasses import replace

import torch

from ..corruptions.damages import MILD, SEVERE
from ..priors.calibration import Calibration, discriminants
from ..priors.photos import resized, seed_for
from ..samplers.noise_levels import decode_path
from ..samplers.statistics import read
from .benchmark import eight_bits, of_bits
from .classifier import in_batches
from .frechet import Gaussian
from .metrics import psnr
from .presets import PRESETS
from .restoring import encoder_of, plan, run
from .settings import Settings

# presets to choose from: those that ask for neither a class nor a mask, and do not do nearly the same as another
CANDIDATES = ("light", "smooth", "faithful", "balanced", "noise", "bold", "hazy")
# how far up to read, and in how many steps
DEPTH, STEPS = 0.4, 6
# of realism against fidelity, in dB for a unit of the Fréchet distance
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.2, 1.6, 2.4, 3.2)
# of what choosing gains in PSNR over one preset for all, the share that is not spent on realism
KEPT = 0.5
BATCH = 50


def damages():
    """{kind: damage(pictures, seed=)}: none, and twelve of all families at severities 2 and 5."""
    both = (("mild", MILD), ("severe", SEVERE))
    known = {f"{how} {name}": f for how, all in both for family in all.values() for name, f in family.items()}
    return {"no damage": lambda pictures, seed=0: pictures, **known}


@torch.inference_mode()
def calibrate(prior, photos, classifier, read_from=150, restored=12, seed=0, autocast=None, on_call=None):
    """(Calibration, numbers) of a prior from `photos`, as `read_photos` gives them, that it need not have seen.

    read_from: how many photos are read with each kind of damage; restored: how many of them are restored with each
    candidate. The same photos for all, so that what is learnt is the damage. autocast: a context for the network's
    calls. Network calls: `calibrate_calls`.
    """
    autocast = autocast or contextlib.nullcontext()
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
    seen = torch.stack([statistics(prior, pictures, levels, seed, autocast, on_call) for pictures in damaged.values()])
    mean, directions, centres = discriminants(seen)

    inputs = [pictures[:restored] for pictures in damaged.values()]
    fidelity, features = outcomes(prior, clean[:restored], inputs, classifier, seed, autocast, on_call)
    real = Gaussian(in_batches(classifier.features, clean.to(prior.device)))
    known = Calibration(
        levels=levels.cpu(),
        mean=mean,
        directions=directions,
        centres=centres,
        kinds=tuple(damaged),
        choices=(CANDIDATES[0],) * len(damaged),
        settings={name: PRESETS[name] for name in CANDIDATES},
    )
    told, moments = told_as(known, seen), moments_of(features)
    choice = policy(fidelity, moments, real, told)
    calibration = replace(known, choices=tuple(CANDIDATES[i] for i in choice))
    return calibration, summary(calibration, choice, fidelity, moments, real, told)


def calibrate_calls(prior, read_from, restored):
    """How many network calls `calibrate` makes."""
    calls = sum(plan(prior, Settings(**PRESETS[name])).calls for name in CANDIDATES)
    return len(damages()) * ((STEPS + 1) * -(-read_from // BATCH) + calls * -(-restored // BATCH))


def statistics(prior, pictures, levels, seed, autocast, on_call=None):
    """`statistics.read` of pictures (N, C, H, W) in [-1, 1], in batches; picture i draws with seed + i."""

    def batch(first, pictures):
        encoder = encoder_of(prior, None, True, len(pictures))

        def model(x, sigma):
            with autocast:
                x0 = encoder(x, sigma)
            if on_call is not None:
                on_call()
            return x0

        return read(model, pictures.to(prior.device), levels, seed=seed + first).cpu()

    return torch.cat([batch(first, pictures[first : first + BATCH]) for first in range(0, len(pictures), BATCH)])


def outcomes(prior, clean, damaged, classifier, seed, autocast, on_call=None):
    """(PSNR to the clean pictures in dB (N, K, M), features (N, K, M, F)) of K damages restored with M candidates."""
    fidelity, features = [], []
    for pictures in damaged:
        with autocast:
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


def told_as(calibration, seen):
    """(K, K): the share of pictures of each kind, statistics (K, N, n, STATISTICS), that is taken for each."""
    taken = torch.tensor([[calibration.kinds.index(kind) for kind, _, _ in calibration.choose(each)] for each in seen])
    return torch.nn.functional.one_hot(taken, len(seen)).double().mean(1)


def quality(choice, fidelity, moments, real, told):
    """(mean PSNR, Fréchet distance to the Gaussian `real`) where pictures taken for kind k get candidate choice[k].

    fidelity: of `outcomes`, (N, K, M). moments: of `moments_of`. told: of `told_as`.
    """
    given = torch.nn.functional.one_hot(torch.tensor(choice), fidelity.shape[2]).double()
    share = told @ given
    ratio = (share * fidelity.mean(0)).sum(1).mean().item()
    return ratio, real.distances(share.view(1, -1), len(fidelity), *moments).item()


def moments_of(features):
    """(K M, F) and (K M, F, F): sums over N pictures of features (N, K, M, F), and of their outer products."""
    every = features.flatten(1, 2)
    return every.sum(0), torch.einsum("nki,nkj->kij", every, every)


def policy(fidelity, moments, real, told):
    """The index of the candidate for each kind that pictures are taken for, by what `quality` takes.

    Choosing for each kind can be more faithful on average than the most faithful candidate is alone. Of what it gains,
    KEPT is kept, and the rest may be spent on realism: of all choices that are as faithful as that, this one's pictures
    together have the smallest Fréchet distance to real ones. Found by improving the choice for one kind at a time, for
    each weight of the two.
    """
    kinds, candidates = fidelity.shape[1:]

    def of(choice):
        return quality(choice, fidelity, moments, real, told)

    def improved(weight):
        def worth(choice):
            ratio, distance = of(choice)
            return ratio - weight * distance

        choice = max(([m] * kinds for m in range(candidates)), key=worth)
        while True:
            before = list(choice)
            for k in range(kinds):
                choice = max(([*choice[:k], m, *choice[k + 1 :]] for m in range(candidates)), key=worth)
            if choice == before:
                return choice

    found = [improved(weight) for weight in WEIGHTS]
    alone, best = max(of([m] * kinds)[0] for m in range(candidates)), of(found[0])[0]
    least = alone + KEPT * (best - alone)
    return min((choice for choice in found if of(choice)[0] >= least), key=lambda choice: of(choice)[1])


def summary(calibration, choice, fidelity, moments, real, told):
    """What was measured, as plain values: each candidate alone and the choice, and how well kinds are told apart."""
    all_of = {name: [m] * len(choice) for m, name in enumerate(CANDIDATES)}
    found = {name: quality(each, fidelity, moments, real, told) for name, each in {**all_of, "chosen": choice}.items()}
    return {
        "quality": {name: {"psnr": ratio, "fd": distance} for name, (ratio, distance) in found.items()},
        "told apart": dict(zip(calibration.kinds, told.diagonal().tolist(), strict=True)),
        "choices": dict(zip(calibration.kinds, calibration.choices, strict=True)),
    }
