"""Prompts drawn by hypothesis: any node and any wiring that fits, right and wrong values. None is a silent failure."""

from collections import Counter
from itertools import count

from comfyui.prompts import Prompt, assert_clear
from comfyui.server import Refused
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from safetensors import safe_open

PROMPTS = 300
OURS = {
    "CODE_Schedule",
    "CODE_DDIMInvert",
    "CODE_ConfidenceClip",
    "CODE_LangevinUpdate",
    "CODE_ODEDecode",
    "CODE_SDEdit",
    "CODE_CycleSDE",
    "CODE_Inpaint",
    "CODE_DiffEdit",
    "CODE_DiffEditMask",
    "CODE_DDIB",
    "CODE_CompareImages",
    "CODE_ExamplePicture",
}
OURS_FOR_PIXELS = {"CODE_Restore", "CODE_ClassCondition"}
STOCK = {
    "KSampler",
    "LatentFromBatch",
    "RepeatLatentBatch",
    "LatentFlip",
    "SetLatentNoiseMask",
    "FlipSigmas",
    "SplitSigmas",
    "InvertMask",
    "ImageScale",
}
STOCK_FOR_PIXELS = {"VAEDecode", "VAEEncode"}
# optional sockets that have a use together only
TOGETHER = [{"latent", "sigmas", "reference"}, {"trajectory", "mask"}]
# what must not come back as it went in, and between which sockets
CHANGES = {
    "CODE_SDEdit": ("latent", "latent"),
    "CODE_LangevinUpdate": ("latent", "latent"),
    "CODE_Restore": ("seen", "image"),
}
# whole numbers that keep a prompt quick; the widgets' own limits are wider
QUICK = {
    "steps": (1, 4),
    "updates": (1, 3),
    "blocks": (1, 2),
    "levels": (1, 2),
    "repeats": (1, 2),
    "samples": (1, 2),
    "amount": (1, 2),
    "batch_index": (0, 1),
    "length": (1, 2),
    "step": (0, 3),
    "max_side": (32, 48),
    "width": (8, 16),
    "height": (8, 16),
}
USUAL = {"step_size": (1e-5, 4e-3), "depth": (0.02, 0.9), "cfg": (1, 1), "eta": (0.1, 3), "denoise": (0.3, 1)}
USUAL |= {"shallowest": (0.01, 0.1), "outside": (0, 0.4), "stop_at": (0, 1.5)}
# choices that keep it quick, and what the test has a use for
CHOICES = {
    "preset": ["custom"],
    "unit": ["fraction"] * 8 + ["timestep", "sigma"],
    "sampler_name": ["euler", "dpmpp_2m", "euler_ancestral", "lcm"],
    "scheduler": ["normal", "karras", "exponential"],
    "low": ["-1", "-3.5"],
    "high": ["1", "2e1"],
    "label": ["", "rose", "3"],
}
STRANGE_TEXTS = "", " ", "a text", "nan", "-1, 1", "\0", "\n", "../..", "\u00e9\U0001f33b", "1e999", "x" * 3000
STRANGE_NUMBERS = "nan", "inf", "-inf", 0.0, -0.0, 5e-324, -1.0, 1e-9, 0.5, 7.25, 1e30, -1e300, True
STRANGE_WHOLE_NUMBERS = -1, 0, 1, 2**31, 2**63, 2**64, -(2**62), 2.5, 1e30, "7", "0x7", False
STRANGE_LINKED = -(2**62), -1, 0, 1, 2, 3
LEVELS = "5, 1, 0.1", "2, 0.5, 0", "90, 1", "0.3, 0.01"
FLOW_LEVELS = "0.9, 0.5, 0.1", "0.6, 0.2, 0", "0.99, 0.5"
ODD_LEVELS = "", "1", "nan", "0", "5, nan", "1, 5", "0, 1", "5, 5", "-1, -2", "inf, 1", "1000, 1, 0", "1, 0.5, 0"
SAVED = {"LATENT": "latent", "IMAGE": "image", "MASK": "mask", "SIGMAS": "sigmas", "STRING": "text"}


