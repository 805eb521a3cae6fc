"""Decoder Inversion."""

import math
from functools import partial

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io

from ..samplers.decoder_inversion import TOLERANCE, by_gradient, gradient_free
from . import sockets
from .gradients import normal_weights
from .restore import checked_image

# Adam's, as shares of the latent's size: the papers'
RATES = {"gradient-free": 0.01, "gradient": 0.1}
# of the memory that ComfyUI counts for a decode, what is kept to go back through it
KEPT = 4
WHOLE = "start ComfyUI with --fp32-vae"


class DecoderInversion(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_DecoderInversion",
            display_name="Decoder Inversion",
            category="CODE",
            description="Finds the latent that the VAE decodes to this very picture, where VAE Encode gives a guess. "
            "Takes its place where an inversion shall come back exactly.",
            inputs=[
                io.Image.Input("image", tooltip="The picture, cut to a multiple of 8 pixels as by VAE Encode."),
                io.Vae.Input("vae", tooltip="The one that belongs to the model. It is left as it is."),
                io.Combo.Input(
                    "method",
                    options=list(RATES),
                    default="gradient-free",
                    tooltip="gradient-free: needs no more memory than VAE Decode, and finds the latent of a picture "
                    "that the VAE made. gradient: comes nearest to any picture, a photo too; needs several times the "
                    "memory.",
                ),
                io.Int.Input(
                    "steps",
                    default=100,
                    min=0,
                    max=10000,
                    tooltip="At most so many updates. More comes back more exactly, and takes longer: each is a "
                    "decode, and an encode or a way back.",
                ),
                io.Float.Input(
                    "rate",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.005,
                    round=False,
                    tooltip="How far an update moves, as a share of the latent's size [rho]. 0 takes the method's own: "
                    "0.01 gradient-free, 0.1 by gradient. Lower where it does not settle.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent", tooltip="The best that was found; never worse than VAE Encode's."
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="How exactly the VAE brings the picture back by itself, and from this latent.",
                ),
            ],
        )

    @classmethod
    def execute(cls, image, vae, method, steps, rate):
        sockets.check_choice("method", method, RATES)
        check_of_pictures(vae)
        image = checked_image(image)
        # as VAE Encode crops it
        pictures = vae.vae_encode_crop_pixels(image)
        if not pictures.numel():
            raise ValueError(f"The image is {image.shape[2]}x{image.shape[1]}, too small for this VAE: scale it up.")
        pictures = pictures.movedim(-1, 1)
        progress, found = comfy.utils.ProgressBar(steps * len(pictures)), []
        # one by one, so that a batch takes the memory of one picture
        for i, picture in enumerate(pictures.split(1)):
            callback = partial(_moved_on, progress, i * steps)
            found.append(inverted(vae, picture, method, steps=steps, rate=rate or RATES[method], callback=callback))
            progress.update_absolute((i + 1) * steps)
        samples = torch.cat([one.latents for one in found]).to(comfy.model_management.intermediate_device())
        return io.NodeOutput({"samples": samples}, told(found))


def _moved_on(progress, before, step, *_):
    comfy.model_management.throw_exception_if_processing_interrupted()
    progress.update_absolute(before + step)


def check_of_pictures(vae):
    """ValueError where a VAE is none of single pictures in colour."""
    if vae.first_stage_model is None:
        raise ValueError("This VAE is empty: take another file, or the VAE of another checkpoint.")
    if vae.latent_dim != 2 or vae.extra_1d_channel is not None or vae.output_channels != 3:
        raise ValueError("This VAE is for videos or sound, not for single pictures: take that of a picture model.")


def inverted(vae, picture, method, **settings):
    """The Inversion of a VAE's decoder for one picture, (1, 3, H, W); ValueError where the VAE gives none."""

    def encode(x):
        return vae.encode(x.movedim(1, -1)).float()

    def decode(z):
        return _of_size(vae.decode(z).movedim(-1, 1), picture)

    latents = encode(picture)
    if not latents.isfinite().all():
        raise ValueError(f"This VAE encodes the picture as NaN or infinity: take a file with an encoder, or {WHOLE}.")
    if method == "gradient":
        found = _by_gradient(vae, picture, latents, settings)
    else:
        found = gradient_free(encode, decode, picture, latents, **settings)
    if not found.before.isfinite().all():
        raise ValueError(f"This VAE decodes the picture as NaN or infinity: {WHOLE}.")
    return found


def _of_size(decoded, picture):
    if decoded.shape != picture.shape:
        raise ValueError("This VAE does not give a picture back at its size: take that of a picture model.")
    return decoded


def _by_gradient(vae, picture, latents, settings):
    memory = KEPT * vae.memory_used_decode(latents.shape, vae.vae_dtype)
    comfy.model_management.load_models_gpu([vae.patcher], memory_required=memory, force_full_load=vae.disable_offload)
    normal_weights(vae.first_stage_model)
    black, white = vae.process_input(torch.tensor([0.0, 1.0])).tolist()

    def decode(z):
        decoded = vae.first_stage_model.decode(z.to(vae.vae_dtype)).float()
        # not by process_output, which clamps: what is far off needs its way back
        return _of_size((decoded - black) / (white - black), picture)

    try:
        return by_gradient(decode, picture.to(vae.device), latents.to(vae.device), **settings)
    except comfy.model_management.OOM_EXCEPTION:
        pass
    # after the handler, with which the frames that hold the memory are gone
    height, width = picture.shape[2:]
    raise ValueError(f"There is no memory for gradients at {width}x{height}: take method gradient-free.")


def told(found):
    """The report, of the worst picture of a batch."""
    before, after = (max(getattr(one, name).item() for one in found) for name in ("before", "after"))
    steps, alone = max(one.steps.item() for one in found), f"The VAE alone comes back {_back(before)}"
    if before <= TOLERANCE:
        return f"{alone}, finer than 8 bits are: there is nothing to find."
    return f"{alone}, from this latent {_back(after)}, after {steps} steps."


def _back(error):
    return "bit for bit" if error == 0 else f"at {-10 * math.log10(error):.1f} dB PSNR"
