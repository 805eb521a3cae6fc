"""CODE Knobs and CODE Film Strip: what depth and step size do to a picture, and how a run of CODE Restore goes."""

from dataclasses import replace
from itertools import product

import numpy as np
import torch
from comfy_api.latest import io

from ..evaluation import knobs as evaluation
from ..evaluation.film import Film as Frames
from ..samplers.langevin import langevin_calls
from ..samplers.restore import STEP_SCALES, check_parts, decode_parts, restore_calls
from . import sockets
from .automatic import calibration_of, statistics
from .guider import Guided, Progress
from .langevin import calls_told
from .masks import masks_of
from .restore import Restore, asked_of, chosen_for, restored_with, size_told
from .schedule import path_for


class Watched:
    """A Guided whose reports to a sampler's callback are given to `watch` as well, and to another `progress`."""

    def __init__(self, guided, watch=None, progress=None):
        self.guided, self.watch, self.progress, self.model = guided, watch, progress, guided.model

    def run(self, method, samples, sigmas, callback, seed=0):
        def watched(model, x, sigmas, extra_args=None, callback=None, disable=None):
            def report(state):
                if self.watch:
                    self.watch(state)
                callback(state)

            return method(model, x, sigmas, extra_args, report, disable)

        return self.guided.run(watched, samples, sigmas, self.progress or callback, seed)


class Run:
    """A picture as CODE Restore takes it, the first of a batch, and the Settings that its widgets ask for."""

    def __init__(
        self,
        model,
        vae,
        image,
        positive,
        preset,
        seed,
        negative=None,
        mask=None,
        fit="crop",
        max_side=sockets.MAX_SIDE,
        **custom,
    ):
        image, mask = image[:1], mask if mask is None else masks_of(mask)[:1]
        self.model, self.vae, self.seed = model, vae, seed
        self.positive, self.negative = positive, negative
        self.seen, self.x, self.mask = asked_of(model, vae, image, preset, mask, fit, max_side)
        self.size = size_told(model, image, self.seen)
        self.up = Guided(model, negative or positive)
        [(_, self.name, self.settings)] = chosen_for(self.up, self.x, preset, seed, custom)

    def restored(self, settings, watch=None, progress=None):
        """IMAGE, the picture restored with Settings."""
        down = Guided(self.model, self.positive, self.negative, settings.cfg)
        up, down = (Watched(guided, watch, progress) for guided in (self.up, down))
        x, *_ = restored_with(settings, up, down, self.x, seeds=[self.seed], samples=1, mask=self.mask)
        return self.vae.decode(x).clamp(0, 1)

    def shown(self, denoised):
        """The picture, (1, 3, H, W) in [-1, 1], of a denoised state in the model's scale."""
        latent = self.model.get_model_object("latent_format").process_out(denoised)
        return picture_of(self.vae.decode(latent))

    def way(self, settings):
        """(steps of progress, network calls) of `restored`; ValueError where the step is unstable on its way."""
        sockets.check_choice("scale", settings.scale, STEP_SCALES)
        path, _ = path_for(self.model, settings.steps, settings.depth)
        levels, langevin = settings.levels_on(self.model, path), settings.langevin()
        check_parts(decode_parts(path, levels, settings.scale), settings.step_size, **langevin)
        updates = len(levels) * langevin_calls(settings.updates, settings.blocks)
        return 2 * len(path) - 3 + updates, restore_calls(path, settings.updates, settings.blocks, levels=levels)


def picture_of(image):
    """IMAGE as (B, 3, H, W) in [-1, 1]."""
    return 2 * image[..., :3].movedim(-1, 1).float() - 1


def image_of(sheet):
    """A Pillow image as IMAGE."""
    return torch.from_numpy(np.asarray(sheet, dtype=np.float32) / 255)[None]


def sockets_of_restore():
    """The inputs of CODE Restore, without samples."""
    return [socket for socket in Restore.define_schema().inputs if socket.id != "samples"]


