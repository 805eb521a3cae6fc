"""Tiny priors on disk, for the tests of priors and of the command line."""

import json

import torch
from diffusers import UNet2DModel
from safetensors.torch import save_file

WEIGHTS = "diffusion_pytorch_model.safetensors"
UNET = {
    "_class_name": "UNet2DModel",
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}
SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "prediction_type": "epsilon",
}


def filled(config):
    """A network with every parameter drawn at random, those that start at zero too."""
    network = UNet2DModel.from_config(config)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


def write_prior(folder, unet=None, scheduler=None, labels=None, flat=False):
    """Write a tiny prior of 16x16 pictures to `folder`, in diffusers' layout or the flat one; its tensors."""
    places = (folder, folder) if flat else (folder / "unet", folder / "scheduler")
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    config = {**UNET, **(unet or {})}
    (places[0] / "config.json").write_text(json.dumps(config))
    (places[1] / "scheduler_config.json").write_text(json.dumps({**SCHEDULER, **(scheduler or {})}))
    if labels is not None:
        (folder / "model_index.json").write_text(json.dumps({"id2label": labels}))
    tensors = {name: value.contiguous() for name, value in filled(config).state_dict().items()}
    save_file(tensors, places[0] / WEIGHTS, metadata={"format": "pt"})
    return tensors
