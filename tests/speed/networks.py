"""The networks that speed is measured with: bundled priors, and one of the size of the paper's."""

import torch
from confident_ode.priors.loading import Prior, device_of, load
from confident_ode.samplers.noise_levels import NoiseLevels, linear_betas
from diffusers import UNet2DModel

RANDOM = "random256"
NAMES = ("flowers32", "flowers64", RANDOM)
# config.json of google/ddpm-celebahq-256 and google/ddpm-ema-celebahq-256
CELEBAHQ = {
    "sample_size": 256,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 2,
    "block_out_channels": (128, 128, 256, 256, 512, 512),
    "down_block_types": (*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4),
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}


def network(name, device="cpu"):
    """The Prior of what `load` knows, or RANDOM: ddpm-celebahq-256 with random weights. Its memory is channels-last."""
    return random256(device_of(device)) if name == RANDOM else load(name, device)


def random256(device):
    torch.manual_seed(0)
    return Prior(
        name=RANDOM,
        network=UNet2DModel(**CELEBAHQ).to(device, memory_format=torch.channels_last).eval().requires_grad_(False),
        levels=NoiseLevels(linear_betas()).to(device),
        prediction="epsilon",
        schedule="linear, 1000 steps",
        size=256,
        channels=3,
        classes=(),
        null=None,
        dtype=torch.float32,
        device=device,
    )
