"""The settings of a restoration and their defaults. No torch is imported here, so that --help is quick."""

import math
from dataclasses import asdict, dataclass, fields, replace

SOLVERS = ("ab2", "heun", "dpmpp_2m", "euler")
SPACINGS = ("karras", "linspace", "leading", "trailing")
STEP_SCALES = ("none", "geometric", "sigma")
STEP_MODES = ("absolute", "relative", "snr")
DAMAGES = ("light", "medium", "heavy")

# how each method's defaults differ from those of `Settings`, which are CODE's
METHODS = {
    "code": {},
    # 100 levels of the whole schedule
    "odedit": {
        "depth": 1.0,
        "steps": 99,
        "spacing": "linspace",
        "step_size": 3e-6,
        "temperature": 1 / 3,
        "clip": False,
        "threshold": False,
    },
    # for `official`, steps are the levels of the whole schedule, and depth is where to update
    "official": {"depth": 1.0, "steps": 200, "step_size": 1e-5, "updates": 200, "eta": 1.7},
}
# what a method does not use
UNUSED = {
    "code": ("damage",),
    "odedit": (
        "updates",
        "blocks",
        "decay",
        "levels",
        "shallowest",
        "step_scale",
        "step_mode",
        "clip",
        "eta",
        "solver",
    ),
    "official": ("damage", "temperature", "step_scale", "step_mode", "guidance", "solver", "spacing"),
}
CHOICES = {
    "method": tuple(METHODS),
    "solver": SOLVERS,
    "spacing": SPACINGS,
    "step_scale": STEP_SCALES,
    "step_mode": STEP_MODES,
    "damage": DAMAGES,
}


@dataclass(frozen=True)
class Settings:
    """How to restore. A wrong value raises ValueError; what depends on the prior is checked by `restoring.plan`.

    The defaults are those of the method "code"; `of` takes those of the method that is asked for. depth: a fraction of
    the noise schedule, or "t=400", or "sigma=1.2". steps: ODE steps each way. levels, shallowest: at how many noise
    levels to update, from the depth to `shallowest`, which is given like it. step_size: the VP step if step_mode is
    "absolute"; step_mode, step_scale: see `samplers.langevin` and `samplers.restore.STEP_SCALES`. eta: standard
    deviations of the clip. damage: how many updates ODEdit makes. sdedit_depth: like depth, None for the same.
    """

    method: str = "code"
    depth: float | str = 0.4
    steps: int = 25
    spacing: str = "karras"
    solver: str = "ab2"
    levels: int = 1
    shallowest: float | str = 0.1
    step_size: float = 2e-3
    step_mode: str = "absolute"
    step_scale: str = "none"
    updates: int = 60
    blocks: int = 4
    decay: float = 0.8
    temperature: float = 1.0
    clip: bool = True
    eta: float = 1.0
    threshold: bool = True
    damage: str = "light"
    label: str | int | None = None
    guidance: float = 1.0
    samples: int = 1
    seed: int = 0
    sdedit: bool = False
    sdedit_depth: float | str | None = None

    def __post_init__(self):
        for depth in (self.depth, self.shallowest, *([] if self.sdedit_depth is None else [self.sdedit_depth])):
            depth_of(depth)
        for name, choices in CHOICES.items():
            value, words = getattr(self, name), name.replace("_", " ")
            if value not in choices:
                raise ValueError(f"The {words} {value!r} is unknown: take one of {', '.join(choices)}.")
        for name, lowest in (("steps", 1), ("levels", 1), ("updates", 0), ("blocks", 1), ("samples", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
                raise ValueError(f"{name} is {value!r}: take a whole number of at least {lowest}.")
        for name in ("step_size", "decay", "temperature", "eta", "guidance"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise ValueError(f"{name.replace('_', ' ')} is {value!r}: take a number that is not below 0.")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay is {self.decay:g}: take a number above 0 and up to 1.")

    def used(self):
        """The settings that the method uses, as a dictionary."""
        return {name: value for name, value in asdict(self).items() if name not in UNUSED[self.method]}

    @classmethod
    def of(cls, values):
        """Settings of a dictionary, as read from a TOML table, on top of the defaults of its method.

        ValueError on a name that is none, and on one that the method does not use, unless it has its default.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            known = ", ".join(field.name for field in fields(cls))
            raise ValueError(f"There is no setting {unknown[0]!r}: the settings are {known}.")
        method = values.get("method", "code")
        default = cls(**{"method": method, **METHODS.get(str(method), {})})
        for name in UNUSED[method]:
            if values.get(name, getattr(default, name)) != getattr(default, name):
                raise ValueError(f"The method {method} does not use {name.replace('_', ' ')}: leave it out.")
        return replace(default, **values)


def depth_of(depth):
    """The keyword of `NoiseLevels.depth` for a number (a fraction), "0.4", "t=400" or "sigma=1.2", or ValueError."""
    kind, _, number = str(depth).rpartition("=")
    names = {"": "fraction", "t": "timestep", "sigma": "sigma"}
    try:
        return {names[kind.strip()]: float(number)}
    except (KeyError, ValueError):
        raise ValueError(f"The depth {depth!r} is not understood: give a fraction, t=400 or sigma=1.2.") from None
