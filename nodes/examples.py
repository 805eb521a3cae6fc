"""Example Picture: pictures drawn from the bundled prior, whole and damaged, so that workflows run as they are."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image

from ..corruptions.damages import contrast, gaussian_noise, mask_blocks, mask_pixels
from . import sockets
from .corrupt import damaged
from .sockets import check_choice

FOLDER = Path(__file__).parent / "examples"

# as strong as in the demonstration, cli/demo.toml
DAMAGES = {
    "none": lambda pictures, seed: pictures,
    "random pixels": partial(mask_pixels, fraction=0.4),
    "heavy noise": partial(gaussian_noise, strength=0.6),
    "blocks masked": partial(mask_blocks, fraction=0.2, cells=16, value=-1.0),
    "low contrast": partial(contrast, factor=0.3),
}
EVERYWHERE = ("heavy noise", "low contrast")


def pictures():
    """The names of the pictures, a class and a number each."""
    return sorted(path.stem for path in FOLDER.glob("*.png"))


class ExamplePicture(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_ExamplePicture",
            display_name="Example Picture",
            category="CODE",
            description="A flower of 64×64 pixels, drawn from the bundled prior, whole and damaged, to try things on.",
            inputs=[
                io.Combo.Input(
                    "picture",
                    options=pictures(),
                    default="sunflower-1",
                    tooltip="Which flower. The word before the dash is its class, which Class Condition takes.",
                ),
                io.Combo.Input(
                    "damage",
                    options=list(DAMAGES),
                    default="random pixels",
                    tooltip="What happens to it. random pixels: 40 % of them get any colour. heavy noise: grain all "
                    "over. blocks masked: a fifth of the picture turns black, in squares. low contrast: all colours "
                    "fade to 30 %. none: it stays as it is.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    control_after_generate=False,
                    tooltip="Another number damages other places, as strongly. Low contrast and none do not draw.",
                ),
            ],
            outputs=[
                io.Image.Output("damaged", display_name="damaged", tooltip="The picture after the damage."),
                io.Image.Output("original", display_name="original", tooltip="The picture before it, to compare with."),
                io.Mask.Output(
                    "mask",
                    display_name="mask",
                    tooltip="White where the damage is: what to restore. All white for noise and contrast, which touch "
                    "every pixel; all black for none.",
                ),
            ],
        )

    @classmethod
    def execute(cls, picture, damage, seed):
        check_choice("picture", picture, pictures())
        check_choice("damage", damage, DAMAGES)
        with Image.open(FOLDER / f"{picture}.png") as image:
            original = torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32))[None] / 255
        changed, mask = damaged(original, partial(DAMAGES[damage], seed=seed), damage in EVERYWHERE)
        return io.NodeOutput(changed, original, mask)
