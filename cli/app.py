"""The commands and their options. What they do is imported when they run, so that --help is quick."""

import contextlib
import inspect
import sys
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import typer

from ..evaluation.presets import AUTO, PRESETS
from ..evaluation.settings import MORE_QUIRKS, QUIRKS, SOLVERS, SPACINGS, Settings

DEFAULT = Settings()
DEMO_SETTINGS = Path(__file__).with_name("demo.toml")
BENCH_METHODS = Path(__file__).with_name("bench.toml")

app = typer.Typer(
    help="Restores damaged pictures with a diffusion model, by Confident ODE Editing (CODE).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
priors_app = typer.Typer(
    help="Lists the priors that there are, trains your own, and converts old weights to safetensors."
)
app.add_typer(priors_app, name="priors")


@contextlib.contextmanager
def one_sentence():
    """End a command with one sentence on stderr: exit code 2 where something is wrong with the input, 130 on Ctrl-C."""
    try:
        yield
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        raise typer.Exit(130) from None


def option(panel, help, *names):
    return typer.Option(*names, help=help, rich_help_panel=panel)


def _listed(names):
    """Names as they are written on the command line."""
    return ", ".join(name.replace(" ", "-") for name in names)


look = partial(option, "Fidelity and realism")
results = partial(option, "Results")
numerics = partial(option, "Solver")
model = partial(option, "Model")
machine = partial(option, "Machine")


@app.command()
def restore(
    context: typer.Context,
    photos: Annotated[list[Path], typer.Argument(help="The damaged pictures, of any kind and shape.")],
    output: Annotated[Path, results("The folder for the results, made if it is not there.", "-o", "--output")],
    prior: Annotated[
        str, look("What good pictures look like: a bundled prior, a diffusers folder, or a hub id.", "-p", "--prior")
    ] = "flowers64",
    preset: Annotated[
        str,
        look(
            "What is wrong with the photo: auto sees for itself and chooses, if the prior is calibrated as the bundled "
            f"ones are; or {', '.join(PRESETS)}. What you say beside it goes before."
        ),
    ] = "balanced",
    method: Annotated[
        str,
        look(
            "code; odedit, many small updates from the deepest noise (100 levels of the whole schedule unless you say "
            "otherwise: slow); official, what the authors' code computes, quirks included. Each has its own defaults; "
            "those shown are code's."
        ),
    ] = DEFAULT.method,
    depth: Annotated[
        str,
        look(
            "How far into the noise to go: a fraction (0.4), a timestep (t=400) or a noise level (sigma=1.2). Deeper "
            "looks more real and stays less faithful to the photo (L)."
        ),
    ] = str(DEFAULT.depth),
    levels: Annotated[
        int,
        look(
            "At how many noise levels to update on the way down, evenly from the depth to the shallowest. More look "
            "smoother, keep less of the photo, and take longer. odedit has 4, from the cleanest upwards."
        ),
    ] = DEFAULT.levels,
    shallowest: Annotated[
        str,
        look(
            "The cleanest of several levels, given like the depth. Cleaner keeps more of the photo and looks sharper, "
            "and leaves more of the damage."
        ),
    ] = str(DEFAULT.shallowest),
    step_size: Annotated[
        float, look("Size of an update. Larger repairs more and keeps less of the photo (ε).")
    ] = DEFAULT.step_size,
    step_mode: Annotated[
        str,
        look(
            "What the step size is: absolute, the paper's; relative to the noise variance of the level, so that one "
            "size, 0.003 say, does for every depth; or snr, a signal-to-noise ratio such as 0.08, which fits each "
            "photo's own noise."
        ),
    ] = DEFAULT.step_mode,
    step_scale: Annotated[
        str,
        look(
            "How the step grows over the path: none; geometric, from 1 at the depth to 100 at its cleanest, which "
            "works more on fine detail; or sigma, larger where it is deeper, which works more on what the photo shows."
        ),
    ] = DEFAULT.step_scale,
    updates: Annotated[
        int,
        look("Updates towards likely pictures, at each level. More look more real and keep less; 0 makes none (N)."),
    ] = DEFAULT.updates,
    damage: Annotated[
        str, look("For odedit: light, medium or heavy. Heavier makes more updates, and keeps less of the photo.")
    ] = DEFAULT.damage,
    blocks: Annotated[
        int, look("Blocks of updates, each ending in one that takes noise out: more look smoother (K).")
    ] = DEFAULT.blocks,
    decay: Annotated[
        float, look("What the step size is multiplied by after a block. Smaller keeps more of the photo (γ).")
    ] = DEFAULT.decay,
    stop_at: Annotated[
        float,
        look(
            "Updates of a photo stop once the noise that the model sees in it is no stronger than this: a likely photo "
            "has about 1. Lower updates longer, and keeps less of the photo; 0 never stops."
        ),
    ] = DEFAULT.stop_at,
    temperature: Annotated[
        float, look("Chance in the updates. 1 gives texture and variety, 0 the smoothest picture (T).")
    ] = DEFAULT.temperature,
    noiseless_last: Annotated[
        bool,
        look(
            "End each block of updates with one that adds no noise. Without it a little more grain stays, and each "
            "block saves a network call.",
            "--noiseless-last/--noisy-last",
        ),
    ] = DEFAULT.noiseless_last,
    start: Annotated[
        str | None,
        look(
            "What to decode from: updates, the photo as it is at the depth; or deepest, as it is at the end of the "
            "schedule, where all steps then lie, updated as it passes the depth. deepest looks far smoother with a "
            "clip, and keeps less of the photo. If not given, updates; official takes deepest where it clips."
        ),
    ] = DEFAULT.start,
    eta: Annotated[
        float, look("Width of the confidence clip. Smaller removes more damage, and more of strong colours (η).")
    ] = DEFAULT.eta,
    clip: Annotated[
        bool,
        look(
            "Clip what can be no picture with noise. Without it more of the photo stays, damage included.",
            "--clip/--no-clip",
        ),
    ] = DEFAULT.clip,
    clip_at: Annotated[
        str,
        look(
            "Where to clip: some of up, updates, down, with commas. up takes out what no noise explains; down too, the "
            "result is smoother, and in the updates smoother still, with less of the photo."
        ),
    ] = DEFAULT.clip_at,
    clip_range: Annotated[
        str,
        look(
            "What a clean picture can hold, for the clip, where black is -1 and white 1: pixels, all of that; "
            "fixed=-0.8,0.9, from low to high: narrower takes strong colours with the damage; quantiles=0.01, each "
            "channel of the photo without this share of its values at each end, so that specks go; around=0.5, so far "
            "from each value of the photo: with --clip-at updates,down smaller is more faithful and leaves more damage."
        ),
    ] = DEFAULT.clip_range,
    quirks: Annotated[
        str,
        look(
            f"For official: which quirks of the authors' code to keep: all, none, some of {_listed(QUIRKS)}, or all "
            f"but one, such as no-scale. {_listed(MORE_QUIRKS)} are left out unless you name them: all,second-noise. "
            "docs/deviations.md shows what each does to a picture."
        ),
    ] = DEFAULT.quirks,
    label: Annotated[
        str | None, look("What the photo shows, a class by name or number, if the prior knows classes.")
    ] = DEFAULT.label,
    guidance: Annotated[
        float, look("Pull towards the label. Above 1 it shows more clearly, and the photo less.")
    ] = DEFAULT.guidance,
    samples: Annotated[
        int, results("Results for each photo, of different chance.", "-n", "--samples")
    ] = DEFAULT.samples,
    seed: Annotated[int, results("The same seed gives the same result.")] = DEFAULT.seed,
    fit: Annotated[
        str,
        results(
            "How a photo becomes the prior's square: crop to its centre, pad its edges (cut off again) or stretch "
            "(stretched back). Or whole: it keeps its size, and is restored in overlapping windows as large as the "
            "prior's pictures. A window is all that the prior sees, so this wants one that knows such details at such "
            "a size: the bundled one knows whole flowers of 32 pixels, not a petal as large, and mends noise and "
            "wrong pixels in one, but no large holes."
        ),
    ] = "crop",
    max_side: Annotated[
        int,
        results(
            "For --fit whole: photos with a longer side are made this long. Smaller shows more of the photo in a "
            "window, looks more real and is faster; larger keeps more detail."
        ),
    ] = 512,
    film: Annotated[
        bool,
        results(
            "Also draw a film strip: what the network takes the photo for at levels on the way up, after the updates, "
            "and on the way down.",
            "--film",
        ),
    ] = False,
    heat: Annotated[
        bool,
        results(
            "Also draw what the clip did not believe: black where it never moved a place of the photo, through red to "
            "white where it did in every step.",
            "--heat",
        ),
    ] = False,
    compare: Annotated[str | None, results("Also restore with another method: sdedit.")] = None,
    sdedit_depth: Annotated[str | None, results("A depth for SDEdit, if not the same.")] = DEFAULT.sdedit_depth,
    steps: Annotated[
        int,
        numerics(
            "Steps up, and as many down. More keep the photo more exactly and take longer. For official: how many "
            "levels its grid over the whole schedule has (n)."
        ),
    ] = DEFAULT.steps,
    spacing: Annotated[str, numerics(f"Where the steps lie: {', '.join(SPACINGS)}.")] = DEFAULT.spacing,
    solver: Annotated[
        str, numerics(f"{', '.join(SOLVERS)}. At the same steps euler, which is DDIM, keeps less of the photo.")
    ] = DEFAULT.solver,
    threshold: Annotated[
        bool,
        numerics("Hold predicted pictures in range. Without it colours can burn.", "--threshold/--no-threshold"),
    ] = DEFAULT.threshold,
    threshold_at: Annotated[
        str,
        numerics(
            "Where to hold them: some of up, updates, down, with commas. With one of up and down alone what is not "
            "damaged comes back less exactly than with both or neither."
        ),
    ] = DEFAULT.threshold_at,
    device: Annotated[str, numerics("auto, cpu or cuda. auto takes a GPU where there is one.")] = "auto",
    precision: Annotated[
        str,
        numerics(
            "Of the network: fp32; or bf16 or fp16, which are up to several times faster where the machine computes "
            "with them, and hardly change a restored picture."
        ),
    ] = "fp32",
):
    """Restore damaged photos: each gives a picture, a sheet to compare, and a report in JSON."""
    with one_sentence():
        if compare not in (None, "sdedit"):
            raise ValueError(f"There is no method {compare!r} to compare with: take sdedit.")
        values = {**given(context), "sdedit": compare == "sdedit"}
        settings, chosen = settings_for(preset, values)
        from .photos import restore_photos

        failed = restore_photos(photos, output, prior, settings, fit, device, max_side, film, heat, chosen, precision)
    raise typer.Exit(2 if failed else 0)


def settings_for(preset, values):
    """(Settings of a preset, with `values` before it; `values` themselves where the preset is auto, else None)."""
    if preset not in (*PRESETS, AUTO):
        raise ValueError(f"The preset {preset!r} is unknown: take one of {', '.join((AUTO, *PRESETS))}.")
    return Settings.of({**PRESETS.get(preset, {}), **values}), values if preset == AUTO else None


def given(context):
    """The settings on the command line, without those left to the defaults, which are the method's."""
    return {
        field.name: context.params[field.name]
        for field in fields(Settings)
        if field.name in context.params and context.get_parameter_source(field.name).name == "COMMANDLINE"
    }


def with_options_of(command, *without):
    """Give a function with **options those of another command that it does not name itself."""

    def shared(function):
        own, others = (inspect.signature(each).parameters for each in (function, command))
        named = [parameter for parameter in own.values() if parameter.kind is not parameter.VAR_KEYWORD]
        options = [
            parameter.replace(kind=parameter.KEYWORD_ONLY)
            for name, parameter in others.items()
            if name not in own and name not in without
        ]
        function.__signature__ = inspect.Signature([*named, *options])
        function.__annotations__ |= {option.name: option.annotation for option in options}
        return function

    return shared


@app.command()
@with_options_of(restore, "photos", "samples", "film", "heat", "compare", "sdedit_depth")
def batch(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="The folder of damaged pictures, with others in it.")],
    output: Annotated[Path, results("The folder for the results, made if it is not there.", "-o", "--output")],
    at_once: Annotated[
        int,
        machine(
            "Pictures of one size restored together, which a GPU does faster; they differ by rounding only.", "--batch"
        ),
    ] = 1,
    engine: Annotated[
        str,
        machine("local, or ray: spread over the GPUs and machines of a Ray cluster, which all must see the folder."),
    ] = "local",
    address: Annotated[str | None, machine("The Ray cluster; without one, what is there or this machine.")] = None,
    **options,
):
    """Restore all pictures under a folder. Stop it when you like: the same command makes what is missing or changed."""
    with one_sentence():
        settings, chosen = settings_for(options["preset"], given(context))
        from .batch import Restorer, restore_folder

        prior, fit, max_side = (options[name] for name in ("prior", "fit", "max_side"))
        restorer = Restorer(prior, settings, fit, max_side, options["device"], chosen, options["precision"])
        failed = restore_folder(folder, output, restorer, at_once, engine, address)
    raise typer.Exit(2 if failed else 0)


