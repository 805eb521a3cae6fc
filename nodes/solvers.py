"""Which method follows the ODE: one of the core's solvers, or a SAMPLER of ComfyUI's that draws no noise."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import comfy.model_management

from ..samplers.exact import EXACT, PAIRED, exact_calls
from ..samplers.ode import SOLVERS, network_calls
from .sockets import EXACT_SOLVERS, check_choice

# those that were seen to return from an inversion; the others draw noise, or cannot climb
DETERMINISTIC = ("euler", "heun", "dpm_2", "lms", "dpmpp_2m", "ipndm", "ipndm_v", "deis")
# by how much a step may multiply the noise for exact dpm++ to come back
STEEPEST = 3.0


def solver_method(solver, sampler=None, clip=None, companion=None, found=None):
    """The method for `Guided.run`. ValueError for a SAMPLER that draws noise, or where one should clip as well.

    companion: the Companion that a solver with two states comes back with. found: is called with the one it ends in.
    """
    if sampler is None:
        check_choice("solver", solver, [*SOLVERS, *EXACT_SOLVERS])
    name = EXACT_SOLVERS.get(solver) if sampler is None else None
    if companion is not None and name not in PAIRED:
        raise ValueError(
            f"The companion belongs to {companion.solver}: set the solver to that of DDIM Invert, or disconnect it."
        )
    if name:
        return _exact(name, clip, companion, found)
    if sampler is None:
        return partial(SOLVERS[solver], clip=clip)
    options = getattr(sampler, "extra_options", {})
    name = (
        getattr(getattr(sampler, "sampler_function", None), "__name__", "")
        .removeprefix("sample_")
        .removesuffix("_function")
    )
    if name not in DETERMINISTIC or options.get("s_churn", 0) > 0:
        raise ValueError(
            f"The sampler {name or 'given'} cannot follow the ODE both ways: take one without noise "
            f"({', '.join(DETERMINISTIC)}), or disconnect it to use the solver."
        )
    if clip is not None:
        raise ValueError(
            "ComfyUI's samplers cannot clip or keep a masked area: disconnect the sampler to use the solver."
        )
    return partial(sampler.sampler_function, **options)


def _exact(name, clip, companion, found):
    if name in PAIRED and clip is not None:
        raise ValueError(
            "The solvers edict, bdia and belm cannot clip or keep a masked area: take ab2 or fixed point there."
        )

    def follow(model, x, sigmas, extra_args=None, callback=None, disable=None):
        def heard(x, sigma, **conditioning):
            # there may be many calls between two reports
            comfy.model_management.throw_exception_if_processing_interrupted()
            return model(x, sigma, **conditioning)

        if name not in PAIRED:
            return EXACT[name](heard, x, sigmas, extra_args, callback, clip=clip)
        x, second = EXACT[name](heard, x, sigmas, extra_args, callback, companion=companion)
        if found and second:
            found(replace(second, state=second.state.to(comfy.model_management.intermediate_device())))
        return x

    return follow


def calls_of(solver, path):
    """How many network calls a solver makes on a path, without a companion."""
    name = EXACT_SOLVERS.get(solver)
    return exact_calls(name, path) if name else network_calls(solver, path)


def too_steep(solver, path):
    """The factor of the noise in the steepest step of a decode path, where that is too much for exact dpm++; or 0."""
    steepest = max((a / b for a, b in pairwise(path.tolist()) if b > 0), default=0)
    return steepest if solver == "exact dpm++" and steepest > STEEPEST else 0
