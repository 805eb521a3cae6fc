"""The automatic mode: settings for each picture, by what the prior says about it on a short way up the ODE."""

from dataclasses import replace

import torch

from ..samplers.denoisers import CallCounter
from ..samplers.noise import item_seeds
from ..samplers.statistics import read
from .restoring import encoder_of, plan, run


@torch.inference_mode()
def choose(prior, pictures, settings, on_call=None):
    """(kind, name, Settings) for each of pictures (B, C, H, W) in [-1, 1]: what the damage looks like, and what to do.

    The Settings are those of the prior's calibration by that name on top of `settings`. Network calls:
    `prior.calibration.calls`. Raises ValueError where the prior has no calibration.
    """
    calibration = calibration_of(prior)
    model = CallCounter(encoder_of(prior, settings.label, True, len(pictures)), on_call)
    statistics = read(model, pictures.to(prior.device), calibration.levels, seed=settings.seed)
    return [(kind, name, replace(settings, **values)) for kind, name, values in calibration.choose(statistics)]


def most_calls(prior, settings):
    """The most network calls that choosing and restoring take for a picture."""
    calibration = calibration_of(prior)
    plans = [plan(prior, replace(settings, **values)) for values in calibration.settings.values()]
    return calibration.calls + max(planned.all_calls for planned in plans)


def run_chosen(prior, pictures, settings, on_call=None):
    """(restored, calls): pictures (B, C, H, W), each with the settings chosen for it, and the network calls of each.

    Picture i draws with seed + i, whatever is chosen for the others. Those that share settings are restored together.
    """
    chosen = [name for _, name, _ in choose(prior, pictures, settings, on_call)]
    seeds, calibration = item_seeds(settings.seed, len(pictures)), calibration_of(prior)
    restored, calls = torch.empty_like(pictures), [calibration.calls] * len(pictures)
    for name in dict.fromkeys(chosen):
        places = [i for i, other in enumerate(chosen) if other == name]
        own = replace(settings, **calibration.settings[name])
        result = run(prior, pictures[places], own, on_call, seeds=[seeds[i] for i in places])
        restored[places] = result.pictures.to(restored)
        for i in places:
            calls[i] += result.nfe
    return restored, calls


def calibration_of(prior):
    """The prior's Calibration, or ValueError."""
    if prior.calibration is None:
        raise ValueError(
            f"The prior {prior.name} has no calibration, which choosing settings needs: make it with `confident-ode "
            "priors calibrate`, or take a preset."
        )
    return prior.calibration
