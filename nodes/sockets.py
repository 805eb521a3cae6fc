"""Sockets and widgets that several nodes share, with what turning them does to the picture."""

from comfy_api.latest import io

from ..samplers.langevin import STEP_MODES
from ..samplers.ode import SOLVERS
from ..samplers.restore import STEP_SCALES

Clip = io.Custom("CODE_CLIP")
Trajectory = io.Custom("CODE_TRAJECTORY")
Companion = io.Custom("CODE_COMPANION")
Corrections = io.Custom("CODE_CORRECTIONS")

SPACINGS = ["karras", "linspace", "leading", "trailing"]
FITS = ["crop", "whole"]
MAX_SIDE = 512
ODE_SOLVERS = ["ab2", *(name for name in SOLVERS if name != "ab2")]
EXACT_SOLVERS = {
    "fixed point": "fixed_point",
    "exact dpm++": "exact_dpmpp",
    "edict": "edict",
    "bdia": "bdia",
    "belm": "belm",
}
KINDS = ["sde", "ode"]
# away from the source, at which one class of the bundled priors becomes another
EDIT_CFG = 3.0
CLIP_AT = ["up", "up, down", "up, updates, down"]


class Node(io.ComfyNode):
    """A node whose sockets take nothing but links: ComfyUI lets a queued prompt hold a text or a number there."""

    @classmethod
    def validate_inputs(
        cls,
        model=None,
        vae=None,
        latent=None,
        image=None,
        sigmas=None,
        positive=None,
        negative=None,
        clip=None,
        sampler=None,
        trajectory=None,
        companion=None,
        corrections=None,
        mask=None,
        reference=None,
        source=None,
        target=None,
        a=None,
        b=None,
        c=None,
    ):
        # a switch is a widget: the clip of CODE Restore
        typed = [name for name, value in locals().items() if name != "cls" and not isinstance(value, bool | None)]
        return f"{typed[0]} is no widget: connect a node to it." if typed else True


def check_choice(what, value, options):
    """ValueError where a widget of choices holds none of them: ComfyUI lets a queued prompt hold any."""
    if value not in list(options):
        raise ValueError(f"There is no {what} {str(value)[:40]!r}: take one of {', '.join(options)}.")


def model():
    return io.Model.Input(
        "model", tooltip="The diffusion model whose idea of a likely picture is used: eps, v-prediction or flow."
    )


def latent(tooltip):
    return io.Latent.Input("latent", tooltip=tooltip)


def sigmas(tooltip):
    return io.Sigmas.Input("sigmas", tooltip=tooltip)


def positive():
    return io.Conditioning.Input(
        "positive",
        tooltip="What the picture shows. The prior's unconditional output, or an empty prompt, leaves that to the "
        "picture.",
    )


GUIDANCE = (
    "Guidance. Higher turns the picture towards positive: more realism, less fidelity, twice the time. 1 is off, and "
    "what an inversion needs to come back."
)
NEGATIVE = "What cfg leads away from: the unconditional output or an empty prompt. Needed where cfg is not 1."
CLIP = (
    "From Confidence Clip: holds each state inside what clean data plus noise can be, which takes out damage that no "
    "noise explains. Without it the damage is carried along."
)
CLIP_HERE = "From Confidence Clip: holds the states in range here too. The paper clips only while inverting."


def guidance(cfg=GUIDANCE, default=1.0, negative=NEGATIVE):
    return [
        io.Conditioning.Input(
            "negative",
            optional=True,
            tooltip=negative,
        ),
        io.Float.Input(
            "cfg",
            default=default,
            min=0.0,
            max=100.0,
            step=0.1,
            optional=True,
            tooltip=cfg,
        ),
    ]


def source_and_target():
    """What an edit leads from, and to."""
    return [
        io.Conditioning.Input(
            "source",
            tooltip="What the picture shows: a prompt, or a class. The better it fits, the more of the picture stays.",
        ),
        io.Conditioning.Input("target", tooltip="What it shall show instead. The same as source changes nothing."),
    ]


