"""T16: between the first network call and the last, the host neither reads from the device nor waits for it."""

from contextlib import ExitStack, contextmanager

import pytest
import torch
from confident_ode.samplers import denoisers, fused, ode
from confident_ode.samplers.clipping import ConfidenceClip, observation_range, quantile_range
from confident_ode.samplers.langevin import langevin, langevin_calls
from confident_ode.samplers.noise import seeded_noise
from confident_ode.samplers.odedit import odedit, odedit_calls
from confident_ode.samplers.official import Official, official_code
from confident_ode.samplers.restore import restore, restore_calls
from confident_ode.samplers.sde import sdedit
from core.toys import LEVELS, normal_pictures, toy_path
from torch.overrides import TorchFunctionMode

# `restore` reads the path and cuts of it between its parts: a path lives on the host, so no device waits for that
PATH = toy_path()
LANGEVIN = {"step": 0.02, "updates": 9, "blocks": 4}
ALPHA_BAR = LEVELS.alpha_bar(torch.arange(1000))
OFFICIAL = Official(n=9, latent=9, updates=9, levels=2, shallowest=3, langevin_clip=True, decode_clip=True, samples=2)
READS = ("item", "cpu", "numpy", "tolist", "nonzero", "equal", "__array__")
CASTS = ("__bool__", "__float__", "__int__", "__index__", "__complex__")


class HostWaits(Exception):
    pass


@contextmanager
def no_reads():
    """Any look at a tensor's values raises."""
    with pytest.MonkeyPatch.context() as patch:
        for name in READS + CASTS:
            patch.setattr(torch.Tensor, name, _guarded(name, getattr(torch.Tensor, name)))
        yield


def _guarded(name, original):
    def guarded(tensor, *args, **kwargs):
        if tensor is not PATH and tensor._base is not PATH:
            raise HostWaits(f"{name} between the first network call and the last")
        return original(tensor, *args, **kwargs)

    return guarded


class NoWaitingCopies(TorchFunctionMode):
    """Copies from the host to the device raise unless they are non-blocking.

    Run on torch's meta device, which has shapes and no values, it stands in for a GPU: reading from it raises as well.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function in (torch.tensor, torch.as_tensor, torch.Tensor.to) and result.device.type == "meta":
            source = args[0].device.type if isinstance(args[0], torch.Tensor) else "cpu"
            if source != "meta" and not (kwargs or {}).get("non_blocking"):
                raise HostWaits("a copy to the device between the first network call and the last")
        return result


@contextmanager
def no_waiting():
    """CUDA's own check."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def watched_run(name, context, device="cpu"):
    """RUNS[name] within `context` from its first network call to its last."""
    calls, run = {**RUNS, **STOPPING}[name]
    model = denoisers.eps_denoiser(network, LEVELS.to(device), torch.bfloat16)
    counter = denoisers.CallCounter(denoisers.dynamic_thresholding(model))
    with ExitStack() as watch:

        def watched(x, sigma, **conditioning):
            if counter.calls == 0:
                watch.enter_context(context)
            x0 = counter(x, sigma, **conditioning)
            if counter.calls == calls:
                watch.close()
            return x0

        try:
            run(watched, normal_pictures((2, 3, 8, 8), dtype=torch.float32).to(device))
        except (NotImplementedError, RuntimeError):
            # the final check of the result reads it, which a meta tensor does not allow
            if device != "meta" or counter.calls < calls:
                raise
    assert counter.calls == calls


def network(x_vp, t, **_):
    return torch.sin(2 * x_vp) * (0.5 + t.to(x_vp.dtype).view(-1, 1, 1, 1) / 2000)


def encoding(solve, **options):
    path = PATH[:-1].flip(0)
    return lambda model, x: solve(model, x, path, clip=ConfidenceClip(1.0), **options)


def guided(model, x):
    conditions = {"label": torch.arange(len(x), device=x.device)}
    ode.euler(denoisers.classifier_free_guidance(model, 3.0, {"label": 10}), x, PATH, conditions)


