"""The pictures of the node Example Picture, drawn from the bundled prior.

python -m confident_ode.evaluation.examples [folder]    draws them again: the same, but for rounding, on any machine
"""

import sys
from pathlib import Path

from ..priors.export import tiled
from ..priors.loading import load
from ..priors.sampling import sample

FOLDER = Path(__file__).parents[1] / "nodes" / "examples"
PRIOR, GUIDANCE, STEPS = "flowers64", 2.0, 40

# name: (class, seed), chosen by eye among the first 48 of each class
EXAMPLES = {
    "daisy-1": ("daisy", 43),
    "daisy-2": ("daisy", 21),
    "dandelion-1": ("dandelion", 8),
    "dandelion-2": ("dandelion", 29),
    "rose-1": ("rose", 29),
    "rose-2": ("rose", 35),
    "sunflower-1": ("sunflower", 21),
    "sunflower-2": ("sunflower", 19),
    "tulip-1": ("tulip", 36),
    "tulip-2": ("tulip", 46),
}


def drawn(prior, label, seed):
    """A sample of the class as an 8-bit image."""
    return tiled(sample(prior, [prior.classes.index(label)], STEPS, GUIDANCE, seed, ancestral=True), 1)


def main(folder=FOLDER):
    """Write every example into `folder` as <name>.png."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    prior = load(PRIOR)
    for name, (label, seed) in EXAMPLES.items():
        drawn(prior, label, seed).save(Path(folder) / f"{name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
