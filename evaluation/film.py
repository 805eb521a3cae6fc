"""A film strip of a run: the clean picture that the network sees in the state, from the first step up to the last."""

from dataclasses import dataclass

import torch

from .sheets import Cell

MOST_FRAMES = 4


@dataclass(frozen=True)
class Frame:
    """The last estimate of the first picture at a noise level, (1, C, H, W) on the CPU, and the steps made there."""

    sigma: float
    picture: torch.Tensor
    steps: int = 1


class Film:
    """A sampler's `callback` that keeps a Frame for each stretch of steps at one level, in order."""

    def __init__(self, frames=()):
        self.frames = list(frames)

    def __call__(self, report):
        picture = report["denoised"][:1].cpu()
        if self.frames and self.frames[-1].sigma == report["sigma"]:
            self.frames[-1] = Frame(report["sigma"], picture, self.frames[-1].steps + 1)
        else:
            self.frames.append(Frame(report["sigma"], picture))

    def columns(self):
        """Pairs (title, Frame): some on the way up, all after updates, and some on the way down, in order."""
        sigmas = [frame.sigma for frame in self.frames]
        deepest = sigmas.index(max(sigmas))
        up, down = self.frames[:deepest], self.frames[deepest:]
        kept = [("up", frame) for frame in evenly(up)]
        shown = {id(frame) for frame in evenly([frame for frame in down if frame.steps == 1])}
        return kept + [
            ("down", frame) if frame.steps == 1 else ("updated", frame)
            for frame in down
            if frame.steps > 1 or id(frame) in shown
        ]

    def cells(self, drawn):
        """(titles, cells) of a row of a contact sheet; drawn(picture) gives the image of a Frame's picture."""
        columns = self.columns()
        return [title for title, _ in columns], [
            Cell(drawn(frame.picture), (f"sigma {frame.sigma:.3g}",)) for _, frame in columns
        ]


def evenly(frames, most=MOST_FRAMES):
    """At most `most` of them, evenly, the first and the last included."""
    if len(frames) <= most:
        return frames
    return [frames[round(k * (len(frames) - 1) / (most - 1))] for k in range(most)]
