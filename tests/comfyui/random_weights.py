"""Weights for ComfyUI's real networks where no trained ones are at hand: random_weights.py FOLDER NAME...

Run by ComfyUI's interpreter with ComfyUI on PYTHONPATH. Writes FOLDER/NAME.safetensors in float16.

Every weight is filled here, as ComfyUI's layers leave theirs uninitialised: normals of variance 1 / fan_in, norms about
1, biases small, nothing zero. What training would teach is put in by hand where the ODE needs it: the network depends
smoothly on time, and its output is of the size of noise.
"""

import math
import sys
from pathlib import Path

import comfy.cli_args

comfy.cli_args.args.cpu = True  # before anything asks for a GPU

import comfy.ldm.flux.model  # noqa: E402
import comfy.ldm.lumina.model  # noqa: E402
import comfy.ldm.modules.diffusionmodules.mmdit  # noqa: E402
import comfy.ldm.modules.diffusionmodules.openaimodel  # noqa: E402
import comfy.ops  # noqa: E402
import comfy.taesd.taesd  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

LAYERS = {"device": "meta", "dtype": torch.float16, "operations": comfy.ops.disable_weight_init}
FASTEST = 0.01  # radians a timestep that the network may see of time


def unet(**config):
    fixed = {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 320,
        "use_spatial_transformer": True,
    }
    return comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel(**fixed, legacy=False, **config, **LAYERS)


def sd15():
    """Stable Diffusion 1.5, whole."""
    return unet(
        num_res_blocks=[2] * 4,
        channel_mult=[1, 2, 4, 4],
        transformer_depth=[1] * 6 + [0] * 2,
        transformer_depth_output=[1] * 9 + [0] * 3,
        transformer_depth_middle=1,
        context_dim=768,
        num_heads=8,
    )


def sd2():
    """Stable Diffusion 2 (v-prediction) at its depth, a quarter as wide in its deep layers."""
    return unet(
        num_res_blocks=[2] * 4,
        channel_mult=[1, 1, 1, 1],
        transformer_depth=[1] * 6 + [0] * 2,
        transformer_depth_output=[1] * 9 + [0] * 3,
        transformer_depth_middle=1,
        context_dim=1024,
        num_head_channels=64,
        use_linear_in_transformer=True,
    )


def sdxl():
    """SDXL at its depth, a quarter as wide in its deep layers."""
    return unet(
        num_res_blocks=[2] * 3,
        channel_mult=[1, 1, 1],
        transformer_depth=[0, 0, 2, 2, 10, 10],
        transformer_depth_output=[0] * 3 + [2] * 3 + [10] * 3,
        transformer_depth_middle=10,
        context_dim=2048,
        num_head_channels=64,
        use_linear_in_transformer=True,
        num_classes="sequential",
        adm_in_channels=2816,
    )


def koala():
    """SDXL as distilled to KOALA 700M, at its depth, a quarter as wide in its deep layers."""
    return unet(
        num_res_blocks=[1] * 3,
        channel_mult=[1, 1, 1],
        transformer_depth=[0, 2, 5],
        transformer_depth_output=[0] * 2 + [2] * 2 + [5] * 2,
        transformer_depth_middle=5,
        context_dim=2048,
        num_head_channels=64,
        use_linear_in_transformer=True,
        num_classes="sequential",
        adm_in_channels=2816,
    )


def sd3():
    """SD3 medium of 4 blocks, whose width is 64 a block."""
    return comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper(
        input_size=None,
        in_channels=16,
        depth=4,
        num_patches=36864,
        pos_embed_max_size=192,
        adm_in_channels=2048,
        context_embedder_config={
            "target": "torch.nn.Linear",
            "params": {"in_features": 4096, "out_features": 256},
        },
        **LAYERS,
    )


def flux():
    """Flux.1 dev of one double and one single block, at full width."""
    return comfy.ldm.flux.model.Flux(
        in_channels=16,
        out_channels=16,
        patch_size=2,
        vec_in_dim=768,
        context_in_dim=4096,
        hidden_size=3072,
        mlp_ratio=4.0,
        num_heads=24,
        depth=1,
        depth_single_blocks=1,
        axes_dim=[16, 56, 56],
        theta=10000,
        qkv_bias=True,
        guidance_embed=True,
        **LAYERS,
    )


