"""T12 and T13 in every mode of CODE, on a mixture of 40 small pictures: signs and orderings alone are claimed."""

import pytest
import torch
from confident_ode.samplers.clipping import ConfidenceClip
from confident_ode.samplers.noise import seeded_noise
from confident_ode.samplers.odedit import odedit
from confident_ode.samplers.official import Official, official_code
from confident_ode.samplers.restore import restore, update_levels
from core.test_toy_pictures import CLEAN, GRID, LEVELS, MASKED, NOISY, PRIOR, log_p, quality
from core.toys import F64

COUNT = 24
CLEAN, NOISY, MASKED = CLEAN[:COUNT], NOISY[:COUNT], MASKED[:COUNT]
# every second level of the grid of 200, from timestep 300 and from its end
PATH = torch.cat([GRID[139:200:2], torch.zeros(1, dtype=F64)])
WHOLE = torch.cat([GRID[1:200:2], torch.zeros(1, dtype=F64)])
ALPHA_BAR = LEVELS.alpha_bar(torch.arange(1000))
THREE = update_levels(PATH, 3, 0.3)


def code(**options):
    def mode(x, updates, eta=None):
        clip = None if eta is None else ConfidenceClip(eta)
        return restore(PRIOR.model, x, PATH, updates=updates, clip=clip, solver="euler", **options)

    return mode


def odedit_mode(x, updates, eta=None):
    clip = None if eta is None else ConfidenceClip(eta)
    return odedit(PRIOR.model, x, WHOLE, step=1e-5, updates=updates, clip=clip)


def official_mode(x, updates, eta=None):
    settings = Official(
        n=100, latent=20, step=1e-4, updates=updates, levels=2, shallowest=15, clip=eta is not None, eta=eta or 0.0
    )
    return official_code(official_network, x, ALPHA_BAR, settings, noise_sampler=seeded_noise(0))


def official_network(x_vp, t):
    s = LEVELS.sigma(t).view(-1, 1, 1, 1)
    x = x_vp * (1 + s**2).sqrt()
    return (x - PRIOR.model(x, s.flatten())) / s


MODES = {
    "one level": code(step=0.01),
    "two levels": code(step=0.003, levels=THREE[::2]),
    "three levels, geometric": code(step=3e-4, levels=THREE, scale="geometric"),
    "three levels, sigma": code(step=5e-5, levels=THREE, scale="sigma"),
    "from the deepest": code(step=0.005, levels=THREE[1:]),
    "relative": code(step=0.03, mode="relative"),
    "signal to noise": code(step=0.6, mode="snr"),
    "signal to noise at three levels": code(step=0.4, mode="snr", levels=THREE),
    "relative at three levels, sigma": code(step=3e-4, mode="relative", levels=THREE, scale="sigma"),
    "odedit": odedit_mode,
    "official": official_mode,
}


@pytest.mark.parametrize("name", MODES)
@pytest.mark.filterwarnings("ignore:The Langevin step")
def test_more_updates_trade_fidelity_for_likelihood_and_the_clip_rescues(name):
    """T12's trade of PSNR to the input for log p, and T13's signs for updates and clip, medians."""
    mode = MODES[name]
    none, few, many = (mode(NOISY, updates) for updates in (0, 8, 32))
    likelihood = [log_p(x) for x in (NOISY, none, few, many)]
    assert likelihood == sorted(likelihood)
    assert likelihood[1] + 10 < likelihood[2]
    fidelity = [quality(x, NOISY) for x in (none, few, many)]
    assert fidelity == sorted(fidelity, reverse=True)
    eta = 1.0 if name == "official" else 1.7
    clipped = mode(NOISY, 8, eta)
    assert log_p(few) < log_p(clipped)
    assert quality(clipped, NOISY) < quality(few, NOISY)
    # whether updates alone bring a masked picture nearer to the clean one depends on the depth, see test_toy_pictures
    masked = [mode(MASKED, *options) for options in ((0,), (8,), (8, eta))]
    likelihood = [log_p(x) for x in (MASKED, *masked)]
    assert likelihood == sorted(likelihood)
    assert max(quality(x, CLEAN) for x in masked[:2]) + 2 < quality(masked[2], CLEAN)
