"""Round trips through a small UNet with random weights: what a network adds to the closed forms, without training."""

import math

import diffusers
import pytest
import torch
from confident_ode.samplers.denoisers import eps_denoiser
from confident_ode.samplers.noise_levels import decode_path
from confident_ode.samplers.ode import SOLVERS
from core.toys import LEVELS, normal_pictures, rms


@pytest.fixture(scope="module")
def unet():
    """A UNet2DModel whose every parameter is drawn by hand: what starts at zero would make eps vanish.

    Its time embedding is damped at the frequencies of single timesteps, which a trained network ignores as well: with
    them eps would be rough in t, and no solver could converge.
    """
    unet = diffusers.UNet2DModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    unet.eval().requires_grad_(False)
    for i, (name, parameter) in enumerate(unet.named_parameters()):
        z = normal_pictures((1, *parameter.shape), seed=i, dtype=torch.float32)[0]
        if parameter.ndim > 1:
            parameter.copy_(z / math.sqrt(parameter[0].numel()))
        else:
            parameter.copy_(0.1 * z + ("norm" in name and name.endswith("weight")))
        assert parameter.std() > 0.03, name
    into_time = unet.time_embedding.linear_1.weight
    frequency = 10_000 ** -(torch.arange(into_time.shape[1] // 2) / (into_time.shape[1] // 2))
    into_time *= (1 / (1 + (100 * frequency) ** 2)).repeat(2)
    return unet.double()


@pytest.fixture(scope="module")
def model(unet):
    return eps_denoiser(lambda x, t: unet(x, t).sample, LEVELS)


PICTURES = normal_pictures((2, 3, 8, 8)).clamp(-1, 1)


def test_its_output_is_spread_and_depends_on_picture_and_timestep(unet):
    """Or any round trip would pass."""
    outputs = [unet(x, torch.tensor(t)).sample for x, t in ((PICTURES, 0.0), (PICTURES, 500.0), (-PICTURES, 0.0))]
    assert all(out.std() > 0.1 for out in outputs)
    assert all(rms(outputs[0] - other) > 0.02 for other in outputs[1:])


def round_trip_error(model, name, steps):
    path = decode_path(LEVELS, 500, steps)
    code = SOLVERS[name](model, PICTURES, path.flip(0))
    assert rms(code - PICTURES) > 0.5
    return rms(SOLVERS[name](model, code, path) - PICTURES)


@pytest.mark.parametrize(
    ("name", "order", "at_40_steps"), [("heun", 2, 2e-3), ("ab2", 1.5, 1e-2), ("dpmpp_2m", 1.5, 3e-2)]
)
def test_second_order_round_trips_return_and_improve_with_steps(model, name, order, at_40_steps):
    coarse, fine = (round_trip_error(model, name, steps) for steps in (10, 40))
    assert fine < at_40_steps
    assert coarse / fine > 4**order


def test_eulers_round_trip_is_the_worst(model):
    assert round_trip_error(model, "euler", 40) > 10 * round_trip_error(model, "ab2", 40)