@app.command()
def demo(
    image: Annotated[Path | None, typer.Argument(help="A photo to damage; without one, a dahlia.")] = None,
    label: Annotated[str | None, look("What the photo shows, a class of the prior, to guide to.")] = None,
    settings: Annotated[Path, results("The damages and the settings, in TOML.")] = DEMO_SETTINGS,
    output: Annotated[Path, results("The folder for the sheet.", "-o", "--output")] = Path("out"),
):
    """Damage a photo in several ways, restore each with CODE and with SDEdit, and draw it all on one sheet."""
    with one_sentence():
        from .demo import demo

        demo(image, label, settings, output)


@app.command()
def sweep(
    photos: Annotated[list[Path], typer.Argument(help="Undamaged photos.")],
    vary: Annotated[
        str, typer.Option(help="A setting and values: eta=0.6,1,1.7, prior=flowers32,cats/prior, preset=auto,noise.")
    ],
    settings: Annotated[Path, results("The damages and the other settings, in TOML.")] = DEMO_SETTINGS,
    output: Annotated[Path, results("The folder for the sheet.", "-o", "--output")] = Path("out"),
):
    """Compare values of one setting: damage photos, restore them with each value, print the scores, draw a sheet."""
    with one_sentence():
        from .sweep import sweep

        sweep(photos, vary, settings, output)


