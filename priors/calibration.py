"""The automatic mode: what a prior's statistics look like for known kinds of damage, and what restores each best."""

import json
from dataclasses import dataclass

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..samplers.statistics import STATISTICS

FILE = "calibration.safetensors"
TENSORS = ("levels", "mean", "directions", "centres")


@dataclass(frozen=True)
class Calibration:
    """What a prior says about pictures with K kinds of damage, and how to restore each.

    levels: (n,) VE sigmas to read at, ascending. mean: (n * STATISTICS,) of clean pictures. directions: (n *
    STATISTICS, D), in which the kinds differ most, scaled so that pictures of a kind spread by 1 (Fisher's linear
    discriminants). centres: (K, D). kinds: the names of the damages. choices: the name of the settings for each kind.
    settings: {name: settings}, dictionaries that `Settings.of` of the evaluation takes. weights: the mark of the
    weights that it is about, as `loading.mark` gives it, or "" where that is not known.
    """

    levels: torch.Tensor
    mean: torch.Tensor
    directions: torch.Tensor
    centres: torch.Tensor
    kinds: tuple[str, ...]
    choices: tuple[str, ...]
    settings: dict[str, dict]
    weights: str = ""

    @property
    def calls(self):
        return len(self.levels)

    def choose(self, statistics):
        """(kind, name of the settings, settings) of the kind that lies nearest each of (B, n, STATISTICS)."""
        nearest = torch.cdist(self._places(statistics), self.centres.double()).argmin(1).tolist()
        return [(self.kinds[k], self.choices[k], self.settings[self.choices[k]]) for k in nearest]

    def damage(self, statistics):
        """How damaged each of (B, n, STATISTICS) still looks, (B,): its distance from clean pictures' centre.

        In units of the spread of pictures with one kind of damage, so that clean ones have about D^(1/2).
        """
        return (self._places(statistics) - self.centres[0].double()).norm(dim=1)

    def _places(self, statistics):
        # in float64, which no autocast makes less
        return (statistics.flatten(1).cpu().double() - self.mean.double()) @ self.directions.double()

    def save(self, folder):
        """Write it beside the prior in `folder`."""
        said = {name: getattr(self, name) for name in ("kinds", "choices", "settings", "weights")}
        tensors = {name: getattr(self, name).float().contiguous() for name in TENSORS}
        save_file(tensors, folder / FILE, {name: json.dumps(value) for name, value in said.items()})


def load_calibration(folder):
    """The Calibration beside the prior in `folder`, None where there is none; ValueError where it is damaged."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            said = {name: json.loads(value) for name, value in file.metadata().items()}
            tensors = {name: file.get_tensor(name) for name in TENSORS}
        calibration = Calibration(
            **tensors,
            kinds=tuple(said["kinds"]),
            choices=tuple(said["choices"]),
            settings=dict(said["settings"]),
            weights=said.get("weights", ""),
        )
        whole = len(calibration.levels) * STATISTICS
        fits = calibration.mean.shape == (whole,) and calibration.directions.shape[0] == whole
        fits &= calibration.centres.shape == (len(calibration.kinds), calibration.directions.shape[1])
        fits &= len(calibration.choices) == len(calibration.kinds) and set(calibration.choices) <= set(said["settings"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError):
        fits = False
    if not fits:
        raise ValueError(f"{path} is damaged: make it anew with `confident-ode priors calibrate`, or delete it.")
    return calibration


def discriminants(statistics, ridge=0.1):
    """(mean, directions, centres) of statistics (K, N, n, STATISTICS) of N pictures with each of K kinds, clean first.

    Fisher's linear discriminants: the statistics, in units of their spread among clean pictures, are whitened by their
    covariance within a kind, to which `ridge` is added, and seen in the K - 1 directions that the kinds' means span.
    """
    x = statistics.flatten(2).double()
    mean, spread = x[0].mean(0), x[0].std(0) + 1e-3
    x = (x - mean) / spread
    centres = x.mean(1)
    rest = (x - centres[:, None]).flatten(0, 1)
    within = rest.T @ rest / len(rest) + ridge * torch.eye(rest.shape[1], dtype=rest.dtype)
    values, vectors = torch.linalg.eigh(within)
    whiten = vectors / values.sqrt() @ vectors.T
    _, _, spanned = torch.linalg.svd((centres - centres.mean(0)) @ whiten, full_matrices=False)
    directions = whiten @ spanned[: len(centres) - 1].T
    return mean.float(), (directions / spread[:, None]).float(), (centres @ directions).float()
