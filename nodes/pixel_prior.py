"""A diffusers UNet2DModel as a native MODEL: pixels are its latents, class labels its conditioning."""

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models_base
import torch

from ..samplers.denoisers import dynamic_thresholding

MODEL_TYPES = {
    "epsilon": comfy.model_base.ModelType.EPS,
    "v_prediction": comfy.model_base.ModelType.V_PREDICTION,
}
# times the size it was trained at, beyond which attention takes minutes and the picture is no picture
LARGEST = 4


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


class PixelNetwork(torch.nn.Module):
    """network(x_vp, t, y=labels) with ComfyUI's arguments; refuses sizes that the network cannot take."""

    def __init__(self, prior):
        super().__init__()
        self.unet, self.channels, self.size = prior.network, prior.channels, prior.size
        self.stride = 2 ** (len(prior.network.config.block_out_channels) - 1)

    @property
    def dtype(self):
        return self.unet.dtype

    def forward(self, x, t, context=None, control=None, transformer_options=None, y=None, **_):
        height, width = x.shape[-2:]
        if height % self.stride or width % self.stride or max(height, width) > LARGEST * self.size:
            raise ValueError(
                f"The picture is {width}x{height}, and this prior knows {self.size}x{self.size}: scale it to that, "
                f"or to multiples of {self.stride} up to {LARGEST * self.size}."
            )
        if control is not None:
            raise ValueError("A pixel prior has no use for a ControlNet: connect the conditioning without it.")
        return self.unet(x, t, class_labels=y).sample[:, : self.channels]


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
