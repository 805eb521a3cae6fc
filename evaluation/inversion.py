"""How exactly inversion under guidance comes back, what it costs, and whether an edit then succeeds, on photos."""

import time
from dataclasses import dataclass, replace
from functools import partial

import torch

from ..samplers.cycle import cycle_sde
from ..samplers.noise import START, seeded_noise
from ..samplers.null_text import corrected_decode, null_text
from ..samplers.ode import euler
from ..samplers.restore import encode_path
from ..samplers.trajectory import Trajectory
from .editing import Editor, decoding

# noise_bias of those that fit corrections
FITTED = {"Null-Text": "off", "TOP, noise at the depth": "first", "TOP, noise at every step": "every"}
DIRECT = ("direct", "direct, away from source", "direct, source unguided")
WAYS = ("guidance 1", "DDIM", "negative prompt", *DIRECT, *FITTED)
# standard deviations of pixel noise, of 255
NOISES = (5, 10, 20)
CONDITIONS = ("the photo", *(f"noise {std}" for std in NOISES), "wrong class")


@dataclass(frozen=True)
class Inverter(Editor):
    """Inverts photos with DDIM to a depth without guidance, and brings them back, or edits them, under `guidance`.

    depth: a fraction of the schedule. steps: DDIM steps each way. updates: of a fit, at each step.
    """

    depth: float = 0.5
    steps: int = 50
    updates: int = 10

    def came_back(self, way, edits=(False,)):
        """The photos decoded in a way of WAYS, (P, E, C, S, S): of E edits under their targets, else classes."""
        path = decoding(self.prior, self.depth, self.steps)

        def of(part):
            x, labels = self.photos[part], self.labels[part]
            top, kept = self.inverted(x, labels, path)
            decode = self.decoder(way, labels, top, path, kept)
            return torch.stack([decode(self.targets[part] if edit else labels) for edit in edits], 1)

        return self.all(of)

    def decoder(self, way, labels, top, path, kept):
        """decode(labels) of states `top` whose inversion under `labels` went along `kept`."""
        if way == "guidance 1":
            return lambda to: euler(self.plain(to), top, path)
        if way == "DDIM":
            return lambda to: euler(self.guided(to), top, path)
        if way == "negative prompt":
            return lambda to: euler(self.away_from(labels, to), top, path)
        if way in DIRECT:
            target = partial(self.away_from, labels) if way == "direct, away from source" else self.guided
            source = self.guided(labels) if way == "direct" else self.plain(labels)
            return lambda to: cycle_sde(target(to), top, path, path=kept, source=source, eta=0.0)
        unconditional, null = self.null_model()
        fit = {"unconditional": unconditional, "guidance": self.guidance}
        options = {"null": null, "path": kept, "updates": self.updates, "noise_bias": FITTED[way]}
        found = null_text(self.plain(labels), top, path, **fit, **options)
        return lambda to: corrected_decode(self.plain(to), top, path, corrections=found, **fit)

    def inverted(self, x, labels, path):
        """(the state at the depth, the Trajectory there), by DDIM without guidance."""
        kept, up = Trajectory(x), encode_path(path)
        return kept.reached(up[-1].item(), euler(self.plain(labels), x, up, callback=kept)), kept

    def plain(self, labels):
        return self.model(labels, 1.0, threshold=False)

    def guided(self, labels):
        return self.model(labels, self.guidance, threshold=False)

    def away_from(self, labels, to):
        """Guidance from the photo's own class towards `to`: with the class itself it is no guidance."""
        own, other = self.plain(labels), self.plain(to)

        def model(x, sigma):
            u = own(x, sigma)
            return u + self.guidance * (other(x, sigma) - u)

        return model

    def null_model(self):
        unconditional, null = self.prior.null_model()

        def counted(x, sigma, null, **_):
            if self.on_call:
                self.on_call()
            return unconditional(x, sigma, null)

        return counted, null


def noised(inverter, std):
    """The Inverter of the photos with pixel noise of a standard deviation, of 255."""
    noise = seeded_noise(inverter.seed, START)(inverter.photos, 0)
    return replace(inverter, photos=(inverter.photos + std / 127.5 * noise).clamp(-1, 1))


def misnamed(inverter):
    """The Inverter that takes the photos for what they are not."""
    return replace(inverter, labels=inverter.targets)


def psnrs(pictures, photos):
    """PSNR in dB of each, at most 100."""
    errors = (pictures - photos.cpu()).double().square().mean((1, 2, 3))
    return (10 * torch.log10(4 / errors.clamp(min=4e-10))).clamp(max=100)


@dataclass(frozen=True)
class Way:
    """What a way of WAYS makes of photos, (P, C, S, S): back: brought back. edited: into their targets.

    calls: on a batch, not counting those backwards; seconds: for a picture; of all, the edit included.
    """

    back: torch.Tensor
    edited: torch.Tensor
    calls: int
    seconds: float


def followed(inverter, way):
    """The Way."""
    calls, start = [], time.perf_counter()

    def counted():
        calls.append(1)
        if inverter.on_call:
            inverter.on_call()

    back, edited = replace(inverter, on_call=counted).came_back(way, (False, True)).unbind(1)
    seconds = (time.perf_counter() - start) / len(back)
    return Way(back, edited, len(calls) // -(-len(back) // inverter.batch), seconds)


def robustness(inverter):
    """(what was inverted, {way: what came back}), each a list for CONDITIONS of (P, C, S, S)."""
    inverters = [inverter, *(noised(inverter, std) for std in NOISES), misnamed(inverter)]
    back = {way: [each.came_back(way)[:, 0] for each in inverters] for way in WAYS}
    return [each.photos.cpu() for each in inverters], back
