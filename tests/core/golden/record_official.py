"""Record official.safetensors, what the CODE authors' own functions compute: python record_official.py CHECKOUT

CHECKOUT is a copy of their public repository, github.com/vita-epfl/CODE, of which nothing is kept here. Their trainer
module is loaded from it as it is, with stand-ins for imports that the functions in question do not use. A trainer is
made without its set-up (no GPU, data set or weights) and given the network, pictures and noise of `official_cases`, and
diffusers' own DDPMScheduler. Every draw of noise is replaced by a numbered one: the first torch.randn_like of an
encoding is number 0 (1 is what the notebook adds before), later ones belong to DDIM steps with sigma 0, in which they
are multiplied by 0, and torch.randn counts on from 2. Recorded are the codes that encode_inputs returns, what
langevin_sampling returns each time that editing_with_ode calls it, and what ddim_step returns each time that it is
called there. Prints how many states were recorded for each case. It ran at commit c917c8b with diffusers 0.42.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock, patch

import torch
from diffusers import DDPMScheduler
from official_cases import CASES, T, network, noise, pictures
from safetensors.torch import save_file

STOOD_IN = (
    *("code", "code.datasets", "code.datasets.utils_corruption", "code.datasets.utils_corruption.converters"),
    *("code.datasets.transform_finder", "code.datasets.corruptions", "code.sde", "code.sde.sdelib", "code.trainers"),
    *("omegaconf", "wandb", "tqdm", "matplotlib", "matplotlib.pyplot", "torchvision", "torchvision.utils"),
    *("torchvision.transforms", "torchvision.transforms.functional", "torch.utils.tensorboard"),
)


def trainer_class(checkout):
    """Their trainer's class, from the file, with stand-ins for what it imports."""
    base = ModuleType("code.trainers.base_trainer")
    base.BaseTrainer = object
    modules = {name: MagicMock() for name in STOOD_IN} | {base.__name__: base}
    modules["tqdm"].tqdm = lambda steps: steps
    path = next(Path(checkout).rglob("hugginface_based_trainer.py"))
    spec = importlib.util.spec_from_file_location("official_trainer", path)
    module = importlib.util.module_from_spec(spec)
    with patch.dict(sys.modules, modules):
        spec.loader.exec_module(module)
    return module.Hugginface_Trainer


def set_up(make, case):
    """A trainer for one case, ready to encode and edit."""
    scheduler = DDPMScheduler(num_train_timesteps=T)
    scheduler.set_timesteps(case["n"])
    trainer = object.__new__(make)
    trainer.ddpm = SimpleNamespace(scheduler=scheduler, unet=lambda x, t: {"sample": network(x, t)})
    trainer.alphas_cumprod = scheduler.alphas_cumprod
    trainer.dynamic_threshol_ratio, trainer.dynamic_threshold_max = 0.98, 1.3
    settings = {
        "gpu": 0,
        "number_of_stds": case.get("eta", 1.7),
        "stop_clipping_at": case.get("clip_above", 0),
        "clip_inputs_langevin": case.get("langevin_clip", False),
        "clip_input_decoding": case.get("decode_clip", False),
        "dynamic_thresholding_ddim": case.get("threshold", True),
        "dynamic_thresholding_langevin": case.get("langevin_threshold", True),
    }
    trainer.cfg = SimpleNamespace(trainer=SimpleNamespace(**settings))
    return trainer


class Numbered:
    """Noise by number in place of torch's, counting from `first`."""

    def __init__(self, first):
        self.k = first - 1

    def __call__(self, like_or_shape, **_):
        self.k += 1
        like = like_or_shape if isinstance(like_or_shape, torch.Tensor) else torch.empty(like_or_shape)
        return noise(like, self.k)


def noting(function, into):
    """`function`, with the first of what it returns put into a list."""

    def noted(*args, **options):
        results = function(*args, **options)
        into.append(results[0])
        return results

    return noted


def recorded(make, case):
    """{"encoded", "updated", "decoded"}: each a stack of states in the order in which they came about."""
    trainer, x, updated, decoded = set_up(make, case), pictures(), [], []
    if case.get("noise_twice"):
        x = x + 0.01 * noise(x, 1)
    with (
        patch.object(torch, "randn", Numbered(2)),
        patch.object(torch, "randn_like", Numbered(0)),
        patch.object(torch.Tensor, "cuda", lambda tensor, *_: tensor),
    ):
        codes, _, _ = trainer.encode_inputs(x, clip_input=case["clip"])
        trainer.langevin_sampling = noting(trainer.langevin_sampling, updated)
        trainer.ddim_step = noting(trainer.ddim_step, decoded)
        trainer.editing_with_ode(
            codes,
            t_start=case["latent"] - 1,
            annealing=case["blocks"],
            annealing_cst=case.get("decay", 0.8),
            epsilon=case["step"],
            steps=case["updates"],
            min_latent_space_update=case.get("shallowest", 20),
            number_of_sample=case.get("samples", 1),
            corrector_step=case.get("levels", 1),
            use_std_schedule=case.get("std_schedule", False),
            start_from_latent=case.get("from_deepest", case["clip"]),
        )
    return {"encoded": torch.stack(codes), "updated": torch.stack(updated), "decoded": torch.stack(decoded)}


if __name__ == "__main__":
    make, golden = trainer_class(sys.argv[1]), {}
    for name, case in CASES.items():
        for stage, states in recorded(make, case).items():
            golden[f"{name}/{stage}"] = states.contiguous()
            print(f"{name}/{stage}: {tuple(states.shape)}, up to {states.abs().max():.3g}")
    save_file(golden, Path(__file__).with_name("official.safetensors"))
