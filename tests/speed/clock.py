"""How long work takes, how much of that is its network's, and how much memory it needs."""

import time
from contextlib import contextmanager
from itertools import accumulate
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile


class Taken(NamedTuple):
    """Of one piece of work. inside: the seconds in its network calls, on a CPU, where a call ends when it returns."""

    seconds: float
    calls: int
    inside: float

    @property
    def per_call(self):
        return self.seconds / self.calls


def taken(work, network, calls, device):
    """What `work()` took. It makes `calls` calls of the Module `network`, on a GPU perhaps replays of a graph."""
    began, spent = [], []
    synchronize(device)
    with hooked(
        network,
        lambda *_: began.append(time.perf_counter()),
        lambda *_: spent.append(time.perf_counter() - began[-1]),
    ):
        start = time.perf_counter()
        work()
        synchronize(device)
        return Taken(time.perf_counter() - start, calls, sum(spent))


@contextmanager
def hooked(network, before, after):
    """before() and after() at each call of a Module."""
    hooks = network.register_forward_pre_hook(before), network.register_forward_hook(after)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def beside(device, it, alone):
    """The time of a Taken over that of its network calls: those in it, or on a GPU those of the Taken `alone`."""
    return it.per_call / alone.per_call if device.type == "cuda" else it.seconds / it.inside


def peak_memory(work, device):
    """The most bytes of tensors that `work()` holds at once, beyond those held before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    events = profiled.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return max(accumulate(change for _, change in changes))


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)