# the options of `restore`, for commands that share them
of_restore = SimpleNamespace(**restore.__annotations__)


@app.command()
def knobs(
    context: typer.Context,
    photo: Annotated[Path, typer.Argument(help="A damaged picture. Its original is not needed.")],
    output: Annotated[Path, results("The folder for the pictures.", "-o", "--output")],
    prior: of_restore.prior = "flowers64",
    preset: of_restore.preset = "balanced",
    depths: Annotated[
        str, look("The rows: depths with commas between, as --depth takes them. Deeper invents more.")
    ] = "0.2,0.4,0.6",
    step_sizes: Annotated[
        str, look("The columns: step sizes with commas between. Larger moves further from the photo.")
    ] = "5e-3,2e-2,8e-2",
    depth: of_restore.depth = str(DEFAULT.depth),
    step_size: of_restore.step_size = DEFAULT.step_size,
    levels: of_restore.levels = DEFAULT.levels,
    shallowest: of_restore.shallowest = str(DEFAULT.shallowest),
    step_mode: of_restore.step_mode = DEFAULT.step_mode,
    step_scale: of_restore.step_scale = DEFAULT.step_scale,
    updates: of_restore.updates = DEFAULT.updates,
    blocks: of_restore.blocks = DEFAULT.blocks,
    decay: of_restore.decay = DEFAULT.decay,
    stop_at: of_restore.stop_at = DEFAULT.stop_at,
    temperature: of_restore.temperature = DEFAULT.temperature,
    eta: of_restore.eta = DEFAULT.eta,
    clip: of_restore.clip = DEFAULT.clip,
    clip_at: of_restore.clip_at = DEFAULT.clip_at,
    clip_range: of_restore.clip_range = DEFAULT.clip_range,
    label: of_restore.label = DEFAULT.label,
    guidance: of_restore.guidance = DEFAULT.guidance,
    seed: of_restore.seed = DEFAULT.seed,
    fit: of_restore.fit = "crop",
    max_side: of_restore.max_side = 512,
    steps: of_restore.steps = DEFAULT.steps,
    device: of_restore.device = "auto",
):
    """See what depth and step size do to a damaged photo: pictures of both, a curve, the updates, and a film."""
    with one_sentence():
        from .knobs import draw_knobs

        settings, chosen = settings_for(preset, given(context))
        draw_knobs(photo, output, prior, settings, preset, depths, step_sizes, fit, device, max_side, chosen)


