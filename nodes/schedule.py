"""CODE Schedule."""

import torch
from comfy_api.latest import io

from ..samplers.noise_levels import decode_path
from . import sockets
from .guider import native_sigmas, noise_levels

UNITS = ["fraction", "timestep", "sigma"]


def path_for(model, steps, depth, unit="fraction", spacing="karras"):
    """The VE levels of a decode, with a last 0, and the timestep that they start from."""
    sockets.check_choice("unit", unit, UNITS)
    sockets.check_choice("spacing", spacing, sockets.SPACINGS)
    levels, whole = noise_levels(model)
    timestep = levels.depth(**{unit: depth})
    path = decode_path(levels, round(timestep) if whole else timestep, steps, spacing, trained=whole)
    return torch.cat([path, path.new_zeros(1)]), round(levels.timestep(path[0]).item(), 2)


class Schedule(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_Schedule",
            display_name="CODE Schedule",
            category="CODE",
            description="The noise levels between the picture and the depth that CODE works at, from the deepest down.",
            inputs=[
                sockets.model(),
                *sockets.schedule_widgets(),
                io.Combo.Input(
                    "unit",
                    options=UNITS,
                    default="fraction",
                    tooltip="What depth counts: a fraction of the schedule (0 to 1), timesteps (mostly 0 to 999), or "
                    "sigma, the noise in standard deviations. Change depth with it.",
                ),
                io.Combo.Input(
                    "spacing",
                    options=sockets.SPACINGS,
                    default="karras",
                    tooltip="Where the steps lie. karras puts many near the clean picture and comes back most exactly; "
                    "linspace is even in time, the paper's; leading and trailing are those of diffusers.",
                ),
                io.Boolean.Input(
                    "to_zero",
                    default=True,
                    label_on="denoised",
                    label_off="as it was",
                    tooltip="denoised ends the decode in the model's clean picture. as it was ends at the lowest "
                    "noise level, which returns the input of an inversion most exactly.",
                ),
            ],
            outputs=[
                io.Sigmas.Output(
                    display_name="sigmas", tooltip="From the deepest level to the cleanest, for all nodes alike."
                ),
                io.String.Output(display_name="report", tooltip="The depth in timesteps and in noise."),
            ],
        )

    @classmethod
    def execute(cls, model, steps, depth, unit, spacing, to_zero):
        path, timestep = path_for(model, steps, depth, unit, spacing)
        report = f"{len(path) - 2} steps from timestep {timestep:g} (sigma {path[0]:.4g}) down to sigma {path[-2]:.4g}"
        return io.NodeOutput(native_sigmas(model, path if to_zero else path[:-1]), report)
