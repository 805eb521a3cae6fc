"""Draws the shipped workflows on the real page, which writes them in both formats, and runs them for their thumbnails.

python tests/browser/draw_workflows.py [--no-run] [name ...]    workflows/*.json and *.jpg, workflows/api/*.json, and
the README's picture; without a run the pictures stay as they are, as after a new widget
"""

import json
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from browser.page import Page
from comfyui.server import REPOSITORY, Server
from playwright.sync_api import sync_playwright

FOLDER = REPOSITORY / "workflows"
THUMBNAIL = (640, 400)


@dataclass
class Node:
    """A node to draw: inputs are (key of a node, name of its output) or the value of a widget."""

    type: str
    inputs: dict = field(default_factory=dict)
    title: str | None = None
    size: tuple[int, int] | None = None


@dataclass
class Workflow:
    """Groups of nodes from left to right, {title: {key: Node}}, under a note; `subgraph` names the group to fold."""

    note: str
    groups: dict
    subgraph: str | None = None


PRIOR = {"prior": Node("CODE_LoadPixelPrior", {"prior": "flowers64", "dynamic_threshold": True})}


def example(picture="daisy-1", damage="random pixels"):
    return {"picture": Node("CODE_ExamplePicture", {"picture": picture, "damage": damage})}


def saved(source, prefix):
    return {"save": Node("SaveImage", {"images": source, "filename_prefix": f"CODE/{prefix}"}, size=(260, 260))}


def compared(names, **columns):
    return {
        "compare": Node(
            "CODE_CompareImages",
            {"reference": ("picture", "original"), "names": names, **columns},
            size=(620, 420),
        )
    }


def told(source):
    return Node("PreviewAny", {"source": source}, title="Report", size=(380, 120))


def sampler(type, title=None, **inputs):
    common = {"model": ("prior", "model"), "positive": ("prior", "unconditional")}
    return Node(type, {**common, **inputs}, title)


SCALED = Node(
    "ImageScale",
    {
        "image": ("picture", "damaged"),
        "upscale_method": "area",
        "width": ("prior", "size"),
        "height": ("prior", "size"),
        "crop": "center",
    },
    title="To the prior's size",
)
ENCODED = Node("VAEEncode", {"pixels": ("scaled", "IMAGE"), "vae": ("prior", "vae")})

SQUARE = Node(
    "ImageScale",
    {"image": ("picture", "IMAGE"), "upscale_method": "area", "width": 512, "height": 512, "crop": "center"},
)


def inverted(**inputs):
    return sampler("CODE_DDIMInvert", latent=("encoded", "LATENT"), sigmas=("schedule", "sigmas"), **inputs)


def updated(**inputs):
    return sampler("CODE_LangevinUpdate", latent=("invert", "latent"), sigmas=("invert", "sigmas"), **inputs)


def decoded(**inputs):
    return sampler("CODE_ODEDecode", latent=("update", "latent"), sigmas=("invert", "sigmas"), **inputs)


def restored(type="CODE_Restore", title=None, **inputs):
    links = {"vae": ("prior", "vae"), "image": ("picture", "damaged")}
    return sampler(type, title, **{**links, **inputs})


SCHEDULE = Node("CODE_Schedule", {"model": ("prior", "model")})
CLIP = Node("CODE_ConfidenceClip", {"model": ("prior", "model")})
DECODED = Node("VAEDecode", {"samples": ("decode", "latent"), "vae": ("prior", "vae")})
STEPS = {
    "1 · Picture and prior": {**PRIOR, **example(), "scaled": SCALED, "encoded": ENCODED},
    "2 · Up the ODE, clipped": {
        "schedule": SCHEDULE,
        "clip": CLIP,
        "invert": inverted(clip=("clip", "clip"), add_noise=True),
    },
    "3 · Towards likely pictures": {"update": updated()},
    "4 · Down the ODE": {"decode": decoded()},
}


def beside(output):
    """The two example pictures of `whole-photo` beside each other."""
    return Node("ImageStitch", {"image1": ("picture", output), "image2": ("other", output)}, title=f"Both, {output}")


def class_of(label):
    return Node("CODE_ClassCondition", {"model": ("prior", "model"), "label": label}, title=label.capitalize())


def whole(picture):
    """A prior, an undamaged picture, and its latent."""
    original = Node("VAEEncode", {"pixels": ("picture", "original"), "vae": ("prior", "vae")})
    return {**PRIOR, **example(picture, "none"), "encoded": original}


def from_to(source, target):
    return {"source": class_of(source), "target": class_of(target)}


def edited(type, title=None, **inputs):
    links = {"latent": ("encoded", "LATENT"), "sigmas": ("schedule", "sigmas")}
    conditions = {"source": ("source", "CONDITIONING"), "target": ("target", "CONDITIONING")}
    return Node(type, {"model": ("prior", "model"), **links, **conditions, **inputs}, title)


def inpainted(title, **inputs):
    links = {"latent": ("encoded", "LATENT"), "sigmas": ("schedule", "sigmas"), "mask": ("hole", "MASK")}
    return sampler("CODE_Inpaint", title, **links, **inputs)


def seen(edit):
    return Node("VAEDecode", {"samples": (edit, "latent"), "vae": ("prior", "vae")})


def brought_down(title, **inputs):
    """Guided Decode of what was inverted as its source, to the same."""
    links = {"model": ("prior", "model"), "latent": ("invert", "latent"), "sigmas": ("invert", "sigmas")}
    conditions = {"source": ("source", "CONDITIONING"), "target": ("source", "CONDITIONING")}
    guidance = {"negative": ("prior", "unconditional"), "trajectory": ("invert", "trajectory")}
    return Node("CODE_GuidedDecode", {**links, **conditions, **guidance, **inputs}, title)


def schedule(depth):
    return Node("CODE_Schedule", {"model": ("prior", "model"), "depth": depth})