@app.command()
def theory(
    output: Annotated[Path, results("The folder for the figures, made if it is not there.", "-o", "--output")],
    samples: Annotated[int, results("How many samples to draw from each start.")] = 20_000,
    seed: Annotated[int, results("The same seed gives the same samples.")] = DEFAULT.seed,
):
    """See why the SDE edits better than the ODE, in two figures and their numbers, where scores are exact."""
    with one_sentence():
        from .theory import draw_theory

        draw_theory(output, samples, seed)


@app.command()
def edits(
    photos: Annotated[
        Path, typer.Argument(help="The folder of photos: its sub-folders or its CREDITS.csv name the classes.")
    ],
    output: Annotated[Path, results("The folder for the report and its pictures.", "-o", "--output")],
    prior: Annotated[
        str, look("A prior that knows the classes: a bundled one, a diffusers folder, or a hub id.", "-p", "--prior")
    ] = "flowers32",
    count: Annotated[
        int, results("How many photos are edited in every way. 320 are the least for FD-flowers to mean much.")
    ] = 32,
    guidance: Annotated[
        float, look("Pull towards the new class. Above 1 it shows more clearly, and the photo less.")
    ] = 3.0,
    inpaint_steps: Annotated[str, numerics("How many steps inpainting takes, with commas between.")] = "25,50,100",
    steps: Annotated[
        int, numerics("Steps of the whole schedule, each way, for one class into another; a depth takes its share.")
    ] = 50,
    solver: Annotated[
        str, numerics("How the ODE is followed there: euler is the paper's DDIM, ab2 more exact.")
    ] = "euler",
    split: Annotated[
        str, results("The split that the prior was not trained on: photos of its second half are edited.")
    ] = "val",
    seed: Annotated[int, results("The same seed gives the same masks and the same edits.")] = DEFAULT.seed,
    device: Annotated[str, machine("auto, cpu or cuda. auto takes a GPU where there is one.")] = "auto",
    precision: Annotated[
        str, machine("Of the network: fp32, bf16 or fp16; what comes back unchanged is measured in fp32.")
    ] = "fp32",
):
    """Measure editing with the SDE beside the ODE: inpainting, one class into another, exact returns, and time."""
    with one_sentence():
        from .editing import measure_edits

        measure_edits(
            photos, output, prior, count, inpaint_steps, steps, guidance, solver, seed, split, device, precision
        )


