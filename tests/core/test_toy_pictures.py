"""CODE and SDEdit on a mixture of 40 small pictures of known likelihood: signs and orderings alone are claimed."""

import pytest
import torch
from confident_ode.samplers.clipping import ConfidenceClip
from confident_ode.samplers.noise import seeded_noise
from confident_ode.samplers.noise_levels import timestep_grid
from confident_ode.samplers.restore import restore
from confident_ode.samplers.sde import sdedit
from core.toys import F64, LEVELS, Templates, normal_pictures, psnr

PRIOR = Templates(40, 8)
CLEAN = PRIOR.clean(48)
GRID = torch.cat([LEVELS.sigma(timestep_grid(999, 199, "leading")).flip(0), torch.zeros(1, dtype=F64)])
# ImageNet-C's Gaussian noise of severity 5 is 0.38 of a range of 1
NOISY = (CLEAN + 2 * 0.38 * normal_pictures(CLEAN.shape, 3)).clamp(-1, 1)
MASKED = torch.where(normal_pictures(CLEAN.shape, 4) < -0.2533, -1.0, CLEAN)


def log_p(x):
    return PRIOR.log_p(x).median().item()


def quality(x, reference):
    return psnr(x, reference).median().item()


def code(x, index=199, step=1e-3, updates=0, eta=None):
    """CODE with Euler from index `index` of the 200-level grid."""
    clip = None if eta is None else ConfidenceClip(eta)
    return restore(PRIOR.model, x, GRID[199 - index :], step=step, updates=updates, clip=clip, solver="euler")


@pytest.fixture(scope="module")
def noise_results():
    return {
        "input": NOISY,
        "round trip": code(NOISY),
        "round trip + clip": code(NOISY, eta=1.7),
        "code 1e-3": code(NOISY, 20, 1e-3, 200),
        "code 1e-2": code(NOISY, 20, 1e-2, 200),
        "code 1e-3, fewer": code(NOISY, 20, 1e-3, 50),
    }


def test_likelihood_rises_with_step_and_number_of_updates(noise_results):
    """T13: median log p (spec: input -1726, round trip -1120, 1e-3 -6, 1e-2 +75, clean 66.7)."""
    names = ["input", "round trip", "code 1e-3, fewer", "code 1e-3", "code 1e-2"]
    values = [log_p(noise_results[name]) for name in names]
    assert values == sorted(values)
    assert values[0] < values[1] - 100
    assert log_p(CLEAN) > values[3]


def test_clipping_rescues_deep_latents(noise_results):
    """T13: an unlikely round trip becomes a likely picture (spec: -1120 to +28), less like the input."""
    plain, clipped = noise_results["round trip"], noise_results["round trip + clip"]
    assert log_p(plain) < -500 < 0 < log_p(clipped)
    assert quality(clipped, NOISY) < quality(plain, NOISY)
    assert quality(clipped, CLEAN) > quality(plain, CLEAN)


def test_updates_and_clip_bring_masked_pictures_nearer_to_the_clean_ones():
    """T13: PSNR to clean at 40 % masked: round trip < CODE < CODE with the clip, round trip < with the clip."""
    plain, clipped = (quality(code(MASKED, eta=eta), CLEAN) for eta in (None, 1.7))
    updated, updated_clipped = (quality(code(MASKED, 20, 1e-3, 200, eta), CLEAN) for eta in (None, 1.7))
    assert plain < updated < updated_clipped
    assert plain + 2 < clipped


def test_sdedit_trades_fidelity_for_likelihood_with_depth():
    """T12: PSNR to the input falls, log p rises, both up to saturation (spec: 10.6, 9.3, 8.1, 8.2 dB from L = 100)."""
    results = []
    for depth in (20, 100, 300, 500, 700):
        timesteps = timestep_grid(depth - 1, min(100, depth - 1)).flip(0)
        path = torch.cat([LEVELS.sigma(timesteps), torch.zeros(1, dtype=F64)])
        results.append(sdedit(PRIOR.model, NOISY, path, noise_sampler=seeded_noise(0)))
    fidelity = [quality(x, NOISY) for x in results]
    assert fidelity[:3] == sorted(fidelity[:3], reverse=True)
    assert all(value < fidelity[2] for value in fidelity[3:])
    likelihood = [log_p(x) for x in results]
    assert log_p(NOISY) < likelihood[0] < likelihood[1]
    assert all(abs(value - log_p(CLEAN)) < 15 for value in likelihood[1:])
