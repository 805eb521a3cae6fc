"""ODEdit (Algorithm 1): down from the deepest latent, with Langevin updates at a few levels on the way."""

from .checks import descending
from .restore import encode_path, restore, restore_calls

# how many updates at each level, by how much of the picture is lost
ODEDIT_UPDATES = {"light": 100, "medium": 200, "heavy": 300}
ODEDIT = {"blocks": 1, "noiseless_last": False, "solver": "euler"}


def odedit(
    model,
    x,
    sigmas,
    extra_args=None,
    callback=None,
    disable=None,
    *,
    damage="light",
    count=4,
    step=1e-6,
    temperature=1 / 3,
    **options,
):
    """ODEdit: `restore` at the levels of `odedit_levels`, with steps in proportion to sigma_vp and less noise.

    sigmas: the decode path from the deepest level, 100 levels above 0 in the paper. damage: "light", "medium" or
    "heavy". count: at how many levels to update. step: the VP step at the cleanest level of the path. options: other
    arguments of `restore`, which may also replace ODEdit's own.
    """
    settings = {"scale": "sigma", **_settings(sigmas, damage, count), **options}
    return restore(model, x, sigmas, extra_args, callback, disable, step=step, temperature=temperature, **settings)


def odedit_calls(sigmas, damage="light", count=4):
    """How many network calls `odedit` makes on the decode path `sigmas`."""
    return restore_calls(sigmas, **_settings(sigmas, damage, count))


def odedit_levels(sigmas, count=4):
    """The starts of `count` even parts of a decode path, counted from its cleanest level above 0, deepest first.

    4: the levels 0, 25, 50 and 75 of each 100, the paper's. On a path of fewer levels than `count` some are the same.
    """
    if count < 1:
        raise ValueError(f"ODEdit updates at {count} levels: take 1 or more.")
    descending(sigmas)
    up = encode_path(sigmas)
    return up[[i * len(up) // count for i in reversed(range(count))]]


def _settings(sigmas, damage, count):
    if damage not in ODEDIT_UPDATES:
        raise ValueError(f"The damage {damage!r} is unknown: take one of {', '.join(ODEDIT_UPDATES)}.")
    return {"updates": ODEDIT_UPDATES[damage], "levels": odedit_levels(sigmas, count), **ODEDIT}