@app.command()
def inversions(
    photos: Annotated[
        Path, typer.Argument(help="The folder of photos: its sub-folders or its CREDITS.csv name the classes.")
    ],
    output: Annotated[Path, results("The folder for the report and its pictures.", "-o", "--output")],
    prior: Annotated[
        str, look("A prior that knows the classes: a bundled one, a diffusers folder, or a hub id.", "-p", "--prior")
    ] = "flowers32",
    count: Annotated[int, results("How many photos are inverted in every way.")] = 50,
    guidance: Annotated[float, look("Pull towards the class when decoding; the inversion has none.")] = 7.5,
    depth: Annotated[float, numerics("Where the inversion ends, a fraction of the schedule.")] = 0.5,
    steps: Annotated[int, numerics("DDIM steps, up and down.")] = 50,
    updates: Annotated[int, numerics("Of Null-Text and TOP, at each step.")] = 10,
    split: Annotated[
        str, results("The split that the prior was not trained on: photos of its second half are inverted.")
    ] = "val",
    seed: Annotated[int, results("The same seed gives the same noise.")] = DEFAULT.seed,
    device: Annotated[str, machine("auto, cpu or cuda. auto takes a GPU where there is one.")] = "auto",
):
    """Measure how exactly inversion comes back under guidance, how it edits, and how it takes noise."""
    with one_sentence():
        from .inversion import measure_inversions

        measure_inversions(photos, output, prior, count, depth, steps, guidance, updates, seed, split, device)