WORKFLOWS = {
    "restore-in-one-node": Workflow(
        "## Restore a picture in one node\n\nRun it: a flower with 40 % wrong pixels comes back.\n\n"
        "**Try** another *preset*: **faithful** changes less, **bold** invents more, **blocks** is for masks and "
        "strokes. Another *damage* or *picture* in Example Picture.\n\n**Your own picture:** put *Load Image* in "
        "place of Example Picture, and load a prior that knows what it shows (a folder in models/diffusers, or a hub "
        "id).",
        {
            "Picture and prior": {**PRIOR, **example()},
            "Restore": {"restore": restored(preset="balanced")},
            "Look": {
                **compared("damaged, CODE", a=("picture", "damaged"), b=("restore", "restored")),
                "report": told(("restore", "report")),
                **saved(("restore", "restored"), "restored"),
            },
        },
    ),
    "step-by-step": Workflow(
        "## CODE, step by step\n\nThe same as *CODE Restore*, with every part in view: **DDIM Invert** carries the "
        "picture up, **Confidence Clip** takes out what no noise explains, **Langevin Latent Update** moves it "
        "towards likely pictures, **ODE Decode** brings it down.\n\n**Try** *depth* in CODE Schedule (deeper: more "
        "real, less faithful), *eta* in Confidence Clip (lower: more damage out, and colour), *step_size* and "
        "*updates* in Langevin.",
        {
            **STEPS,
            "5 · Look": {
                "vae_decode": DECODED,
                **compared("damaged, CODE", a=("picture", "damaged"), b=("vae_decode", "IMAGE")),
                **saved(("vae_decode", "IMAGE"), "step-by-step"),
            },
        },
    ),
    "code-against-sdedit": Workflow(
        "## CODE against SDEdit\n\nThe same prior and depth, and as many network calls. SDEdit adds noise and takes "
        "it away again; it has to choose between keeping the damage and losing the picture.\n\n**Try** a *depth* of "
        "0.2 or 0.6 for SDEdit in CODE Schedule, another *damage*, another *seed*.",
        {
            "Picture and prior": {**PRIOR, **example("sunflower-1", "heavy noise")},
            "CODE": {"restore": restored(preset="balanced")},
            "SDEdit": {
                "encoded": Node("VAEEncode", {"pixels": ("picture", "damaged"), "vae": ("prior", "vae")}),
                "schedule": Node("CODE_Schedule", {"model": ("prior", "model"), "steps": 51, "spacing": "linspace"}),
                "sdedit": sampler("CODE_SDEdit", latent=("encoded", "LATENT"), sigmas=("schedule", "sigmas")),
            },
            "Look": {
                "sdedit_picture": Node("VAEDecode", {"samples": ("sdedit", "latent"), "vae": ("prior", "vae")}),
                **compared(
                    "damaged, CODE, SDEdit",
                    a=("picture", "damaged"),
                    b=("restore", "restored"),
                    c=("sdedit_picture", "IMAGE"),
                ),
                "report": told(("compare", "report")),
                **saved(("compare", "sheet"), "code-against-sdedit"),
            },
        },
    ),
    "one-level-and-two": Workflow(
        "## Updates at one noise level, and at two\n\n*balanced* makes 60 updates at the depth. *noise* makes 30 there "
        "and 30 where the picture is nearly clean, for five network calls more: grain goes that the depth leaves "
        "behind.\n\n**Try** *preset* custom with *levels* 3 and *updates* 20, or a *shallowest* of 0.2: further from "
        "clean, more is invented.",
        {
            "Picture and prior": {**PRIOR, **example("tulip-1", "heavy noise")},
            "One level": {
                "one": restored(title="One level", preset="balanced"),
                "report": told(("one", "report")),
            },
            "Two levels": {
                "two": restored(title="Two levels", preset="noise"),
                "report_two": told(("two", "report")),
            },
            "Look": {
                **compared(
                    "damaged, one level, two levels",
                    a=("picture", "damaged"),
                    b=("one", "restored"),
                    c=("two", "restored"),
                ),
                "measured": told(("compare", "report")),
                **saved(("compare", "sheet"), "levels"),
            },
        },
    ),
    "odedit": Workflow(
        "## ODEdit, and ODEdit+\n\n**ODEdit** carries the picture all the way up and makes small updates at four noise "
        "levels on the way down, with no clip. **ODEdit+** enlarges the result: here by *Upscale Image By*, where any "
        "upscale model (*Load Upscale Model*, *Upscale Image (using Model)*) or face restorer fits in its "
        "place.\n\n**Try** *damage* light, which leaves more, a *depth* of 0.5, or a *Confidence Clip* at *clip*.",
        {
            "Picture and prior": {**PRIOR, **example("daisy-1", "heavy noise")},
            "ODEdit": {
                "restore": restored("CODE_ODEdit", damage="heavy"),
                "report": told(("restore", "report")),
            },
            "ODEdit+": {
                "larger": Node(
                    "ImageScaleBy",
                    {"image": ("restore", "restored"), "upscale_method": "lanczos", "scale_by": 8.0},
                    title="Or any upscaler",
                ),
                **saved(("larger", "IMAGE"), "odedit-plus"),
            },
            "Look": compared("damaged, ODEdit", a=("picture", "damaged"), b=("restore", "restored")),
        },
    ),
    "several-samples-and-pick": Workflow(
        "## Several restorations, and pick one\n\nOne inversion, four draws of the Langevin noise. Look at them, "
        "then set *batch_index* in *Pick this one* (0 to 3) and run again: only the saving runs.\n\n**Try** the "
        "preset **bold**, where the samples differ more.",
        {
            "Picture and prior": {**PRIOR, **example("dandelion-1", "random pixels")},
            "Restore four times": {"restore": restored(preset="bold", samples=4)},
            "Look": {
                "compare": Node(
                    "CODE_CompareImages",
                    {"reference": ("picture", "original"), "a": ("restore", "restored"), "names": "CODE"},
                    size=(420, 760),
                )
            },
            "Pick": {
                "pick": Node(
                    "ImageFromBatch",
                    {"image": ("restore", "restored"), "batch_index": 0, "length": 1},
                    title="Pick this one",
                ),
                **saved(("pick", "IMAGE"), "picked"),
            },
        },
    ),
    "faded-picture-with-a-class": Workflow(
        "## A faded picture, and what it shows\n\nNothing in a picture of low contrast is impossible, so clipping "
        "cannot help. Saying what it shows can: **Class Condition** guides the way down.\n\n**Try** a wrong class in "
        "*label*, or *preset* custom with *clip* off and *cfg* between 2 and 10.",
        {
            "Picture and prior": {**PRIOR, **example("tulip-1", "low contrast")},
            "Say what it shows": {
                "class": Node("CODE_ClassCondition", {"model": ("prior", "model"), "label": "tulip"})
            },
            "Restore": {
                "restore": restored(
                    preset="faded", positive=("class", "CONDITIONING"), negative=("prior", "unconditional")
                )
            },
            "Look": {
                **compared("faded, CODE", a=("picture", "damaged"), b=("restore", "restored")),
                **saved(("restore", "restored"), "faded"),
            },
        },
    ),
    "keep-an-area": Workflow(
        "## Restore only what is masked\n\nThe mask is never used on the way up. On the way down, all that is "
        "outside it is held to the states of the inversion at every step, and is the picture itself at the "
        "end.\n\n**Try** to disconnect *mask* in ODE Decode: now the whole picture moves. With your own picture: "
        "paint the mask in Load Image's mask editor.",
        {
            "1 · Picture and prior": {
                **PRIOR,
                **example("sunflower-2", "blocks masked"),
                "encoded": Node("VAEEncode", {"pixels": ("picture", "damaged"), "vae": ("prior", "vae")}),
            },
            "2 · Up the ODE, clipped": {
                "schedule": Node("CODE_Schedule", {"model": ("prior", "model"), "depth": 0.8}),
                "clip": Node("CODE_ConfidenceClip", {"model": ("prior", "model"), "eta": 0.4}),
                "invert": inverted(clip=("clip", "clip")),
            },
            "3 · Towards likely pictures": {"update": updated()},
            "4 · Down, the rest kept": {
                "decode": decoded(trajectory=("invert", "trajectory"), mask=("picture", "mask")),
            },
            "5 · Look": {
                "vae_decode": DECODED,
                **compared("damaged, CODE in the mask", a=("picture", "damaged"), b=("vae_decode", "IMAGE")),
                **saved(("vae_decode", "IMAGE"), "kept"),
            },
        },
    ),
    "our-inversion-with-ksampler": Workflow(
        "## Our inversion, ComfyUI's decode\n\nDDIM Invert carries a picture to half depth, ComfyUI's own sampler "
        "brings it back: latents and sigmas are ComfyUI's, so that the nodes mix. The report says how exactly ODE "
        "Decode would bring it back.\n\n**Try** *euler* in KSamplerSelect (DDIM: less exact), fewer *steps*, or "
        "another prompt or class in the guider, which edits the picture.",
        {
            "Picture and prior": {
                "prior": Node("CODE_LoadPixelPrior", {"prior": "flowers64"}),
                **example("rose-1", "none"),
                "encoded": Node("VAEEncode", {"pixels": ("picture", "original"), "vae": ("prior", "vae")}),
            },
            "Our inversion": {
                "schedule": Node("CODE_Schedule", {"model": ("prior", "model"), "depth": 0.5, "to_zero": False}),
                "invert": inverted(measure=True),
            },
            "ComfyUI's decode": {
                "noise": Node("DisableNoise"),
                "guider": Node(
                    "BasicGuider", {"model": ("prior", "model"), "conditioning": ("prior", "unconditional")}
                ),
                "sampler": Node("KSamplerSelect", {"sampler_name": "heun"}),
                "decode": Node(
                    "SamplerCustomAdvanced",
                    {
                        "noise": ("noise", "NOISE"),
                        "guider": ("guider", "GUIDER"),
                        "sampler": ("sampler", "SAMPLER"),
                        "sigmas": ("invert", "sigmas"),
                        "latent_image": ("invert", "latent"),
                    },
                ),
            },
            "Look": {
                "report": told(("invert", "report")),
                "vae_decode": Node("VAEDecode", {"samples": ("decode", "output"), "vae": ("prior", "vae")}),
                **compared("there and back", a=("vae_decode", "IMAGE")),
                **saved(("vae_decode", "IMAGE"), "there-and-back"),
            },
        },
    ),
    "stable-diffusion-1.5": Workflow(
        "## Stable Diffusion 1.5\n\nThe same five nodes on latents. Choose your checkpoint and your picture. The "
        "clip reads the range of clean latents from the picture, channel by channel.\n\n**Try** a prompt that says "
        "what the picture shows, and a *cfg* of 3 to 7 in Langevin Latent Update and ODE Decode; leave DDIM Invert "
        "at 1. *depth* 0.2 to 0.5.",
        {
            "1 · Checkpoint, prompts, picture": {
                "prior": Node("CheckpointLoaderSimple", {"ckpt_name": "v1-5-pruned-emaonly.safetensors"}),
                "positive": Node("CLIPTextEncode", {"clip": ("prior", "CLIP"), "text": "a photo"}, size=(320, 100)),
                "negative": Node("CLIPTextEncode", {"clip": ("prior", "CLIP"), "text": ""}, size=(320, 100)),
                "picture": Node("LoadImage", {"image": "example.png"}),
                "scaled": SQUARE,
                "encoded": Node("VAEEncode", {"pixels": ("scaled", "IMAGE"), "vae": ("prior", "VAE")}),
            },
            "2 · Up the ODE, clipped": {
                "schedule": Node("CODE_Schedule", {"model": ("prior", "MODEL")}),
                "clip": Node("CODE_ConfidenceClip", {"model": ("prior", "MODEL")}),
                "invert": inverted(
                    model=("prior", "MODEL"), positive=("negative", "CONDITIONING"), clip=("clip", "clip")
                ),
            },
            "3 · Towards likely pictures": {
                "update": updated(
                    model=("prior", "MODEL"),
                    positive=("positive", "CONDITIONING"),
                    negative=("negative", "CONDITIONING"),
                ),
            },
            "4 · Down the ODE": {
                "decode": decoded(
                    model=("prior", "MODEL"),
                    positive=("positive", "CONDITIONING"),
                    negative=("negative", "CONDITIONING"),
                ),
            },
            "5 · Look": {
                "vae_decode": Node("VAEDecode", {"samples": ("decode", "latent"), "vae": ("prior", "VAE")}),
                **saved(("vae_decode", "IMAGE"), "sd15"),
            },
        },
    ),
    "code-as-a-subgraph": Workflow(
        "## CODE as one node of your own\n\nThe five steps, folded into a subgraph: open it with a double click, "
        "change what you like, and keep it as a node of your own.\n\n**Try** to lay two of them side by side with "
        "different *eta*.",
        {
            **STEPS,
            "3 · Look": {
                "vae_decode": DECODED,
                **compared("damaged, CODE", a=("picture", "damaged"), b=("vae_decode", "IMAGE")),
                **saved(("vae_decode", "IMAGE"), "subgraph"),
            },
        },
        subgraph="2 · CODE",
    ),
    "knobs": Workflow(
        "## The two knobs\n\n**CODE Knobs** restores one damaged picture at three depths with three step sizes. *grid* "
        "shows what came out; *curve* how real each looks to the prior, and how far it is from the photo; "
        "*convergence* what more updates do. No undamaged original is needed.\n\n**CODE Film Strip** shows a single "
        "run: up, updated, down.\n\n**Try** another *damage*, or your own numbers in *depths* and *step_sizes*. It "
        "restores the picture 14 times, so give it a minute.",
        {
            "Picture and prior": {**PRIOR, **example("daisy-1", "heavy noise")},
            "The two knobs": {"knobs": restored("CODE_Knobs", preset="balanced")},
            "One run": {"film": restored("CODE_Film", preset="balanced")},
            "Look": {
                "grid": Node("PreviewImage", {"images": ("knobs", "grid")}, title="Grid", size=(560, 640)),
                "report": told(("knobs", "report")),
            },
            "And how": {
                "curve": Node("PreviewImage", {"images": ("knobs", "curve")}, title="Curve", size=(560, 420)),
                "convergence": Node(
                    "PreviewImage", {"images": ("knobs", "convergence")}, title="Convergence", size=(560, 320)
                ),
                "strip": Node("PreviewImage", {"images": ("film", "film")}, title="Film", size=(560, 180)),
                **saved(("film", "restored"), "knobs"),
            },
        },
    ),
    "whole-photo": Workflow(
        "## A picture larger than the prior\n\nThe prior knows pictures of 64×64, and this one is twice as wide. With "
        "*fit* **whole** it is denoised in overlapping windows, averaged at every call, so that no seam shows: one of "
        "them sees half of each flower.\n\n**Try** *fit* **crop**, which keeps the middle. **Your own photo:** put "
        "*Load Image* in place of the stitched pictures; *max_side* says how large it is restored, and so how much of "
        "it a window sees.",
        {
            "Two pictures, and a prior": {
                **PRIOR,
                **example("daisy-1", "heavy noise"),
                "other": Node("CODE_ExamplePicture", {"picture": "sunflower-1", "damage": "heavy noise", "seed": 1}),
            },
            "Side by side": {"wide": beside("damaged"), "clean": beside("original")},
            "Restore": {
                "restore": restored(image=("wide", "IMAGE"), preset="noise", fit="whole"),
                "report": told(("restore", "report")),
            },
            "Look": {
                **compared(
                    "damaged, CODE", reference=("clean", "IMAGE"), a=("wide", "IMAGE"), b=("restore", "restored")
                ),
                **saved(("restore", "restored"), "whole"),
            },
        },
    ),
    "variants": Workflow(
        "## The method's less usual ways\n\n**Geometric:** two noise levels, and steps that grow over the path from 1 "
        "to 100 times (*scale*). **From the deepest:** up all of the schedule, down to the depth, updated there, and "
        "on down, by *SplitSigmas*. **ODEdit, clipped:** its way up is clipped, to what lies between *low* and *high*. "
        "**Published, without a quirk:** the CODE authors' code without its scale (*quirks* no-scale), with a step as "
        "large as the scale had made it.\n\n**Try** other *quirks*: no-clip-level, no-last-step, none.",
        {
            "1 · Picture and prior": {
                **PRIOR,
                **example("tulip-1", "heavy noise"),
                "encoded": Node("VAEEncode", {"pixels": ("picture", "damaged"), "vae": ("prior", "vae")}),
            },
            "Geometric": {
                "geometric": restored(
                    title="Geometric",
                    preset="custom",
                    levels=2,
                    updates=30,
                    scale="geometric",
                    step_size=1e-4,
                    stop_at=0.0,
                ),
            },
            "From the deepest": {
                "schedule": Node("CODE_Schedule", {"model": ("prior", "model"), "depth": 1.0, "steps": 30}),
                "split": Node("SplitSigmas", {"sigmas": ("invert", "sigmas"), "step": 18}),
                "clip": Node("CODE_ConfidenceClip", {"model": ("prior", "model"), "eta": 1.6}),
                "invert": inverted(clip=("clip", "clip"), add_noise=True),
                "down": sampler(
                    "CODE_ODEDecode", latent=("invert", "latent"), sigmas=("split", "high_sigmas"), title="To the depth"
                ),
                "update": sampler(
                    "CODE_LangevinUpdate",
                    latent=("down", "latent"),
                    sigmas=("split", "low_sigmas"),
                    step_size=2e-3,
                    updates=60,
                    blocks=4,
                    stop_at=0.0,
                ),
                "decode": sampler("CODE_ODEDecode", latent=("update", "latent"), sigmas=("split", "low_sigmas")),
                "deepest": DECODED,
            },
            "ODEdit, clipped": {
                "range": Node(
                    "CODE_ConfidenceClip",
                    {"model": ("prior", "model"), "data_range": "fixed", "low": "-0.9", "high": "0.9", "eta": 2.0},
                    title="From low to high",
                ),
                "odedit": restored("CODE_ODEdit", title="ODEdit, clipped", clip=("range", "clip"), levels=2),
            },
            "Published, without a quirk": {
                "published": restored(
                    "CODE_Official",
                    title="Without its scale",
                    depth=40,
                    start="updates",
                    step_size=4e-3,
                    updates=40,
                    quirks="no-scale",
                    eta=1.0,
                ),
            },
            "Look": {
                **compared(
                    "geometric, from the deepest, published without scale",
                    a=("geometric", "restored"),
                    b=("deepest", "IMAGE"),
                    c=("published", "restored"),
                ),
                "measured": told(("compare", "report")),
                **saved(("compare", "sheet"), "variants"),
                "other": Node("PreviewImage", {"images": ("odedit", "restored")}, title="ODEdit", size=(260, 260)),
            },
        },
    ),
    "cycle-sde": Workflow(
        "## A rose becomes a daisy, and stays a rose\n\n**Cycle-SDE** adds noise to the picture, remembers it, and "
        "takes it away under another condition: what the model would have said anyway stays. *The same again* has the "
        "rose on both sides, with a cfg of 7.5, and gets the picture back to the last bit, as its report "
        "says.\n\n**Try** a *depth* of 0.4 in CODE Schedule (keeps more) or 0.8, *record* independent (keeps more), "
        "another *label* in Daisy, or *form* recorded noise in *The same again*, which loses digits.",
        {
            "Picture and prior": whole("rose-2"),
            "From, and to": {**from_to("rose", "daisy"), "schedule": schedule(0.6)},
            "Another flower": {
                "cycle": edited("CODE_CycleSDE"),
                "report": told(("cycle", "report")),
            },
            "The same flower": {
                "again": edited(
                    "CODE_CycleSDE",
                    title="The same again",
                    target=("source", "CONDITIONING"),
                    negative=("prior", "unconditional"),
                    cfg=7.5,
                    source_cfg=7.5,
                ),
                "report_again": told(("again", "report")),
            },
            "Look": {
                "cycle_picture": seen("cycle"),
                "again_picture": seen("again"),
                **compared("a daisy, the same again", a=("cycle_picture", "IMAGE"), b=("again_picture", "IMAGE")),
                **saved(("cycle_picture", "IMAGE"), "cycle-sde"),
            },
        },
    ),
    "inpaint": Workflow(
        "## Fill in a hole, with the SDE and with the ODE\n\nThe same hole, prior and noise levels. **ddpm** draws "
        "noise at each step and so forgets what does not fit; **ddim** keeps what it began with. Four *repeats* of "
        "each step fit better still, and take four times as long. Outside the hole every picture is the input, bit "
        "for bit.\n\n**Try** another *seed*, *solver* sde_dpmpp_2m, *noise* fixed. **Your own picture:** paint the "
        "mask in Load Image's mask editor, and connect it to the three nodes.",
        {
            "Picture and prior": {**whole("sunflower-1"), "schedule": schedule(1.0)},
            "The hole": {
                "nothing": Node(
                    "SolidMask",
                    {"value": 0.0, "width": ("prior", "size"), "height": ("prior", "size")},
                    title="Nothing",
                ),
                "square": Node("SolidMask", {"value": 1.0, "width": 24, "height": 24}, title="A square"),
                "hole": Node(
                    "MaskComposite",
                    {
                        "destination": ("nothing", "MASK"),
                        "source": ("square", "MASK"),
                        "x": 20,
                        "y": 20,
                        "operation": "add",
                    },
                    title="The hole",
                ),
                "shown": Node("MaskPreview", {"mask": ("hole", "MASK")}, size=(260, 230)),
            },
            "Fill it": {
                "sde": inpainted("SDE"),
                "ode": inpainted("ODE", solver="ddim"),
                "repeated": inpainted("SDE, four times", repeats=4),
            },
            "Look": {
                "sde_picture": seen("sde"),
                "ode_picture": seen("ode"),
                "repeated_picture": seen("repeated"),
                **compared(
                    "SDE, ODE, SDE four times",
                    a=("sde_picture", "IMAGE"),
                    b=("ode_picture", "IMAGE"),
                    c=("repeated_picture", "IMAGE"),
                ),
                **saved(("repeated_picture", "IMAGE"), "inpaint"),
            },
        },
    ),
    "diffedit": Workflow(
        "## Change the flower, keep the rest\n\n**DiffEdit Mask** finds where the model sees a rose and a daisy "
        "differently. **DiffEdit** changes what lies there, by Cycle-SDE (*sde*) or by inversion (*ode*); outside, the "
        "picture stays bit for bit.\n\n**Try** a lower *threshold* or a larger *grow* in DiffEdit Mask, which change "
        "more, or another *label*. **Your own mask** fits in its place.",
        {
            "Picture and prior": whole("rose-2"),
            "From, and to": {**from_to("rose", "daisy"), "schedule": schedule(0.6)},
            "Find where": {
                "find": Node(
                    "CODE_DiffEditMask",
                    {
                        "model": ("prior", "model"),
                        "latent": ("encoded", "LATENT"),
                        "source": ("source", "CONDITIONING"),
                        "target": ("target", "CONDITIONING"),
                        "threshold": 0.35,
                        "grow": 2,
                        "blur": 1.0,
                    },
                ),
                "shown": Node("MaskPreview", {"mask": ("find", "mask")}, title="The mask", size=(260, 230)),
                "heat": Node("PreviewImage", {"images": ("find", "heat")}, title="The heat", size=(260, 230)),
            },
            "Change it": {
                "sde": edited("CODE_DiffEdit", title="DiffEdit-SDE", mask=("find", "mask")),
                "ode": edited("CODE_DiffEdit", title="DiffEdit-ODE", mask=("find", "mask"), kind="ode"),
            },
            "Look": {
                "sde_picture": seen("sde"),
                "ode_picture": seen("ode"),
                **compared("DiffEdit-SDE, DiffEdit-ODE", a=("sde_picture", "IMAGE"), b=("ode_picture", "IMAGE")),
                **saved(("sde_picture", "IMAGE"), "diffedit"),
            },
        },
    ),
    "ddib": Workflow(
        "## Any flower into any other\n\n**DDIB** carries the picture up under what it shows, and brings it down as "
        "what it shall show; layout and colours stay. *ode* inverts the picture, as DDIB was published; *sde* adds "
        "noise and keeps it, by Cycle-SDE.\n\n**Try** another *label* in Daisy, a *depth* of 0.5 (keeps more) or 0.8, "
        "a *cfg* of 2 (keeps more) or 5. With prompts instead of classes it runs on any model.",
        {
            "Picture and prior": whole("dandelion-1"),
            "From, and to": {**from_to("dandelion", "daisy"), "schedule": schedule(0.6)},
            "Translate": {
                "sde": edited("CODE_DDIB", title="DDIB-SDE"),
                "ode": edited("CODE_DDIB", title="DDIB-ODE", kind="ode"),
            },
            "Look": {
                "sde_picture": seen("sde"),
                "ode_picture": seen("ode"),
                **compared("DDIB-SDE, DDIB-ODE", a=("sde_picture", "IMAGE"), b=("ode_picture", "IMAGE")),
                **saved(("sde_picture", "IMAGE"), "ddib"),
            },
        },
    ),
    "guided-inversion": Workflow(
        "## The picture comes back, also under guidance\n\nA rose is inverted as a rose, and brought down as a rose "
        "with a cfg of 7.5. **Plain** DDIM loses it, **Null-Text** with a noise bias at every step nearly returns it, "
        "and **direct** returns it to the last bit, as the reports say.\n\n**Try** the class *Daisy* at *target* of "
        "the three Guided Decode: now it is an edit, and with *source_cfg* 1 **direct** keeps more of the rose. "
        "*noise_bias* off is Null-Text as published; it takes longest.",
        {
            "Picture and prior": {**whole("rose-2"), "source": class_of("rose"), "daisy": class_of("daisy")},
            "Up, as a rose": {
                "schedule": Node("CODE_Schedule", {"model": ("prior", "model"), "depth": 0.4, "steps": 16}),
                "invert": inverted(positive=("source", "CONDITIONING"), solver="euler"),
                "fit": Node(
                    "CODE_NullText",
                    {
                        "model": ("prior", "model"),
                        "trajectory": ("invert", "trajectory"),
                        "sigmas": ("invert", "sigmas"),
                        "positive": ("source", "CONDITIONING"),
                        "negative": ("prior", "unconditional"),
                        "noise_bias": "every",
                        "updates": 5,
                    },
                ),
            },
            "Down, with a cfg of 7.5": {
                "direct": brought_down("Direct"),
                "corrected": brought_down("Null-Text", method="null-text", corrections=("fit", "corrections")),
                "plain": brought_down("Plain DDIM", method="plain"),
            },
            "Look": {
                "report": told(("direct", "report")),
                "direct_picture": seen("direct"),
                "corrected_picture": seen("corrected"),
                "plain_picture": seen("plain"),
                **compared(
                    "direct, Null-Text, plain",
                    a=("direct_picture", "IMAGE"),
                    b=("corrected_picture", "IMAGE"),
                    c=("plain_picture", "IMAGE"),
                ),
                **saved(("corrected_picture", "IMAGE"), "guided-inversion"),
            },
        },
    ),
    "exact-inversion": Workflow(
        "## The picture comes back, exactly\n\nUp to depth 0.5 and down again, twice in 20 steps: by DDIM (*euler*), "
        "and by **belm**, whose second state goes from DDIM Invert to ODE Decode at *companion*. The reports say how "
        "well each comes back, and what hinders it.\n\n**Try** another *solver* in both nodes of a row: **fixed "
        "point** needs no companion.",
        {
            "Picture and prior": {
                **whole("sunflower-1"),
                "schedule": Node(
                    "CODE_Schedule",
                    {"model": ("prior", "model"), "depth": 0.5, "steps": 20, "to_zero": False},
                ),
            },
            "Up": {
                "ddim": inverted(title="DDIM up", solver="euler", measure=True),
                "report": told(("ddim", "report")),
                "belm": inverted(title="BELM up", solver="belm", measure=True),
                "report_belm": told(("belm", "report")),
            },
            "Down": {
                "ddim_down": sampler(
                    "CODE_ODEDecode",
                    "DDIM down",
                    latent=("ddim", "latent"),
                    sigmas=("ddim", "sigmas"),
                    solver="euler",
                ),
                "belm_down": sampler(
                    "CODE_ODEDecode",
                    "BELM down",
                    latent=("belm", "latent"),
                    sigmas=("belm", "sigmas"),
                    solver="belm",
                    companion=("belm", "companion"),
                ),
            },
            "Look": {
                "ddim_picture": seen("ddim_down"),
                "belm_picture": seen("belm_down"),
                **compared("DDIM, BELM", a=("ddim_picture", "IMAGE"), b=("belm_picture", "IMAGE")),
                **saved(("belm_picture", "IMAGE"), "exact-inversion"),
            },
        },
    ),
    "exact-inversion-of-a-photo": Workflow(
        "## A photo comes back, through the VAE\n\nVAE Encode gives the latent that the VAE guesses, and no inversion "
        "of it comes back better than the VAE does. **Decoder Inversion** finds the one that decodes to the photo; "
        "from there it goes up and down again, exactly. Choose your checkpoint and your photo.\n\n**Try** *method* "
        "**gradient**, where there is memory for it: it comes nearest to a photo. Guided Decode in place of ODE Decode "
        "changes what the photo shows.",
        {
            "1 · Checkpoint, prompt, photo": {
                "prior": Node("CheckpointLoaderSimple", {"ckpt_name": "v1-5-pruned-emaonly.safetensors"}),
                "positive": Node("CLIPTextEncode", {"clip": ("prior", "CLIP"), "text": ""}, size=(320, 100)),
                "picture": Node("LoadImage", {"image": "example.png"}),
                "scaled": SQUARE,
            },
            "2 · The latent that decodes to it": {
                "found": Node("CODE_DecoderInversion", {"image": ("scaled", "IMAGE"), "vae": ("prior", "VAE")}),
                "told": told(("found", "report")),
            },
            "3 · Up": {
                "schedule": Node(
                    "CODE_Schedule",
                    {"model": ("prior", "MODEL"), "depth": 0.5, "steps": 20, "to_zero": False},
                ),
                "invert": sampler(
                    "CODE_DDIMInvert",
                    model=("prior", "MODEL"),
                    latent=("found", "latent"),
                    sigmas=("schedule", "sigmas"),
                    positive=("positive", "CONDITIONING"),
                    vae=("prior", "VAE"),
                    solver="belm",
                    measure=True,
                ),
                "report": told(("invert", "report")),
            },
            "4 · Down": {
                "decode": sampler(
                    "CODE_ODEDecode",
                    model=("prior", "MODEL"),
                    latent=("invert", "latent"),
                    sigmas=("invert", "sigmas"),
                    positive=("positive", "CONDITIONING"),
                    solver="belm",
                    companion=("invert", "companion"),
                ),
            },
            "5 · Look": {
                "vae_decode": Node("VAEDecode", {"samples": ("decode", "latent"), "vae": ("prior", "VAE")}),
                **compared("there and back", reference=("scaled", "IMAGE"), a=("vae_decode", "IMAGE")),
                **saved(("vae_decode", "IMAGE"), "exact-inversion-of-a-photo"),
            },
        },
    ),
    "by-hand": Workflow(
        "## Each part its own way\n\nThe steps of *step-by-step*, each set for itself. **Up:** the clip takes each "
        "channel's range in the picture without its outermost 2 % (*quantile*), and nothing is thresholded. **Towards "
        "likely pictures** and **down:** another clip holds every value near the picture's own (*observation*), and "
        "the step is a ratio of signal to noise (*snr*). The heat says where each clip acted.\n\n**Try** a *width* of "
        "2 near the picture (hardly a clip: more is invented) or 0.7 (the noise stays), *mode* **relative** with "
        "*step_size* 0.0025, *noiseless_last* off.",
        {
            "1 · Picture and prior": {
                **PRIOR,
                "plain": Node("CODE_LoadPixelPrior", {"prior": "flowers64"}, title="The same, not thresholded"),
                **example("rose-1", "heavy noise"),
                "encoded": Node("VAEEncode", {"pixels": ("picture", "damaged"), "vae": ("prior", "vae")}),
            },
            "2 · Up, in the picture's range": {
                "schedule": SCHEDULE,
                "clip": Node(
                    "CODE_ConfidenceClip",
                    {"model": ("prior", "model"), "data_range": "quantile", "outside": 0.02},
                    title="The picture's range",
                ),
                "invert": inverted(model=("plain", "model"), clip=("clip", "clip"), add_noise=True),
            },
            "3 · Towards likely pictures": {
                "near": Node(
                    "CODE_ConfidenceClip",
                    {
                        "model": ("prior", "model"),
                        "data_range": "observation",
                        "width": 1.25,
                        "reference": ("encoded", "LATENT"),
                    },
                    title="Near the picture",
                ),
                "update": updated(clip=("near", "clip"), mode="snr", step_size=0.08, updates=60, blocks=4, stop_at=0.0),
            },
            "4 · Down the ODE": {"decode": decoded(clip=("near", "clip"))},
            "Where it was clipped": {
                key: Node("MaskPreview", {"mask": (source, "heat")}, title=title, size=(260, 230))
                for key, source, title in (
                    ("heat_up", "invert", "Up"),
                    ("heat_updates", "update", "In the updates"),
                    ("heat_down", "decode", "Down"),
                )
            },
            "5 · Look": {
                "vae_decode": DECODED,
                **compared("damaged, CODE", a=("picture", "damaged"), b=("vae_decode", "IMAGE")),
                **saved(("vae_decode", "IMAGE"), "by-hand"),
            },
        },
    ),
    "corrupt-and-restore": Workflow(
        "## Damage a picture as the paper does, and restore it\n\n**Corrupt Image** has the paper's 47 corruptions in "
        "five strengths; its help page shows each. *CODE Restore* is not told which it is.\n\n**Try** another "
        "*corruption*: **blue_noise_sample** and **scatter** come back, with the preset *balanced*; **lines** do not. "
        "Seventeen more, snow and blur among them, are listed after `pip install imagecorruptions-imaug` in ComfyUI's "
        "Python. **Your own picture:** put *Load Image* in place of Example Picture.",
        {
            "Picture and prior": {**PRIOR, **example("sunflower-1", "none")},
            "Damage": {
                "corrupt": Node("CODE_CorruptImage", {"image": ("picture", "original"), "corruption": "blue_noise"}),
            },
            "Restore": {
                "restore": restored(image=("corrupt", "corrupted"), preset="noise"),
                "report": told(("restore", "report")),
            },
            "Look": {
                **compared("damaged, CODE", a=("corrupt", "corrupted"), b=("restore", "restored")),
                **saved(("restore", "restored"), "corrupted"),
            },
        },
    ),
    "as-published": Workflow(
        "## CODE as its authors published it\n\n**CODE as Published** computes what their public code does, quirk by "
        "quirk; **CODE Restore** is the method as the paper's equations have it, with what we found to be better. Both "
        "see the same picture and the same prior, whose *dynamic_threshold* is off: the published code thresholds by "
        "itself.\n\n**Try** *quirks* **none**, or **no-scale**; *clip_up* off; *n* 200 with *depth* 80 and "
        "*updates* 200, which is nearer to the paper's and takes five times as long.",
        {
            "Picture and prior": {
                "prior": Node("CODE_LoadPixelPrior", {"prior": "flowers64"}),
                **example("tulip-2", "random pixels"),
            },
            "As published": {
                "published": restored("CODE_Official", n=50, depth=20, step_size=0.0001, updates=40),
                "report": told(("published", "report")),
            },
            "CODE Restore": {
                "restore": restored(preset="balanced"),
                "report_restore": told(("restore", "report")),
            },
            "Look": {
                **compared(
                    "damaged, as published, CODE",
                    a=("picture", "damaged"),
                    b=("published", "restored"),
                    c=("restore", "restored"),
                ),
                "measured": told(("compare", "report")),
                **saved(("compare", "sheet"), "as-published"),
            },
        },
    ),
    "drag": Workflow(
        "## Drag petals\n\nRun it: two petals of the sunflower move to where the arrows point. **SDE-Drag** shows the "
        "picture after the first run; click a source and then its target for more pairs, drag an end to move it, "
        "right-click it to delete the pair.\n\n**Try** *kind* **ode**, whose colours get harsh; a *radius* of 5, which "
        "moves less; a *depth* of 0.6, the paper's for Stable Diffusion. **Your own picture:** put *Load Image* in "
        "place of Example Picture, paint what may change in its mask editor, and connect *MASK* to *mask*.",
        {
            "Picture and prior": {**PRIOR, **example("sunflower-1", "none")},
            "Drag": {
                "drag": sampler(
                    "CODE_Drag",
                    vae=("prior", "vae"),
                    image=("picture", "original"),
                    points='[{"from":[12,27],"to":[5,20]},{"from":[20,43],"to":[13,48]}]',
                    depth=0.4,
                    steps=15,
                    radius=8,
                ),
                "report": told(("drag", "report")),
            },
            "Look": {
                **compared("dragged", a=("drag", "dragged")),
                "each": Node("PreviewImage", {"images": ("drag", "steps")}, title="After each step", size=(420, 260)),
                **saved(("drag", "dragged"), "dragged"),
            },
        },
    ),
}

