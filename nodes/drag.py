"""SDE-Drag: what lies at points of a picture is dragged to other points."""

import json
import math

import torch
from comfy_api.latest import io, ui

from ..samplers.denoisers import per_item
from ..samplers.drag import (
    KINDS,
    ORDERS,
    check_drag,
    drag_calls,
    drag_draws,
    drag_reports,
    drag_step,
    guidance_ramp,
    moves_of,
    numbered_from,
)
from ..samplers.noise import DRAG, item_seeds, seeded_noise
from . import sockets
from .guider import Guided, Progress, native_sigmas, samples_of
from .masks import latent_mask
from .pixel_prior import PixelModel
from .restore import checked_image, fitted, fitted_mask, size_told
from .schedule import path_for

FORM = 'write [{"from": [x, y], "to": [x, y]}], in pixels of the image'


class Drag(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_Drag",
            display_name="SDE-Drag",
            category="CODE",
            description="Drags what lies at points of a picture to other points: click a source and a target on the "
            "picture in the node, as often as you like. Without points it hands the picture on, and shows it.",
            inputs=[
                sockets.model(),
                io.Vae.Input("vae", tooltip="The one that belongs to the model."),
                io.Image.Input(
                    "image",
                    tooltip="The picture. Unless fit is whole, for a pixel prior it is cut to a square and scaled to "
                    "its size.",
                ),
                sockets.positive(),
                io.String.Input(
                    "points",
                    default="[]",
                    tooltip="What the clicks on the picture write: a list of pairs, "
                    '[{"from": [x, y], "to": [x, y]}], in pixels of the image from its upper left corner. A script '
                    "sets them here.",
                ),
                io.Combo.Input(
                    "kind",
                    options=list(KINDS),
                    default="sde",
                    tooltip="How a step goes up and comes back. sde: by noise and Cycle-SDE, the paper's: what was "
                    "moved grows into the picture. ode: by inversion, to compare with: colours and seams stay.",
                ),
                io.Combo.Input(
                    "order",
                    options=list(ORDERS),
                    default="at once",
                    tooltip="at once: all pairs move together, in as many steps as the longest needs. in turn: one "
                    "pair after the other, which takes longer and lets a later one move what an earlier one brought.",
                ),
                io.Float.Input(
                    "depth",
                    default=0.6,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=False,
                    tooltip="How far up each step goes, a fraction of the schedule [t0]. Deeper looks more real and "
                    "moves less; lower moves all of it, and leaves it a patch. The bundled priors, whose schedule is "
                    "noisier than Stable Diffusion's, do best at 0.4.",
                ),
                io.Int.Input(
                    "steps",
                    default=24,
                    min=1,
                    max=1000,
                    tooltip="Noise levels between the picture and the depth [120], one network call each in each drag "
                    "step. More is finer, and takes longer.",
                ),
                io.Int.Input(
                    "radius",
                    default=5,
                    min=1,
                    max=512,
                    tooltip="Half the side of the square that is moved, in pixels of the latent [r]: of Stable "
                    "Diffusion 8 pixels of the picture each, of a pixel prior one. Larger moves more around a point, "
                    "and further.",
                ),
                io.Float.Input(
                    "alpha",
                    default=1.1,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    round=False,
                    tooltip="What a moved square is multiplied by [alpha]. Higher holds its own at the target, with "
                    "stronger colours; under 1 it fades.",
                ),
                io.Float.Input(
                    "beta",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=False,
                    tooltip="How much is left where it came from [beta]; the rest is noise. 1 leaves a copy behind, 0 "
                    "nothing.",
                ),
                _scale("cfg_start", 1.0, "Guidance near the clean picture. Only where negative is connected."),
                _scale(
                    "cfg_end",
                    3.0,
                    "Guidance at the depth, and evenly between. Higher turns the picture towards positive, for twice "
                    "the time. Only where negative is connected.",
                ),
                sockets.seed("Draws all noise: another seed, another way of growing together."),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="What cfg leads away from: the unconditional output or an empty prompt. Without it there "
                    "is no guidance, and positive alone counts.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="What may change: 1 may, 0 stays to the bit. The size of the picture.",
                ),
                *sockets.fit_widgets(),
            ],
            outputs=[
                io.Image.Output(display_name="dragged", tooltip="The picture after the last drag step."),
                io.Image.Output(
                    display_name="steps", tooltip="The picture after each drag step, the first picture of a batch."
                ),
                io.String.Output(display_name="report", tooltip="Drag steps, network calls, and the size."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        vae,
        image,
        positive,
        points,
        kind,
        order,
        depth,
        steps,
        radius,
        alpha,
        beta,
        cfg_start,
        cfg_end,
        seed,
        negative=None,
        mask=None,
        fit="crop",
        max_side=sockets.MAX_SIDE,
    ):
        sockets.check_choice("kind", kind, KINDS)
        sockets.check_choice("order", order, ORDERS)
        image = checked_image(image)
        # under a key of its own, so that the page does not draw it below the node as well
        shown = {"picture": ui.PreviewImage(image[:1], cls=cls).as_dict()["images"]}
        seen = fitted(model, vae, image, fit, max_side)
        mask = fitted_mask(model, vae, image, checked_mask(mask), fit, max_side)
        x = samples_of(model, {"samples": vae.encode(seen)})
        pairs = placed(points_of(points), frame_of(model, image, seen, fit), image, x)
        check_drag(pairs, x.shape, radius)
        moves, path = moves_of(pairs, order), path_for(model, steps, depth, spacing="linspace")[0][:-1]
        guided, guidance = guided_by(model, positive, negative, cfg_start, cfg_end, path)
        results = dragged(
            guided,
            x,
            path,
            moves,
            seeds=item_seeds(seed, len(x)),
            draws=drag_draws(pairs, path),
            kind=kind,
            radius=radius,
            alpha=alpha,
            beta=beta,
            mask=mask if mask is None else latent_mask(model, mask, x),
        )
        pictures = [pasted(vae.decode(state), seen, mask) for state in results] or [seen]
        report = [
            f"{len(moves)} drag steps, {drag_calls(len(moves), path, kind)} network calls{guidance}",
            *filter(None, [size_told(model, image, seen)]),
        ]
        frames = torch.cat([picture[:1] for picture in pictures])
        return io.NodeOutput(pictures[-1], frames, "; ".join(report) + ".", ui=shown)


def _scale(name, default, tooltip):
    return io.Float.Input(name, default=default, min=0.0, max=100.0, step=0.1, round=False, tooltip=tooltip)


def points_of(text):
    """[((x, y), (x, y)), ...] of JSON, [] of nothing; ValueError with a sentence for anything else."""
    try:
        pairs = json.loads(text.strip() or "[]")
        found = [tuple(tuple(map(_number, pair[end])) for end in ("from", "to")) for pair in pairs]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError):
        found = None
    if found is None or not isinstance(pairs, list) or any(len(point) != 2 for pair in found for point in pair):
        raise ValueError(f"The points {str(text)[:40]!r} are no list of pairs: {FORM}.")
    return found


