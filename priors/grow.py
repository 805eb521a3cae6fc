"""Grow a prior to twice its size: a new outermost level is fitted round its network, which goes on at half the size.

The mean of 2 x 2 pixels has half the noise: x0 + sigma n becomes x0' + (sigma / 2) n', a state that the old network
knows. So what it learnt of shapes is kept, and only detail is left to learn (cf. progressive growing, Karras et al.
2018).
"""

import math

import torch
from diffusers import UNet2DModel
from torch.nn.functional import avg_pool2d, mse_loss

from .photos import cropped, order, seed_for

STEPS, BATCH, RATE = 300, 32, 2e-3
TIME_STEPS = 2000
REPLACED = ("conv_in", "conv_norm_out", "conv_out")


def grown_config(config):
    """The config of a UNet2DModel with one more level around that of `config`."""
    return {
        **config,
        "sample_size": 2 * config["sample_size"],
        "block_out_channels": (config["block_out_channels"][0], *config["block_out_channels"]),
        "down_block_types": ("DownBlock2D", *config["down_block_types"]),
        "up_block_types": (*config["up_block_types"], "UpBlock2D"),
    }


def grow(network, levels, photos, autocast, seed=0, watch=lambda steps: steps):
    """A UNet2DModel for twice the pixels of `network`: its weights inside, the outermost level fitted on `photos`.

    levels: of the noise that it predicts. autocast: a context for the network calls. watch(steps): wraps the loop.
    """
    torch.manual_seed(seed_for(seed, "grow"))
    device = levels.sigmas.device
    grown = UNet2DModel.from_config(grown_config(network.config)).to(device, memory_format=torch.channels_last)
    kept = {_moved(name): weight for name, weight in network.state_dict().items() if not name.startswith(REPLACED)}
    grown.load_state_dict(kept, strict=False)
    fit_times(grown, network, levels)

    def way_down(noisy, noise, t, labels, sigma):
        """Hand to the old network what its own first convolution made of the mean of 2 x 2 pixels."""
        old = avg_pool2d(noisy, 2) * ((1 + sigma**2) / (1 + sigma**2 / 4)).sqrt()
        return mse_loss(handed_on(grown, noisy, t, labels).float(), network.conv_in(old).float())

    def way_up(noisy, noise, t, labels, sigma):
        return mse_loss(grown(noisy, t, labels).sample.float(), noise)

    stages = (
        (way_down, (grown.conv_in, grown.down_blocks[0])),
        (way_up, (grown.up_blocks[-2].upsamplers, grown.up_blocks[-1], grown.conv_norm_out, grown.conv_out)),
    )
    sigmas, size = levels.sigmas.float(), grown.config.sample_size
    for stage, step in watch([(stage, step) for stage in range(len(stages)) for step in range(STEPS)]):
        loss, modules = stages[stage]
        if step == 0:
            grown.requires_grad_(False)
            weights = [weight for module in modules for weight in module.requires_grad_(True).parameters()]
            optimizer = torch.optim.AdamW(weights, RATE, betas=(0.9, 0.99))
        torch.manual_seed(seed_for(seed, "grow", stage, step))
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 20) * 0.5 * (1.05 + 0.95 * math.cos(math.pi * step / STEPS))
        rows = order(len(photos), BATCH, seed, step).to(device)
        x = 2 * cropped(photos.pictures[rows], size) - 1
        t, noise = torch.randint(len(sigmas), (len(x),), device=device), torch.randn_like(x)
        sigma = sigmas[t].view(-1, 1, 1, 1)
        noisy = ((x + sigma * noise) / (1 + sigma**2).sqrt()).contiguous(memory_format=torch.channels_last)
        with autocast:
            error = loss(noisy, noise, t, photos.labels[rows] if photos.classes else None, sigma)
        error.backward()
        optimizer.step()
        optimizer.zero_grad()
    return grown.requires_grad_(True)


def _moved(name):
    """Where a weight of the old network lies in the grown one."""
    if not name.startswith("down_blocks."):
        return name
    _, place, rest = name.split(".", 2)
    return f"down_blocks.{int(place) + 1}.{rest}"


def halved(levels):
    """(T,): the timestep that has half the noise of each timestep; 0 where there is none so clean."""
    return levels.timestep((levels.sigmas / 2).clamp(min=levels.sigmas[0])).float()


def fit_times(grown, network, levels):
    """Let the grown network know each timestep as the old one knew that of half its noise."""
    t = torch.arange(len(levels), dtype=torch.float32, device=levels.sigmas.device)
    with torch.no_grad():
        wanted = network.time_embedding(network.time_proj(halved(levels)))
        seen = grown.time_proj(t)
    optimizer = torch.optim.AdamW(grown.time_embedding.parameters(), RATE, weight_decay=0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, TIME_STEPS)
    for _ in range(TIME_STEPS):
        mse_loss(grown.time_embedding(seen), wanted).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


def handed_on(grown, x, t, labels):
    """What the outermost level gives to the old network."""
    embedding = grown.time_embedding(grown.time_proj(t))
    if labels is not None:
        embedding = embedding + grown.class_embedding(labels)
    return grown.down_blocks[0](grown.conv_in(x), embedding)[0]