class Drawing:
    """A prompt of a few nodes behind one kind of model; `odd` says of each value whether it is to be a strange one."""

    def __init__(self, info, random):
        self.info, self.random, self.prompt = info, random, Prompt(info)
        self.strangeness = self.one_of(0, 0, 0.03, 0.1)
        self.kind = self.one_of("eps", "v", "flow", "pixels")
        self.batch = self.one_of(1, 1, 2)
        # links to what has been made so far, by type
        self.links = {}
        # (node, its type, file of its outputs, socket that must change, file of what it was)
        self.saved = []

    def odd(self):
        return self.random.random() < self.strangeness

    def one_of(self, *values):
        return self.random.choice(values)

    def link(self, kind):
        """What goes into a socket: what an earlier node made, or a fresh source."""
        made = self.links.get(kind, [])
        # many a node gives out a mask of nothing
        if made and self.one_of(True, False) and (kind != "MASK" or self.odd()):
            return self.one_of(*made)
        make = getattr(self, f"fresh_{kind.lower()}", None)
        return make() if make else None

    def fresh_model(self):
        kind = self.one_of("eps", "flow", "pixels") if self.odd() else self.kind
        return self.prompt.pixels() if kind == "pixels" else self.prompt.tiny(kind, 3 if self.odd() else 4)

    def fresh_vae(self):
        return self.prompt.pixel_vae()

    def fresh_latent(self):
        channels = self.one_of(0, 1, 3, 4, 16) if self.odd() else 3 if self.kind == "pixels" else 4
        return self.prompt.latent(batch=self.number_of_items(), channels=channels, **self.size(), **self.filling())

    def fresh_image(self):
        channels = self.one_of(0, 1, 2, 4) if self.odd() else 3
        return self.prompt.image(batch=self.number_of_items(), channels=channels, **self.size(), **self.filling(0.5))

    def fresh_mask(self):
        return self.prompt.mask(batch=self.number_of_items(), **self.size(), **self.filling(0.5))

    def fresh_sigmas(self):
        usual = FLOW_LEVELS if self.kind == "flow" else LEVELS
        return self.prompt.sigmas(self.one_of(*(ODD_LEVELS if self.odd() else usual)))

    def fresh_conditioning(self):
        tokens = self.one_of(1, 3) if self.odd() or self.kind != "pixels" else 0
        return self.prompt.condition(entries=0 if self.odd() else 1, tokens=tokens, width=8)

    def fresh_sampler(self):
        return self.prompt.stock_sampler(self.one_of("euler_ancestral", "uni_pc") if self.odd() else "heun")

    def number_of_items(self):
        return self.one_of(0, 1, 3) if self.odd() else self.batch

    def size(self):
        height, width = ([1, 5, 8, 200] if self.odd() else [8] for _ in range(2))
        return {"height": self.one_of(*height), "width": self.one_of(*width)}

    def filling(self, usual=0.0):
        fill = self.one_of("constant", "nan", "infinity") if self.odd() else "normal"
        value = self.one_of(-1e6, -1.0, 1e-9, 1e6) if self.odd() else usual
        return {"fill": fill, "value": value, "seed": self.random.randrange(1000)}

    def widget(self, name, kind, options):
        """A value for a widget, or a link to a number, against which ComfyUI holds no limit."""
        if isinstance(kind, list) or kind == "COMBO":
            choices = CHOICES.get(name) or (kind if isinstance(kind, list) else options["options"])
            strange = *STRANGE_TEXTS, 7, None, {"__value__": [1]}, {"__value__": {"a": 1}}
            return self.one_of(*(strange if self.odd() else choices))
        if kind == "INT":
            if self.odd():
                return self.strange_number(STRANGE_WHOLE_NUMBERS, self.prompt.integer, STRANGE_LINKED)
            return self.random.randint(*QUICK.get(name, (options["min"], options["max"])))
        if kind == "FLOAT":
            if self.odd():
                return self.strange_number(STRANGE_NUMBERS, self.prompt.number, (-7.5, -1e-9, 0.0, 1e12))
            return self.random.uniform(*USUAL.get(name, (options["min"], min(options["max"], 10))))
        if kind == "BOOLEAN":
            return self.one_of("", "no", 2, None) if self.odd() else self.one_of(True, False)
        return self.one_of(*(STRANGE_TEXTS if self.odd() else CHOICES.get(name, [options.get("default", "")])))

    def strange_number(self, typed, link, linked):
        if self.one_of(True, False):
            return link(self.one_of(*linked))
        return self.one_of(*typed, *STRANGE_TEXTS)

    def add(self, class_type):
        """A node with something in each of its required sockets and in some of the others."""
        sections = self.info[class_type]["input"]
        chosen = set(sections["required"]) | self.some(sections.get("optional", {}))
        specs = {name: spec for section in ("required", "optional") for name, spec in sections.get(section, {}).items()}
        inputs = {name: self.input(class_type, name, *specs[name]) for name in specs if name in chosen}
        inputs = {name: value for name, value in inputs.items() if value is not None}
        self.keep(class_type, self.prompt.node(class_type, **inputs), inputs)

    def some(self, names):
        # a sampler goes with neither clip nor mask
        chosen = {name for name in names if name != "sampler" and self.one_of(True, False)} or {"sampler"} & set(names)
        for group in TOGETHER:
            if chosen & group and not self.odd():
                chosen |= group & set(names)
        return chosen

    def input(self, class_type, name, kind, options=None):
        if isinstance(kind, list) or kind in ("INT", "FLOAT", "BOOLEAN", "STRING", "COMBO"):
            return self.widget(name, kind, options or {})
        if class_type.startswith("CODE_") and self.odd():
            return self.one_of("a text", 7, 0.5, {"__value__": [1]})
        return self.link(kind)

    def keep(self, class_type, node, inputs):
        """Save what a node gives out, and what went into one that must change it; offer it to the nodes after it."""
        types = self.info[class_type]["output"]
        sockets = {SAVED[kind]: node[slot] for slot, kind in reversed([*enumerate(types)]) if kind in SAVED}
        source, target = CHANGES.get(class_type, (None, None))
        before = node[1] if source == "seen" else inputs.get(source)
        if class_type == "CODE_LangevinUpdate" and inputs.get("stop_at"):
            before = None  # what looks likely stays as it is
        self.saved.append(
            (
                node,
                class_type,
                self.save(**sockets),
                target,
                self.save(**{target: before}) if isinstance(before, list) else None,
            )
        )
        for slot, kind in enumerate(types):
            self.links.setdefault(kind, []).append(node[slot])

    def save(self, **sockets):
        name = f"fuzz-{next(NAMES)}"
        self.prompt.node("TEST_Save", name=name, **sockets)
        return name


