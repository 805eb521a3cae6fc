"""Ways of restoring that a benchmark compares, and families of them that differ in some settings only."""

from dataclasses import asdict, dataclass, replace
from itertools import product

import torch

from ..priors.calibration import TENSORS
from ..samplers.noise_levels import decode_path
from . import automatic
from .fingerprints import fingerprint
from .presets import PRESETS
from .restoring import plan, run, run_sdedit
from .settings import Settings, depth_of


@dataclass(frozen=True)
class Restoration:
    """A method of `restoring.run`. Other ways have the same attributes and functions, and a line in `method_of`.

    family: the name shared with methods that differ in `varied` only, pairs (setting, value); None, () for one of its
    own. samples: how many results of different chance it makes of a picture.
    """

    name: str
    settings: Settings
    family: str | None = None
    varied: tuple[tuple[str, object], ...] = ()
    samples: int = 1

    def calls(self, prior):
        """The most network calls for a result; ValueError where the prior cannot be used so."""
        return plan(prior, self.settings).calls

    def about(self, prior):
        """All that the result depends on, beside the prior's network, the pictures and the seed, for JSON."""
        return self.settings.used()

    def restore(self, prior, pictures, seed):
        """(restored, network calls of each) of pictures (B, C, H, W) in [-1, 1], picture i with seed + i."""
        result = run(prior, pictures, replace(self.settings, seed=seed))
        return result.pictures, [result.nfe] * len(pictures)


@dataclass(frozen=True)
class SDEdit(Restoration):
    """SDEdit by strided ancestral steps, as deep and in as many steps as the settings say."""

    def calls(self, prior):
        return len(self._path(prior)) - 1

    def about(self, prior):
        return {**asdict(self.settings), "method": "sdedit"}

    def restore(self, prior, pictures, seed):
        result = run_sdedit(prior, pictures, replace(self.settings, seed=seed), self._path(prior))
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

    def restore(self, prior, pictures, seed):
        return automatic.run_chosen(prior, pictures, replace(self.settings, seed=seed))


def method_of(name, values, **belonging):
    """The method of a dictionary of settings, whose `method` may be sdedit or automatic; ValueError with one sentence.

    A `preset` names settings on which the others are laid; `samples` is how many results to make. belonging: its
    family, and what varies in it.
    """
    values = dict(values)
    preset, samples = values.pop("preset", "balanced"), values.pop("samples", 1)
    if preset not in PRESETS:
        raise ValueError(f"The preset {preset!r} is unknown: take one of {', '.join(PRESETS)}.")
    if not isinstance(samples, int) or samples < 1:
        raise ValueError(f"There cannot be {samples!r} samples: take a whole number from 1.")
    values = {**PRESETS[preset], **values}
    kind = {"automatic": Automatic, "sdedit": SDEdit}.get(values.get("method"), Restoration)
    if kind is SDEdit:
        values = {"spacing": "linspace", **values}
    settings = Settings.of(values if kind is Restoration else {**values, "method": "code"})
    if settings.sdedit or settings.seed:
        raise ValueError("A benchmark gives each picture a seed, and SDEdit a method of its own: leave both out.")
    return kind(name, settings, samples=samples, **belonging)


def methods_of(table, base):
    """The method of a table with a `name`; or, where some of its settings are lists, one for each combination.

    base: settings that methods of CODE without a preset start from.
    """
    name, values = table.get("name"), {key: value for key, value in table.items() if key != "name"}
    if not isinstance(name, str) or not name:
        raise ValueError("A method has no name: give it one.")
    if values.get("method", "code") == "code" and "preset" not in values:
        values = {**base, **values}
    lists = {key: value for key, value in values.items() if isinstance(value, list)}
    if [] in lists.values():
        raise ValueError(f"The method {name!r} has a list without values: name some, or leave it out.")
    if not lists:
        return [method_of(name, values)]
    each = [tuple(zip(lists, some, strict=True)) for some in product(*lists.values())]
    titles = [f"{name} {', '.join(str(value) for _, value in varied)}" for varied in each]
    return [
        method_of(title, values | dict(varied), family=name, varied=varied)
        for title, varied in zip(titles, each, strict=True)
    ]


def families_of(methods):
    """{family: its methods} in their order."""
    names = dict.fromkeys(method.family for method in methods if method.family)
    return {name: [method for method in methods if method.family == name] for name in names}