# each: how many network calls, and what makes them
RUNS = {
    **{f"{name} up": (ode.network_calls(name, PATH[:-1]), encoding(ode.SOLVERS[name])) for name in ode.SOLVERS},
    **{
        f"{name} down": (ode.network_calls(name, PATH), lambda model, x, solve=solve: solve(model, x, PATH))
        for name, solve in ode.SOLVERS.items()
    },
    "euler to the target": (12, encoding(ode.euler, convention="target")),
    "ab2 in sigma": (12, encoding(ode.ab2, variable="sigma", start="euler")),
    "langevin": (
        langevin_calls(9, 4),
        lambda model, x: langevin(model, x, PATH, noise_sampler=seeded_noise(0), clip=ConfidenceClip(), **LANGEVIN),
    ),
    "sdedit": (
        2 * 13,
        lambda model, x: sdedit(model, x, PATH, noise_sampler=seeded_noise(0), mask=(x > 0).float(), repeats=2),
    ),
    "restore": (
        restore_calls(PATH, 9),
        lambda model, x: restore(model, x, PATH, samples=2, clip=ConfidenceClip(), **LANGEVIN),
    ),
    **{
        f"restore at levels, {mode}": (
            restore_calls(PATH, 9, levels=PATH[[2, 5]]),
            lambda model, x, mode=mode: restore(
                model,
                x,
                PATH,
                levels=PATH[[2, 5]].tolist(),
                mode=mode,
                scale="geometric",
                clip=ConfidenceClip(1.0, *quantile_range(x)),
                langevin_clip=ConfidenceClip(1.0, *observation_range(x, 0.2)),
                decode_clip=ConfidenceClip(),
                **LANGEVIN,
            ),
        )
        for mode in ("absolute", "relative", "snr")
    },
    "odedit": (odedit_calls(PATH), lambda model, x: odedit(model, x, PATH)),
    "official": (
        OFFICIAL.calls,
        lambda model, x: official_code(model, x, ALPHA_BAR, OFFICIAL, noise_sampler=seeded_noise(0)),
    ),
    "guided": (13, guided),
}
# after each block they look at a word that the device left in the host's memory, which the meta device cannot do
STOPPING = {
    "langevin that may stop": (
        langevin_calls(9, 4),
        lambda model, x: langevin(model, x, PATH, noise_sampler=seeded_noise(0), stop_at=1e-9, **LANGEVIN),
    ),
}


@pytest.mark.parametrize("name", [*RUNS, *STOPPING])
def test_nothing_is_read_from_the_device(name):
    watched_run(name, no_reads())


@pytest.mark.parametrize("name", RUNS)
def test_no_copy_to_the_device_is_waited_for(name):
    watched_run(name, NoWaitingCopies(), "meta")


@pytest.mark.parametrize("name", RUNS)
def test_nor_with_the_kernels(name, monkeypatch):
    """What is done on the host to launch them; on the meta device they have nothing to run on."""
    pytest.importorskip("triton")
    from confident_ode.samplers import kernels

    launched = []
    monkeypatch.setattr(kernels, "launch", lambda kernel, *_, **__: launched.append(kernel))
    monkeypatch.setitem(fused.WORKING, torch.device("meta"), True)
    watched_run(name, NoWaitingCopies(), "meta")
    assert launched


@pytest.mark.parametrize("name", [*RUNS, *STOPPING])
def test_the_gpu_is_never_waited_for(name, cuda):
    watched_run(name, no_waiting(), cuda)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.sum() > 0),
        lambda x: float(x.sum()),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: [0, 1][(x.sum() > 0).long()],
    ],
    ids=["item", "bool", "float", "tolist", "cpu", "numpy", "index"],
)
def test_the_watch_sees_a_read(read):
    with no_reads(), pytest.raises(HostWaits):
        read(torch.zeros(2))
    with pytest.raises((NotImplementedError, RuntimeError, TypeError)):
        read(torch.zeros(2, device="meta"))


@pytest.mark.parametrize(
    "copy",
    [
        lambda: torch.tensor([1.0, 2.0], device="meta"),
        lambda: torch.as_tensor(1.0, device="meta"),
        lambda: torch.ones(2).to("meta"),
        lambda: torch.ones(2).to(torch.ones(2, device="meta")),
    ],
)
def test_the_watch_sees_a_copy(copy):
    with NoWaitingCopies(), pytest.raises(HostWaits):
        copy()
    with NoWaitingCopies():
        torch.ones(2).to("meta", non_blocking=True).to(torch.bfloat16)
