"""The authors' code: a small checkout of their shape, and their own where CODE_CHECKOUT is its folder."""

import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from confident_ode.evaluation.methods import Restoration
from confident_ode.evaluation.published import CLASS, FUNCTIONS, OURS, THEIRS, TRAINER, Alone, Published, against
from confident_ode.evaluation.restoring import plan
from confident_ode.priors.loading import load
from confident_ode.samplers.noise import LANGEVIN, START, seeded_noise
from prior.tiny import write_prior

CHECKOUT = os.environ.get("CODE_CHECKOUT")
# its encoding adds noise, and calls the network at every level but one; its editing once for each update
FAKE = """
import code.datasets.vision as vision
import numpy as np
import torch
import wandb
from code.datasets.corruptions import *
from code.trainers.base_trainer import BaseTrainer
from omegaconf import DictConfig
from torch.utils.tensorboard import SummaryWriter
from torchvision.transforms import functional as F
from tqdm import tqdm


class Hugginface_Trainer(BaseTrainer):
    def __init__(self, cfg: DictConfig):
        raise RuntimeError("its set-up wants a GPU")

    def encode_inputs(self, inputs, noisified=True, clip_input=False):
        codes = [inputs + 0.01 * torch.randn_like(inputs)]
        for t in tqdm(self.ddpm.scheduler.timesteps[1:].tolist()):
            codes.append(codes[-1] + 0 * self.ddpm.unet(codes[-1], torch.tensor([t]))["sample"])
        return codes, [], []

    def editing_with_ode(self, latent_codes, t_start, steps, epsilon, start_from_latent, **rest):
        x = latent_codes[-1 if start_from_latent else t_start - 1].cuda(self.cfg.trainer.gpu)
        for _ in range(steps):
            t = torch.tensor([0]).cuda(self.cfg.trainer.gpu)
            x = x + epsilon * self.ddpm.unet(x, t)["sample"] + epsilon * torch.randn(x.shape)
        return [], [*x]

    def langevin_sampling(self): ...

    def ddim_step(self): ...

    def _clip_inputs(self): ...

    def _threshold_sample(self): ...
"""
FEW = replace(THEIRS, steps=10, depth="t=500", updates=3, step_size=1e-3, blocks=2)


def write_checkout(folder, source=FAKE):
    file = folder / TRAINER
    file.parent.mkdir(parents=True)
    file.write_text(source)
    return folder


def one_sentence(error):
    text = str(error.value)
    return text.endswith(".") and ". " not in text and "\n" not in text


@pytest.fixture
def checkout(tmp_path):
    return write_checkout(tmp_path / "CODE")


def test_it_restores_with_what_the_file_says_and_nothing_of_it_stays_imported(checkout, prior, pictures):
    names = ("code", "tqdm", "wandb", "omegaconf", "torchvision", "torch.utils.tensorboard")
    before = [sys.modules.get(name) for name in names]
    method = Published("authors' code", FEW, path=checkout)
    restored, _ = method.restore(prior, pictures, 5)
    assert restored.shape == pictures.shape
    # FAKE moves a picture by noise of 0.01, and little more
    assert 0 < (restored - pictures).abs().max() < 0.1
    assert [sys.modules.get(name) for name in names] == before
    assert "cuda" not in vars(torch.Tensor)


def test_its_network_calls_are_counted_one_by_one(checkout, prior, pictures):
    _, calls = Published("authors' code", FEW, path=checkout).restore(prior, pictures, 5)
    assert calls == [9 + 3] * 3


