"""Draws the pictures of the help pages beside it, with the nodes themselves and the bundled prior, on the CPU.

COMFYUI_PATH=~/ComfyUI ~/ComfyUI/.venv/bin/python web/docs/draw.py [CODE_DDIMInvert ...]    all pages, or those named
"""

import importlib.util
import math
import os
import re
import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def loaded_pack():
    """The nodes by their class names and the sheet's parts, from this folder, as ComfyUI would import it."""
    sys.path.insert(0, os.path.expanduser(os.environ["COMFYUI_PATH"]))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    spec = importlib.util.spec_from_file_location("code_pack", ROOT / "__init__.py")
    sys.modules["code_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["code_pack"])
    names = ("evaluation.sheets", "evaluation.comparison", "corruptions.catalogue")
    parts = [importlib.import_module(f"code_pack.{name}") for name in names]
    nodes = importlib.import_module("code_pack.nodes").NODES
    return {node.__name__: node for node in nodes} | {name: part for part in parts for name, part in vars(part).items()}


class Pack:
    """The nodes as functions that return their outputs."""

    def __init__(self):
        self.parts = loaded_pack()
        self.model, self.vae, self.no_class, self.size = self("LoadPixelPrior", "flowers64", "", False)

    def __call__(self, node, *inputs, **options):
        return self.parts[node].execute(*inputs, **options).args

    def sheet(self, columns, rows, labels=()):
        return self.parts["contact_sheet"](columns, rows, labels=labels)

    def grid(self, cells, across=3):
        """Cells in rows of three, or of so many, without titles: their lines say what they are."""
        sheet = self.sheet([""] * across, [cells[i : i + across] for i in range(0, len(cells), across)])
        return sheet.crop((0, self.parts["HEADING"], *sheet.size))

    def cell(self, image, *lines):
        """An IMAGE, of which the first picture is shown, and lines of text."""
        return self.parts["Cell"](self.parts["to_image"](image[0].clamp(0, 1)), lines)

    def scored(self, image, original, *lines):
        """A cell with the PSNR and SSIM to the original under it."""
        return self.cell(image, *lines, *self.parts["scored"](image.clamp(0, 1), original))

    def example(self, picture, damage):
        return self("ExamplePicture", picture, damage, 0)

    def path(self, depth, steps=25, spacing="karras", to_zero=True):
        return self("Schedule", self.model, steps, depth, "fraction", spacing, to_zero)[0]

    def encoded(self, image):
        return {"samples": self.vae.encode(image)}

    def decoded(self, latent):
        return self.vae.decode(latent["samples"])

    def inverted(self, image, sigmas, **options):
        return self("DDIMInvert", self.model, self.encoded(image), sigmas, self.no_class, "ab2", **options)

    def restored(self, image, depth=0.4, eta=1.0, step_size=2e-3, updates=60, seed=0, held=None, ranges=None):
        """The picture after Invert, Langevin and Decode. eta None: no clip. updates 0: no Langevin. held: MASK.

        ranges: another range of the clip, its name and settings, which is used in all three.
        """
        kind, options = ranges or ("auto", {})
        clip = None if eta is None else self("ConfidenceClip", self.model, eta, kind, "", "", **options)[2]
        here = {"clip": clip} if ranges else {}
        start = {"add_noise": True, "seed": seed, "measure": False}
        latent, sigmas, trajectory, *_ = self.inverted(image, self.path(depth), clip=clip, **start)
        if updates:
            settings = (step_size, updates, 4, 0.8, 1.0, seed)
            latent, *_ = self("LangevinUpdate", self.model, latent, sigmas, self.no_class, *settings, **here)
        here |= {"trajectory": trajectory, "mask": held} if held is not None else {}
        return self.decoded(self("ODEDecode", self.model, latent, sigmas, self.no_class, "ab2", **here)[0])

    def drawn(self, model, conditioning, seed, cfg=1.0):
        """A picture out of nothing but noise."""
        sigmas = self("Schedule", model, 60, 1.0, "fraction", "linspace", True)[0]
        nothing = {"samples": torch.zeros(1, 3, self.size, self.size)}
        return self.decoded(self("SDEdit", model, nothing, sigmas, conditioning, seed, 1, self.no_class, cfg)[0])


def load_pixel_prior(pack):
    steady = pack("LoadPixelPrior", "flowers64", "", True)[0]
    tulip, seeds = pack("ClassCondition", pack.model, "tulip")[0], (1, 2, 3)
    rows = [
        [pack.cell(pack.drawn(steady, pack.no_class, seed)) for seed in seeds],
        [pack.cell(pack.drawn(pack.model, tulip, seed, 6.0)) for seed in seeds],
        [pack.cell(pack.drawn(steady, tulip, seed, 6.0)) for seed in seeds],
    ]
    return pack.sheet([f"seed {seed}" for seed in seeds], rows, ["no class", "tulip, off", "tulip, on"])


def class_condition(pack):
    damaged, original, _ = pack.example("rose-1", "low contrast")
    cells = [pack.scored(damaged, original, "low contrast")]
    for label, cfg in (("", 1.0), ("rose", 3.0), ("rose", 7.0), ("tulip", 7.0), ("daisy", 7.0)):
        positive = pack("ClassCondition", pack.model, label)[0]
        settings = {"depth": 0.4, "steps": 25, "step_size": 1e-3, "updates": 60, "blocks": 4}
        settings |= {"clip": False, "eta": 1.0, "cfg": cfg, "negative": pack.no_class}
        image = pack("Restore", pack.model, pack.vae, damaged, positive, "custom", 0, 1, **settings)[0]
        cells.append(pack.scored(image, original, f"{label or 'no class'}, cfg {cfg:g}"))
    return pack.grid(cells)


def schedule(pack):
    """The levels of each spacing as dots on a logarithmic axis, with the PSNR of a round trip on them."""
    width, height, left, right = 760, 250, 110, 170
    drawing = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(drawing), ImageFont.load_default(15)
    _, original, _ = pack.example("sunflower-1", "none")
    low, high = math.log(0.01), math.log(pack.path(0.4)[0].item())

    def place(sigma):
        return left + (math.log(sigma) - low) / (high - low) * (width - left - right)

    for row, spacing in enumerate(("karras", "linspace", "leading", "trailing")):
        y, path = 50 + 40 * row, pack.path(0.4, 12, spacing, to_zero=False)
        draw.text((20, y - 9), spacing, "#1b1b1f", font)
        draw.line((left, y, width - right, y), "#d8d8de")
        for sigma in path.tolist():
            draw.ellipse((place(sigma) - 5, y - 5, place(sigma) + 5, y + 5), "#2f6fdb")
        report = pack.inverted(original, path, add_noise=False, seed=0, measure=True)[4]
        draw.text((width - right + 20, y - 9), re.search(r"at (\S+ dB PSNR)", report)[1], "#66666e", font)
    for sigma in (0.01, 0.03, 0.1, 0.3, 1.0):
        draw.text((place(sigma), 205), f"{sigma:g}", "#66666e", font, anchor="ma")
    draw.text((20, 205), "sigma", "#66666e", font)
    draw.text((20, 8), "12 steps to depth 0.4, on a logarithmic axis", "#1b1b1f", font)
    draw.text((width - right + 20, 8), "up and back", "#1b1b1f", font)
    return drawing


def ddim_invert(pack):
    _, original, _ = pack.example("sunflower-1", "none")
    up, back = [], []
    depths = (0.1, 0.3, 0.5)
    for depth in depths:
        latent, sigmas, *_ = pack.inverted(
            original, pack.path(depth, to_zero=False), add_noise=False, seed=0, measure=False
        )
        sigma = sigmas[0].item()
        seen = pack.decoded({"samples": latent["samples"] / math.sqrt(1 + sigma**2)})
        up.append(pack.cell(seen, f"sigma {sigma:.2f}"))
        down = pack("ODEDecode", pack.model, latent, sigmas, pack.no_class, "ab2")[0]
        back.append(pack.scored(pack.decoded(down), original))
    return pack.sheet([f"depth {depth}" for depth in depths], [up, back], ["up", "and back"])


def confidence_clip(pack):
    cells = []
    for picture, damage in (("sunflower-1", "random pixels"), ("daisy-1", "blocks masked")):
        damaged, original, _ = pack.example(picture, damage)
        cells.append(pack.scored(damaged, original, damage))
        for eta in (None, 1.7, 1.0, 0.7, 0.5):
            name = "no clip" if eta is None else f"eta {eta:g}"
            cells.append(pack.scored(pack.restored(damaged, eta=eta), original, name))
    damaged, original, _ = pack.example("daisy-1", "blocks masked")
    clip, path = pack("ConfidenceClip", pack.model, 0.7, "auto", "", "")[2], pack.path(0.4)
    heat = pack.inverted(damaged, path, add_noise=True, seed=0, measure=False, clip=clip)[5]
    cells.append(pack.cell(heat[..., None].expand(-1, -1, -1, 3), "heat at eta 0.7"))
    for name, settings in (("quantile 0.01", {"outside": 0.01}), ("observation 0.5", {"width": 0.5})):
        ranges = {"reference": pack.encoded(damaged), **settings}
        cells.append(pack.scored(pack.restored(damaged, ranges=(name.split()[0], ranges)), original, name))
    return pack.grid(cells)


def langevin_update(pack):
    damaged, original, _ = pack.example("sunflower-1", "random pixels")

    def row(name, *values):
        return [pack.scored(pack.restored(damaged, **{name: value}), original, f"{name} {value:g}") for value in values]

    return pack.grid(row("updates", 0, 60, 200) + row("step_size", 5e-4, 2e-3, 8e-3) + row("seed", 1, 2, 3))


def ode_decode(pack):
    damaged, original, mask = pack.example("daisy-1", "blocks masked")
    cells = [
        pack.scored(damaged, original, "blocks masked"),
        pack.scored(pack.restored(damaged, depth=0.5, eta=0.7), original, "whole, depth 0.5"),
        pack.scored(pack.restored(damaged, depth=0.7, eta=0.7, held=mask), original, "with the mask, depth 0.7"),
    ]
    return pack.grid(cells)


def sdedit(pack):
    damaged, original, _ = pack.example("sunflower-1", "random pixels")
    depths = (0.2, 0.4, 0.6)
    baseline = [
        pack("SDEdit", pack.model, pack.encoded(damaged), pack.path(depth), pack.no_class, 0, 1)[0] for depth in depths
    ]
    rows = [
        [pack.scored(pack.decoded(latent), original) for latent in baseline],
        [pack.scored(pack.restored(damaged, depth=depth), original) for depth in depths],
    ]
    return pack.sheet([f"depth {depth}" for depth in depths], rows, ["SDEdit", "CODE"])


def classes(pack, *labels):
    return [pack("ClassCondition", pack.model, label)[0] for label in labels]


def edited(pack, node, picture, source, target, depth=0.6, **options):
    """An undamaged Example Picture after a node that takes a source and a target, and all that the node gave out."""
    _, original, _ = pack.example(picture, "none")
    source, target = classes(pack, source, target)
    links = {"model": pack.model, "latent": pack.encoded(original), "source": source, "target": target, "seed": 0}
    links |= {} if node == "DiffEditMask" else {"sigmas": pack.path(depth)}
    outputs = pack(node, **{**links, **options})
    return pack.decoded(outputs[0]) if isinstance(outputs[0], dict) else None, outputs


def cycle_sde(pack):
    _, original, _ = pack.example("rose-2", "none")
    path, cells = {"record": "markov", "eta": 1.0}, [pack.cell(original, "a rose")]
    for depth in (0.4, 0.6, 0.8):
        image, _ = edited(pack, "CycleSDE", "rose-2", "rose", "daisy", depth, **path)
        cells.append(pack.cell(image, f"daisy, depth {depth}"))
    image, _ = edited(pack, "CycleSDE", "rose-2", "rose", "daisy", **{**path, "record": "independent"})
    cells.append(pack.cell(image, "independent, depth 0.6"))
    guided = {"cfg": 15.0, "source_cfg": 15.0, "negative": pack.no_class}
    image, (*_, report) = edited(pack, "CycleSDE", "rose-2", "rose", "rose", **path, **guided)
    cells.append(pack.cell(image, "rose, cfg 15", *report.rstrip(".").split("picture ")[1:]))
    return pack.grid(cells)


def inpaint(pack):
    _, original, _ = pack.example("sunflower-1", "none")
    mask = torch.zeros(1, pack.size, pack.size)
    mask[:, 20:44, 20:44] = 1
    cells = [pack.cell(original * (1 - mask[..., None]), "the hole")]
    for solver, noise, repeats in (
        ("ddpm", "fresh", 1),
        ("ddpm", "fresh", 4),
        ("ddpm", "fixed", 1),
        ("sde_dpmpp_2m", "fresh", 1),
        ("ddim", "fresh", 1),
    ):
        links = (pack.model, pack.encoded(original), pack.path(1.0), pack.no_class)
        image = pack.decoded(pack("Inpaint", *links, solver, noise, repeats, 0, mask=mask)[0])
        more = ", fixed" if noise == "fixed" else f", repeats {repeats}" if repeats > 1 else ""
        cells.append(pack.scored(image, original, solver + more))
    return pack.grid(cells)


def found(pack, picture, source, target, **options):
    """(MASK, heat) of DiffEdit Mask."""
    return edited(pack, "DiffEditMask", picture, source, target, **options)[1]


SOFT = {"threshold": 0.35, "grow": 2, "blur": 1.0}


def diffedit_mask(pack):
    _, original, _ = pack.example("rose-2", "none")
    cells = [pack.cell(original, "rose to daisy"), pack.cell(found(pack, "rose-2", "rose", "daisy")[1], "heat")]
    settings = {
        "threshold 0.5": {},
        "0.35": {"threshold": 0.35},
        "0.35, grow 2, blur 1": SOFT,
        "strength 0.8": {"strength": 0.8},
    }
    for name, options in settings.items():
        mask = found(pack, "rose-2", "rose", "daisy", **options)[0]
        cells.append(pack.cell(mask[..., None].expand(-1, -1, -1, 3), name))
    return pack.grid(cells)


def diffedit(pack):
    rows, titles = [], {"rose-2": ("rose", "daisy"), "tulip-1": ("tulip", "sunflower")}
    for picture, ends in titles.items():
        _, original, _ = pack.example(picture, "none")
        mask = found(pack, picture, *ends, **SOFT)[0]
        edits = [edited(pack, "DiffEdit", picture, *ends, mask=mask, kind=kind)[0] for kind in ("sde", "ode")]
        rows.append([pack.cell(image) for image in (original, mask[..., None].expand(-1, -1, -1, 3), *edits)])
    return pack.sheet(["", "mask", "sde", "ode"], rows, [f"{a} to {b}" for a, b in titles.values()])


def ddib(pack):
    rows, titles = (
        [],
        {"dandelion-1": ("dandelion", "daisy"), "rose-2": ("rose", "daisy"), "daisy-2": ("daisy", "tulip")},
    )
    for picture, ends in titles.items():
        _, original, _ = pack.example(picture, "none")
        edits = [edited(pack, "DDIB", picture, *ends, kind=kind)[0] for kind in ("sde", "ode")]
        rows.append([pack.cell(image) for image in (original, *edits)])
    return pack.sheet(["", "sde", "ode"], rows, [f"{a} to {b}" for a, b in titles.values()])


def restore(pack):
    cells = []
    for picture, damage, preset in (
        ("sunflower-1", "random pixels", "bold"),
        ("tulip-1", "heavy noise", "noise"),
        ("daisy-1", "blocks masked", "blocks"),
        ("rose-1", "low contrast", "faded"),
    ):
        damaged, original, _ = pack.example(picture, damage)
        cells.append(pack.scored(damaged, original, damage))
        for name in ("balanced", preset):
            positive = pack("ClassCondition", pack.model, picture.split("-")[0] if name == "faded" else "")[0]
            image, *_ = pack("Restore", pack.model, pack.vae, damaged, positive, name, 0, 1, pack.no_class)
            cells.append(pack.scored(image, original, name))
    return pack.grid(cells)


def odedit(pack):
    steady, cells = pack("LoadPixelPrior", "flowers64", "", True)[0], []
    for picture, damage in (("daisy-1", "heavy noise"), ("sunflower-1", "random pixels")):
        damaged, original, _ = pack.example(picture, damage)
        cells.append(pack.scored(damaged, original, damage))
        for kind in ("light", "heavy"):
            image, *_ = pack("ODEdit", steady, pack.vae, damaged, pack.no_class, kind, 0)
            cells.append(pack.scored(image, original, f"damage {kind}"))
    return pack.grid(cells)


def restoring(pack, damaged, **more):
    """What a node that restores in one takes, with the preset balanced."""
    links = {"model": pack.model, "vae": pack.vae, "image": damaged, "positive": pack.no_class}
    return {**links, "preset": "balanced", "seed": 0, **more}


def official(pack):
    pictures = {"random pixels": "tulip-2", "heavy noise": "daisy-1"}
    columns, rows = {"as published": "all", "without clip-level": "no-clip-level"}, []
    settings = {"n": 50, "depth": 20, "step_size": 1e-4, "updates": 40}
    for damage, picture in pictures.items():
        damaged, original, _ = pack.example(picture, damage)
        links = (pack.model, pack.vae, damaged, pack.no_class, 0, 1)
        theirs = [pack("OfficialCode", *links, quirks=quirks, **settings)[0] for quirks in columns.values()]
        ours = pack("Restore", **restoring(pack, damaged, samples=1))[0]
        rows.append([pack.scored(image, original) for image in (damaged, *theirs, ours)])
    return pack.sheet(["damaged", *columns, "CODE Restore"], rows, list(pictures))


def knobs(pack):
    """The grid, and the curve below it."""
    damaged, *_ = pack.example("daisy-1", "heavy noise")
    numbers = {"depths": "0.2, 0.4, 0.6", "step_sizes": "0.005, 0.02, 0.08"}
    sheets = [sheet_of(image) for image in pack("Knobs", **restoring(pack, damaged, **numbers))[:2]]
    picture = Image.new("RGB", (max(s.width for s in sheets), sum(s.height for s in sheets)), "white")
    picture.paste(sheets[0], (0, 0))
    picture.paste(sheets[1], (0, sheets[0].height))
    return picture


def film(pack):
    damaged, *_ = pack.example("daisy-1", "heavy noise")
    return sheet_of(pack("Film", **restoring(pack, damaged))[0])


def sheet_of(image):
    """An IMAGE's first picture as an 8-bit image."""
    return Image.fromarray((image[0] * 255).round().byte().numpy())


def compare_images(pack):
    damaged, original, _ = pack.example("sunflower-1", "random pixels")
    sheet, _ = pack("CompareImages", original, damaged, "damaged, CODE", pack.restored(damaged))
    return sheet_of(sheet)


def example_picture(pack):
    pictures = ("sunflower-1", "daisy-2", "rose-2", "tulip-1", "dandelion-1")
    damages = ("none", "random pixels", "heavy noise", "blocks masked", "low contrast")
    cells = [pack.cell(pack.example(*both)[0], ", ".join(both)) for both in zip(pictures, damages, strict=True)]
    mask = pack.example("tulip-1", "blocks masked")[2][..., None].expand(-1, -1, -1, 3)
    cells.append(pack.cell(mask, "tulip-1, blocks masked: mask"))
    return pack.grid(cells)


def corrupt_image(pack):
    """Every corruption of the paper, with the library imagecorruptions-imaug; names are in lines of two words."""
    _, original, _ = pack.example("daisy-1", "none")
    pictures = {"the picture": original}
    for names in pack.parts["FAMILIES"].values():
        pictures |= {name: pack("CorruptImage", original, name, 5, 0)[0] for name in names}
    cells = []
    for name, image in pictures.items():
        words = re.findall(r"[^_]+_?", name)
        large = image.repeat_interleave(2, 1).repeat_interleave(2, 2)
        cells.append(pack.cell(large, *("".join(words[i : i + 2]) for i in range(0, len(words), 2))))
    return pack.grid(cells, 8)


def drag(pack):
    """Two pictures with their points, and where the points were dragged: by the SDE at two depths, and by the ODE."""
    rows = []
    for picture, source, target in (("sunflower-1", (12, 27), (5, 20)), ("daisy-2", (35, 34), (45, 24))):
        original = pack.example(picture, "none")[1]
        pair = f'[{{"from": {list(source)}, "to": {list(target)}}}]'
        cells = [pack.cell(with_arrow(original, source, target))]
        for kind, depth in (("sde", 0.4), ("sde", 0.6), ("ode", 0.4)):
            settings = ("at once", depth, 15, 8, 1.1, 0.3, 1.0, 3.0, 0)
            picture = pack("Drag", pack.model, pack.vae, original, pack.no_class, pair, kind, *settings)[0]
            cells.append(pack.cell(enlarged(picture)))
        rows.append(cells)
    return pack.sheet(["points", "sde, depth 0.4", "sde, depth 0.6", "ode, depth 0.4"], rows)


def enlarged(image, times=4):
    return image.repeat_interleave(times, 1).repeat_interleave(times, 2)


def with_arrow(image, source, target, times=4):
    """IMAGE, enlarged, with an arrow from a point to another."""
    picture = Image.fromarray((255 * enlarged(image, times)[0]).byte().numpy())
    draw, (x, y), (u, v) = ImageDraw.Draw(picture), *([times * c for c in point] for point in (source, target))
    angle = math.atan2(v - y, u - x)
    tips = [(u - 14 * math.cos(angle + side), v - 14 * math.sin(angle + side)) for side in (0.5, -0.5)]
    for width, colour in ((7, "white"), (3, "#2f8fff")):
        draw.line((x, y, u, v), colour, width)
        draw.line((*tips[0], u, v, *tips[1]), colour, width)
    draw.ellipse((x - 5, y - 5, x + 5, y + 5), "#ff3d7f", "white")
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(1, *picture.size[::-1], 3) / 255


def inverted_rose(pack, steps=20):
    """(the picture, DDIM Invert's outputs, the rest that Guided Decode takes) of a rose, by DDIM, to depth 0.4."""
    _, original, _ = pack.example("rose-2", "none")
    rose, daisy = classes(pack, "rose", "daisy")
    inverted = pack(
        "DDIMInvert", pack.model, pack.encoded(original), pack.path(0.4, steps), rose, "euler", False, 0, False
    )
    return original, inverted, rose, daisy


def came_down(pack, inverted, source, target, method, cfg=7.5, corrections=None):
    """Guided Decode: the IMAGE."""
    latent, sigmas, trajectory = inverted[:3]
    links = (pack.model, latent, sigmas, source, target, method, pack.no_class, cfg, trajectory, corrections)
    return pack.decoded(pack("GuidedDecode", *links)[0])


def guided_decode(pack):
    original, inverted, rose, daisy = inverted_rose(pack)
    rows = [
        [pack.scored(came_down(pack, inverted, rose, target, method), original) for target in (rose, daisy)]
        for method in ("direct", "negative prompt", "plain")
    ]
    beside = [[pack.cell(original)], [pack.cell(original)], [pack.cell(original)]]
    rows = [[*first, *rest] for first, rest in zip(beside, rows, strict=True)]
    return pack.sheet(["a rose", "a rose again", "a daisy"], rows, ["direct", "negative prompt", "plain"])


def null_text(pack):
    original, inverted, rose, daisy = inverted_rose(pack)
    sigmas, trajectory = inverted[1:3]
    columns = [[pack.scored(came_down(pack, inverted, rose, target, "plain"), original) for target in (rose, daisy)]]
    for bias in ("off", "first", "every"):
        fit = pack("NullText", pack.model, trajectory, sigmas, rose, pack.no_class, 7.5, 10, bias, 1, 0, 0, 1e-5)[0]
        found = [came_down(pack, inverted, rose, target, "null-text", corrections=fit) for target in (rose, daisy)]
        columns.append([pack.scored(image, original) for image in found])
    titles = ["plain", "off", "first", "every"]
    return pack.sheet(titles, [list(row) for row in zip(*columns, strict=True)], ["a rose again", "a daisy"])


def decoder_inversion(pack):
    sys.path.insert(0, str(ROOT / "tests" / "comfyui"))
    import comfy.sd
    import random_weights

    vae = comfy.sd.VAE(sd=random_weights.weights_of("near_vae"))
    photo = pack.example("rose-2", "none")[1]
    rows = []
    for picture in (vae.decode(vae.encode(photo)), photo):
        cells = [pack.cell(picture), pack.scored(vae.decode(vae.encode(picture)), picture)]
        for method in ("gradient-free", "gradient"):
            found = pack("DecoderInversion", picture, vae, method, 100, 0.1)[0]
            cells.append(pack.scored(vae.decode(found["samples"]), picture))
        rows.append(cells)
    return pack.sheet(["picture", "VAE alone", "gradient-free", "gradient"], rows, ["of the VAE", "a photo"])


PAGES = {
    "CODE_LoadPixelPrior": load_pixel_prior,
    "CODE_ClassCondition": class_condition,
    "CODE_Schedule": schedule,
    "CODE_DDIMInvert": ddim_invert,
    "CODE_ConfidenceClip": confidence_clip,
    "CODE_LangevinUpdate": langevin_update,
    "CODE_ODEDecode": ode_decode,
    "CODE_NullText": null_text,
    "CODE_GuidedDecode": guided_decode,
    "CODE_DecoderInversion": decoder_inversion,
    "CODE_SDEdit": sdedit,
    "CODE_CycleSDE": cycle_sde,
    "CODE_Inpaint": inpaint,
    "CODE_DiffEditMask": diffedit_mask,
    "CODE_DiffEdit": diffedit,
    "CODE_DDIB": ddib,
    "CODE_Restore": restore,
    "CODE_ODEdit": odedit,
    "CODE_Drag": drag,
    "CODE_Official": official,
    "CODE_Knobs": knobs,
    "CODE_Film": film,
    "CODE_CompareImages": compare_images,
    "CODE_ExamplePicture": example_picture,
    "CODE_CorruptImage": corrupt_image,
}
NOISY = ("CODE_CorruptImage",)


def main(*pages):
    """Write <node id>.png for the pages, or for all; .jpg for noise, which no PNG makes small."""
    pack = Pack()
    for page in pages or PAGES:
        suffix = "jpg" if page in NOISY else "png"
        with torch.inference_mode():
            PAGES[page](pack).save(HERE / f"{page}.{suffix}", optimize=True, quality=85)


if __name__ == "__main__":
    main(*sys.argv[1:])
