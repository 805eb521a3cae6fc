"""The nodes of the test pack."""

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.supported_models_base
import folder_paths
import torch
from comfy_api.latest import ComfyExtension, io
from safetensors.torch import save_file

import nodes

from .denoiser import TinyDenoiser

LOWEST, HIGHEST = 1e-3 / (1 - 1e-3), 100.0
FILLS = ["normal", "constant", "nan", "infinity"]


class TinyLatents(comfy.latent_formats.LatentFormat):
    """A scale and a shift that show where either is forgotten, or applied twice."""

    scale_factor, shift = 0.5, 0.25

    def __init__(self, channels):
        self.latent_channels = channels
        self.latent_rgb_factors = (torch.eye(channels, 3) / 4).tolist()

    def process_in(self, latent):
        return (latent - self.shift) * self.scale_factor

    def process_out(self, latent):
        return latent / self.scale_factor + self.shift


class TinyConfig(comfy.supported_models_base.BASE):
    def __init__(self, channels):
        super().__init__({"dtype": torch.float32, "disable_unet_model_creation": True})
        self.latent_format = TinyLatents(channels)
        self.sampling_settings = {"sigma_min": LOWEST, "sigma_max": HIGHEST}


class ContinuousEPS(comfy.model_sampling.ModelSamplingContinuousEDM, comfy.model_sampling.EPS):
    """eps at any timestep, where ComfyUI's own is at whole ones."""


class TinyModel(comfy.model_base.BaseModel):
    """TinyDenoiser as a network that predicts eps, v or a flow's velocity, at timesteps that are no whole numbers."""

    TYPES = {  # noqa: RUF012
        "eps": comfy.model_base.ModelType.EPS,
        "v": comfy.model_base.ModelType.V_PREDICTION_EDM,
        "flow": comfy.model_base.ModelType.FLOW,
    }

    def __init__(self, kind, channels, device):
        super().__init__(TinyConfig(channels), self.TYPES[kind], device)
        if kind == "eps":
            self.model_sampling = ContinuousEPS(self.model_config)
        self.diffusion_model = TinyNetwork(kind, channels)


class TinyNetwork(torch.nn.Module):
    """network(x in the kind's own coordinates, t, context) -> eps, v or velocity; the mean of a prompt is its shift."""

    dtype = torch.float32

    def __init__(self, kind, channels):
        super().__init__()
        self.predict, self.denoiser = getattr(self, kind), TinyDenoiser(channels)

    def forward(self, x, t, context=None, control=None, transformer_options=None, **_):
        shift = 0.0 if context is None else context.mean((1, 2))
        return self.predict(x, t, lambda x, sigma: self.denoiser(x, sigma.flatten(), shift))

    def eps(self, x_vp, t, denoise):
        s = (4 * t).exp().view(-1, 1, 1, 1)
        x = x_vp * (1 + s**2).sqrt()
        return (x - denoise(x, s)) / s

    def v(self, x_vp, t, denoise):
        s = (4 * t).exp().view(-1, 1, 1, 1)
        scale = (1 + s**2).sqrt()
        return (x_vp / scale - denoise(x_vp * scale, s)) * scale / s

    def flow(self, x_flow, t, denoise):
        tau = (t / 1000).view(-1, 1, 1, 1)
        return (x_flow - denoise(x_flow / (1 - tau), tau / (1 - tau))) / tau


class TestTinyModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TEST_TinyModel",
            display_name="Test Tiny Model",
            category="CODE test",
            inputs=[
                io.Combo.Input("kind", options=[*TinyModel.TYPES]),
                io.Int.Input("channels", default=4, min=1, max=64),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, kind, channels):
        patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
        device, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
        return io.NodeOutput(patcher(TinyModel(kind, channels, offload), load_device=device, offload_device=offload))


def filled(shape, fill, value, seed):
    """A tensor of seeded normals around `value`, or of one value throughout; the first number alone is NaN, or inf."""
    tensor = torch.full(shape, value)
    if fill != "constant":
        tensor += torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if fill in ("nan", "infinity"):
        tensor.flatten()[:1] = float(fill)
    return tensor


def fill_inputs():
    return [
        io.Combo.Input("fill", options=FILLS),
        io.Float.Input("value", default=0.0, min=-1e9, max=1e9, round=False),
        io.Int.Input("seed", default=0, min=0, max=2**63 - 1),
    ]


def count(name, default):
    return io.Int.Input(name, default=default, min=0, max=4096)


class TestLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TEST_Latent",
            display_name="Test Latent",
            category="CODE test",
            inputs=[
                count("batch", 1),
                count("channels", 4),
                count("height", 8),
                count("width", 8),
                *fill_inputs(),
                io.String.Input("means", default="", tooltip="Added to the channels, one number each."),
                io.Int.Input("frames", default=0, min=0, max=64, tooltip="Above 0 a video's latent, (B, C, T, H, W)."),
            ],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, batch, channels, height, width, fill, value, seed, means, frames):
        samples = filled((batch, channels, *[frames] * (frames > 0), height, width), fill, value, seed)
        for channel, mean in enumerate(means.split(",") if means else []):
            samples[:, channel] += float(mean)
        return io.NodeOutput({"samples": samples})


class TestImage(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TEST_Image",
            display_name="Test Image",
            category="CODE test",
            inputs=[count("batch", 1), count("height", 64), count("width", 64), count("channels", 3), *fill_inputs()],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, batch, height, width, channels, fill, value, seed):
        return io.NodeOutput(filled((batch, height, width, channels), fill, value, seed).clamp(0, 1))


class TestSmallExample(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TEST_SmallExample",
            display_name="Test Small Example",
            category="CODE test",
            description="Example Picture at half its size, every other pixel each way, for the quicker prior.",
            inputs=[
                io.String.Input("picture", default="sunflower-1"),
                io.String.Input("damage", default="random pixels"),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1),
            ],
            outputs=[io.Image.Output("damaged"), io.Image.Output("original"), io.Mask.Output("mask")],
        )

    @classmethod
    def execute(cls, picture, damage, seed):
        example = nodes.NODE_CLASS_MAPPINGS["CODE_ExamplePicture"].execute(picture, damage, seed)
        return io.NodeOutput(*(output[:, 1::2, 1::2] for output in example.args))


class TestMask(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TEST_Mask",
            display_name="Test Mask",
            category="CODE test",
            inputs=[count("batch", 1), count("height", 64), count("width", 64), *fill_inputs()],
            outputs=[io.Mask.Output()],
        )

    @classmethod
    def execute(cls, batch, height, width, fill, value, seed):
        return io.NodeOutput(filled((batch, height, width), fill, value, seed).clamp(0, 1))


class TestSigmas(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TEST_Sigmas",
            display_name="Test Sigmas",
            category="CODE test",
            inputs=[io.String.Input("levels", default="", tooltip="Numbers with commas between; may be empty.")],
            outputs=[io.Sigmas.Output()],
        )

    @classmethod
    def execute(cls, levels):
        return io.NodeOutput(torch.tensor([float(level) for level in levels.split(",") if level.strip()]))


class TestConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TEST_Conditioning",
            display_name="Test Conditioning",
            category="CODE test",
            inputs=[
                io.Int.Input("entries", default=1, min=0, max=4),
                io.Int.Input("tokens", default=0, min=0, max=512, tooltip="0 is no prompt."),
                io.Int.Input("width", default=768, min=0, max=8192),
                io.Int.Input("pooled", default=0, min=0, max=8192),
                io.Boolean.Input("attention_mask", default=False),
                *fill_inputs(),
            ],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, entries, tokens, width, pooled, attention_mask, fill, value, seed):
        prompt = filled((1, tokens, width), fill, value, seed) if tokens else None
        more = {"pooled_output": filled((1, pooled), fill, value, seed + 1)} if pooled else {}
        more |= {"attention_mask": torch.ones(1, tokens, dtype=torch.long)} if attention_mask else {}
        return io.NodeOutput([[prompt, more] for _ in range(entries)])


class TestSave(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TEST_Save",
            display_name="Test Save",
            category="CODE test",
            description="Writes <name>.safetensors into the output folder, what is connected under its socket's name.",
            is_output_node=True,
            inputs=[
                io.String.Input("name"),
                io.Latent.Input("latent", optional=True),
                io.Image.Input("image", optional=True),
                io.Mask.Input("mask", optional=True),
                io.Sigmas.Input("sigmas", optional=True),
                io.String.Input("text", optional=True, force_input=True),
            ],
            outputs=[],
        )

    @classmethod
    def execute(cls, name, latent=None, image=None, mask=None, sigmas=None, text=None):
        sockets = {"latent": latent and latent["samples"], "image": image, "mask": mask, "sigmas": sigmas}
        tensors = {socket: tensor.contiguous() for socket, tensor in sockets.items() if tensor is not None}
        save_file(tensors, f"{folder_paths.get_output_directory()}/{name}.safetensors", {"text": text or ""})
        return io.NodeOutput()


class TestPack(ComfyExtension):
    async def get_node_list(self):
        return [
            TestTinyModel,
            TestLatent,
            TestImage,
            TestSmallExample,
            TestMask,
            TestSigmas,
            TestConditioning,
            TestSave,
        ]