@dataclass(frozen=True)
class Benchmark:
    """The options of `bench`."""

    photos: Annotated[Path, typer.Argument(help="The folder of photos, with a CREDITS.csv of splits.")]
    output: Annotated[Path, results("The folder for the results, and for what is done so far.", "-o", "--output")]
    prior: Annotated[
        str, look("What good pictures look like: a bundled prior, a diffusers folder, or a hub id.", "-p", "--prior")
    ] = "flowers64"
    methods: Annotated[Path, look("The methods and their settings, in TOML.")] = BENCH_METHODS
    corruption: Annotated[
        list[str] | None,
        look(
            "What is done to the photos, instead of what the file of methods says: one of the 47 corruptions (see "
            "confident-ode corrupt --list), of their families imagenet-c, c-bar, masks, or all; or twelve. Repeat it "
            "for several."
        ),
    ] = None
    severity: Annotated[list[int] | None, look("How much, from 1 to 5. Repeat it for several.")] = None
    count: Annotated[int, results("How many photos of those to restore get each damage.")] = 48
    same_photos: Annotated[
        bool,
        results(
            "The same photos for every damage, to compare damages; else each has others, so that a Fréchet distance is "
            "of more photos.",
            "--same-photos",
        ),
    ] = False
    split: Annotated[
        str,
        results(
            "The split that the prior was not trained on: photos of its second half are restored. Without a "
            "CREDITS.csv every second photo is, and the others are what is real."
        ),
    ] = "val"
    seed: Annotated[int, results("The same seed gives the same damages and the same restorations.")] = DEFAULT.seed
    table: Annotated[
        str, results("The file with the numbers of each picture: csv, or parquet, which needs pyarrow.")
    ] = "csv"
    lpips: Annotated[
        bool, results("LPIPS to the clean photo too; needs torchvision, and fetches AlexNet.", "--lpips")
    ] = False
    fid: Annotated[
        bool,
        results(
            "FID too, of all damages; needs torch-fidelity, fetches Inception, and means little below 10,000.", "--fid"
        ),
    ] = False
    batch: Annotated[int, machine("Photos at once: the most that is done twice where it was interrupted.")] = 16
    device: Annotated[str, machine("auto, cpu or cuda. auto takes a GPU where there is one.")] = "auto"
    precision: Annotated[
        str, machine("auto, bf16 or fp32. auto takes bf16, which is faster, where the machine computes with it.")
    ] = "fp32"
    official: Annotated[
        Path | None,
        look("A checkout of the authors' code, github.com/vita-epfl/CODE, to compare with. Its code is run."),
    ] = None
    engine: Annotated[str, machine("local, or ray: spread over the GPUs and machines of a Ray cluster.")] = "local"
    address: Annotated[str | None, machine("The Ray cluster; without one, what is there or this machine.")] = None