DRAW = """([workflow, gap]) => {
    app.graph.clear()
    app.nodeOutputs = {}
    const made = {}, columns = []
    for (const [title, nodes] of Object.entries(workflow.groups)) {
        const column = []
        for (const [key, {type, title}] of Object.entries(nodes)) {
            const node = LiteGraph.createNode(type)
            if (!node) throw new Error(`no node ${type}`)
            app.graph.add(node)
            if (title) node.title = title
            made[key] = node
            column.push([key, node])
        }
        columns.push([title, column])
    }
    for (const nodes of Object.values(workflow.groups))
        for (const [key, {inputs}] of Object.entries(nodes)) {
            const node = made[key]
            for (const widget of node.widgets ?? [])
                if (widget.name === "control_after_generate") widget.value = "fixed"
            for (const [name, value] of Object.entries(inputs))
                if (Array.isArray(value)) {
                    const source = made[value[0]]
                    const slot = source.outputs.findIndex(output => (output.label ?? output.name) === value[1])
                    const input = node.inputs.findIndex(input => input.name === name)
                    if (slot < 0 || input < 0) throw new Error(`${value} -> ${key}.${name}: no such slot`)
                    source.connect(slot, node, input)
                } else {
                    const widget = node.widgets?.find(widget => widget.name === name)
                    if (!widget) throw new Error(`${key} has no widget ${name}`)
                    widget.value = value
                }
        }
    const note = LiteGraph.createNode("MarkdownNote")
    app.graph.add(note)
    note.title = "What to try"
    note.widgets[0].value = workflow.note
    note.pos = [0, 0]
    note.size = [360, 420]
    note.color = "#432"
    note.bgcolor = "#653"
    let x = 420, tallest = 0
    for (const [title, column] of columns) {
        const width = Math.max(...column.map(([key, node]) => {
            const size = Object.values(workflow.groups).find(nodes => key in nodes)[key].size
            const least = node.computeSize()
            node.setSize([Math.max(size?.[0] ?? 310, least[0]), Math.max(size?.[1] ?? 0, least[1])])
            return node.size[0]
        }))
        let y = 0
        for (const [, node] of column) {
            node.pos = [x, y]
            node.setSize([width, node.size[1]])
            y += node.size[1] + gap + LiteGraph.NODE_TITLE_HEIGHT
        }
        const group = new LiteGraph.LGraphGroup(title)
        app.graph.add(group)
        group.pos = [x - 14, -LiteGraph.NODE_TITLE_HEIGHT - 54]
        group.size = [width + 28, y + 54 + 14 - gap]
        tallest = Math.max(tallest, group.size[1])
        x += width + 3 * gap
    }
    // room below a sampler for its preview
    for (const group of app.graph.groups) group.size = [group.size[0], tallest]
    app.graph.setDirtyCanvas(true, true)
    return Object.fromEntries(Object.entries(made).map(([key, node]) => [key, node.id]))
}"""


