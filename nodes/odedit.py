"""ODEdit, in one node."""

from comfy_api.latest import io

from ..samplers.noise import item_seeds
from ..samplers.odedit import ODEDIT, ODEDIT_UPDATES, odedit_calls, odedit_levels
from ..samplers.restore import check_parts, decode_parts
from . import sockets
from .clip import heat_of, mask_of
from .guider import Guided, samples_of
from .langevin import calls_told
from .restore import checked_image, fitted, report, restored_latent, size_told
from .schedule import path_for


class ODEdit(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_ODEdit",
            display_name="ODEdit",
            category="CODE",
            description="Restores a picture from its deepest latent, with small updates at a few noise levels on the "
            "way down. Takes far longer than CODE Restore.",
            inputs=[
                *sockets.damaged_picture(),
                io.Combo.Input(
                    "damage",
                    options=list(ODEDIT_UPDATES),
                    default="light",
                    tooltip="How much of the picture is lost: 100, 200 or 300 updates at each of the levels [K]. "
                    "Heavier is more realism, less fidelity, and more time.",
                ),
                sockets.seed("Draws the noise of the updates: another seed, another restoration."),
                io.Float.Input(
                    "step_size",
                    default=3e-6,
                    min=0.0,
                    max=2.0,
                    step=1e-6,
                    round=False,
                    optional=True,
                    tooltip="How far each update moves at the cleanest level [epsilon, a VP step]; up to 100 times as "
                    "far at deeper ones. Higher is more realism, less fidelity; much higher, the picture fades. The "
                    "paper's is 0.000001.",
                ),
                io.Float.Input(
                    "temperature",
                    default=round(1 / 3, 4),
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    round=False,
                    optional=True,
                    tooltip="How much noise each update adds [T]. 1 draws likely pictures, with texture; 0 climbs to "
                    "the likeliest, which is smooth.",
                ),
                io.Int.Input(
                    "steps",
                    default=99,
                    min=3,
                    max=1000,
                    optional=True,
                    tooltip="Steps of the ODE each way [N], one network call each. Fewer come back less exactly: the "
                    "picture changes where it was whole.",
                ),
                io.Float.Input(
                    "depth",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=False,
                    optional=True,
                    tooltip="How far up the picture is carried, a fraction of the schedule. 1 is the deepest latent, "
                    "the paper's; less is more faithful.",
                ),
                *sockets.guidance(),
                sockets.clip("From Confidence Clip: takes out on the way up what no noise explains. Not in the paper."),
                *sockets.fit_widgets(),
                io.Int.Input(
                    "levels",
                    default=4,
                    min=1,
                    max=100,
                    optional=True,
                    tooltip="At how many noise levels the updates take place, evenly from the cleanest up. 4 is the "
                    "paper's. Fewer take less time; more are more realism and less fidelity.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="restored", tooltip="The restoration. For ODEdit+, enlarge it next."),
                io.Image.Output(display_name="seen", tooltip="The input as the model saw it, to compare with."),
                io.String.Output(
                    display_name="report", tooltip="Network calls, how far the picture was moved, and its size."
                ),
                sockets.heat("With a clip, what was not believed: in how many of the steps up it moved each place."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        vae,
        image,
        positive,
        damage,
        seed,
        step_size=3e-6,
        temperature=1 / 3,
        steps=99,
        depth=1.0,
        negative=None,
        cfg=1.0,
        clip=None,
        fit="crop",
        max_side=sockets.MAX_SIDE,
        levels=4,
    ):
        sockets.check_choice("damage", damage, ODEDIT_UPDATES)
        seen = fitted(model, vae, checked_image(image), fit, max_side)
        x = samples_of(model, {"samples": vae.encode(seen)})
        path, _ = path_for(model, steps, depth, spacing="linspace")
        parts = decode_parts(path, odedit_levels(path, levels), "sigma")
        langevin = {
            "updates": ODEDIT_UPDATES[damage],
            "blocks": ODEDIT["blocks"],
            "decay": 1.0,
            "temperature": temperature,
        }
        check_parts(parts, step_size, **langevin)
        restored, used = restored_latent(
            Guided(model, negative or positive),
            Guided(model, positive, negative, cfg),
            x,
            parts,
            seeds=item_seeds(seed, len(x)),
            solver=ODEDIT["solver"],
            clips={"up": clip},
            step=step_size,
            noiseless_last=ODEDIT["noiseless_last"],
            **langevin,
        )
        pictures = vae.decode(restored).clamp(0, 1)
        heat = heat_of(used, x)
        clipped = mask_of(heat).mean().item() if used else None
        size = size_told(model, image, seen)
        said = report(calls_told(odedit_calls(path, damage, levels)), parts, step_size, clipped, pictures, seen, size)
        return io.NodeOutput(pictures, seen, said, heat)
