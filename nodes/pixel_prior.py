"""A diffusers UNet2DModel as a native MODEL: pixels are its latents, class labels its conditioning."""

from functools import partial

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models_base
import torch

from ..evaluation.restoring import PIXELS_AT_ONCE
from ..priors.loading import embedded
from ..samplers.denoisers import dynamic_thresholding
from ..samplers.windows import windowed, windows_of

MODEL_TYPES = {
    "epsilon": comfy.model_base.ModelType.EPS,
    "v_prediction": comfy.model_base.ModelType.V_PREDICTION,
}


class Pixels(comfy.latent_formats.LatentFormat):
    """Pixels in [-1, 1], of which a preview is the picture itself."""

    latent_channels = 3
    spacial_downscale_ratio = 1

    def __init__(self):
        self.latent_rgb_factors = torch.eye(3).tolist()


class PixelConfig(comfy.supported_models_base.BASE):
    """What ComfyUI asks of a model it did not detect itself. The weights stay in float32, as priors are small."""

    latent_format = Pixels

    def __init__(self, prior):
        super().__init__({"dtype": prior.dtype, "disable_unet_model_creation": True})
        self.sampling_settings = {"timesteps": len(prior.levels)}
        # Stable Diffusion's factor of 2 belongs to its 320 channels at full size
        self.memory_usage_factor = 2 * prior.network.config.block_out_channels[0] / 320


class PixelModel(comfy.model_base.BaseModel):
    """A Prior under ComfyUI's samplers. `class_label` in the conditioning is its class, else the null one."""

    def __init__(self, prior, device=None):
        super().__init__(PixelConfig(prior), MODEL_TYPES[prior.prediction], device)
        self.diffusion_model = PixelNetwork(prior)
        # zero terminal SNR ends in infinity, which no sampler can start from
        self.model_sampling.set_sigmas(prior.levels.sigmas.clamp(max=1e4))
        self.prior = prior

    def memory_required(self, input_shape, *args, **kwargs):
        """ComfyUI's estimate, of no more pixels than the network is given at once."""
        size = self.prior.size
        if max(input_shape[-2:]) > size:
            windows = min(windows_at_once(self.prior), input_shape[0] * windows_of(input_shape, size))
            input_shape = [windows, *input_shape[1:-2], size, size]
        return super().memory_required(input_shape, *args, **kwargs)

    def extra_conds(self, **kwargs):
        if kwargs.get("cross_attn") is not None:
            raise ValueError(
                "A pixel prior knows classes and no prompts: connect Class Condition in place of a prompt."
            )
        conds = super().extra_conds(**kwargs)
        if self.prior.conditional:
            label = self.class_label(kwargs.get("class_label"))
            conds["y"] = comfy.conds.CONDRegular(label.to(kwargs["device"]))
        return conds

    def class_label(self, index):
        """The label of one picture, (1,), from an index or None for the null class; ValueError where there is none."""
        classes = self.prior.classes
        if index is None:
            return self.prior.conditioning(None, 1)["class_labels"]
        if not index < len(classes):
            raise ValueError(f"The prior has no class {index}: connect its own MODEL to Class Condition.")
        return torch.tensor([index])

    def embedded(self, labels):
        """What labels (B,) are embedded as, (B, D), float32."""
        return self.diffusion_model.unet.class_embedding(labels).float()


class PixelNetwork(torch.nn.Module):
    """network(x_vp, t, y=labels) with ComfyUI's arguments; pictures larger than the prior's go to it in windows.

    y: (B,) integers, or what they are embedded as, (B, D) floats.
    """

    def __init__(self, prior):
        super().__init__()
        self.unet, self.size = prior.network, prior.size
        self.stride = 2 ** (len(prior.network.config.block_out_channels) - 1)
        self.predicted = partial(_predicted, prior.network, prior.channels)
        self.windowed = windowed(self.predicted, prior.size, windows_at_once(prior))

    @property
    def dtype(self):
        return self.unet.dtype

    def forward(self, x, t, context=None, control=None, transformer_options=None, y=None, **_):
        if control is not None:
            raise ValueError("A pixel prior has no use for a ControlNet: connect the conditioning without it.")
        height, width = x.shape[-2:]
        if min(height, width) >= self.size:
            return self.windowed(x, t, y=y)
        if max(height, width) > self.size or height % self.stride or width % self.stride:
            raise ValueError(
                f"The picture is {width}x{height}, and this prior knows {self.size}x{self.size}: scale it so that no "
                f"side is smaller than {self.size}."
            )
        return self.predicted(x, t, y=y)


def windows_at_once(prior):
    """How many windows a Prior is given together, of all pictures."""
    return max(1, PIXELS_AT_ONCE // prior.size**2)


def _predicted(unet, channels, x, t, y):
    # a picture in many windows is one call, which would outlast an interrupt
    comfy.model_management.throw_exception_if_processing_interrupted()
    if y is None or y.ndim == 1:
        return unet(x, t, class_labels=y).sample[:, :channels]
    with embedded(unet, y):
        return unet(x, t, class_labels=torch.zeros_like(y[:, 0], dtype=torch.long)).sample[:, :channels]


def native_model(prior, threshold=False):
    """The MODEL of a Prior of colour pictures; `threshold` adds dynamic thresholding after guidance."""
    if prior.channels != 3:
        raise ValueError(f"The prior {prior.name} is of grey pictures: ComfyUI's pictures need one of 3 channels.")
    # at call time: a newer ComfyUI puts another class in this place when it starts
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    load_device, offload_device = (
        comfy.model_management.get_torch_device(),
        comfy.model_management.unet_offload_device(),
    )
    model = patcher(PixelModel(prior, offload_device), load_device=load_device, offload_device=offload_device)
    if threshold:
        thresholded = dynamic_thresholding(lambda x, sigma: x)
        model.set_model_sampler_post_cfg_function(lambda args: thresholded(args["denoised"], args["sigma"]))
    return model


def pixel_vae():
    """ComfyUI's own VAE for pixels: IMAGE in [0, 1] to LATENT in [-1, 1] and back, in float32."""
    return comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=torch.float32)