def test_a_picture_has_its_own_seed_and_the_global_generator_is_left_alone(checkout, prior, pictures):
    method = Published("authors' code", FEW, path=checkout)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    together, _ = method.restore(prior, pictures, 2**64 - 1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert torch.equal(method.restore(prior, pictures, 2**64 - 1)[0], together)
    # the seeds go round, as those of our own noise do
    assert torch.equal(method.restore(prior, pictures[1:], 0)[0], together[1:])
    assert not torch.equal(method.restore(prior, pictures[:1], 7)[0], together[:1])


def test_it_goes_to_another_process_and_says_what_it_ran(checkout, prior, pictures, tmp_path):
    method = Published("authors' code", FEW, path=checkout)
    sent = pickle.loads(pickle.dumps(method))
    assert sent == method
    assert torch.equal(sent.restore(prior, pictures[:1], 1)[0], method.restore(prior, pictures[:1], 1)[0])
    about = method.about(prior)
    assert about == sent.about(prior)
    assert about == replace(method, path=write_checkout(tmp_path / "copy")).about(prior)
    changed = write_checkout(tmp_path / "changed", FAKE.replace("0.01", "0.02"))
    assert about != replace(method, path=changed).about(prior)
    assert about != Alone("reproduction", FEW).about(prior)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, f"there is no {TRAINER} in it"),
        (FAKE.replace("def ddim_step", "def step"), f"has no {CLASS}.ddim_step"),
        (FAKE.replace(f"class {CLASS}", "class Trainer"), f"has no {CLASS}.{FUNCTIONS[0]}"),
        ("import torch\ntorch.ones(2) +", "cannot be run: SyntaxError"),
        ("from torch import rand_normal", "cannot be run: ImportError"),
        ("import torchvision\ntorchvision.transforms.ToTensor()", "cannot be run: TypeError"),
    ],
)
def test_what_is_no_checkout_is_refused_in_one_sentence(source, said, tmp_path, prior):
    path = tmp_path if source is None else write_checkout(tmp_path / "CODE", source)
    with pytest.raises(ValueError, match=said) as error:
        against(path)
    assert one_sentence(error)
    with pytest.raises(ValueError, match=said):
        Published("authors' code", FEW, path=path).calls(prior)


def test_a_prior_that_predicts_no_noise_and_mended_quirks_are_refused(checkout, tmp_path, prior):
    write_prior(tmp_path / "v", scheduler={"prediction_type": "v_prediction"})
    method = Published("authors' code", FEW, path=checkout)
    with pytest.raises(ValueError, match="predict noise") as error:
        method.calls(load(tmp_path / "v"))
    assert one_sentence(error)
    for quirks in ("no-scale", "all,second-noise"):
        with pytest.raises(ValueError, match="has all of its quirks"):
            replace(method, settings=replace(FEW, quirks=quirks)).calls(prior)


def test_the_three_make_as_many_calls_as_they_can_up_to_those_of_the_authors_code(checkout, prior):
    theirs, reproduction, ours = against(checkout)
    assert theirs.calls(prior) == 199 + 39 + 4 * 11
    # without the 161 calls from the updates to the end of the grid and back to nothing
    assert reproduction.calls(prior) == theirs.calls(prior) - 161
    assert ours.calls(prior) <= theirs.calls(prior) < plan(prior, replace(OURS, steps=OURS.steps + 1)).calls
    assert len({method.name for method in (theirs, reproduction, ours)}) == 3


def test_pictures_one_at_a_time_are_those_of_a_batch(prior, pictures):
    together, calls = Restoration("batch", FEW).restore(prior, pictures, 4)
    alone, of_each = Alone("alone", FEW).restore(prior, pictures, 4)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)
    assert of_each == calls
    assert Alone("alone", FEW).about(prior) != Restoration("batch", FEW).about(prior)


class Numbered:
    """Our noise in place of torch's, by number from `first`."""

    def __init__(self, seed, stream, first):
        self.noise, self.k = seeded_noise(seed, stream), first - 1

    def __call__(self, like, **_):
        self.k += 1
        return self.noise(like if isinstance(like, torch.Tensor) else torch.empty(like), self.k)


@pytest.mark.skipif(not CHECKOUT, reason="CODE_CHECKOUT names no checkout of github.com/vita-epfl/CODE")
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"start": "deepest"},
        {"clip": False},
        {"levels": 2, "shallowest": "t=100"},
        {"clip_at": "up,updates,down", "eta": 1.2},
        {"threshold": False},
        {"samples": 2, "blocks": 1},
    ],
)
def test_the_authors_functions_make_the_pictures_of_our_reproduction(changed, prior, pictures):
    """Of the same noise. Their DDIM steps draw too, and multiply by 0."""
    settings = replace(FEW, updates=8, **changed)
    method = Published("authors' code", settings, path=Path(CHECKOUT))
    ours = Restoration("reproduction", settings)
    expected, _ = ours.restore(prior, pictures[:1], 3)
    with (
        patch.object(torch, "randn_like", Numbered(3, START, 0)),
        patch.object(torch, "randn", Numbered([3, 4][: settings.samples], LANGEVIN, 2)),
    ):
        restored, calls = method.restore(prior, pictures[:1], 3)
    torch.testing.assert_close(restored, expected, rtol=0, atol=1e-4)
    assert calls == [method.calls(prior)]
    assert (method.restore(prior, pictures[:1], 3)[0] - expected).abs().max() > 1e-2
