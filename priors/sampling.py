"""Draw pictures from a prior."""

import torch

from ..samplers.noise import START, seeded_noise
from ..samplers.noise_levels import decode_path
from ..samplers.ode import dpmpp_2m
from ..samplers.sde import sdedit


@torch.inference_mode()
def sample(prior, labels, steps=40, guidance=1.0, seed=0, batch=50, on_call=None, ancestral=False):
    """Pictures (N, C, size, size) in about [-1, 1], down the ODE from noise alone by DPM-Solver++(2M) on Karras levels.

    labels: of each picture, places in the prior's classes, or Nones for a prior without. Picture i draws with seed + i.
    ancestral: by DDPM's steps instead (Ho et al. 2020), of which it takes hundreds: few leave pictures pale and soft.
    on_call() is called after each network call on a batch, of which there are steps + 1. Returns float32 on the CPU.
    """
    spacing = "linspace" if ancestral else "karras"
    path = decode_path(prior.levels, prior.levels.depth(fraction=1.0), steps, spacing)
    path = torch.cat([path, path.new_zeros(1)])
    model = prior.model(guidance if prior.conditional else 1.0)
    parts = []
    for first in range(0, len(labels), batch):
        part = labels[first : first + batch]
        x = torch.zeros(len(part), prior.channels, prior.size, prior.size, device=prior.device)
        noise = seeded_noise([seed + first + i for i in range(len(part))], START)
        run = (
            path,
            {"class_labels": torch.tensor(part, device=prior.device)} if prior.conditional else {},
            lambda _: on_call and on_call(),
        )
        if ancestral:
            x = sdedit(model, x, *run, noise_sampler=noise)
        else:
            x = dpmpp_2m(model, path[0].item() * noise(x, 0), *run)
        parts.append(x.float().cpu())
    return torch.cat(parts)
