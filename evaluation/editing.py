"""Editing with the SDE and with the ODE on one prior, measured as the paper does (2311.01410, Tables 2, 3, 6, 7, 8).

Inpainting, translating a class into another (DDIB), the same inside a mask that it finds itself (DiffEdit), and how
exactly a photo comes back. The numbers of a setting are statistics, {one of COLUMNS: (1 + resamples,)}, the first of
which is of all photos.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from ..priors.loading import Prior
from ..samplers.cycle import cycle_sde, record
from ..samplers.ddib import translate_by_ode, translate_by_sde
from ..samplers.denoisers import CallCounter
from ..samplers.diffedit import disagreement, mask_from
from ..samplers.inpaint import inpaint
from ..samplers.noise import INPAINT, MASK_MAPS, RECORD, START, seeded_noise
from ..samplers.noise_levels import decode_path
from ..samplers.ode import euler, network_calls
from ..samplers.restore import encode_path
from .benchmark import interval
from .classifier import Classifier, in_batches
from .frechet import Gaussian
from .metrics import ssim

KINDS = ("ODE", "SDE")
# of INPAINTERS, in pairs of ODE and SDE
ORDERS = {"first order": ("ddim", "ddpm"), "second order": ("dpmpp_2m", "sde_dpmpp_2m")}
NOISES = {"fresh noise": False, "fixed noise": True}
# the share of a photo that is filled in
HOLES = {"small masks": 0.2, "large masks": 0.6}
DIFFEDIT_DEPTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
DEPTHS = {"DDIB": (*DIFFEDIT_DEPTHS, 1.0), "DiffEdit": DIFFEDIT_DEPTHS}
MAPS, MAP_DEPTH = 10, 0.5
# a mask where the classes disagree more than on average: a flower fills its picture, and the paper's 3 marks 6 % of it
MAP_RATIO = 2.0
RETURNS = ("DDIM", "Cycle-SDE, recorded noise", "Cycle-SDE")
GUIDANCES = (1.0, 3.0, 7.5)
RETURN_STEPS, FEW = 50, 4
SHOWN_DEPTH = 0.6
# what they are called, and the decimals that are shown
COLUMNS = {
    "fd": ("FD-flowers", 3),
    "l2": ("L2", 2),
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 3),
    "features": ("features", 3),
    "success": ("success", 2),
}


def blobs(count, size, share, seed=0):
    """Masks (count, 1, size, size) of one to a few blobs, 1 on this share of the pixels: smooth noise above a level."""
    coarse = seeded_noise(seed, START)(torch.empty(count, 1, 4, 4), 0)
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    return (smooth > smooth.flatten(1).quantile(1 - share, dim=1).view(-1, 1, 1, 1)).float()


def decoding(prior, fraction, steps):
    """The decode path of `steps` network calls from a depth to the picture."""
    path = decode_path(prior.levels, prior.levels.depth(fraction=fraction), steps - 1)
    return torch.cat([path, path.new_zeros(1)])


@dataclass(frozen=True)
class Editor:
    """Edits photos (P, C, S, S) in [-1, 1] with a prior: from their classes `labels` into `targets`, (P,).

    guidance: towards the target; towards a photo's own class it is 1. Photo i draws with seed + i. solver: of the ODE,
    up and down. on_call(): called after each network call on a batch. Results are in [-1, 1], on the CPU.
    """

    prior: Prior
    photos: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor
    guidance: float = 3.0
    seed: int = 0
    batch: int = 32
    solver: str = "euler"
    on_call: Callable | None = None

    def holes(self, name):
        """Masks (P, 1, S, S) of one of HOLES."""
        return blobs(len(self.photos), self.photos.shape[-1], HOLES[name], self.seed).to(self.photos)

    def inpainted(self, masks, solver, steps, fixed=False):
        """The photos filled in where their masks (P, 1, S, S) are 1, from noise alone."""
        path = decoding(self.prior, 1.0, steps)

        def of(part):
            options = {"noise_sampler": self.noise(part, INPAINT), "solver": solver, "fixed_noise": fixed}
            return inpaint(self.model(self.labels[part]), self.photos[part], path, mask=masks[part], **options)

        return self.all(of)

    def translated(self, kind, fraction, steps, masks=None):
        """The photos in their target classes, from a depth, `steps` being those of the whole schedule."""
        path = decoding(self.prior, fraction, steps_of(fraction, steps))

        def of(part):
            models = self.model(self.targets[part], self.guidance), self.photos[part], path
            options = {"source": self.model(self.labels[part]), "mask": None if masks is None else masks[part]}
            if kind == "SDE":
                return translate_by_sde(*models, noise_sampler=self.noise(part, RECORD), **options)
            return translate_by_ode(*models, solver=self.solver, **options)

        return self.all(of)

    def masks(self):
        """DiffEdit's masks (P, 1, S, S); the guidance of both classes would scale them alike, so it is 1."""
        level = self.prior.levels.sigma(self.prior.levels.depth(fraction=MAP_DEPTH)).view(1).cpu()

        def of(part):
            models = self.model(self.targets[part]), self.photos[part], level
            options = {"source": self.model(self.labels[part]), "noise_sampler": self.noise(part, MASK_MAPS)}
            return mask_from(disagreement(*models, maps=MAPS, **options), MAP_RATIO)

        return self.all(of)

    def returned(self, how, guidance):
        """The photos with nothing changed, up and down by one of RETURNS, both guided to their own class."""
        path = decoding(self.prior, 1.0, RETURN_STEPS)

        def of(part):
            model, x = self.model(self.labels[part], guidance, threshold=False), self.photos[part]
            if how == "DDIM":
                return euler(model, euler(model, x, encode_path(path)), path)
            kept = record(x, path, self.noise(part, RECORD))
            recorded = how.endswith("recorded noise")
            return cycle_sde(model, kept.states[path[0].item()], path, path=kept, source=model, recorded_noise=recorded)

        return self.all(of)

    def model(self, labels, guidance=1.0, threshold=True):
        """A denoiser model(x, sigma) for one batch of classes."""
        model = CallCounter(self.prior.model(guidance, threshold), self.on_call)
        return lambda x, sigma: model(x, sigma, class_labels=labels)

    def noise(self, part, stream):
        return seeded_noise([self.seed + i for i in part.tolist()], stream)

    @torch.inference_mode()
    def all(self, edit):
        """edit(places of a batch) of every batch."""
        return torch.cat([edit(part).clamp(-1, 1).cpu() for part in torch.arange(len(self.photos)).split(self.batch)])


