"""The settings of a restoration and their defaults. No torch is imported here, so that --help is quick."""

import math
from dataclasses import dataclass, fields

SOLVERS = ("ab2", "heun", "dpmpp_2m", "euler")
SPACINGS = ("karras", "linspace", "leading", "trailing")


@dataclass(frozen=True)
class Settings:
    """How to restore. A wrong value raises ValueError; what depends on the prior is checked by `restore.plan`.

    depth: a fraction of the noise schedule, or "t=400", or "sigma=1.2". steps: ODE steps each way. step_size: the
    paper's VP step. eta: standard deviations of the clip. sdedit_depth: like depth, None for the same.
    """

    depth: float | str = 0.4
    steps: int = 25
    spacing: str = "karras"
    solver: str = "ab2"
    step_size: float = 2e-3
    updates: int = 60
    blocks: int = 4
    decay: float = 0.8
    temperature: float = 1.0
    clip: bool = True
    eta: float = 1.0
    threshold: bool = True
    label: str | int | None = None
    guidance: float = 1.0
    samples: int = 1
    seed: int = 0
    sdedit: bool = False
    sdedit_depth: float | str | None = None

    def __post_init__(self):
        depth_of(self.depth)
        if self.sdedit_depth is not None:
            depth_of(self.sdedit_depth)
        for name, choices in (("solver", SOLVERS), ("spacing", SPACINGS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"The {name} {getattr(self, name)!r} is unknown: take one of {', '.join(choices)}.")
        for name, lowest in (("steps", 1), ("updates", 0), ("blocks", 1), ("samples", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
                raise ValueError(f"{name} is {value!r}: take a whole number of at least {lowest}.")
        for name in ("step_size", "decay", "temperature", "eta", "guidance"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise ValueError(f"{name.replace('_', ' ')} is {value!r}: take a number that is not below 0.")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay is {self.decay:g}: take a number above 0 and up to 1.")

    @classmethod
    def of(cls, values):
        """Settings of a dictionary, as read from a TOML table; ValueError on a name that is none."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            known = ", ".join(field.name for field in fields(cls))
            raise ValueError(f"There is no setting {unknown[0]!r}: the settings are {known}.")
        return cls(**values)


def depth_of(depth):
    """The keyword of `NoiseLevels.depth` for a number (a fraction), "0.4", "t=400" or "sigma=1.2", or ValueError."""
    kind, _, number = str(depth).rpartition("=")
    names = {"": "fraction", "t": "timestep", "sigma": "sigma"}
    try:
        return {names[kind.strip()]: float(number)}
    except (KeyError, ValueError):
        raise ValueError(f"The depth {depth!r} is not understood: give a fraction, t=400 or sigma=1.2.") from None
