"""Cycle-SDE."""

import comfy.model_management
import torch
from comfy_api.latest import io

from ..samplers import cycle
from ..samplers.noise import RECORD, seeded_noise
from . import sockets
from .decode import check_fits
from .guider import Progress, Translating, item_seeds, samples_of, ve_sigmas
from .invert import comes_back
from .masks import latent_mask, mask_in

FORMS = {"delta": False, "recorded noise": True}


class CycleSDE(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_CycleSDE",
            display_name="Cycle-SDE",
            category="CODE",
            description="Turns what a picture shows into something else and keeps the rest: its own noise is recorded "
            "and used again under another condition.",
            inputs=[
                sockets.model(),
                sockets.latent("The picture, encoded and clean."),
                sockets.sigmas("From CODE Schedule. Deeper changes more and keeps less; about 0.6 to begin with."),
                *sockets.source_and_target(),
                sockets.seed("Draws the noise that is recorded: another seed, another edit."),
                io.Combo.Input(
                    "record",
                    options=list(cycle.RECORDS),
                    default="markov",
                    tooltip="How noise is added to the picture. markov, the paper's: step by step. independent: anew "
                    "at each level, which keeps more of the picture [edit-friendly]. posterior: backwards from the "
                    "noisiest, with eta below 1 [CycleDiffusion].",
                ),
                io.Float.Input(
                    "eta",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=False,
                    tooltip="How much of each step is noise. 1 is the paper's SDE. Lower keeps errors of the way, as "
                    "the ODE does; 0 is the ODE, which a trajectory needs.",
                ),
                *sockets.translating_guidance(),
                sockets.edit_mask(),
                sockets.Trajectory.Input(
                    "trajectory",
                    optional=True,
                    tooltip="From DDIM Invert of this latent with these sigmas, in place of a record. With eta 0 this "
                    "is direct inversion: it comes back under any guidance.",
                ),
                io.Combo.Input(
                    "form",
                    options=list(FORMS),
                    default="delta",
                    optional=True,
                    tooltip="delta: the noise cancels, and what does not change comes back bit for bit. recorded "
                    "noise: as in the paper's code, where digits are lost; to compare.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The edited picture, for VAE Decode."),
                sockets.Trajectory.Output(
                    display_name="trajectory", tooltip="The record: the noised states of the input, level by level."
                ),
                io.String.Output(display_name="report", tooltip="Network calls, and how far the picture moved."),
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
        seed,
        record,
        eta,
        negative=None,
        cfg=sockets.EDIT_CFG,
        source_cfg=1.0,
        mask=None,
        trajectory=None,
        form="delta",
    ):
        sockets.check_choice("record", record, cycle.RECORDS)
        sockets.check_choice("form", form, FORMS)
        samples, path, mask = samples_of(model, latent), ve_sigmas(model, sigmas), mask_in(latent, mask)
        mask = None if mask is None else latent_mask(model, mask, samples)
        if trajectory is not None:
            check_fits(trajectory, samples)
        noise, made = seeded_noise(item_seeds(latent, seed), RECORD), {}

        def edit(model, x, sigmas, extra_args, callback, disable, source):
            if trajectory is None:
                made["path"] = cycle.record(x, sigmas, noise, record, eta)
            else:
                made["path"] = inversion_of(x, trajectory)
            [start] = made["path"].at(sigmas[:1].tolist())
            settings = {"path": made["path"], "eta": eta, "mask": None if mask is None else mask.to(x)}
            return cycle.cycle_sde(
                model, start, sigmas, extra_args, callback, source=source, recorded_noise=FORMS[form], **settings
            )

        translating, steps = Translating(model, source, target, negative, cfg, source_cfg), len(path) - 1
        edited = translating.edit(edit, samples, path, Progress(model, steps).part(steps))
        record = made["path"].map(lambda state: state.to(comfy.model_management.intermediate_device()))
        report = f"{2 * steps} network calls from sigma {path[0]:.4g} down; {moved(model, edited, samples)}."
        return io.NodeOutput({**latent, "samples": edited}, record, report)


def inversion_of(x, trajectory):
    """The Trajectory of DDIM Invert, for pictures like x; ValueError where it is not that of the pictures x."""
    trajectory = trajectory.map(lambda state: state.to(x).expand_as(x))
    if not torch.allclose(trajectory.states[0.0], x, rtol=1e-4, atol=1e-4):
        raise ValueError("The trajectory is that of another picture: connect the latent that its DDIM Invert took.")
    trajectory.reached(0.0, x)
    return trajectory


def moved(model, edited, samples):
    """How far an edit took a picture, in words."""
    if torch.equal(edited, samples):
        return "the picture came back bit for bit"
    return f"the picture lies at {comes_back(model, edited, samples):.1f} dB PSNR from what went in"
