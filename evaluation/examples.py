"""The pictures of the node Example Picture, drawn from the bundled prior.

python -m confident_ode.evaluation.examples [folder]    draws them again: the same, but for rounding, on any machine
"""

import sys
from pathlib import Path

import torch
from PIL import Image

from ..priors.loading import load
from ..samplers.noise import seeded_noise
from ..samplers.noise_levels import decode_path
from ..samplers.sde import sdedit

FOLDER = Path(__file__).parents[1] / "nodes" / "examples"
PRIOR, GUIDANCE, STEPS = "flowers32", 2.5, 60

# name: (class, seed), chosen by eye among the first sixty of each class
EXAMPLES = {
    "daisy-1": ("daisy", 12),
    "daisy-2": ("daisy", 43),
    "dandelion-1": ("dandelion", 12),
    "dandelion-2": ("dandelion", 22),
    "rose-1": ("rose", 19),
    "rose-2": ("rose", 27),
    "sunflower-1": ("sunflower", 57),
    "sunflower-2": ("sunflower", 46),
    "tulip-1": ("tulip", 46),
    "tulip-2": ("tulip", 22),
}


def drawn(prior, label, seed):
    """A sample of the class as an 8-bit image: ancestral steps from the deepest level, where only noise is seen."""
    path = decode_path(prior.levels, prior.levels.depth(fraction=1.0), STEPS)
    path = torch.cat([path, path.new_zeros(1)])
    nothing = torch.zeros(1, prior.channels, prior.size, prior.size)
    with torch.inference_mode():
        picture = sdedit(
            prior.model(GUIDANCE), nothing, path, prior.conditioning(label, 1), noise_sampler=seeded_noise(seed)
        )
    return Image.fromarray((127.5 * (picture[0].clamp(-1, 1) + 1)).round().byte().movedim(0, -1).numpy())


def main(folder=FOLDER):
    """Write every example into `folder` as <name>.png."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    prior = load(PRIOR)
    for name, (label, seed) in EXAMPLES.items():
        drawn(prior, label, seed).save(Path(folder) / f"{name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
