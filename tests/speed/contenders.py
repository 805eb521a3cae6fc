"""What restores, or makes as many network calls: each a function of (prior, pictures, settings)."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from confident_ode.evaluation.published import Published, trainer_class
from confident_ode.evaluation.restoring import plan, run
from confident_ode.evaluation.settings import Settings
from confident_ode.samplers.noise_levels import decode_path
from confident_ode.samplers.ode import euler
from diffusers import DDIMInverseScheduler, DDIMScheduler

ALONE, AUTHORS, DDIM = "network alone", "authors' code", "our DDIM"
# clip, thresholding and updates on; the depth of the authors' code, which encodes to the end; no call is left out
ALL_ON = Settings(
    depth=1.0, steps=25, spacing="linspace", solver="euler", updates=60, blocks=4, step_size=2e-3, stop_at=0.0
)


def contenders(official=None):
    """Functions by name; official: a checkout of the authors' code, ValueError where it is none."""
    found = {ALONE: network_alone, "CODE": run, DDIM: our_ddim, "diffusers' DDIM": diffusers_ddim}
    if official:
        path = Path(official).resolve()
        trainer_class(path)
        found[AUTHORS] = partial(authors, path=path)
    return found


@torch.inference_mode()
def network_alone(prior, pictures, settings):
    x, labels = pictures.to(prior.device), prior.conditioning(None, len(pictures))
    timesteps = torch.full((len(x),), 100.0, device=prior.device)
    for _ in range(plan(prior, settings).calls):
        prior.network(x, timesteps, **labels)


@torch.inference_mode()
def our_ddim(prior, pictures, settings):
    """What diffusers' loops do, by our sampler: up the whole schedule and down, without clip, thresholding or noise."""
    x, labels, calls = pictures.to(prior.device), prior.conditioning(None, len(pictures)), plan(prior, settings).calls
    model, deepest = prior.model(threshold=False), len(prior.levels) - 1
    up, down = (decode_path(prior.levels, deepest, steps) for steps in (calls // 2, calls - calls // 2 - 1))
    x = euler(model, x, up.flip(0), labels)
    euler(model, x, torch.cat([down, down.new_zeros(1)]), labels)


@torch.inference_mode()
def diffusers_ddim(prior, pictures, settings):
    """Up by DDIMInverseScheduler and down by DDIMScheduler."""
    x, labels, calls = pictures.to(prior.device), prior.conditioning(None, len(pictures)), plan(prior, settings).calls
    for scheduler, steps in ((DDIMInverseScheduler(), calls // 2), (DDIMScheduler(), calls - calls // 2)):
        scheduler.set_timesteps(steps, device=prior.device)
        for t in scheduler.timesteps:
            eps = prior.network(x, t, **labels).sample
            x = scheduler.step(eps, t, x).prev_sample


def authors(prior, pictures, settings, path):
    """The authors' code with as many steps and updates; it takes one picture."""
    theirs = replace(settings, method="official", start="deepest", step_size=1e-5, steps=settings.steps + 1)
    Published(AUTHORS, theirs, path=path).restore_one(prior, pictures, 0)