def lumina2():
    """Lumina Image 2.0 of one layer beside its refiners, at full width."""
    return comfy.ldm.lumina.model.NextDiT(
        in_channels=16,
        dim=2304,
        cap_feat_dim=2304,
        n_layers=1,
        n_heads=24,
        n_kv_heads=8,
        qk_norm=True,
        axes_dims=[32, 32, 32],
        axes_lens=[300, 512, 512],
        **LAYERS,
    )


def taesd_encoder():
    return comfy.taesd.taesd.Encoder().to("meta")


def taesd_decoder():
    return comfy.taesd.taesd.Decoder().to("meta")


def near_vae():
    """A whole TAESD that is nearly an autoencoder: `averaging` puts in what the random weights leave out."""
    return comfy.taesd.taesd.TAESD().to("meta")


# how large its random weights are, and the four channels of its latents, of the three colours
WRONG = 0.1
COLOURS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0], [1.0, -1.0, 0.5]])


def averaging(key, weight):
    """A layer of `near_vae`: the encoder averages the colours, the decoder spreads them smoothly, both a little wrong.

    Its encoder thus takes the fine detail of a latent for less than it is, as trained ones do.
    """
    part, _, layer = key.partition(".")
    weight = WRONG * weight.float()
    if key in ("vae_scale", "vae_shift"):
        return torch.tensor(float(key == "vae_scale"))
    three = range(3)
    if layer in ("0.weight", "19.weight"):
        weight[three, three, 1, 1] += 1
    elif layer == "14.weight":
        weight[:, :3, 1, 1] += COLOURS
    elif layer == "14.bias":
        weight -= COLOURS.sum(1) / 2
    elif part == "taesd_decoder" and layer == "1.weight":
        weight[:3, :, 1, 1] += torch.linalg.pinv(COLOURS)
    elif part == "taesd_decoder" and layer == "1.bias":
        weight[:3] += 0.5
    elif part == "taesd_encoder" and layer in ("2.weight", "6.weight", "10.weight"):
        weight[three, three, 1:, 1:] += 1 / 4
    elif part == "taesd_decoder" and layer in ("7.weight", "12.weight", "17.weight"):
        tent = torch.tensor([0.25, 0.5, 0.25])
        weight[three, three] += tent[:, None] * tent
    return weight


# the last layer of each network, and by how much it is scaled
OUTPUTS = {"out.2.weight": 0.5, "final_layer.linear.weight": 0.5}
TIME = ("time_embed.0.weight", "time_in.in_layer.weight", "t_embedder.mlp.0.weight")


def filled(name, shape, normals):
    """The weights of a layer; `normals` are repeated over it, as so many new ones would take a minute."""
    count = math.prod(shape)
    normal = normals.roll(-sum(name.encode())).repeat(-(-count // len(normals)))[:count].view(shape)
    if len(shape) > 1:
        return normal * (OUTPUTS.get(name, 1.0) / math.prod(shape[1:]) ** 0.5)
    if name.endswith("bias"):
        return 0.1 * normal
    return 1 + 0.1 * normal


def smooth_in_time(weight):
    """The first layer after the sinusoids of time, [cos | sin] from fast to slow, with the fast ones damped."""
    half = weight.shape[1] // 2
    speed = 1e4 ** (-torch.arange(half) / half)
    return weight * (FASTEST / speed).clamp(max=1).repeat(2)


def weights_of(name):
    # a length that is no multiple of a layer's width, so that no two rows are the same
    normals = torch.randn(4_000_037, generator=torch.Generator().manual_seed(0)).half()
    weights = {}
    for key, tensor in globals()[name]().state_dict().items():
        weights[key] = filled(key, tensor.shape, normals)
        # Lumina's time runs from 0 to 1, so that nothing is fast
        if key in TIME and name != "lumina2":
            weights[key] = smooth_in_time(weights[key].float()).half()
        if name == "sd2" and key == "output_blocks.11.1.transformer_blocks.0.norm1.bias":
            weights[key] *= 2  # by its spread of more than 0.09 ComfyUI knows that SD 2 predicts v
        if name == "near_vae":
            weights[key] = averaging(key, weights[key]).half()
    return weights


def write(folder, name):
    save_file(weights_of(name), Path(folder) / f"{name}.safetensors")


if __name__ == "__main__":
    for name in sys.argv[2:]:
        write(sys.argv[1], name)
