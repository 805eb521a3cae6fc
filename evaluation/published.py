"""The CODE authors' public code, run from a checkout of github.com/vita-epfl/CODE, as a method of the benchmark.

Theirs is all that restores: encoding with their clip, Langevin updates, decoding, thresholding, and the network calls
that these make, in the functions of their trainer as they stand in its file. Stood in for is what is around them: of
what the file imports it gets Python's own modules, torch and numpy, and for all else (data sets, logging, pipelines,
their trainer's base class) names that cannot be used; its progress bar shows nothing. The trainer is made without its
set-up, which wants a GPU, weights of the hub and a data set: it is given the prior's network without a class,
diffusers' DDPMScheduler with the prior's betas, and the settings that its functions read. `Tensor.cuda` goes to the
prior's device. Pictures are restored one at a time, and torch's generators, which they draw from, are seeded for each.
"""

import builtins
import importlib.util
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import torch
from diffusers import DDPMScheduler

from ..samplers.checks import finite
from ..samplers.noise import item_seeds
from .fingerprints import fingerprint
from .methods import Restoration
from .restoring import plan
from .settings import Settings

TRAINER, CLASS = "code/trainers/hugginface_based_trainer.py", "Hugginface_Trainer"
FUNCTIONS = ("encode_inputs", "editing_with_ode", "langevin_sampling", "ddim_step", "_clip_inputs", "_threshold_sample")
# of what is not Python's own, what their functions compute with
USED = {"torch", "numpy"}

# updates at t = 190 of 999 with a step of 1e-4, which their factor makes 4.1e-3; what docs/deviations.md measures
THEIRS = Settings.of({"method": "official", "depth": "t=200", "start": "updates", "step_size": 1e-4, "updates": 40})
# what the benchmark takes for CODE, with as many steps as make the network calls of THEIRS
OURS = Settings(depth=0.3, steps=127)


def against(path):
    """[the authors' code, our reproduction of it, CODE] at as many network calls; ValueError as `trainer_class`.

    The reproduction leaves out calls that the result does not depend on. All take one picture at a time.
    """
    path = Path(path).resolve()
    trainer_class(path)
    return [
        Published("authors' code", THEIRS, path=path),
        Alone("our reproduction of it", THEIRS),
        Alone("CODE, as many calls", OURS),
    ]


@dataclass(frozen=True)
class Alone(Restoration):
    """A Restoration that takes one picture at a time, so that its seconds can be compared with the authors'."""

    def about(self, prior):
        return {**super().about(prior), "at_once": 1}

    def restore(self, prior, pictures, seed):
        each = [self.restore_one(prior, picture, seed + i) for i, picture in enumerate(pictures.split(1))]
        return torch.cat([restored for restored, _ in each]), [calls for _, calls in each]

    def restore_one(self, prior, picture, seed):
        """(restored, network calls) of a picture (1, C, H, W)."""
        restored, [calls] = super().restore(prior, picture, seed)
        return restored, calls


@dataclass(frozen=True, kw_only=True)
class Published(Alone):
    """The authors' code in the checkout at `path`. settings: of the method "official", with all of its quirks."""

    path: Path

    def calls(self, prior):
        asked = self._asked(prior)
        # they encode to the end of the grid, wherever they decode from
        return asked.calls + asked.n - 1 - asked.start

    def about(self, prior):
        return {
            **super().about(prior),
            "method": "published",
            "checkout": fingerprint(file_of(self.path).read_text(encoding="utf-8")),
        }

    def restore_one(self, prior, picture, seed):
        asked, network = self._asked(prior), _Network(prior)
        trainer = trainer_of(self.path, prior, network, asked)
        with seeded(seed, prior.device), cuda_is(prior.device):
            codes, _, _ = trainer.encode_inputs(picture.to(prior.device), clip_input=asked.clip)
            _, restored = trainer.editing_with_ode(
                codes,
                t_start=asked.latent - 1,
                annealing=asked.blocks,
                annealing_cst=asked.decay,
                epsilon=asked.step,
                steps=asked.updates,
                min_latent_space_update=asked.shallowest,
                number_of_sample=asked.samples,
                corrector_step=asked.levels,
                use_std_schedule=asked.std_schedule,
                start_from_latent=asked.start == asked.n - 1,
            )
        restored = finite(torch.stack(restored), "The picture of the authors' code")
        return restored.clamp(-1, 1).cpu(), network.calls

    def _asked(self, prior):
        """The settings as an `Official`; ValueError where their code cannot do it."""
        trainer_class(self.path)
        if prior.prediction != "epsilon":
            raise ValueError(f"The authors' code is for networks that predict noise, which {prior.name} does not.")
        asked = plan(prior, self.settings).method.keywords["settings"]
        if asked.mended or asked.noise_twice:
            raise ValueError("The authors' code has all of its quirks, and no second noise: leave the quirks as is.")
        return asked


