"""T16 for the editing methods: from the first network call to the last, the host neither reads nor waits."""

import pytest
import torch
from confident_ode.samplers.cycle import RECORDS, cycle_sde, record
from confident_ode.samplers.ddib import translate_by_ode, translate_by_sde
from confident_ode.samplers.diffedit import disagreement, mask_from
from confident_ode.samplers.inpaint import INPAINTERS, inpaint, inpaint_calls
from confident_ode.samplers.noise import seeded_noise
from confident_ode.samplers.ode import SOLVERS, network_calls
from core import test_no_sync
from core.test_no_sync import PATH, NoWaitingCopies, no_reads, no_waiting, watched_run

STEPS = len(PATH) - 1


def mask_of(x):
    return (x[:1, :1] > 0).float()


def cycle(model, x, kind, **options):
    kept = record(x, PATH, seeded_noise(0), kind)
    cycle_sde(model, kept.states[PATH[0].item()], PATH, path=kept, mask=mask_of(x), **options)


def diffedit(model, x):
    mask_from(disagreement(model, x, PATH, source=model, noise_sampler=seeded_noise(0), maps=5), grow=1, blur=1.0)


def translated(solver):
    def run(model, x):
        translate_by_ode(model, x, PATH, source=model, solver=solver, mask=mask_of(x))

    up, down = (network_calls(solver, path) for path in (PATH[:-1].flip(0), PATH))
    return up + down, run


def filled(solver, **options):
    def run(model, x):
        inpaint(model, x, PATH, mask=mask_of(x), noise_sampler=seeded_noise(0), solver=solver, **options)

    return inpaint_calls(PATH, **{name: options[name] for name in options if name == "repeats"}), run


RUNS = {
    **{
        f"cycle, {kind}": (2 * STEPS, lambda model, x, kind=kind: cycle(model, x, kind, source=model))
        for kind in RECORDS
    },
    "cycle in one batch": (STEPS, lambda model, x: cycle(model, x, "markov")),
    "cycle with recorded noise": (
        2 * STEPS,
        lambda model, x: cycle(model, x, "markov", source=model, recorded_noise=True),
    ),
    **{f"inpaint, {solver}": filled(solver) for solver in INPAINTERS},
    "inpaint with repeats": filled("ddpm", repeats=3),
    "inpaint with fixed noise": filled("dpmpp_2m", fixed_noise=True),
    **{f"translate by {solver}": translated(solver) for solver in SOLVERS},
    "translate by the SDE": (
        2 * STEPS,
        lambda model, x: translate_by_sde(model, x, PATH, source=model, noise_sampler=seeded_noise(0), mask=mask_of(x)),
    ),
    "diffedit": (10, diffedit),
}


@pytest.fixture(params=RUNS)
def run(request, monkeypatch):
    monkeypatch.setitem(test_no_sync.RUNS, request.param, RUNS[request.param])
    return request.param


def test_nothing_is_read_from_the_device(run):
    watched_run(run, no_reads())


def test_no_copy_to_the_device_is_waited_for(run):
    watched_run(run, NoWaitingCopies(), "meta")


def test_the_gpu_is_never_waited_for(run, cuda):
    watched_run(run, no_waiting(), cuda)


def test_the_runs_are_what_is_watched():
    """A run that reads is seen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            test_no_sync.RUNS,
            "reading",
            (2, lambda model, x: [model(x, torch.ones(2)).sum().item() for _ in range(2)]),
        )
        with pytest.raises(test_no_sync.HostWaits):
            watched_run("reading", no_reads())