def translating_guidance():
    """The cfg of the target, that of the source, and what both lead away from."""
    negative, cfg = guidance(
        "Guidance towards target. Higher shows it more and keeps less of the picture; 1 is off, and changes little.",
        EDIT_CFG,
        "What cfg leads away from: the unconditional output or an empty prompt, with a cfg of 5 to 7.5. Without it, "
        "cfg leads away from source, for which 3 is enough.",
    )
    source_cfg = io.Float.Input(
        "source_cfg",
        default=1.0,
        min=0.0,
        max=100.0,
        step=0.1,
        optional=True,
        tooltip="Guidance of what the picture shows. 1 keeps most of it. As high as cfg it changes more, and the same "
        "source and target return it to the bit. Needs negative where it is not 1.",
    )
    return [negative, cfg, source_cfg]


def kind():
    return io.Combo.Input(
        "kind",
        options=KINDS,
        default="sde",
        tooltip="sde: noise is added to the picture and kept, by Cycle-SDE; more real. ode: the picture is inverted "
        "and decoded; smoother, and the seed counts for nothing. Both take about as long.",
    )


def ode_solver():
    return io.Combo.Input(
        "solver",
        options=ODE_SOLVERS,
        default="ab2",
        optional=True,
        tooltip="How kind ode follows the ODE, up and down. ab2 comes back most exactly for its calls, euler is the "
        "paper's DDIM, heun takes two calls a step.",
    )


def solver():
    return io.Combo.Input(
        "solver",
        options=[*ODE_SOLVERS, *EXACT_SOLVERS],
        default="ab2",
        tooltip="How the ODE is followed; use the same one up and down. ab2 comes back well for its calls, euler is "
        "the paper's DDIM, heun takes two calls a step. Nearly every digit comes back with fixed point (two calls a "
        "step up, one down), with exact dpm++ on karras sigmas (as many), and, with the companion, with belm and bdia "
        "(one) and edict (two).",
    )


def sampler():
    return io.Sampler.Input(
        "sampler",
        optional=True,
        tooltip="One of ComfyUI's samplers in place of the solver. Only those without noise can follow the ODE: "
        "euler, heun, dpm_2, lms, dpmpp_2m, ipndm, ipndm_v, deis.",
    )


def clip(tooltip=CLIP):
    return Clip.Input(
        "clip",
        optional=True,
        tooltip=tooltip,
    )


def seed(tooltip, changes=True):
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=changes,
        tooltip=tooltip + " Item i of a batch uses seed + i, so it looks the same alone.",
    )


def mask(more=""):
    return io.Mask.Input(
        "mask",
        optional=True,
        tooltip="Where to restore: 1 is restored, 0 stays as it was. The size of the picture, or of the latent." + more,
    )


def edit_mask(optional=True, more=""):
    return io.Mask.Input(
        "mask",
        optional=optional,
        tooltip="Where to change: 1 is changed, 0 stays as it was, bit for bit. The size of the picture, or of the "
        "latent." + more,
    )


def langevin_widgets(optional=False):
    return [
        io.Float.Input(
            "step_size",
            default=0.02,
            min=0.0,
            max=2.0,
            step=0.0005,
            round=False,
            optional=optional,
            tooltip="How far each update moves [the paper's epsilon, a VP step]. Higher moves further from "
            "the damage and from the photo: more invented, and seeds differ more. 0 is refused.",
        ),
        io.Int.Input(
            "updates",
            default=16,
            min=0 if optional else 1,
            max=10000,
            optional=optional,
            tooltip="How many updates [N]. More is more realism and less fidelity, and more time: one network "
            "call each. PSNR falls with them; judge by eye.",
        ),
        io.Int.Input(
            "blocks",
            default=8,
            min=1,
            max=1000,
            optional=optional,
            tooltip="The updates are dealt over this many blocks [K], each with a smaller step and a last "
            "update without noise: more blocks move less, so more fidelity.",
        ),
    ]


def step_mode():
    return io.Combo.Input(
        "mode",
        options=list(STEP_MODES),
        default="absolute",
        optional=True,
        tooltip="What step_size counts. absolute: the paper's epsilon. relative: a share of the level's "
        "noise variance, so that one step suits every depth; 0.0025 to begin with. snr: a ratio of signal "
        "to noise [r], measured in each picture; 0.08 to begin with, up to 0.5 moves further.",
    )


