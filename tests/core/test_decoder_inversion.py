"""Decoder inversion on decoders of a few numbers, whose best latents are known in closed form."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from confident_ode.samplers.decoder_inversion import TOLERANCE, by_gradient, gradient_free
from core.toys import F64, normal_pictures, refuses

BATCH, LATENT, SIDE = 3, (2, 2, 2), 4
NUMBERS, PIXELS = 8, 3 * SIDE**2
ORTHOGONAL = torch.linalg.qr(normal_pictures((1, 1, PIXELS, PIXELS), 1)[0, 0])[0]
# the columns that the decoder knows, and what is at right angles to them
KNOWN, UNKNOWN = ORTHOGONAL[:, :NUMBERS], ORTHOGONAL[:, NUMBERS:]
# a decoder has strong and weak directions, and its encoder takes each for less than it is, and mixes them a little
STRENGTHS = torch.linspace(0.2, 0.6, NUMBERS, dtype=F64)
LESS = torch.diag(torch.linspace(0.5, 0.8, NUMBERS, dtype=F64)) + 0.03 * normal_pictures((1, 1, 8, 8), 2)[0, 0]
WEIGHTS = KNOWN * STRENGTHS
GUESS = LESS @ torch.linalg.pinv(WEIGHTS)
LATENTS = normal_pictures((BATCH, *LATENT), 3)


def linear(z):
    return (0.5 + z.flatten(1) @ WEIGHTS.to(z).T).view(-1, 3, SIDE, SIDE)


def bent(z):
    """As mildly nonlinear as a decoder near its encoder's guess."""
    return linear(z + 0.2 * torch.sin(2 * z))


def encode(x):
    return ((x - 0.5).flatten(1) @ GUESS.to(x).T).view(-1, *LATENT)


def inverted(method, decode, pictures, encode=encode, **options):
    options = {"steps": 300, "tolerance": 0.0, "rate": 0.1, **options}
    method = partial(gradient_free, encode) if method == "gradient-free" else by_gradient
    return method(decode, pictures, encode(pictures), **options)


def error(decode, latents, pictures):
    return (decode(latents) - pictures).square().flatten(1).mean(1)


METHODS = pytest.mark.parametrize("method", ["gradient-free", "gradient"])
DECODERS = pytest.mark.parametrize("decode", [linear, bent])


@METHODS
@DECODERS
def test_the_latent_of_a_decoded_picture_is_found(method, decode):
    pictures = decode(LATENTS)
    assert 0 < pictures.min() < pictures.max() < 1
    assert (encode(pictures) - LATENTS).abs().max() > 0.2
    found = inverted(method, decode, pictures)
    torch.testing.assert_close(found.latents, LATENTS.float(), atol=2e-3, rtol=0)
    assert (found.before > 2e-4).all()
    assert (found.after < 1e-9).all()
    torch.testing.assert_close(found.before, error(decode, encode(pictures), pictures).float())
    torch.testing.assert_close(found.after, error(decode, found.latents, pictures).float(), atol=1e-9, rtol=0)


@METHODS
def test_of_any_other_picture_as_much_as_the_method_can(method):
    """By gradient the nearest of all that can be decoded; without, at least where E(D(z)) = E(x)."""
    beside = normal_pictures((BATCH, 1, 1, PIXELS - NUMBERS), 4).flatten(1) @ UNKNOWN.T
    pictures = linear(LATENTS) + 0.02 * beside.view(-1, 3, SIDE, SIDE)
    nearest = ((pictures - 0.5).flatten(1) @ torch.linalg.pinv(WEIGHTS).T).view(-1, *LATENT)
    found = inverted(method, linear, pictures)
    assert (found.after < found.before / 2).all()
    if method == "gradient":
        torch.testing.assert_close(found.latents, nearest.float(), atol=2e-3, rtol=0)
    solved = torch.linalg.solve(GUESS @ WEIGHTS, encode(pictures).flatten(1).T).T.view(-1, *LATENT)
    assert (found.after <= 1.001 * error(linear, solved, pictures)).all()


@METHODS
def test_it_is_never_worse_than_the_encoder(method):
    """Also for an encoder that points away, and at a rate that throws it far off."""

    def away(x):
        return -encode(x)

    pictures = linear(LATENTS)
    found = inverted("gradient-free", linear, pictures, away)
    torch.testing.assert_close(found.latents, away(pictures).float(), atol=0, rtol=0)
    torch.testing.assert_close(found.after, found.before, atol=0, rtol=0)
    wild = inverted(method, bent, bent(LATENTS), rate=100.0, steps=3)
    assert (wild.after <= wild.before).all()


@METHODS
def test_a_decoder_that_breaks_down_breaks_nothing(method):
    def broken(z):
        return torch.where(z.flatten(1).norm(dim=1).view(-1, 1, 1, 1) > 2.0, torch.nan, linear(z))

    pictures = linear(LATENTS)
    found = inverted(method, broken, pictures)
    assert found.latents.isfinite().all()
    assert (found.after <= found.before).all()
    assert found.after.isfinite().all()