def steps_of(fraction, steps):
    """How many steps a depth takes where the whole schedule takes `steps`."""
    return max(2, round(fraction * steps))


def translate_calls(kind, fraction, steps, solver="euler"):
    """The network calls of `Editor.translated` on a batch."""
    count = steps_of(fraction, steps)
    path = torch.arange(count, -1, -1)
    return 2 * count if kind == "SDE" else network_calls(solver, encode_path(path)) + network_calls(solver, path)


@dataclass(frozen=True)
class Judge:
    """What edits of the photos (P, C, S, S) are worth. real: of features of real photos. weights: of `resamples`.

    targets: (P,), the places of the classes wanted among the classifier's, or None where it does not know them.
    """

    photos: torch.Tensor
    classifier: Classifier
    real: Gaussian
    weights: torch.Tensor
    targets: torch.Tensor | None = None

    def __call__(self, pictures, masks=None):
        """The statistics of pictures (P, C, S, S); where there are masks, PSNR is that of the places that are 1."""
        share = 1.0 if masks is None else masks.expand_as(pictures).mean((1, 2, 3))
        errors = (pictures - self.photos).square().mean((1, 2, 3)) / share
        features = self.features(pictures)
        scores = {
            "l2": ((pictures - self.photos) / 2).flatten(1).norm(dim=1),
            "psnr": 10 * torch.log10(4 / errors.clamp(min=1e-12)),
            "ssim": torch.tensor(ssim(pictures, self.photos)),
            "features": (features - self.known).norm(dim=1),
        }
        if self.targets is not None and masks is None:
            scores["success"] = in_batches(self.classifier, pictures).argmax(1) == self.targets
        return {"fd": self.distance(features), **{name: self.means(values) for name, values in scores.items()}}

    def distance(self, features):
        """(W,): FD-flowers of features (P, F) for each row of the weights."""
        one = torch.ones(len(features), dtype=torch.float64)
        return self.real.distances(self.weights, one, features, features[:, :, None] * features[:, None])

    def means(self, values):
        return self.weights @ values.double() / self.weights.sum(1)

    def features(self, pictures):
        return in_batches(self.classifier.features, pictures).double()

    @cached_property
    def known(self):
        return self.features(self.photos)


