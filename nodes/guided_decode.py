"""Guided Decode."""

import torch
from comfy_api.latest import io

from ..samplers.cycle import cycle_sde
from ..samplers.null_text import corrected_decode
from ..samplers.ode import euler
from . import sockets
from .cycle import moved
from .decode import check_fits
from .guider import Guided, Progress, Translating, as_given, samples_of, ve_sigmas
from .null_text import FROM_INVERSION, GUIDANCE, Nulled

METHODS = ["direct", "negative prompt", "null-text", "plain"]


class GuidedDecode(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_GuidedDecode",
            display_name="Guided Decode",
            category="CODE",
            description="Brings an inverted picture down under guidance, as what it was or as something else, and "
            "keeps the rest of it.",
            inputs=[
                sockets.model(),
                sockets.latent("The noisy latent, from DDIM Invert with cfg 1."),
                sockets.sigmas("From DDIM Invert."),
                *sockets.source_and_target(),
                io.Combo.Input(
                    "method",
                    options=METHODS,
                    default="direct",
                    tooltip="How the picture is kept. direct: the error of guidance is taken out at each step, and "
                    "what does not change comes back to the bit. negative prompt: guided away from source; comes back "
                    "as well as without guidance, and changes more. null-text: by the corrections of Null-Text / TOP. "
                    "plain: guided DDIM, which loses the picture; to compare.",
                ),
                *sockets.guidance(
                    "Guidance. Higher turns the picture further towards target and keeps less of it; 1 is off.",
                    GUIDANCE,
                    "What cfg leads away from: an empty prompt, or the prior's unconditional output. Left out, direct "
                    "leads away from source, which changes more of the picture; negative prompt always does so.",
                ),
                sockets.Trajectory.Input(
                    "trajectory", optional=True, tooltip=f"{FROM_INVERSION} Needed by direct; others report with it."
                ),
                sockets.Corrections.Input(
                    "corrections",
                    optional=True,
                    tooltip="From Null-Text / TOP with the same negative, cfg and sigmas. Needed by null-text.",
                ),
                io.Float.Input(
                    "source_cfg",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    optional=True,
                    tooltip="Guidance of what the picture shows, in method direct. 0 takes cfg: what does not change "
                    "comes back to the bit. 1, for edits: turns the picture further to target and keeps more of it, "
                    "and does not bring it back.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The picture, for VAE Decode."),
                io.String.Output(
                    display_name="report", tooltip="Network calls, and, with trajectory, how far the picture moved."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        latent,
        sigmas,
        source,
        target,
        method,
        negative=None,
        cfg=GUIDANCE,
        trajectory=None,
        corrections=None,
        source_cfg=0.0,
    ):
        sockets.check_choice("method", method, METHODS)
        samples, path = samples_of(model, latent), ve_sigmas(model, sigmas)
        for needed, what, socket in (("direct", trajectory, "trajectory"), ("null-text", corrections, "corrections")):
            if method == needed and what is None:
                origin = "DDIM Invert" if socket == "trajectory" else "Null-Text / TOP"
                raise ValueError(f"The method {method} needs the {socket} of {origin}: connect it, or choose another.")
        if trajectory is not None:
            check_fits(trajectory, samples)
        guided, way = prepared(method, model, source, target, negative, cfg, source_cfg, trajectory, corrections)
        made = {}

        def down(model, x, *arguments, **more):
            made["picture"] = way(model, _as_inverted(x, path, trajectory), *arguments, **more)
            return made["picture"]

        decoded = guided.run(down, samples, path, Progress(model, len(path) - 1).part(len(path) - 1))
        calls = (2 if method in ("direct", "null-text") else 1) * (len(path) - 1)
        report = f"{method}: {calls} network calls from sigma {path[0]:.4g} down"
        if trajectory is not None:
            picture, before = made["picture"], trajectory.states[0.0].to(made["picture"])
            report += f"; {moved(model, picture, before.expand_as(picture))}"
            if trajectory.given is not None:
                decoded = as_given(decoded, picture == before, trajectory.given)
        return io.NodeOutput({**latent, "samples": decoded}, f"{report}.")


def prepared(method, model, source, target, negative, cfg, source_cfg, trajectory, corrections):
    """(Guided, the method to run on it)."""
    if method == "direct":

        def direct(model, x, sigmas, extra_args, callback, disable, source):
            kept = trajectory.map(lambda state: state.to(x).expand_as(x))
            return cycle_sde(model, x, sigmas, extra_args, callback, path=kept, source=source, eta=0.0)

        # what is guided away from itself stays what it is
        away = negative if source_cfg else negative or source
        return Translating(model, source, target, away, cfg, source_cfg or cfg), direct
    if method == "null-text":
        guided = Nulled(model, target, negative, cfg)

        def corrected(model, x, sigmas, extra_args, callback, disable, unconditional):
            held = corrections.nulls.shape[1:]
            if held[0] != len(x) or held[1:] != guided.null().shape[1:]:
                raise ValueError(
                    "The corrections are those of another picture, batch or MODEL: connect the ones that Null-Text "
                    "found for this inversion."
                )
            links = {"unconditional": unconditional, "corrections": corrections, "guidance": cfg}
            return corrected_decode(model, x, sigmas, extra_args, callback, **links)

        return guided, corrected
    away = source if method == "negative prompt" else negative
    return Guided(model, target, away, cfg), euler


def _as_inverted(x, path, trajectory):
    """x, or the state that the inversion ended in where x is that but for the rounding of a LATENT."""
    state = trajectory and trajectory.states.get(path[0].item())
    if state is None:
        return x
    state = state.to(x).expand_as(x)
    return state if torch.allclose(x, state, rtol=1e-5, atol=1e-5) else x