@METHODS
@DECODERS
@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_a_picture_comes_out_alike_alone_and_in_a_batch(method, decode, tolerance):
    pictures = decode(LATENTS * torch.tensor([0.3, 1.0, 1.4]).view(-1, 1, 1, 1))
    options = {"tolerance": tolerance, "steps": 60}
    together = inverted(method, decode, pictures, **options)
    for i in range(BATCH):
        alone = inverted(method, decode, pictures[i : i + 1], **options)
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[i : i + 1], theirs, atol=1e-5, rtol=1e-4)
    assert len(set(together.steps.tolist())) > 1 if tolerance else set(together.steps.tolist()) == {60}


@METHODS
def test_a_tolerance_saves_calls(method):
    calls = []

    def counted(z):
        calls.append(1)
        return bent(z)

    found = inverted(method, counted, bent(LATENTS), tolerance=1e-4)
    # the last look is no update
    assert len(calls) == found.steps.max() + 1 < 100
    assert (found.after <= 1e-4).all()


@METHODS
def test_a_vae_that_is_exact_is_left_at_once(method):
    def exact(x):
        return ((x - 0.5).flatten(1) @ torch.linalg.pinv(WEIGHTS).to(x).T).view(-1, *LATENT)

    pictures = linear(LATENTS).float()
    found = inverted(method, linear, pictures, exact, tolerance=TOLERANCE)
    assert found.steps.tolist() == [0] * BATCH
    torch.testing.assert_close(found.latents, exact(pictures), atol=0, rtol=0)


def test_no_steps_are_the_encoder():
    found = inverted("gradient", linear, linear(LATENTS), steps=0)
    torch.testing.assert_close(found.latents, encode(linear(LATENTS)).float(), atol=0, rtol=0)
    torch.testing.assert_close(found.after, found.before, atol=0, rtol=0)


def test_what_is_beyond_white_is_white():
    """A picture with burnt-out lights comes back, though its latent has them brighter than they are shown."""
    bright = 3 * LATENTS
    pictures = linear(bright).clamp(0, 1)
    assert (pictures == 1).any()
    assert (pictures == 0).any()
    found = inverted("gradient", linear, pictures, steps=600)
    shown = linear(found.latents).clamp(0, 1)
    assert (shown - pictures).square().mean() < 1e-6
    # the nearest without the clamp is not
    flat = ((pictures - 0.5).flatten(1) @ torch.linalg.pinv(WEIGHTS).T).view(-1, *LATENT)
    assert (linear(flat).clamp(0, 1) - pictures).square().mean() > 1e-4


@METHODS
@pytest.mark.parametrize("scale", [1e-2, 1e2])
def test_the_rate_knows_the_size_of_latents(method, scale):
    """The same decoder on latents of another scale is inverted alike."""
    pictures = bent(LATENTS)
    ours = inverted(method, bent, pictures, steps=40)
    theirs = inverted(method, lambda z: bent(z / scale), pictures, lambda x: scale * encode(x), steps=40)
    torch.testing.assert_close(theirs.latents / scale, ours.latents, atol=1e-3, rtol=0)


def test_without_gradients_nothing_is_kept_for_them():
    weights = torch.nn.Parameter(WEIGHTS.float())

    def decode(z):
        decoded = 0.5 + z.flatten(1) @ weights.T
        assert not decoded.requires_grad
        return decoded.view(-1, 3, SIDE, SIDE)

    assert (inverted("gradient-free", decode, linear(LATENTS)).after < 1e-6).all()
    with torch.inference_mode():
        assert (inverted("gradient-free", decode, linear(LATENTS)).after < 1e-6).all()


def test_it_takes_gradients_in_inference_mode_and_leaves_the_weights_alone():
    network = torch.nn.Linear(NUMBERS, PIXELS).double()
    with torch.no_grad():
        network.weight.copy_(WEIGHTS)
        network.bias.fill_(0.5)
    before = [weight.clone() for weight in network.parameters()]

    def decode(z):
        return network(z.double().flatten(1)).view(-1, 3, SIDE, SIDE)

    with torch.inference_mode():
        found = inverted("gradient", decode, linear(LATENTS.clone()))
    assert (found.after < 1e-6).all()
    assert all(weight.grad is None for weight in network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


@METHODS
def test_half_precision_does_not_end_in_nan(method):
    found = inverted(method, lambda z: bent(z.half()), bent(LATENTS), lambda x: encode(x.half()), steps=100)
    assert found.latents.isfinite().all()
    assert found.latents.dtype == torch.float32
    assert (found.after < found.before / 100).all()


def test_the_callback_follows_it():
    steps, errors = [], []

    def callback(step, decoded, least):
        steps.append(step)
        errors.append(least)
        assert decoded.shape == (BATCH, 3, SIDE, SIDE)

    found = inverted("gradient", bent, bent(LATENTS), steps=10, callback=callback)
    assert steps == [*range(11)]
    assert all((b <= a).all() for a, b in pairwise(errors))
    torch.testing.assert_close(errors[-1], found.after, atol=0, rtol=0)


@pytest.mark.parametrize("options", [{"steps": -1}, {"rate": 0.0}, {"rate": float("nan")}])
def test_what_makes_no_sense_is_refused(options):
    refuses("0 or more steps", inverted, "gradient", linear, linear(LATENTS), **options)
