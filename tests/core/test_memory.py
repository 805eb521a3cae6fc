"""Peak memory does not grow with the number of steps."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from confident_ode.samplers.denoisers import gaussian_denoiser
from confident_ode.samplers.clipping import ConfidenceClip
from confident_ode.samplers.restore import restore

torch.set_num_threads(1)
unit = 1 if sys.platform == "darwin" else 1024
x = torch.zeros(1, 1, 1024, 1024)

def peak(steps):
    sigmas = torch.cat([torch.linspace(5, 0.01, steps + 1), torch.zeros(1)])
    restore(gaussian_denoiser(0.0, 1.0), x, sigmas, step=0.01, updates=steps // 2, blocks=2, clip=ConfidenceClip())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

few = peak({few})
print((peak({many}) - few) / x.nbytes)
"""


def test_peak_memory_of_restore_does_not_grow_with_its_steps():
    """In a process of its own: the peak of many steps over that of few, in states of 4 MiB. Kept, they would be 600."""
    pytest.importorskip("resource", reason="no resource module to read the peak from")
    program = PROGRAM.format(few=20, many=240)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 10
