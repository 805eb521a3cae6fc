"""A MASK for a latent: 1 is restored, 0 is kept."""

import torch


def latent_mask(model, mask, samples):
    """MASK (H, W) or (B, H, W) as (B or 1, 1, ..., h, w) for `samples`; ValueError where it does not fit."""
    mask = masks_of(mask).unsqueeze(1).float()
    height, width = samples.shape[-2:]
    scale = getattr(model.get_model_object("latent_format"), "spacial_downscale_ratio", None) or mask.shape[-1] // width
    if mask.shape[-2:] not in ((height, width), (height * scale, width * scale)):
        raise ValueError(
            f"The mask is {mask.shape[-1]}x{mask.shape[-2]} and the latent {width}x{height}: give a mask of the "
            "picture's size."
        )
    if len(mask) not in (1, len(samples)):
        raise ValueError(f"There are {len(mask)} masks for {len(samples)} pictures: give one, or one each.")
    if not mask.isfinite().all() or not mask.any():
        raise ValueError("The mask marks nothing to change, or holds NaN: paint what is to be changed.")
    mask = torch.nn.functional.adaptive_avg_pool2d(mask.clamp(0, 1), (height, width))
    return mask.view(len(mask), *[1] * (samples.ndim - 3), height, width)


def masks_of(mask):
    """MASK (H, W) or (B, H, W) as (B, H, W); ValueError where it is empty."""
    if not mask.numel():
        raise ValueError("The mask is empty: check what empties it before this node, or disconnect it.")
    return mask.reshape(-1, *mask.shape[-2:])


def mask_in(latent, mask):
    """The mask to use: what is connected, else what travels in the LATENT."""
    return latent.get("noise_mask") if mask is None else mask