class Knobs(sockets.Node):
    @classmethod
    def define_schema(cls):
        *picture, preset, seed = sockets_of_restore()[:6]
        return io.Schema(
            node_id="CODE_Knobs",
            display_name="CODE Knobs: Depth and Step",
            category="CODE",
            description="Restores a picture at several depths with several step sizes, and draws what the two do: a "
            "grid of pictures, realism against fidelity, and how the updates get there.",
            inputs=[
                *picture,
                preset,
                io.String.Input(
                    "depths",
                    default=evaluation.DEPTHS,
                    tooltip="The rows: depths with commas between, fractions of the schedule. Deeper looks more real "
                    "and is less faithful.",
                ),
                io.String.Input(
                    "step_sizes",
                    default=evaluation.STEP_SIZES,
                    tooltip="The columns: step sizes with commas between. Larger moves further from the damage and "
                    "from the photo.",
                ),
                seed,
                *sockets_of_restore()[6:],
            ],
            outputs=[
                io.Image.Output(
                    display_name="grid", tooltip="All pictures: a row for each depth, a column for each step size."
                ),
                io.Image.Output(
                    display_name="curve",
                    tooltip="How real each looks against how far it was moved; the grid for a model without "
                    "calibration, which the bundled priors have.",
                ),
                io.Image.Output(
                    display_name="convergence",
                    tooltip="Both over the updates of the preset's run; the grid without updates.",
                ),
                io.String.Output(display_name="report", tooltip="Network calls, and the numbers of each picture."),
            ],
        )

    @classmethod
    def execute(cls, depths, step_sizes, **inputs):
        depths, step_sizes = evaluation.values_of(depths, "depths"), evaluation.values_of(step_sizes, "step sizes")
        run, grid = Run(**inputs), list(product(depths, step_sizes))
        given, calibration = run.settings, calibration_of(run.model)
        own, clean = (given.depth, given.step_size), evaluation.clean_damage(calibration)
        # without any of the three CODE Restore would refuse
        counts = evaluation.fewer_updates(given.updates, 0 if given.clip or given.cfg != 1 else 1)
        runs = [at(given, *place) for place in dict.fromkeys([*grid, own])]
        runs += [replace(given, updates=count) for count in counts[:-1]]
        reads = 0 if calibration is None else calibration.calls * (len(runs) + 1)
        ways = [run.way(settings) for settings in runs]
        bar = Progress(run.model, sum(steps for steps, _ in ways) + reads)

        def progress(step, denoised, x, _):
            bar.callback(bar.done, denoised, x, bar.steps)
            bar.done += 1

        def restore(depth, step_size, updates, watch):
            settings, before = at(given, depth, step_size, updates), bar.done
            picture = picture_of(run.restored(settings, watch, progress))
            # updates may have stopped early
            bar.done = before + run.way(settings)[0]
            return picture

        def damage(picture):
            if calibration is None:
                return None
            found = calibration.damage(statistics(run.up, picture, run.seed)).item()
            bar.done += calibration.calls
            bar.callback(bar.done - 1, picture, picture, bar.steps)
            return found

        photo = picture_of(run.seen)
        found = evaluation.explore(restore, run.shown, damage, photo, grid, counts, own, run.name, clean)
        calls = sum(calls for _, calls in ways) + reads
        drawn, said = evaluation.grid_sheet(found), [calls_told(calls, given.stop_at)]
        curve, convergence = evaluation.curve(found), evaluation.convergence(found)
        said += [evaluation.NO_CURVE] * (curve is None) + [evaluation.NO_UPDATES] * (convergence is None)
        said += [run.size] * (run.size is not None) + [evaluation.report(found)]
        sheets = (image_of(sheet or drawn) for sheet in (drawn, curve, convergence))
        return io.NodeOutput(*sheets, "\n".join(said))


def at(settings, depth, step_size, updates=None):
    return replace(settings, depth=depth, step_size=step_size, updates=settings.updates if updates is None else updates)


class Film(sockets.Node):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CODE_Film",
            display_name="CODE Film Strip",
            category="CODE",
            description="Restores a picture as CODE Restore does, and shows what the model takes it for on the way: up "
            "the ODE, after the updates, and down again.",
            inputs=sockets_of_restore(),
            outputs=[
                io.Image.Output(
                    display_name="film",
                    tooltip="The picture, what the model sees in it at some noise levels up and down, and the result.",
                ),
                io.Image.Output(
                    display_name="restored",
                    tooltip="The restoration, the same as CODE Restore's; of the first picture.",
                ),
            ],
        )

    @classmethod
    def execute(cls, **inputs):
        run, frames = Run(**inputs), Frames()
        restored = run.restored(run.settings, frames)
        shown = Frames([replace(frame, picture=run.shown(frame.picture)) for frame in frames.frames])
        title = f"{run.name}: {', '.join(evaluation.said_of(run.settings.depth, run.settings.step_size))}"
        sheet = evaluation.film_of(shown, picture_of(run.seen), picture_of(restored), title)
        return io.NodeOutput(image_of(sheet), restored)
