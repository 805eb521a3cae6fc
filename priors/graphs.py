"""A network's calls as CUDA graphs: all its kernels by one launch, which is what a small network waits for on a GPU."""

import os
import warnings

import torch

KEPT = 4  # graphs, of the shapes that were met last
WARM_UP = 3  # calls in which libraries choose their ways, which a graph cannot record


class Replayed:
    """network(x, t, **conditioning), each call a replay of the CUDA graph of the first call with such shapes.

    A result is the graph's own memory and holds until the next call. With gradients, with conditioning that is no
    tensor, and once a graph could not be made, the network itself is called. CONFIDENT_ODE_GRAPHS=0 in the environment
    does so always.
    """

    def __init__(self, network, capture=None):
        self.network, self.capture = network, capture or Capture()
        self.graphs, self.able = {}, os.environ.get("CONFIDENT_ODE_GRAPHS") != "0"

    def __call__(self, x, t, **conditioning):
        given = [x, t, *conditioning.values()]
        if not self.able or torch.is_grad_enabled() or not all(isinstance(value, torch.Tensor) for value in given):
            return self.network(x, t, **conditioning)
        # a tensor of inference mode cannot be written to outside of it
        modes = torch.is_inference_mode_enabled(), _autocast(x)
        kind = (modes, *conditioning, *((value.shape, value.dtype, value.stride()) for value in given))
        if kind not in self.graphs and not self._record(kind, given, conditioning):
            return self.network(x, t, **conditioning)
        held, result, replay = self.graphs[kind] = self.graphs.pop(kind)
        for place, value in zip(held, given, strict=True):
            place.copy_(value)
        replay()
        return result

    def _record(self, kind, given, names):
        """Make the graph of a kind of call; False, and a warning, where that fails."""
        held = [value.clone() for value in given]

        def call():
            # weights that autocast keeps would be gone when it ends, and the graph goes on reading them
            with torch.autocast(held[0].device.type, _autocast(held[0]), bool(_autocast(held[0])), False):
                return self.network(*held[:2], **dict(zip(names, held[2:], strict=True)))

        try:
            recorded = self.capture(call)
        except RuntimeError as error:
            self.able = False
            reason = str(error).partition("\n")[0]
            warnings.warn(f"The network is called without a CUDA graph: {reason}", RuntimeWarning, stacklevel=3)
            return False
        while len(self.graphs) >= KEPT:
            self.graphs.pop(next(iter(self.graphs)))
        self.graphs[kind] = held, *recorded
        return True


def _autocast(x):
    """What autocast computes in where x is, or None where it is off."""
    return torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else None


class Capture:
    """capture(function) -> (what it returns, replay), replay() computing that anew in the same memory.

    All graphs share theirs, as one is replayed at a time.
    """

    def __init__(self):
        self.pool = None

    def __call__(self, function):
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                function()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            result = function()
        return result, graph.replay
