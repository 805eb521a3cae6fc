"""Compare Images: PSNR and SSIM of up to three pictures to a reference, on a sheet with the pictures."""

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..evaluation.comparison import comparison
from . import sockets

LETTERS = ("a", "b", "c")
LONGEST_NAME = 40


def column_names(names):
    """A title for each of a, b and c from a comma-separated text; a, b, c themselves where it has none."""
    given = [" ".join(name.split())[:LONGEST_NAME] for name in names.split(",")]
    return [name or letter for name, letter in zip(given + [""] * len(LETTERS), LETTERS, strict=False)]


def colours(pictures, name):
    """An IMAGE as (B, H, W, 3) in [0, 1] on the CPU: alpha left out, grey repeated. ValueError where it cannot be."""
    if not pictures.numel():
        raise ValueError(f"Compare Images got no picture as {name}: the batch is empty, so look at the node before it.")
    if not pictures.isfinite().all():
        raise ValueError(
            f"Compare Images got a picture with NaN or infinite values as {name}: look at the node before it."
        )
    if pictures.shape[-1] == 2:
        raise ValueError(
            f"Compare Images got a picture of 2 channels as {name}, and one has 1, 3 or 4: look at the node before it."
        )
    return pictures.cpu().float()[..., :3].expand(-1, -1, -1, 3).clamp(0, 1)


def matched(batches):
    """The batches {name: (B or 1, H, W, 3)}, single pictures repeated, or ValueError where they do not fit."""
    reference = batches["reference"]
    for name, pictures in batches.items():
        if pictures.shape[1:3] != reference.shape[1:3]:
            sizes = [f"{x.shape[2]}×{x.shape[1]}" for x in (pictures, reference)]
            raise ValueError(
                f"Compare Images got {name} with {sizes[0]} pixels and a reference with {sizes[1]}: take the seen "
                "output of CODE Restore as the reference, or make the sizes equal with Upscale Image."
            )
    count = max(len(pictures) for pictures in batches.values())
    if any(len(pictures) not in (1, count) for pictures in batches.values()):
        counts = ", ".join(f"{len(pictures)} as {name}" for name, pictures in batches.items())
        raise ValueError(f"Compare Images got batches that do not match ({counts}): give each one picture, or as many.")
    return {name: pictures.expand(count, -1, -1, -1) for name, pictures in batches.items()}


class CompareImages(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_CompareImages",
            display_name="Compare Images",
            category="CODE",
            description="Puts pictures beside a reference and measures how close they come to it (PSNR and SSIM).",
            inputs=[
                io.Image.Input(
                    "reference",
                    tooltip="What the others are measured against: the undamaged picture, where there is one. A single "
                    "picture serves a whole batch.",
                ),
                io.Image.Input("a", tooltip="The first column. Of a batch, every picture gets a row."),
                io.Image.Input("b", optional=True, tooltip="The second column: a single picture, or as many as in a."),
                io.Image.Input("c", optional=True, tooltip="The third column: a single picture, or as many as in a."),
                io.String.Input(
                    "names",
                    default="damaged, CODE, SDEdit",
                    tooltip="Titles of a, b and c, with commas between.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "sheet",
                    display_name="sheet",
                    tooltip="The pictures side by side with their numbers, at most eight rows; small ones are "
                    "enlarged, large ones are shown at 512 pixels.",
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="A line for each picture. PSNR in dB, higher is closer, above 40 is hard to tell apart; "
                    "SSIM up to 1, which is the same structure, left out under 8 pixels a side.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, reference, a, names, b=None, c=None):
        given = {"reference": reference, "a": a, "b": b, "c": c}
        batches = matched({name: colours(x, name) for name, x in given.items() if x is not None})
        titles = dict(zip(LETTERS, column_names(names), strict=True))
        references = batches.pop("reference")
        sheet, report = comparison(references, [(titles[letter], x) for letter, x in batches.items()])
        image = torch.from_numpy(np.asarray(sheet, dtype=np.float32) / 255)[None]
        return io.NodeOutput(image, report, ui=ui.PreviewImage(image, cls=cls))