TIDY = """([id, titles, name]) => {
    const node = app.graph.getNodeById(id), groups = titles.map(t => app.graph.groups.find(g => g.title === t))
    const first = groups[0], last = groups.at(-1)
    node.pos = [first.pos[0] + 14, 0]
    node.setSize([240, node.computeSize()[1]])
    const right = last.pos[0] + last.size[0]
    for (const group of groups.slice(1)) app.graph.remove(group)
    first.title = name
    first.size = [268, first.size[1]]
    const moved = right - (first.pos[0] + first.size[0])
    for (const item of [...app.graph.nodes, ...app.graph.groups])
        if (item.pos[0] >= right - 20) item.pos = [item.pos[0] - moved, item.pos[1]]
}"""

BOUNDS = """() => {
    const corners = [...app.graph.nodes, ...app.graph.groups].flatMap(({pos: [x, y], size: [w, h]}) =>
        [app.canvasPosToClientPos([x, y - 30]), app.canvasPosToClientPos([x + w, y + h])])
    const xs = corners.map(([x]) => x), ys = corners.map(([, y]) => y)
    return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)]
}"""


def draw(page, workflow):
    """Draw a Workflow on the page; returns {key: node id}."""
    groups = {
        title: {key: {**vars(node), "inputs": node.inputs} for key, node in nodes.items()}
        for title, nodes in workflow.groups.items()
    }
    ids = page.evaluate(DRAW, [{"note": workflow.note, "groups": groups}, 30])
    if workflow.subgraph:
        titles = list(workflow.groups)[1:-1]
        folded = [ids[key] for title in titles for key in workflow.groups[title]]
        page.evaluate(TIDY, [page.to_subgraph(folded, workflow.subgraph.split()[-1]), titles, workflow.subgraph])
    return ids


