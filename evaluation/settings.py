"""The settings of a restoration and their defaults. No torch is imported here, so that --help is quick."""

import math
from dataclasses import asdict, dataclass, fields, replace

SOLVERS = ("ab2", "heun", "dpmpp_2m", "euler")
SPACINGS = ("karras", "linspace", "leading", "trailing")
STEP_SCALES = ("none", "geometric", "sigma")
STEP_MODES = ("absolute", "relative", "snr")
DAMAGES = ("light", "medium", "heavy")
PARTS = ("up", "updates", "down")
STARTS = ("updates", "deepest")
# the first are kept unless they are left out, the others left out unless they are named
QUIRKS = ("clip level", "unclipped start", "depth", "scale", "single update", "last update", "last step")
MORE_QUIRKS = ("second noise", "std schedule")

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
        "levels": 4,
        "clip": False,
        "threshold": False,
    },
    # for `official`, steps are the levels of the whole schedule, and depth is where to update
    "official": {"depth": 1.0, "steps": 200, "step_size": 1e-5, "updates": 200, "blocks": 4, "eta": 1.7},
}
# what a method does not use
UNUSED = {
    "code": ("damage", "quirks"),
    "odedit": (
        "updates",
        "blocks",
        "decay",
        "stop_at",
        "noiseless_last",
        "start",
        "shallowest",
        "step_scale",
        "step_mode",
        "solver",
        "quirks",
    ),
    "official": (
        "damage",
        "temperature",
        "stop_at",
        "noiseless_last",
        "step_scale",
        "step_mode",
        "clip_range",
        "guidance",
        "solver",
        "spacing",
    ),
}
CHOICES = {
    "method": tuple(METHODS),
    "solver": SOLVERS,
    "spacing": SPACINGS,
    "step_scale": STEP_SCALES,
    "step_mode": STEP_MODES,
    "damage": DAMAGES,
    "start": STARTS,
}


