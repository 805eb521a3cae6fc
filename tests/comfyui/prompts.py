"""Prompts for trying the nodes out, and what the message of a node that fails must read like."""

import re

from comfyui.server import Graph

CODE_NODES = "DDIMInvert", "ConfidenceClip", "LangevinUpdate", "ODEDecode", "SDEdit"
# the first output that TEST_Save can keep
KEPT = {
    "Schedule": ("sigmas", 0),
    "DDIMInvert": ("latent", 0),
    "ConfidenceClip": ("latent", 0),
    "LangevinUpdate": ("latent", 0),
    "ODEDecode": ("latent", 0),
    "SDEdit": ("latent", 0),
    "Restore": ("image", 0),
    "ODEdit": ("image", 0),
    "Official": ("image", 0),
    "CompareImages": ("image", 0),
    "ExamplePicture": ("image", 0),
    "CorruptImage": ("image", 0),
}
# quick settings of CODE Restore
QUICK = {"preset": "custom", "depth": 0.4, "steps": 2, "step_size": 0.002, "updates": 2, "blocks": 1, "stop_at": 0.0}


class Prompt(Graph):
    """A graph whose nodes have each widget that is not given at its default in `info`, which is /object_info."""

    def __init__(self, info):
        super().__init__()
        self.info = info

    def node(self, class_type, **inputs):
        required = self.info[class_type]["input"]["required"].items()
        return super().node(class_type, **{name: default(*spec) for name, spec in required if widget(*spec)} | inputs)

    def use(self, name, **inputs):
        """A CODE node on a quick run that works, but for what is given here; its output is kept. Returns the node."""
        node = self.node(f"CODE_{name}", **self.good(name, inputs), **inputs)
        socket, slot = KEPT[name]
        self.node("TEST_Save", name=name, **{socket: node[slot]})
        return node

    def good(self, name, given=()):
        """A node for each socket, and quick settings, but for what is given."""
        good = {}
        if name in CODE_NODES:
            good = {"model": self.tiny, "latent": self.latent, "sigmas": self.sigmas, "positive": self.condition}
        if name == "ConfidenceClip":
            good = {**good, "data_range": lambda: "fixed", "low": lambda: "-1", "high": lambda: "1"}
            del good["positive"]
        if name == "LangevinUpdate":
            good = {**good, "updates": lambda: 2}
        if name in ("Restore", "ODEdit", "Official"):
            good = {"model": self.pixels, "vae": self.pixel_vae, "image": self.image, "positive": self.condition}
        if name == "Restore":
            good |= {name: lambda value=value: value for name, value in QUICK.items()}
        if name == "ODEdit":
            good["steps"] = lambda: 3
        if name == "Official":
            good |= {name: lambda value=value: value for name, value in {"n": 8, "depth": 5, "updates": 4}.items()}
        if name == "CompareImages":
            good = {"reference": self.image, "a": self.image}
        return {name: make() for name, make in good.items() if name not in given}

    def tiny(self, kind="eps", channels=4):
        return self.node("TEST_TinyModel", kind=kind, channels=channels)[0]

    def pixels(self):
        return self.node("CODE_LoadPixelPrior", prior="flowers32")[0]

    def pixel_vae(self):
        return self.node("CODE_LoadPixelPrior", prior="flowers32")[1]

    def latent(self, **inputs):
        return self.node("TEST_Latent", **inputs)[0]

    def pixel_latent(self, **inputs):
        return self.latent(**{"channels": 3, "height": 32, "width": 32, "value": 0.0, **inputs})

    def image(self, **inputs):
        return self.node("TEST_Image", **{"height": 32, "width": 32, "value": 0.5, **inputs})[0]

    def mask(self, **inputs):
        return self.node("TEST_Mask", **inputs)[0]

    def sigmas(self, levels="5, 1, 0.1"):
        return self.node("TEST_Sigmas", levels=levels)[0]

    def condition(self, **inputs):
        return self.node("TEST_Conditioning", **inputs)[0]

    def inversion(self, **inputs):
        return self.node("CODE_DDIMInvert", **self.good("DDIMInvert", inputs), **inputs)

    def clip(self, **inputs):
        return self.node("CODE_ConfidenceClip", **{"model": self.tiny(), **inputs})[2]

    def integer(self, value):
        """A number over a link, which ComfyUI does not hold against a widget's limits."""
        return self.node("PrimitiveInt", value=value)[0]

    def number(self, value):
        return self.node("PrimitiveFloat", value=value)[0]

    def stock_sampler(self, name):
        return self.node("KSamplerSelect", sampler_name=name)[0]


def widget(kind, settings=None):
    return isinstance(kind, list) or kind == "COMBO" or "default" in (settings or {})


def options(kind, settings=None):
    """The choices of a widget as /object_info has them, in the older form or in the newer one."""
    return kind if isinstance(kind, list) else (settings or {}).get("options")


def default(kind, settings=None):
    choices = options(kind, settings)
    return (settings or {}).get("default", choices[0] if choices else None)


def assert_clear(error, base=""):
    """An `execution_error` of ours says in one sentence, or two short ones, what is wrong and what to do."""
    message = error["exception_message"].strip()
    assert error["exception_type"] in ("ValueError", "OSError"), message
    assert "confident-ode" in error["traceback"][-1], error["traceback"][-1]
    assert message.endswith("."), message
    assert "\n" not in message, message
    assert len(message.replace(str(base), "")) <= 250, message
    assert len(re.findall(r"\.(?= |$)", message)) <= 2, message
    assert re.search(r": [\w`]| (must|takes|missing|needs)\b", message), f"does not say what to do: {message}"
    raw = (
        r"Errno|Traceback|object has no attribute|\btensor|dimension \d|NoneType|unhashable|positional|subscript|slice"
    )
    assert not re.search(raw, message), message