def stop_at():
    return io.Float.Input(
        "stop_at",
        default=1.1,
        min=0.0,
        max=100.0,
        step=0.05,
        round=False,
        optional=True,
        tooltip="Updates of a picture stop once the noise that the model sees in it is no stronger than this; a likely "
        "picture has about 1. So the undamaged stays as it is. Lower moves further; 0 never stops, as in the paper.",
    )


def clip_at():
    return io.Combo.Input(
        "clip_at",
        options=CLIP_AT,
        default="up",
        optional=True,
        tooltip="Where the clip acts. up: while inverting, the paper's. up, down: while decoding too, for more "
        "fidelity where the damage is heavy noise, at no cost. up, updates, down: in the updates as well, which then "
        "invent less.",
    )


def damaged_picture():
    """What a node that restores in one takes: the model, its VAE, the picture and what it shows."""
    return [
        model(),
        io.Vae.Input("vae", tooltip="The one that belongs to the model."),
        io.Image.Input(
            "image",
            tooltip="The damaged picture. Unless fit is whole, for a pixel prior it is cut to a square and scaled to "
            "its size.",
        ),
        positive(),
    ]


def level_widgets():
    return [
        io.Int.Input(
            "levels",
            default=1,
            min=1,
            max=100,
            optional=True,
            tooltip="At how many noise levels on the way down the updates take place, each with as many. 1 is the "
            "depth alone. A second, cleaner one takes out more noise: more fidelity, and more time.",
        ),
        io.Float.Input(
            "shallowest",
            default=0.1,
            min=0.001,
            max=1.0,
            step=0.01,
            round=False,
            optional=True,
            tooltip="For several levels: the cleanest of them, a fraction of the schedule as depth is. Lower mends "
            "finer detail; above, more is invented. The others lie evenly between.",
        ),
        io.Combo.Input(
            "scale",
            options=list(STEP_SCALES),
            default="none",
            optional=True,
            tooltip="How step_size changes from level to level. none: the same at each. geometric, the paper's: as it "
            "is at the depth, up to 100 times as much where it is cleaner. sigma: up to 100 times as much where it is "
            "noisier. Take a far smaller step_size with either.",
        ),
    ]


def fit_widgets():
    return [
        io.Combo.Input(
            "fit",
            options=FITS,
            default="crop",
            optional=True,
            tooltip="What becomes of a picture larger than a pixel prior's. crop: its middle, scaled to the prior's "
            "size. whole: it keeps its shape and its detail, and is restored in overlapping windows of that size; a "
            "window is all that the prior sees, so holes larger than one stay. Any other model takes it whole.",
        ),
        io.Int.Input(
            "max_side",
            default=MAX_SIDE,
            min=2,
            max=16384,
            optional=True,
            tooltip="For fit whole: a picture with a longer side is made this long. Smaller shows the prior more of it "
            "in a window, looks more real and is faster; larger keeps more detail.",
        ),
    ]


def heat(tooltip="In how many of the steps the clip moved each place: 0 never, 1 in all."):
    return io.Mask.Output(display_name="heat", tooltip=tooltip + " At the latent's size.")


def schedule_widgets(optional=False, steps=25):
    return [
        io.Int.Input(
            "steps",
            default=steps,
            min=1,
            max=1000,
            optional=optional,
            tooltip="Steps of the ODE each way, about one network call each. More comes back more exactly, and takes "
            "longer.",
        ),
        io.Float.Input(
            "depth",
            default=0.4,
            min=0.0,
            max=100000.0,
            step=0.01,
            round=False,
            optional=optional,
            tooltip="How far up the picture is carried [L]. Deeper looks more real and is less faithful; 0.3 "
            "to 0.5 of the schedule restores, with a mask about 0.7.",
        ),
    ]


def eta(optional=False):
    return io.Float.Input(
        "eta",
        default=1.0,
        min=0.0,
        max=10.0,
        step=0.05,
        round=False,
        optional=optional,
        tooltip="How many standard deviations of noise the clip believes [eta]. Lower clips more: takes out more "
        "damage, and strong colours with it. Higher keeps more of both.",
    )