class _Network:
    """A prior's network in the authors' signature, without a class; `calls` counts."""

    def __init__(self, prior):
        self.prior, self.calls = prior, 0

    def __call__(self, x, t):
        self.calls += 1
        eps = self.prior.network(x, t, **self.prior.conditioning(None, len(x))).sample[:, : self.prior.channels]
        return {"sample": eps.to(x.dtype)}


def trainer_of(path, prior, network, asked):
    """Their trainer without its set-up, for an `Official`."""
    alpha_bar = prior.levels.alpha_bar(torch.arange(len(prior.levels))).cpu()
    betas = 1 - alpha_bar / torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    scheduler = DDPMScheduler(len(betas), trained_betas=betas.tolist())
    scheduler.set_timesteps(asked.n)
    made = trainer_class(path)
    trainer = made.__new__(made)
    trainer.ddpm = SimpleNamespace(scheduler=scheduler, unet=network)
    trainer.alphas_cumprod = scheduler.alphas_cumprod
    # those of their configuration
    trainer.dynamic_threshol_ratio, trainer.dynamic_threshold_max = 0.98, 1.3
    read = {
        "gpu": prior.device.index,
        "number_of_stds": asked.eta,
        "stop_clipping_at": asked.clip_above,
        "clip_inputs_langevin": asked.langevin_clip,
        "clip_input_decoding": asked.decode_clip,
        "dynamic_thresholding_ddim": asked.threshold,
        "dynamic_thresholding_langevin": asked.langevin_threshold,
    }
    trainer.cfg = SimpleNamespace(trainer=SimpleNamespace(**read))
    return trainer


@cache
def trainer_class(path):
    """The class of their trainer from the checkout at `path`, whose file is run; ValueError with one sentence."""
    file = file_of(path)
    spec = importlib.util.spec_from_file_location("published_trainer", file)
    module = importlib.util.module_from_spec(spec)
    module.__builtins__ = {**vars(builtins), "__import__": imported}
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # it is any file
        raise ValueError(f"{file} cannot be run: {type(error).__name__}: {error}.") from None
    made = getattr(module, CLASS, None)
    if missing := [name for name in FUNCTIONS if not callable(getattr(made, name, None))]:
        raise ValueError(f"{file} has no {CLASS}.{missing[0]}: take github.com/vita-epfl/CODE as it was published.")
    return made


def file_of(path):
    """The file of their trainer; ValueError with one sentence where `path` is no checkout."""
    file = Path(path) / TRAINER
    if not file.is_file():
        raise ValueError(f"{path} is no checkout of github.com/vita-epfl/CODE: there is no {TRAINER} in it.")
    return file


def imported(name, globals=None, locals=None, fromlist=(), level=0):
    """What an import statement of their file gets. Their package `code` is not Python's."""
    root = name.partition(".")[0]
    own = root in sys.stdlib_module_names and root != "code"
    if (own or root in USED) and name != "torch.utils.tensorboard":
        return __import__(name, globals, locals, fromlist, level)
    return SimpleNamespace(tqdm=lambda steps: steps) if name == "tqdm" else StandIn(name if fromlist else root)


class StandIn(ModuleType):
    """A module with any name in it, each again a StandIn; it can be imported and inherited from, and does nothing."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn(f"{self.__name__}.{name}")

    def __mro_entries__(self, bases):
        return ()


@contextmanager
def seeded(seed, device):
    """torch's own generators start from the seed, and are afterwards as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(item_seeds(seed, 1)[0])
        yield


@contextmanager
def cuda_is(device):
    """`Tensor.cuda` goes to the device, whatever it is."""
    with patch.object(torch.Tensor, "cuda", lambda tensor, *_: tensor.to(device)):
        yield