@app.command()
@with_options_of(Benchmark)
def bench(**options):
    """Measure methods on damaged photos, and write a report. Stop it when you like: the same command goes on."""
    with one_sentence():
        from .bench import bench

        bench(Benchmark(**options))


def list_corruptions(wanted: bool):
    """Print the corruptions in place of a command."""
    if wanted:
        from .corrupt import print_corruptions

        print_corruptions()
        raise typer.Exit


@app.command()
def corrupt(
    photos: Annotated[list[Path], typer.Argument(help="Undamaged pictures, of any kind and shape.")],
    output: Annotated[Path, results("The folder for the results, made if it is not there.", "-o", "--output")],
    corruption: Annotated[
        list[str] | None,
        look(
            "What is done to the photos: one of the 47 corruptions, of their families imagenet-c, c-bar, masks, or "
            "all, as if not given. Repeat it for several."
        ),
    ] = None,
    severity: Annotated[
        list[int] | None, look("How much, from 1 to 5; 5, the paper's, if not given. Repeat it for several.")
    ] = None,
    seed: Annotated[int, results("The same seed gives the same damage.")] = DEFAULT.seed,
    listed: Annotated[
        bool,
        typer.Option(
            "--list", help="List the corruptions and what they look like.", is_eager=True, callback=list_corruptions
        ),
    ] = False,
):
    """Damage photos in the 47 ways of the paper: a picture of each, and a sheet of the first photo."""
    with one_sentence():
        from .corrupt import corrupt_photos

        failed = corrupt_photos(photos, output, corruption or ["all"], severity or [5], seed)
    raise typer.Exit(2 if failed else 0)


@priors_app.callback(invoke_without_command=True)
def priors(context: typer.Context):
    """List the bundled priors, and those of the paper that can be fetched."""
    if context.invoked_subcommand is None:
        with one_sentence():
            from .priors import print_priors

            print_priors()


@priors_app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A pickled weight file (.bin), a folder with one, or a hub id.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to make, not there yet.")],
):
    """Make a folder with safetensors weights of a prior with pickled ones, without running any code from it."""
    with one_sentence():
        from ..priors.convert import convert

        folder = convert(source, output)
    print(f"{folder} is ready: confident-ode restore PHOTO -o DIR --prior {folder}")


@priors_app.command()
def train(
    photos: Annotated[
        Path,
        typer.Argument(help="The folder of photos. Its sub-folders are the classes, or its CREDITS.csv names them."),
    ],
    output: Annotated[Path, results("The folder of the training; the model comes to prior/ in it.", "-o", "--output")],
    minutes: Annotated[float | None, results("How long to train, by the clock.")] = None,
    steps: Annotated[int | None, results("How long to train, in steps; this repeats exactly.")] = None,
    val: Annotated[Path | None, results("A folder of photos that are not trained on, to measure the error.")] = None,
    every: Annotated[int, results("Steps between two looks: error, a sheet of samples, and the model so far.")] = 1000,
    size: Annotated[int | None, model("The side of the pictures in pixels; 64 if not given.")] = None,
    architecture: Annotated[
        str | None, model("small (7 M parameters) or large (13 M); if not given, small on a CPU and large on a GPU.")
    ] = None,
    init: Annotated[str | None, model("A prior to start from: a bundled one, a folder, or a hub id.")] = None,
    batch: Annotated[int | None, model("Pictures in a step; 32 for small and 128 for large if not given.")] = None,
    rate: Annotated[float | None, model("The highest learning rate; 5e-4 for small and 4e-4 for large.")] = None,
    seed: Annotated[int | None, model("The same seed gives the same training; 0 if not given.")] = None,
    device: Annotated[str, machine("auto, cpu or cuda. auto takes a GPU where there is one.")] = "auto",
    precision: Annotated[
        str, machine("auto, bf16 or fp32. auto takes bf16, which is faster, where the machine computes with it.")
    ] = "auto",
):
    """Train a prior on your own photos. Stop it when you like: the same command goes on where it was."""
    with one_sentence():
        from ..priors.train import train

        folder = train(
            photos,
            output,
            minutes=minutes,
            steps=steps,
            size=size,
            architecture=architecture,
            batch=batch,
            rate=rate,
            seed=seed,
            init=init,
            val=val,
            every=every,
            device=device,
            precision=precision,
        )
    print(f"{folder} is ready: confident-ode restore PHOTO -o DIR --prior {folder}")


