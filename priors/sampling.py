"""Draw pictures from a prior."""

import torch

from ..samplers.noise import seeded_noise
from ..samplers.noise_levels import decode_path
from ..samplers.sde import sdedit


@torch.inference_mode()
def sample(prior, labels, steps=40, guidance=1.0, seed=0, batch=50, on_call=None):
    """Pictures (N, C, size, size) in about [-1, 1], by ancestral steps from noise alone (DDPM, Ho et al. 2020).

    labels: of each picture, places in the prior's classes, or Nones for a prior without. Picture i draws with seed + i.
    on_call() is called after each network call on a batch, of which there are steps + 1. Returns float32 on the CPU.
    """
    path = decode_path(prior.levels, prior.levels.depth(fraction=1.0), steps)
    path = torch.cat([path, path.new_zeros(1)])
    model = prior.model(guidance if prior.conditional else 1.0)
    parts = []
    for first in range(0, len(labels), batch):
        part = labels[first : first + batch]
        pictures = sdedit(
            model,
            torch.zeros(len(part), prior.channels, prior.size, prior.size, device=prior.device),
            path,
            {"class_labels": torch.tensor(part, device=prior.device)} if prior.conditional else {},
            lambda _: on_call and on_call(),
            noise_sampler=seeded_noise([seed + first + i for i in range(len(part))]),
        )
        parts.append(pictures.float().cpu())
    return torch.cat(parts)