@dataclass(frozen=True)
class Settings:
    """How to restore. A wrong value raises ValueError; what depends on the prior is checked by `restoring.plan`.

    The defaults are those of the method "code"; `of` takes those of the method that is asked for. depth: a fraction of
    the noise schedule, or "t=400", or "sigma=1.2". steps: ODE steps each way. levels, shallowest: at how many noise
    levels to update, from the depth to `shallowest`, which is given like it. step_size: the VP step if step_mode is
    "absolute"; step_mode, stop_at, step_scale: see `samplers.langevin` and `samplers.restore.STEP_SCALES`. start: what
    to decode from, the state at the depth or at the end of the schedule, all of which the steps then lie on; None: the
    former, but for the method "official" the latter where it clips. eta: standard deviations of the clip. clip_at,
    threshold_at: some of PARTS, see `parts_of`. clip_range: see `range_of`. damage: how many updates ODEdit makes.
    quirks: see `quirks_of`. sdedit_depth: like depth, None for the same.
    """

    method: str = "code"
    depth: float | str = 0.4
    steps: int = 12
    spacing: str = "karras"
    solver: str = "ab2"
    levels: int = 1
    shallowest: float | str = 0.1
    step_size: float = 2e-2
    step_mode: str = "absolute"
    step_scale: str = "none"
    updates: int = 16
    blocks: int = 8
    decay: float = 0.8
    stop_at: float = 1.1
    temperature: float = 1.0
    noiseless_last: bool = True
    start: str | None = None
    clip: bool = True
    eta: float = 1.0
    clip_at: str = "up"
    clip_range: str = "pixels"
    threshold: bool = True
    threshold_at: str = "up,updates,down"
    quirks: str = "all"
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
            if value not in choices and not (name == "start" and value is None):
                raise ValueError(f"The {words} {value!r} is unknown: take one of {', '.join(choices)}.")
        for name, lowest in (("steps", 1), ("levels", 1), ("updates", 0), ("blocks", 1), ("samples", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
                raise ValueError(f"{name} is {value!r}: take a whole number of at least {lowest}.")
        for name in ("step_size", "decay", "stop_at", "temperature", "eta", "guidance"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise ValueError(f"{name.replace('_', ' ')} is {value!r}: take a number that is not below 0.")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay is {self.decay:g}: take a number above 0 and up to 1.")
        range_of(self.clip_range)
        quirks_of(self.quirks)
        parts_of(self.clip_at)
        ways = {"up", "down"}.intersection(parts_of(self.threshold_at))
        if self.method == "official" and self.threshold and len(ways) == 1:
            raise ValueError("The official code thresholds up and down alike: take both or neither.")

    @property
    def clipped(self):
        """The PARTS that are clipped."""
        return parts_of(self.clip_at) if self.clip else ()

    @property
    def thresholded(self):
        """The PARTS whose network is thresholded."""
        return parts_of(self.threshold_at) if self.threshold else ()

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
        # who says where, or by what range, wants it
        wanted = {name.partition("_")[0]: True for name in ("clip_at", "clip_range", "threshold_at") if name in values}
        return replace(default, **{**wanted, **values})


def depth_of(depth):
    """The keyword of `NoiseLevels.depth` for a number (a fraction), "0.4", "t=400" or "sigma=1.2", or ValueError."""
    kind, _, number = str(depth).rpartition("=")
    names = {"": "fraction", "t": "timestep", "sigma": "sigma"}
    try:
        return {names[kind.strip()]: float(number)}
    except (KeyError, ValueError):
        raise ValueError(f"The depth {depth!r} is not understood: give a fraction, t=400 or sigma=1.2.") from None


def parts_of(text):
    """("up", "down") of "up,down" or "up+down", in the order of PARTS, or ValueError."""
    names = _names(text)
    if not names or not set(names) <= set(PARTS):
        raise ValueError(f"The parts {text!r} are not understood: take some of {', '.join(PARTS)}, with commas.")
    return tuple(part for part in PARTS if part in names)


def range_of(text):
    """(kind, numbers) of a range of clean data in [-1, 1], or ValueError.

    "pixels": all of it; "fixed=-0.8,0.9": low and high; "quantiles=0.01": that of each channel of the picture, without
    this share of its values at each end; "around=0.5": up to so far from each value of the picture.
    """
    kind, _, listed = str(text).partition("=")
    try:
        numbers = tuple(float(number) for number in listed.split(",")) if listed else ()
    except ValueError:
        numbers = ()
    means = {
        "pixels": not numbers and not listed,
        "fixed": len(numbers) == 2 and -math.inf < numbers[0] < numbers[1] < math.inf,
        "quantiles": len(numbers) == 1 and 0 <= numbers[0] < 0.5,
        "around": len(numbers) == 1 and 0 <= numbers[0] < math.inf,
    }
    if not means.get(kind):
        raise ValueError(
            f"The clip range {text!r} is not understood: take pixels, fixed=-1,1 (low and high), quantiles=0.01 (a "
            "share below 0.5) or around=0.5 (0 or more)."
        )
    return kind, numbers


def quirks_of(text):
    """The quirks of the authors' code that are kept, of "all", "none", or names with commas, or ValueError.

    "no-scale": all but this; "all,second-noise": all, and one of MORE_QUIRKS.
    """
    known, names = (*QUIRKS, *MORE_QUIRKS), [name.replace("-", " ") for name in _names(text)]
    quirks = [name.removeprefix("no ") for name in names]
    if not names or not {*quirks} <= {"all", "none", *known}:
        listed = ", ".join(name.replace(" ", "-") for name in known)
        raise ValueError(f"The quirks {text!r} are not understood: take all, none, or some of {listed}.")
    kept = {*QUIRKS} if names[0].startswith("no ") else set()
    for name, quirk in zip(names, quirks, strict=True):
        meant = {"all": {*QUIRKS}, "none": set()}.get(quirk, {quirk})
        kept = kept - meant if name != quirk else kept | meant
    return tuple(name for name in known if name in kept)


def _names(text):
    return [name.strip() for name in str(text).replace("+", ",").split(",") if name.strip()]