def _number(value):
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def checked_mask(mask):
    """The MASK, if any; ValueError where it lets nothing change."""
    if mask is not None and mask.numel() and not (mask > 0).any():
        raise ValueError("The mask covers nothing, so that nothing may change: paint where it may, or disconnect it.")
    return mask


def frame_of(model, image, seen, fit):
    """(left, top, width, height) of the part of IMAGE that `seen` shows, in its pixels."""
    height, width = image.shape[1:3]
    if not isinstance(model.model, PixelModel):
        # the VAE's crop
        return (width - seen.shape[2]) // 2, (height - seen.shape[1]) // 2, seen.shape[2], seen.shape[1]
    if fit == "whole":
        return 0, 0, width, height
    left, top = (round((side - min(width, height)) / 2) for side in (width, height))
    return left, top, width - 2 * left, height - 2 * top


def placed(pairs, frame, image, x):
    """Pairs in pixels of IMAGE as pairs in pixels of the LATENT tensor x; ValueError where one lies outside."""
    left, top, width, height = frame
    whole, scale = image.shape[2:0:-1], (x.shape[-1] / width, x.shape[-2] / height)
    for x0, y0 in (point for pair in pairs for point in pair):
        told = f"The point ({x0:g}, {y0:g})"
        if not (0 <= x0 <= whole[0] and 0 <= y0 <= whole[1]):
            raise ValueError(
                f"{told} lies outside the picture: take x from 0 to {whole[0]} and y from 0 to {whole[1]}."
            )
        if not (left <= x0 <= left + width and top <= y0 <= top + height):
            raise ValueError(f"{told} is cut off, as the model sees the middle only: take fit whole, or another point.")
    return [tuple(((x0 - left) * scale[0], (y0 - top) * scale[1]) for x0, y0 in pair) for pair in pairs]


def guided_by(model, positive, negative, start, end, path):
    """(Guided, what to say of it): guided by `start` at the clean end of a VE path, by `end` at the deep one.

    Without a negative it is not. A ramp stands in the MODEL's own place for how guidance is added, round what another
    node put there.
    """
    if negative is None or start == end == 1:
        return Guided(model, positive), ""
    if start != end:
        scale, add = (
            guidance_ramp(native_sigmas(model, path), start, end),
            model.model_options.get("sampler_cfg_function", _plain),
        )
        model = model.clone()
        model.set_model_sampler_cfg_function(
            lambda args: add({**args, "cond_scale": per_item(scale(args["sigma"]), args["input"])})
        )
    # at 1 ComfyUI would leave out the negative
    return Guided(model, positive, negative, end if end != 1 else start), f", cfg {start:g} to {end:g}"


def _plain(args):
    return args["uncond"] + args["cond_scale"] * (args["cond"] - args["uncond"])


def dragged(guided, x, path, moves, *, seeds, draws, mask, kind, **options):
    """The LATENT tensors after each drag step. mask: (B or 1, 1, ..., h, w), 0 where x stays to the bit."""
    progress = Progress(guided.model, len(moves) * drag_reports(path, kind))
    noise, state, results = seeded_noise(seeds, DRAG), x, []
    for k, step in enumerate(moves):
        drawn = numbered_from(noise, k * draws)

        def method(model, x, sigmas, extra_args, callback, disable, step=step, drawn=drawn):
            here = {"moves": step, "noise_sampler": drawn, "mask": None if mask is None else mask.to(x)}
            return drag_step(model, x, sigmas, extra_args, callback, disable, kind=kind, **here, **options)

        state = guided.edit(method, state, path, progress.part(drag_reports(path, kind)))
        results.append(state)
    return results


def pasted(picture, seen, mask):
    """IMAGE as decoded, and as `seen` where the MASK, if any, is 0, to the bit."""
    picture = picture.clamp(0, 1)
    return picture if mask is None else torch.lerp(seen, picture, mask.clamp(0, 1)[..., None].to(picture))
