"""Null-Text / TOP."""

import comfy.model_management
import torch
from comfy_api.latest import io

from ..samplers.noise import NULL_TEXT, seeded_noise
from ..samplers.null_text import NOISE_BIASES, corrected_decode, null_text
from . import sockets
from .decode import check_fits
from .gradients import magnified, normal_weights
from .guider import Guided, Progress, item_seeds, samples_of, ve_sigmas
from .invert import comes_back
from .pixel_prior import PixelModel

GUIDANCE = 7.5
AT_GUIDANCE = ("sampler_pre_cfg_function", "sampler_cfg_function", "sampler_post_cfg_function")
FROM_INVERSION = "From DDIM Invert, with cfg 1 and the same sigmas."


class Nulled(Guided):
    """A MODEL under a condition, and under a null condition that a method may move; both without guidance.

    A method runs on it as method(model, x, sigmas, extra_args, callback, disable, unconditional=...), where
    unconditional(x, sigma, null) is the denoiser under the null condition `null`, (B, ...), started from `null()`.
    """

    def __init__(self, model, positive, negative, cfg):
        super().__init__(model, positive, negative, cfg)
        self.guider.set_cfg(1.0)
        # what of the conditioning is moved: the class embedding of a pixel prior, the tokens of a prompt
        self.name = "y" if isinstance(model.model, PixelModel) else "c_crossattn"
        if cfg == 1:
            raise ValueError("With a cfg of 1 there is no guidance to correct for: set it as you will decode, or 7.5.")
        if len(negative) != 1 or any("control" in entry[1] or "gligen" in entry[1] for entry in (*positive, *negative)):
            raise ValueError(
                "Null-Text moves a single negative prompt or class, with no ControlNet or GLIGEN: connect one as it "
                "comes from CLIP Text Encode or the prior."
            )

    def run(self, method, samples, sigmas, callback, seed=0):
        def sample(model, x, sigmas, extra_args, callback, disable):
            with torch.inference_mode(False):
                self.guider.conds = {name: [_ordinary(c) for c in conds] for name, conds in self.guider.conds.items()}
            if self.name not in self._negative["model_conds"]:
                raise ValueError("This MODEL takes no prompt that could be moved: choose another method.")

            # guidance is the method's own: what a patch does with it, or after it, may have no gradient
            options = {name: value for name, value in extra_args["model_options"].items() if name not in AT_GUIDANCE}
            extra_args = {**extra_args, "model_options": options}

            def unconditional(x, sigma, null, **extra_args):
                # a step makes many calls between two reports
                comfy.model_management.throw_exception_if_processing_interrupted()
                conds = self.guider.conds
                self.guider.conds = {"positive": [self._moved(null)], "negative": conds["negative"]}
                try:
                    return model(x, sigma, **extra_args)
                finally:
                    self.guider.conds = conds

            return method(model, x, sigmas, extra_args, callback, disable, unconditional=magnified(unconditional))

        return super().run(sample, samples, sigmas, callback, seed)

    def null(self):
        """The null condition as it is connected, (1, ...) or (B, ...) floats; within a run."""
        null = self._negative["model_conds"][self.name].cond
        return self.guider.inner_model.embedded(null) if self.name == "y" else null.float()

    @property
    def _negative(self):
        return self.guider.conds["negative"][0]

    def _moved(self, null):
        conds = self._negative["model_conds"]
        return {**self._negative, "model_conds": {**conds, self.name: type(conds[self.name])(null)}}


def _ordinary(cond):
    """A processed condition whose tensors can take part in gradients."""
    conds = {
        name: value._copy_with(value.cond.clone()) if isinstance(value.cond, torch.Tensor) else value
        for name, value in cond["model_conds"].items()
    }
    return {**cond, "model_conds": conds}


