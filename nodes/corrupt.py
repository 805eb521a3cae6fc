"""Corrupt Image: the 47 corruptions of the paper, to see what a restoration is up against."""

from functools import partial

import comfy.utils
import torch
from comfy_api.latest import io

from ..corruptions.catalogue import FAMILIES, MORE, available, checked, corrupt
from ..corruptions.imagenet_c import LIBRARY
from . import sockets
from .restore import checked_image

# they leave the rest of the picture as it is
IN_PLACES = (
    "impulse_noise",
    "spatter",
    "checkerboard_cutout",
    "lines",
    "blue_noise_sample",
    *(name for name in {**FAMILIES["masks"], **MORE} if name.startswith("masking")),
)


def damaged(image, damage, everywhere):
    """(damaged, mask): IMAGE (1, H, W, 3) after damage(pictures), and (1, H, W), 1 where it changed, or everywhere."""
    changed = (damage(2 * image.movedim(-1, 1) - 1).movedim(1, -1) + 1) / 2
    # the library's pictures are of 256 levels
    hit = ((255 * changed).round() != (255 * image).round()).any(-1).float()
    return changed, torch.ones_like(hit) if everywhere else hit


class CorruptImage(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_CorruptImage",
            display_name="Corrupt Image",
            category="CODE",
            description="Damages a picture in one of the 47 ways of the paper, in five strengths. The help page shows "
            f"each. Seventeen of them need one more package in ComfyUI's Python: pip install {LIBRARY}.",
            inputs=[
                io.Image.Input("image", tooltip="An undamaged picture of any size. Alpha is left out."),
                io.Combo.Input(
                    "corruption",
                    options=available(),
                    default="blue_noise",
                    tooltip="What happens to it; the help page shows each. Those of ImageNet-C (noise, blur, weather, "
                    f"JPEG) are listed once {LIBRARY} is installed in ComfyUI's Python.",
                ),
                io.Int.Input(
                    "severity",
                    default=5,
                    min=1,
                    max=5,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="How bad: 1 leaves most of it, 5 is the paper's.",
                ),
                sockets.seed("Another number damages it in another way, as badly."),
            ],
            outputs=[
                io.Image.Output("corrupted", display_name="corrupted", tooltip="The picture after the damage."),
                io.Mask.Output(
                    "mask",
                    display_name="mask",
                    tooltip="White where the damage is: what to restore. All white for what touches the whole picture: "
                    "all but masking, impulse_noise, spatter, checkerboard_cutout, lines and blue_noise_sample.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, image=None, corruption=None):
        """As others, and what must be installed for a corruption that is not listed here."""
        linked = super().validate_inputs(image=image)
        if linked is not True or corruption is None:
            return linked
        try:
            return bool(checked(corruption))
        except ValueError as wrong:
            return str(wrong)

    @classmethod
    def execute(cls, image, corruption, severity, seed):
        image = checked_image(image)
        progress, made = comfy.utils.ProgressBar(len(image)), []
        for i, picture in enumerate(image):
            damage = partial(corrupt, name=corruption, severity=severity, seed=seed + i)
            made.append(damaged(picture[None], damage, corruption not in IN_PLACES))
            progress.update(1)
        pictures, masks = zip(*made, strict=True)
        return io.NodeOutput(torch.cat(pictures), torch.cat(masks))