@dataclass(frozen=True)
class Found:
    """All that was measured. inpainted: {(masks, order, noise, kind, steps): statistics}. photos: those of the photos.

    translated: {(DDIB or DiffEdit, kind, depth): statistics}. returned: {(how, guidance): PSNR in dB, infinite where
    every bit comes back}. seconds: {(what, kind): of a picture}. shown: {title: pictures (P, C, S, S)}.
    """

    photos: dict
    inpainted: dict
    translated: dict
    returned: dict
    seconds: dict
    shown: dict


def measured(editor, judge, exact, inpaint_steps=(25, 50, 100), steps=50):
    """The Found of an Editor. exact: one whose network is in float32, for what comes back.

    inpaint_steps: ascending; fixed noise is measured at the second, or the only one. steps: of the whole schedule, for
    translating. `measured_calls` says how many network calls there are on a batch.
    """
    inpainted, filled = inpainting(editor, judge, inpaint_steps)
    translated, changed = translating(editor, judge, steps)
    few = of_few(editor)
    return Found(
        judge(judge.photos),
        inpainted,
        translated,
        returning(of_few(exact)),
        timed(few, inpaint_steps[0], steps),
        {"source": judge.photos, **filled, **changed},
    )


def measured_calls(inpaint_steps, steps, solver):
    """The network calls of `measured` on one batch, without those of the few photos that return and are timed."""
    of_inpainting = sum(count for *_, count in inpaint_settings(inpaint_steps))
    return (
        of_inpainting + 2 * MAPS + sum(translate_calls(kind, f, steps, solver) for _, kind, f in translate_settings())
    )


def inpainting(editor, judge, steps):
    """(Found.inpainted, what of it is shown)."""
    found, shown = {}, {}
    for hole, order, noise, kind, count in inpaint_settings(steps):
        masks = editor.holes(hole)
        made = editor.inpainted(masks, solver_of(order, kind), count, NOISES[noise])
        found[hole, order, noise, kind, count] = judge(made, masks.cpu())
        if (order, noise, count) == ("first order", "fresh noise", middle(steps)):
            shown[f"hole, {hole}"] = judge.photos * (1 - masks.cpu())
            shown[f"{kind}, {hole}"] = made
    return found, shown


def translating(editor, judge, steps):
    """(Found.translated, what of it is shown)."""
    masks, found = editor.masks(), {}
    shown = {"DiffEdit's mask": 2 * masks.expand_as(judge.photos) - 1}
    for what, kind, fraction in translate_settings():
        made = editor.translated(kind, fraction, steps, masks.to(editor.photos) if what == "DiffEdit" else None)
        found[what, kind, fraction] = judge(made)
        if fraction == SHOWN_DEPTH:
            shown[f"{what}-{kind}, {fraction:g}"] = made
    return found, shown


def returning(editor):
    """Found.returned."""
    photos = editor.photos.cpu()
    return {(how, scale): fidelity(editor.returned(how, scale), photos) for how in RETURNS for scale in GUIDANCES}


def of_few(editor):
    """The Editor of the first few photos."""
    first = {name: getattr(editor, name)[:FEW] for name in ("photos", "labels", "targets")}
    return replace(editor, **first, on_call=None)