def write(path, content):
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def thumbnail(picture, path):
    """A picture of THUMBNAIL's size, the original fitted into it on white."""
    factor = min(THUMBNAIL[0] / picture.width, THUMBNAIL[1] / picture.height)
    size = (round(picture.width * factor), round(picture.height * factor))
    fitted = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", THUMBNAIL, "white")
    sheet.paste(fitted, ((THUMBNAIL[0] - size[0]) // 2, (THUMBNAIL[1] - size[1]) // 2))
    sheet.save(path, quality=88)


def graph_picture(page, path):
    """The whole graph as it looks, without the page around it."""
    page.command("Workspace.ToggleFocusMode")
    page.command("Comfy.Canvas.FitView")
    page.page.wait_for_timeout(1000)  # the view moves there slowly
    left, top, right, bottom = page.evaluate(BOUNDS)
    clip = {"x": max(0, left - 20), "y": max(0, top - 20), "width": right - left + 40, "height": bottom - top + 40}
    page.page.screenshot(path=path, clip=clip)
    page.command("Workspace.ToggleFocusMode")
    with Image.open(path) as picture:
        return picture.convert("RGB")


def main(names, run=True):
    """Draw the workflows with these names, or all; without a run their thumbnails stay as they are."""
    pictures = REPOSITORY / "out" / "workflows"
    for folder in (FOLDER / "api", pictures):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as base, Server(base) as server, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = chromium.new_page(viewport={"width": 1900, "height": 1000})
        tab.set_default_timeout(300_000)  # a busy machine is slow to open it
        page = Page(tab, server)
        page.setting("LiteGraph.Canvas.MinFontSizeForLOD", 0)  # words, however small
        for name, workflow in WORKFLOWS.items():
            if names and name not in names:
                continue
            ids = draw(page, workflow)
            # once more through the file, so that what is shipped is what the page makes of it
            page.load(page.to_ui(), name)
            write(FOLDER / f"{name}.json", page.to_ui())
            api = page.to_api()
            write(FOLDER / "api" / f"{name}.json", api)
            if not run:
                continue
            # of what wants a checkpoint that is not there, the graph
            known = not any(node["class_type"] == "CheckpointLoaderSimple" for node in api.values())
            shown = known and ids.get("compare", ids.get("grid"))
            if shown:
                assert page.run(timeout=900)["type"] == "execution_success", name
                run = server.run(api)
                thumbnail(run.pictures(shown)[0], FOLDER / f"{name}.jpg")
            picture = graph_picture(page, pictures / f"{name}.png")
            if not shown:
                thumbnail(picture, FOLDER / f"{name}.jpg")
            if name == "step-by-step":
                picture.save(REPOSITORY / "docs" / "step-by-step.png", optimize=True)
            print(name, flush=True)


if __name__ == "__main__":
    main([name for name in sys.argv[1:] if name != "--no-run"], "--no-run" not in sys.argv)
