"""Which method follows the ODE: one of the core's solvers, or a SAMPLER of ComfyUI's that draws no noise."""

from functools import partial

from ..samplers.ode import SOLVERS
from .sockets import check_choice

# those that were seen to return from an inversion; the others draw noise, or cannot climb
DETERMINISTIC = ("euler", "heun", "dpm_2", "lms", "dpmpp_2m", "ipndm", "ipndm_v", "deis")


def solver_method(solver, sampler=None, clip=None):
    """The method for `Guided.run`. ValueError for a SAMPLER that draws noise, or where one should clip as well."""
    if sampler is None:
        check_choice("solver", solver, SOLVERS)
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
