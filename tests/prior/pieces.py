"""Workers for the tests of engines, in a file that other processes can import."""

import os
import time
from functools import partial

import torch
from confident_ode.evaluation.restoring import run
from confident_ode.evaluation.settings import Settings
from confident_ode.priors.loading import load

QUICK = Settings.of({"steps": 4, "updates": 4})


def restorer(folder, seconds=0.0):
    """A worker that restores the noise of a seed with the prior of a folder, and takes some seconds more."""
    return partial(restored, load(folder), seconds)


def restored(prior, seconds, seed):
    """The seed "crash" ends the process, and one below 0 is an error."""
    if seed == "crash":
        os._exit(1)
    if seed < 0:
        raise KeyError(f"no seed {seed}")
    noise = torch.randn(1, 3, prior.size, prior.size, generator=torch.Generator().manual_seed(seed))
    result = run(prior, noise.clamp(-1, 1), QUICK)
    time.sleep(seconds)
    return {"picture": result.pictures.numpy(), "calls": result.nfe, "process": os.getpid(), "threads": threads()}


def threads():
    return torch.get_num_threads()