@priors_app.command()
def judge(
    prior: Annotated[str, typer.Argument(help="A bundled prior, a diffusers folder, or a hub id.")],
    photos: Annotated[Path, typer.Argument(help="The folder of photos that it was trained on.")],
    output: Annotated[Path, results("The folder for what was found, and its pictures.", "-o", "--output")],
    val: Annotated[Path | None, results("Photos that it was not trained on, if CREDITS.csv names none.")] = None,
    samples: Annotated[int, results("How many samples to draw. 320 is the least for FD-flowers to mean much.")] = 320,
    guidance: Annotated[float, model("Pull towards the class asked for.")] = 2.0,
    steps: Annotated[int, numerics("Network calls for a sample, but for one.")] = 40,
    ancestral: Annotated[bool, numerics("Draw by DDPM's steps instead of DPM-Solver++(2M): take hundreds.")] = False,
    seed: Annotated[int, results("The same seed gives the same samples.")] = 0,
    classifier: Annotated[Path | None, model("A folder made by `priors classifier`; if not given, of flowers.")] = None,
    device: Annotated[str, machine("auto, cpu or cuda. auto takes a GPU where there is one.")] = "auto",
):
    """Judge a prior: error by noise level, likeness of its samples to photos, their class, and whether it copies."""
    with one_sentence():
        from .judge import judge_prior

        judge_prior(prior, photos, output, val, classifier, samples, guidance, steps, ancestral, seed, device)


@priors_app.command()
def calibrate(
    prior: Annotated[str, typer.Argument(help="A bundled prior, a diffusers folder, or a hub id.")],
    photos: Annotated[Path, typer.Argument(help="A folder of undamaged photos like those that it was trained on.")],
    output: Annotated[
        Path | None, results("The folder to write it to; if not given, beside the prior.", "-o", "--output")
    ] = None,
    read: Annotated[int, results("How many photos are damaged in 25 ways and read; takes little time.")] = 150,
    restored: Annotated[int, results("How many of them are restored with every preset; takes long.")] = 12,
    classifier: Annotated[Path | None, model("A folder made by `priors classifier`; if not given, of flowers.")] = None,
    seed: Annotated[int, results("The same seed gives the same calibration.")] = 0,
    device: Annotated[str, machine("auto, cpu or cuda. auto takes a GPU where there is one.")] = "auto",
    precision: Annotated[
        str, machine("auto, bf16 or fp32. auto takes bf16, which is faster, where the machine computes with it.")
    ] = "auto",
):
    """Calibrate a prior for `restore --preset auto`: what it says about known damages, and what mends each best."""
    with one_sentence():
        from .calibrate import calibrate_prior

        calibrate_prior(prior, photos, output, classifier, read, restored, seed, device, precision)


@priors_app.command()
def classifier(
    photos: Annotated[Path, typer.Argument(help="The folder of photos, with a CREDITS.csv of classes and splits.")],
    output: Annotated[Path, results("The folder to write it to.", "-o", "--output")],
    epochs: Annotated[int, model("Rounds over the photos.")] = 80,
    seed: Annotated[int, model("The same seed gives the same classifier.")] = 0,
):
    """Train the small classifier that judges samples: its features are what FD-flowers compares."""
    with one_sentence():
        from .judge import train_judge

        train_judge(photos, output, epochs, seed)