def inpaint_settings(steps):
    """The keys of Found.inpainted."""
    return [
        (hole, order, noise, kind, count)
        for hole in HOLES
        for order in ORDERS
        for noise, fixed in NOISES.items()
        for count in ([middle(steps)] if fixed else steps)
        for kind in KINDS
    ]


def translate_settings():
    """The keys of Found.translated."""
    return [(what, kind, fraction) for what, depths in DEPTHS.items() for fraction in depths for kind in KINDS]


def middle(steps):
    return steps[min(1, len(steps) - 1)]


def solver_of(order, kind):
    """The name in INPAINTERS."""
    ode, sde = ORDERS[order]
    return sde if kind == "SDE" else ode


def fidelity(pictures, photos):
    """The PSNR of all together in dB, infinite where every bit is the same."""
    return 10 * torch.log10(4 / (pictures - photos).double().square().mean()).item()


def timed(editor, inpaint_steps, steps, rounds=3):
    """Found.seconds, the least of some rounds, in which ODE and SDE take turns."""
    holes, masks = editor.holes("large masks"), editor.masks().to(editor.photos)
    ways = {
        "inpainting": lambda kind: editor.inpainted(holes, solver_of("first order", kind), inpaint_steps),
        "DiffEdit": lambda kind: editor.translated(kind, 0.5, steps, masks),
        "DDIB": lambda kind: editor.translated(kind, 0.5, steps),
    }
    least = {}
    for _ in range(rounds):
        for what, way in ways.items():
            for kind in KINDS:
                start = time.perf_counter()
                way(kind)
                seconds = (time.perf_counter() - start) / len(editor.photos)
                least[what, kind] = min(seconds, least.get((what, kind), seconds))
    return least


def at_distance(curve, distance, name, key="l2"):
    """(W,): statistic `name` of a list of statistics, interpolated in `key` at the distance (W,); NaN beyond them."""
    known, values = (torch.stack([each[column] for each in curve], 1).numpy() for column in (key, name))
    order = known.argsort(1)
    known, values = (np.take_along_axis(each, order, 1) for each in (known, values))
    found = [np.interp(*each, np.nan, np.nan) for each in zip(distance.numpy(), known, values, strict=True)]
    return torch.tensor(np.array(found))


def curve_of(found, what, kind):
    """The statistics of one of DEPTHS in order of its depths."""
    return [found.translated[what, kind, fraction] for fraction in DEPTHS[what]]


def equal_faithfulness(found, what):
    """[(depth, L2, fd of the SDE, of the ODE, SDE minus ODE, success of the SDE minus that of the ODE)].

    At each depth of the SDE whose distance from the source the ODE reaches too; between the ODE's depths it is
    interpolated. The last two are (estimate, low, high); success may be None.
    """
    rival, rows = curve_of(found, what, "ODE"), []
    for fraction in DEPTHS[what]:
        ours = found.translated[what, "SDE", fraction]
        theirs = at_distance(rival, ours["l2"], "fd")
        if torch.isnan(theirs[0]):
            continue
        success = ours["success"] - at_distance(rival, ours["l2"], "success") if "success" in ours else None
        both = (None if each is None else known_interval(each) for each in (ours["fd"] - theirs, success))
        rows.append((fraction, ours["l2"][0].item(), ours["fd"][0].item(), theirs[0].item(), *both))
    return rows


def known_interval(values):
    """`interval` of the resamples that are known."""
    return interval(torch.cat([values[:1], values[1:][~values[1:].isnan()]]))


def inpaint_differences(found, hole, order, noise, name="fd"):
    """{steps: (estimate, low, high)} of a statistic of the SDE minus that of the ODE, on the same photos and masks."""
    return {
        steps: interval(each[name] - found.inpainted[hole, order, noise, "ODE", steps][name])
        for (*where, kind, steps), each in found.inpainted.items()
        if where == [hole, order, noise] and kind == "SDE"
    }