NAMES = count()


def drawn(info, random):
    """A prompt of one to four nodes, and the sources that they need."""
    drawing = Drawing(info, random)
    nodes = sorted(OURS) * 3 + sorted(STOCK)
    if drawing.kind == "pixels":
        nodes += sorted(OURS_FOR_PIXELS) * 6 + sorted(STOCK_FOR_PIXELS)
    for _ in range(random.randint(1, 4)):
        node = drawing.one_of(*nodes)
        if node == "CODE_ODEDecode":
            drawing.add("CODE_DDIMInvert")
        drawing.add(node)
    return drawing


def kept(server, name):
    """The tensors and the text of a TEST_Save node; nothing where it was not reached."""
    file = server.output / f"{name}.safetensors"
    if not file.exists():
        return {}, ""
    with safe_open(file, "pt") as saved:
        return {key: saved.get_tensor(key) for key in saved.keys()}, saved.metadata()["text"]  # noqa: SIM118


def queued(server, prompt):
    """(the Run at its end, or None where all of it was refused, and the types of what was refused)."""
    try:
        run = server.run(prompt, timeout=60)
        nodes = run.node_errors
    except Refused as refused:
        run, nodes = None, refused.node_errors
        assert nodes
    return run, [error["type"] for node in nodes.values() for error in node["errors"]]


def assert_a_picture(server, class_type, saved, target, before):
    """What a node of ours gave out is finite, not black, and not what went in."""
    tensors, text = kept(server, saved)
    assert "nan" not in text, text
    for tensor in tensors.values():
        assert tensor.isfinite().all(), class_type
    if before is None or target not in tensors:
        return
    after, before = tensors[target], kept(server, before)[0][target]
    if before.abs().max() > 1e-3:
        assert after.abs().max() > 1e-3, f"{class_type} made a black picture"
    # float32 rounds away what is added to more
    if before.abs().max() < 100 and after.shape == before.shape:
        assert not after.equal(before), f"{class_type} changed nothing"


def test_no_prompt_fails_in_silence(server):
    info, ends, succeeded, failed = server.object_info(), Counter(), Counter(), Counter()

    @settings(
        max_examples=PROMPTS,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    # a seed, so that prompts are spread evenly and no two are nearly the same, as hypothesis' own draws would be
    @given(st.randoms(use_true_random=True))
    def ends_well(random):
        drawing = drawn(info, random)
        note(f"prompt: {dict(drawing.prompt)}")
        run, refusals = queued(server, drawing.prompt)
        assert server.alive
        # of a prompt that is refused in parts the others run
        assert not [kind for kind in refusals if kind.startswith("exception_during")], refusals
        if run is None:
            ends["refused"] += 1
        elif run.error:
            ends["error"] += 1
            failed[run.error["node_type"]] += 1
            if run.error["node_type"].startswith("CODE_"):
                assert_clear(run.error, server.base)
        else:
            ends["success"] += 1
            ran = {data["node"] for data in run.of("executing")}
            for node, class_type, *saved in drawing.saved:
                if class_type.startswith("CODE_") and node in ran:
                    assert_a_picture(server, class_type, *saved)
                    succeeded[class_type] += 1

    ends_well()
    # what was drawn reaches every node, and goes well often enough for the pictures to be looked at
    assert ends["success"] >= PROMPTS / 3, ends
    assert ends["error"] >= PROMPTS / 5, ends
    assert ends["refused"], ends
    assert succeeded.keys() >= OURS, succeeded
    assert (succeeded + failed).keys() >= OURS_FOR_PIXELS, (succeeded, failed)
    assert len(failed.keys() & OURS) >= 6, failed
