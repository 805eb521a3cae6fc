"""DDIB and DiffEdit: a picture from what a source condition says of it to a target, by the ODE or by Cycle-SDE.

The models here are denoisers with their condition and guidance: `source` with what the picture shows, `model` with what
it shall show. DiffEdit (2210.11427) is DDIB (2203.08382) inside a mask, which `diffedit` finds.
"""

from .checks import descending
from .cycle import cycle_sde, record
from .ode import SOLVERS, counting_on
from .restore import encode_path
from .trajectory import Trajectory


def translate_by_ode(
    model, x, sigmas, extra_args=None, callback=None, disable=None, *, source, solver="ab2", mask=None
):
    """DDIB-ODE: invert the pictures x under the source to sigmas[0], decode under the target (F.2 of 2311.01410).

    In the limit of many steps it maps one Gaussian to another as optimal transport does. sigmas: a decode path; a last
    0 ends in the picture. mask: as for `cycle_sde`. solver: a name in `ode.SOLVERS`. Network calls: the solver's,
    once up and once down. Raises ValueError where the path does not descend.
    """
    if solver not in SOLVERS:
        raise ValueError(f"The solver {solver!r} is unknown: take one of {', '.join(SOLVERS)}.")
    descending(sigmas)
    up, solve, path = encode_path(sigmas), SOLVERS[solver], Trajectory(x)
    x = path.reached(up[-1].item(), solve(source, x, up, extra_args, path.before(callback)))
    held = path.keep(mask, resets=len(sigmas)) if mask is not None else None
    x = solve(model, x, sigmas, extra_args, counting_on(callback, len(up) - 1), clip=held)
    return held(x, sigmas[-1].item()) if held else x


def translate_by_sde(
    model,
    x,
    sigmas,
    extra_args=None,
    callback=None,
    disable=None,
    *,
    source,
    noise_sampler,
    kind="markov",
    eta=1.0,
    mask=None,
):
    """DDIB-SDE: add noise to the pictures x up to sigmas[0], and bring them back by Cycle-SDE (F.2 of 2311.01410).

    Arguments as for `cycle_sde` and `record`. Network calls: 2 a step, as many as the ODE's both ways.
    """
    path = record(x, sigmas, noise_sampler, kind, eta)
    start = path.states[sigmas[0].item()]
    return cycle_sde(model, start, sigmas, extra_args, callback, source=source, path=path, eta=eta, mask=mask)
