"""The states of an inversion, kept so that a decode can hold an area of the picture to what it was."""

import torch


class Trajectory:
    """The states that an encoding went through: used as its `callback`, then as the `clip` of a decode.

    picture: what was encoded, (B, C, H, W), clean. `states`: the state at each VE sigma that was met, the picture at 0.
    `given`: the picture as it was before a model's scale, which rounds, or None.
    """

    given = None

    def __init__(self, picture):
        self.states = {0.0: picture}

    def __call__(self, report):
        self.states[report["sigma"]] = report["x"]

    def before(self, callback):
        """A callback that records, and calls `callback`, if there is one."""

        def seen(report):
            self(report)
            if callback is not None:
                callback(report)

        return seen

    def reached(self, sigma, x):
        """Record the end of the path, which no callback sees; returns x."""
        self.states[sigma] = x
        return x

    def at(self, levels):
        """The states at the VE sigmas `levels`; ValueError where one was not met."""
        return [self._state(sigma) for sigma in levels]

    def _state(self, sigma):
        if sigma not in self.states:
            raise ValueError(
                f"The inversion has no state at sigma {sigma:.4g}: decode with the SIGMAS that it gave out."
            )
        return self.states[sigma]

    def map(self, change):
        """The trajectory of change(state) for each state."""
        changed = Trajectory(None)
        changed.states = {sigma: change(x) for sigma, x in self.states.items()}
        return changed

    def keep(self, mask, resets=1):
        """A solver's clip(x, sigma) that resets x to the recorded state where mask is 0 and leaves it where it is 1.

        mask: (B or 1, 1, H, W) in [0, 1]. resets: how often it will be called on the state itself; each takes its
        share, so that between 0 and 1 the mask says how much is left of a change in all. The clip raises ValueError at
        a level that the encoding did not meet.
        """
        mask = mask ** (1 / resets)

        return lambda x, sigma: torch.lerp(self._state(sigma), x, mask)
