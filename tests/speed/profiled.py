"""What happens between the network calls of a CODE run, by torch.profiler."""

from itertools import pairwise
from unittest.mock import patch

from confident_ode.evaluation.restoring import run
from confident_ode.priors.graphs import Replayed
from speed.clock import synchronize
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

RUN, CALL = "CODE run", "network call"
# the host waits in these; a copy to the device that is not waited for is a cudaMemcpyAsync as well
WAITS = ("aten::item", "aten::_local_scalar_dense", "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaMemcpy")


def profiled(prior, pictures, settings):
    """The torch.profiler of one run, after one to warm up, its network calls marked."""
    run(prior, pictures, settings)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (prior.device.type == "cuda")
    with profile(activities=activities) as profiler, marked_calls(prior), record_function(RUN):
        run(prior, pictures, settings)
        synchronize(prior.device)
    return profiler


def marked_calls(prior):
    """A context in which each network call is a range of the profiler; on a GPU those that replay a graph, too."""
    kind = Replayed if prior.device.type == "cuda" else type(prior.network)
    called = kind.__call__

    def call(*args, **kwargs):
        with record_function(CALL):
            return called(*args, **kwargs)

    return patch.object(kind, "__call__", call)


def findings(events, device):
    """Lines on the FunctionEvents of a profiled run."""
    host = [event for event in events if event.device_type == DeviceType.CPU]
    [whole], calls = ([event for event in host if event.name == name] for name in (RUN, CALL))
    first, last = calls[0].time_range.start, calls[-1].time_range.end
    waits = [e.name for e in host if e.name.startswith(WAITS) and first < e.time_range.start < last]
    kinds = ", ".join(f"{waits.count(name)} {name}" for name in sorted(set(waits)))
    lines = [f"between the first network call and the last: {len(waits)} syncs and copies{': ' * bool(waits)}{kinds}"]
    if device.type == "cuda":
        return [*lines, *on_device(events, calls)]
    inside = sum(call.time_range.elapsed_us() for call in calls) / whole.time_range.elapsed_us()
    return [
        f"in the network {inside:.1%} of the time, in the rest {1 - inside:.1%}, the profiler's own cost in both",
        *lines,
        "not seen on a CPU: cudaStreamSynchronize, cudaMemcpy and gaps between kernels",
    ]


def on_device(events, calls):
    """Lines on a GPU's kernels: the share of those launched by the network calls, and the largest gap among all.

    From the first call to the host's first read after the last.
    """
    launched = [(event.time_range.start, sum(kernel.duration for kernel in event.kernels)) for event in events]
    spans = [(call.time_range.start, call.time_range.end) for call in calls]
    inside = sum(time for at, time in launched if any(start <= at <= end for start, end in spans))
    share = inside / sum(time for at, time in launched if at >= spans[0][0])
    kernels = [e for e in events if e.device_type == DeviceType.CUDA and e.name not in (RUN, CALL)]
    kernels = sorted((e for e in kernels if e.time_range.start >= spans[0][0]), key=lambda e: e.time_range.start)
    reads = (i for i, e in enumerate(kernels) if "DtoH" in e.name and e.time_range.start >= spans[-1][0])
    kernels = kernels[: next(reads, None)]
    reached, largest, where = kernels[0].time_range.end, 0.0, "none"
    for last, kernel in pairwise(kernels):
        if kernel.time_range.start - reached > largest:
            largest, where = kernel.time_range.start - reached, f"{last.name} and {kernel.name}"
        reached = max(reached, kernel.time_range.end)
    return [
        f"in the network {share:.1%} of the kernels' time, in the rest {1 - share:.1%}",
        f"largest gap between kernels {largest:.1f} us, between {where}",
    ]
