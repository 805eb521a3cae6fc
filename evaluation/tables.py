"""The tables of a benchmark, as rows of text, the first of which is the head; and what they say, in sentences."""

import torch

from .benchmark import COLUMNS, MEASURES, at_distance, best, frechet_distances, interval, over_damages
from .frechet import frechet_distance

# of COLUMNS, those that tell methods apart at a glance
SHOWN = ("psnr_to_clean", "ssim_to_clean", "features_to_clean", "l2_to_input", "fd")
# what the paper's tables have, or what stands in for it here
OF_PAPER = ("features_to_clean", "ssim_to_input", "psnr_to_input")


def shown(values, name):
    """ "12.34 [12.1, 12.5]" of (1 + resamples,) values of one of COLUMNS."""
    return "{0:.{3}f} [{1:.{3}f}, {2:.{3}f}]".format(*interval(values), COLUMNS[name][1])


def overall(found, calls):
    """{method: statistics} and {method: its mean network calls}."""
    rows = [[name, f"{calls[name]:.4g}", *(shown(each[key], key) for key in SHOWN)] for name, each in found.items()]
    return [["method", "calls", *(COLUMNS[key][0] for key in SHOWN)], *rows]


def differences(found, against):
    """Each method's statistics minus those of the method `against`, on the same photos."""
    rows = [
        [name, *(shown(each[key] - found[against][key], key) for key in SHOWN)]
        for name, each in found.items()
        if name != against
    ]
    return [[f"minus {against}", *(COLUMNS[key][0] for key in SHOWN)], *rows]


def as_in_paper(measured, weights, references, inception=None):
    """{row: Measured} as in the paper's Tables 1 and 2: mean (standard deviation) over damages, and FD of all.

    inception: (N, 2048) of the references, with which there is a FID.
    """
    keys = [key for key in ("lpips", *OF_PAPER) if key in next(iter(measured.values())).scores]
    distances = ["fd"] if inception is None else ["fd", "fid"]
    rows = []
    for name, each in measured.items():
        means = ["{0:.{2}f} ({1:.{2}f})".format(*over_damages(each, key), COLUMNS[key][1]) for key in keys]
        row = [
            name,
            f"{each.calls.numel():,}",
            *means,
            shown(frechet_distances(each.features, each.photos, weights, references), "fd"),
        ]
        if inception is not None:
            row.append(f"{frechet_distance(each.inception.flatten(0, 2), inception):.2f}")
        rows.append(row)
    return [["", "n", *(COLUMNS[key][0] for key in (*keys, *distances))], *rows]


def by_family(measured, families, references):
    """The fd of each family of damages, {family: {damage: its place}}, for {method: Measured}."""
    one = next(iter(measured.values()))
    once = torch.ones(1, one.photos.max() + 1).double()
    places = [[*each.values()] for each in families.values()]

    def distance(some):
        return f"{frechet_distances(some.features, some.photos, once, references).item():.3f}"

    rows = [[name, *(distance(each[i]) for i in places)] for name, each in measured.items()]
    heads = [f"{family}, n = {len(one.calls) * len(each)}" for family, each in families.items()]
    return [["FD-flowers", *heads], *rows]


def by_damage(measured, damages, key="psnr_to_clean"):
    """The means of a measure for each damage, for {method: Measured}."""
    title, decimals = MEASURES[key]
    means = [each.scores[key].mean((0, 2)).tolist() for each in measured.values()]
    rows = [[damage, *(f"{mean[i]:.{decimals}f}" for mean in means)] for i, damage in enumerate(damages)]
    return [[title, *measured], *rows]


def speeds(measured):
    """The mean network calls and seconds for a result of {method: Measured}, and how good it is."""
    keys = ("psnr_to_clean", "ssim_to_clean", "l2_to_input")
    rows = [
        [name, f"{of.calls.mean():.4g}", f"{of.seconds.mean():.3f}", *(f"{of.scores[key].mean():.3f}" for key in keys)]
        for name, of in measured.items()
    ]
    return [["method", "calls", "seconds a picture", *(MEASURES[key][0] for key in keys)], *rows]


def matched(found, against, family, title):
    """A sentence: how real the methods named in `family` are at the distance from the input that `against` has.

    Their depth 0 is the damaged input.
    """
    ours, theirs = found[against], [found[name] for name in ("Damaged", *family)]
    distance, farthest = ours["l2_to_input"], max(each["l2_to_input"][0].item() for each in theirs)
    rival = at_distance(theirs, distance)
    where = f"At {against}'s distance from the input, L2 {distance[0]:.2f}, {title}"
    if distance[0] > farthest:
        where = (
            f"{title} goes no farther from the input than L2 {farthest:.2f}, and {against} {distance[0]:.2f}; there it"
        )
    return (
        f"{where} has FD-flowers {shown(rival, 'fd')}, interpolated between its settings, and {against} "
        f"{shown(ours['fd'], 'fd')}: {against} minus {title} is {shown(ours['fd'] - rival, 'fd')}. {title} is most "
        f"real as {best(family, found)}."
    )
