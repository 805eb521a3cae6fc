"""Judge a prior: its error by noise level, and its samples: like photos, of the class asked for, no copies?"""

from dataclasses import dataclass

import torch

from ..priors.export import tiled
from ..priors.photos import resized
from ..priors.sampling import sample
from ..samplers.noise import START, seeded_noise
from .classifier import agreement, class_names, in_batches
from .frechet import frechet_distance
from .metrics import psnr
from .sheets import Cell, contact_sheet

LEVELS = range(50, 1000, 100)
# of a training photo, which a sample is compared with: side, place from the left and top, whether mirrored
SQUARES = [(1.0, 0, 0), *((0.85, left, top) for left, top in ((0.5, 0.5), (0, 0), (0, 1), (1, 0), (1, 1)))]
NEIGHBOURS = 50
VIEWS = [(*square, mirror) for square in SQUARES for mirror in (False, True)]

MEASURES = {
    "pixels": lambda near: near["pixels"].distance,
    "pixels, to the 50th nearest": lambda near: near["pixels"].ratio,
    "features": lambda near: near["features"].distance,
    "features, to the 50th nearest": lambda near: near["features"].ratio,
}


@dataclass(frozen=True)
class Nearest:
    """For each of N pictures, how far the nearest view of a training photo is, and which one that is: all (N,).

    ratio: to the distance of the 50th nearest photo. It is small for a copy, whether the picture is rich or plain.
    photo, view: places in the photos and in VIEWS.
    """

    distance: torch.Tensor
    ratio: torch.Tensor
    photo: torch.Tensor
    view: torch.Tensor

    def __getitem__(self, part):
        return Nearest(*(values[part] for values in vars(self).values()))


@torch.inference_mode()
def judge(
    prior, photos, held_out, classifier, samples=320, guidance=2.0, steps=40, seed=0, on_call=None, ancestral=False
):
    """(numbers, pictures): what was measured, as plain values, and {file name: image}.

    photos, held_out: those that the prior was trained on, and others, as `read_photos` gives them. samples: how many
    are drawn, with classes in turn; steps, ancestral: as for `sample`. on_call: called after each network call, of
    which there are `judge_calls`. Raises ValueError with one sentence.
    """
    if prior.channels != 3:
        raise ValueError(f"{prior.name} is not of RGB pictures, which is what the classifier looks at.")
    real, known = (view(each.pictures, prior.size, 0) for each in (held_out, photos))
    levels = denoising(prior, real, on_call)
    labels = [i % len(prior.classes) if prior.conditional else None for i in range(samples)]
    drawn = sample(prior, labels, steps, guidance, seed, on_call=on_call, ancestral=ancestral).clamp(-1, 1)

    features, of_real, of_known = (in_batches(classifier.features, each) for each in (drawn, real, known))
    both = nearest(torch.cat([drawn, real]), photos, prior.size, classifier)
    parts = slice(samples), slice(samples, None)
    near, near_real = ({space: each[part] for space, each in both.items()} for part in parts)
    numbers = {
        "prior": prior.name,
        "samples": samples,
        "guidance": guidance if prior.conditional else None,
        "steps": steps,
        "ancestral": ancestral,
        "seed": seed,
        "held_out": len(real),
        "trained_on": len(known),
        "levels": levels,
        "fd": {
            "samples to held-out photos": frechet_distance(features, of_real),
            "samples to training photos": frechet_distance(features, of_known),
            "held-out to training photos": frechet_distance(of_real, of_known),
        },
        "agreement": {
            "samples": agreement(classifier, drawn, [prior.classes[i] for i in labels]) if prior.conditional else None,
            "held-out photos": agreement(classifier, real, class_names(held_out)),
        },
        "nearest": {
            what: {"samples": spread(measure(near)), "held-out photos": spread(measure(near_real))}
            for what, measure in MEASURES.items()
        },
    }
    return numbers, {"samples.png": sheet(drawn, prior), "nearest.png": closest(drawn, near, photos, prior.size)}


