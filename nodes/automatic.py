"""What the preset auto of CODE Restore sees in a picture."""

from functools import partial

from ..samplers.denoisers import dynamic_thresholding
from ..samplers.statistics import read
from .pixel_prior import PixelModel


def choose(guided, x, seed):
    """(kind of damage, name of a preset, its settings) for each of the LATENT tensor x, (B, C, h, w).

    guided: Guided, of a pixel prior that was calibrated; ValueError of any other model.
    """
    calibration = calibration_of(guided.model)
    if calibration is None:
        raise ValueError(
            "The preset auto needs a prior that was calibrated, as the bundled ones are: take another preset, or "
            "calibrate your prior with `confident-ode priors calibrate`."
        )
    return calibration.choose(statistics(guided, x, seed))


def calibration_of(model):
    """The Calibration of a MODEL, None where it has none."""
    return model.model.prior.calibration if isinstance(model.model, PixelModel) else None


def statistics(guided, x, seed):
    """`samplers.statistics.read` of the LATENT tensor x for a Guided whose MODEL has a Calibration."""
    found = []

    def reading(model, x, sigmas, extra_args=None, callback=None, disable=None):
        # as it was calibrated, whether the loader's switch is on or not
        found.append(read(dynamic_thresholding(partial(model, **(extra_args or {}))), x, sigmas, seed=seed))
        return x

    guided.run(reading, x, calibration_of(guided.model).levels.double(), None)
    return found[0]