class NullText(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_NullText",
            display_name="Null-Text / TOP",
            category="CODE",
            description="Finds what makes a picture come back under guidance: at each noise level the negative "
            "condition is moved a little until guided decoding follows the inversion. For Guided Decode.",
            inputs=[
                sockets.model(),
                sockets.Trajectory.Input("trajectory", tooltip=FROM_INVERSION),
                sockets.sigmas("From DDIM Invert. Fewer steps take less time; Guided Decode takes the same."),
                io.Conditioning.Input("positive", tooltip="What the picture was inverted under."),
                io.Conditioning.Input(
                    "negative",
                    tooltip="What is moved: an empty prompt, or the prior's unconditional output. A single one.",
                ),
                io.Float.Input(
                    "cfg",
                    default=GUIDANCE,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="The guidance to correct for, and to decode with. Higher changes more under another "
                    "condition, and is harder to correct for.",
                ),
                io.Int.Input(
                    "updates",
                    default=10,
                    min=0,
                    max=1000,
                    tooltip="At most so many updates at each step [N]. More comes back more exactly, and takes longer: "
                    "each is two to three network calls.",
                ),
                io.Combo.Input(
                    "noise_bias",
                    options=list(NOISE_BIASES),
                    default="off",
                    tooltip="Where the state is moved as well [z_T]. off is Null-Text; first is latent-TOP, at the "
                    "depth alone; every comes back best, at each step, and keeps more of the picture in an edit.",
                ),
                io.Int.Input(
                    "starts",
                    default=1,
                    min=1,
                    max=1000,
                    tooltip="At the depth, the best of so many random starting points is taken [20 in latent-TOP]. "
                    "Rarely visible.",
                ),
                io.Int.Input(
                    "hops",
                    default=0,
                    min=0,
                    max=100,
                    tooltip="So often again, from around the best that was found. Rarely visible.",
                ),
                sockets.seed("Draws the starting points.", changes=False),
                io.Float.Input(
                    "tolerance",
                    default=1e-5,
                    min=0.0,
                    max=1.0,
                    step=1e-6,
                    round=False,
                    tooltip="A step ends once it misses by no more than this, a mean square. Lower comes back more "
                    "exactly, and takes longer.",
                ),
            ],
            outputs=[
                sockets.Corrections.Output(
                    display_name="corrections", tooltip="For Guided Decode, with method null-text."
                ),
                io.String.Output(
                    display_name="report", tooltip="How exactly the picture comes back under guidance with them."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        trajectory,
        sigmas,
        positive,
        negative,
        cfg,
        updates,
        noise_bias,
        starts,
        hops,
        seed,
        tolerance,
    ):
        sockets.check_choice("noise bias", noise_bias, NOISE_BIASES)
        guided, path = Nulled(model, positive, negative, cfg), ve_sigmas(model, sigmas)
        check_fits(trajectory, trajectory.states[0.0])
        [start, end] = trajectory.at([path[0].item(), path[-1].item()])
        samples, made = samples_of(model, {"samples": start}), {}
        settings = {"updates": updates, "noise_bias": noise_bias, "starts": starts, "hops": hops}
        settings |= {
            "noise_sampler": seeded_noise(item_seeds({"samples": start}, seed), NULL_TEXT),
            "tolerance": tolerance,
        }

        def fit(model, x, sigmas, extra_args, callback, disable, unconditional):
            normal_weights(guided.guider.inner_model)
            x, common = start.to(x), {"unconditional": unconditional, "guidance": cfg}
            links = {"null": guided.null(), "path": trajectory, **common, **settings}
            found = null_text(model, x, sigmas, extra_args, callback, **links)
            made["found"] = found.map(lambda value: value.to(comfy.model_management.intermediate_device()))
            back = corrected_decode(model, x, sigmas, extra_args, corrections=found, **common)
            made["dB"] = comes_back(guided.model, back, end.to(back))
            return back

        # the states come from the trajectory: an empty latent is left as it is
        guided.run(fit, torch.zeros_like(samples), path, Progress(model, len(path) - 1).part(len(path) - 1))
        report = f"{len(path) - 1} steps from sigma {path[0]:.4g}; with a cfg of {cfg:g} it comes back at "
        return io.NodeOutput(made["found"], f"{report}{made['dB']:.1f} dB PSNR.")