def judge_calls(samples, steps, held_out, batch=50):
    """How many network calls `judge` makes."""
    return -(-samples // batch) * (steps + 1) + len(LEVELS) * -(-held_out // batch)


def denoising(prior, pictures, on_call=None, batch=50):
    """{timestep: {"error", "psnr"}}: the mean squared error of eps without a class, and PSNR of the denoised picture.

    Picture i is noised with seed i.
    """
    model, found = prior.model(threshold=False), {}
    for t in LEVELS:
        sigma, errors, ratios = prior.levels.sigma(t).item(), [], []
        for first in range(0, len(pictures), batch):
            x = pictures[first : first + batch].to(prior.device)
            noise = seeded_noise(first, START)(x, t)
            sigmas = torch.full((len(x),), sigma, device=x.device)
            denoised = model(x + sigma * noise, sigmas, **prior.conditioning(None, len(x)))
            errors += ((x - denoised) / sigma).square().mean((1, 2, 3)).tolist()
            ratios += psnr(denoised.clamp(-1, 1), x)
            if on_call is not None:
                on_call()
        found[t] = {"error": sum(errors) / len(errors), "psnr": sum(ratios) / len(ratios)}
    return found


def view(pictures, size, place):
    """One of VIEWS of photos, uint8 (B, 3, S, S), as (B, 3, size, size) in [-1, 1]."""
    side, left, top, mirror = VIEWS[place]
    whole = pictures.shape[-1]
    room = whole - side * whole
    # a part at a time spares memory
    cut = [resized(part, size, left * room, top * room, side * whole) for part in pictures.split(200)]
    return 2 * (torch.cat(cut).flip(-1) if mirror else torch.cat(cut)) - 1


def nearest(pictures, photos, size, classifier):
    """{"pixels": Nearest, "features": Nearest} of pictures (N, 3, size, size) in [-1, 1].

    The distance is the root mean square of the difference, of pixels and of features.
    """
    spaces = {"pixels": lambda x: x.flatten(1), "features": lambda x: in_batches(classifier.features, x)}
    own = {space: of(pictures) for space, of in spaces.items()}
    found = {space: [torch.full((len(pictures), len(photos)), torch.inf), None] for space in spaces}
    for i in range(len(VIEWS)):
        seen = view(photos.pictures, size, i)
        for space, of in spaces.items():
            other, (least, place) = of(seen), found[space]
            distances = torch.cdist(own[space], other) / other.shape[1] ** 0.5
            place = torch.where(distances < least, i, 0 if place is None else place)
            found[space] = [torch.minimum(least, distances), place]
    return {space: _nearest(*both) for space, both in found.items()}


def _nearest(distances, views):
    """The Nearest of distances and views, (N, photos)."""
    least = distances.topk(min(NEIGHBOURS, distances.shape[1]), largest=False)
    photo = least.indices[:, 0]
    return Nearest(
        least.values[:, 0],
        least.values[:, 0] / least.values[:, -1].clamp(min=1e-12),
        photo,
        views.gather(1, photo[:, None])[:, 0],
    )


def spread(values):
    """The 5th percentile, the median and the smallest of values."""
    low, middle = values.quantile(values.new_tensor([0.05, 0.5])).tolist()
    return {"5th percentile": low, "median": middle, "smallest": values.min().item()}


def sheet(drawn, prior, most=64):
    """The first samples, not chosen, a row for each class."""
    rows = max(1, len(prior.classes))
    columns = min(-(-most // rows), len(drawn) // rows) if prior.conditional else 8
    chosen = [drawn[row::rows][:columns] for row in range(rows)] if prior.conditional else [drawn[: most // 8 * 8]]
    return tiled(torch.cat(chosen), columns)


def closest(drawn, near, photos, size, count=8):
    """A sheet of the samples nearest to a training photo, with it, by pixels and by features."""
    columns, rows = [], [[] for _ in range(min(count, len(drawn)))]
    for space, found in near.items():
        order = found.distance.argsort()[: len(rows)].tolist()
        columns += [f"Nearest by {space}", "Training photo"]
        for row, i in zip(rows, order, strict=True):
            photo = view(photos.pictures[found.photo[i]][None], size, found.view[i])
            row += [Cell(tiled(drawn[i][None], 1), (f"{found.distance[i]:.3f}",)), Cell(tiled(photo, 1))]
    return contact_sheet(columns, rows)
