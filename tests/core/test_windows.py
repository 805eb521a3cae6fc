"""Windows: what they cover, and that their mean is the model where it works pixel by pixel."""

from itertools import pairwise

import pytest
import torch
from confident_ode.samplers.clipping import ConfidenceClip
from confident_ode.samplers.denoisers import (
    CallCounter,
    classifier_free_guidance,
    eps_denoiser,
    gaussian_denoiser,
    per_item,
    v_denoiser,
)
from confident_ode.samplers.restore import restore
from confident_ode.samplers.windows import positions, windowed, windows_of
from core.test_no_sync import NoWaitingCopies, no_reads
from core.toys import F64, G1, LEVELS, normal_pictures, refuses, toy_path
from hypothesis import given, settings
from hypothesis import strategies as st

SIZE = 8
STATES = normal_pictures((2, 3, 19, 30))
SIGMA = torch.tensor([0.5, 3.0], dtype=F64)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(2, 40), st.integers(0, 200), st.floats(0, 0.99))
def test_windows_cover_a_side_evenly(size, more, overlap):
    places = positions(size + more, size, overlap)
    gaps = [b - a for a, b in pairwise(places)]
    assert places[0] == 0
    assert places[-1] == more
    assert all(0 < gap <= max(1, size * (1 - overlap)) for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_their_number():
    assert windows_of((3, 8, 8), SIZE) == 1
    assert windows_of((1, 3, 9, 24), SIZE) == 2 * 5
    assert windows_of((9, 24), SIZE, overlap=0) == 2 * 3


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(("at_once", "overlap"), [(1, 0.5), (7, 0.5), (1000, 0.5), (5, 0.0), (5, 0.8)])
def test_what_works_pixel_by_pixel_is_the_same_in_windows(dtype, at_once, overlap):
    x, sigma = STATES.to(dtype), SIGMA.to(dtype)
    model = gaussian_denoiser(0.3, torch.tensor([0.2, 1.0, 3.0], dtype=dtype).view(3, 1, 1))
    ours = windowed(model, SIZE, at_once, overlap)(x, sigma)
    torch.testing.assert_close(ours, model(x, sigma), rtol=0, atol=16 * torch.finfo(dtype).eps)


def test_a_picture_of_the_model_s_size_is_given_to_it_as_it_is():
    x = STATES[..., :SIZE, :SIZE]
    own = lambda x, sigma: x.flip(-1) * per_item(sigma, x) + x.mean((1, 2, 3), keepdim=True)  # noqa: E731
    assert torch.equal(windowed(own, SIZE, 3)(x, SIGMA), own(x, SIGMA))


def test_a_restoration_in_windows_is_the_same():
    options = {"step": 1e-2, "updates": 5, "blocks": 2, "samples": 2, "seed": 3}
    x = 0.5 * STATES
    ours, theirs = (
        restore(model, x, toy_path(6), clip=ConfidenceClip(), **options) for model in (windowed(G1, SIZE, 11), G1)
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_no_window_sees_more_than_its_part_of_one_picture():
    """Each window's mean: a window of a picture of one colour says that colour, whatever the others are."""
    x = torch.stack([torch.full((1, 19, 30), value, dtype=F64) for value in (-1.0, 0.25, 2.0)])
    mean = lambda x, sigma: x.mean((1, 2, 3), keepdim=True).expand_as(x)  # noqa: E731
    torch.testing.assert_close(windowed(mean, SIZE, 4)(x, SIGMA[[0, 0, 1]]), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("wrapper", [eps_denoiser, v_denoiser])
def test_a_network_s_mean_gives_the_mean_of_its_estimates(wrapper):
    network = lambda x, t: torch.sin(x.cumsum(-1)) + x.mean((1, 2, 3), keepdim=True) * per_item(t, x) / 500  # noqa: E731
    ours = wrapper(windowed(network, SIZE, 6), LEVELS)(STATES, SIGMA)
    theirs = windowed(wrapper(network, LEVELS), SIZE, 6)(STATES, SIGMA)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_the_mean_has_no_seam():
    """A model that only tells a window's own mean: of a ramp, the windows' mean is a ramp as smooth as the weights."""
    x = torch.linspace(-1, 1, 64, dtype=F64).expand(1, 1, 64, 64)
    mean = lambda x, sigma: x.mean((1, 2, 3), keepdim=True).expand_as(x)  # noqa: E731
    steps = windowed(mean, 16, 8)(x, SIGMA[:1])[0, 0, 32].diff()
    hard = windowed(mean, 16, 8, overlap=0.0)(x, SIGMA[:1])[0, 0, 32].diff()
    # from window to window the mean rises by 16 / 63 in 8 pixels; pi / 2 of the even step at most
    assert steps.max() < 1.6 * 2 / 63
    assert steps.min() > -1e-12
    assert hard.max() > 0.5


def test_an_item_alone_is_as_in_a_batch():
    labels = torch.tensor([1.0, 4.0], dtype=F64)
    model = windowed(of_label, SIZE, 5)
    together = model(STATES, SIGMA, label=labels, power=2)
    for i in range(2):
        one = slice(i, i + 1)
        assert torch.equal(together[one], model(STATES[one], SIGMA[one], label=labels[one], power=2))


def of_label(x, sigma, label, power):
    """A model that needs the conditioning of each item, and of its window."""
    return torch.sin(x.cumsum(-1)) * per_item(sigma, x) + per_item(label, x) ** power


def test_each_window_has_the_conditioning_of_its_item():
    labels = torch.tensor([1.0, 4.0], dtype=F64)
    told = lambda x, sigma, label: per_item(label, x).expand_as(x)  # noqa: E731
    torch.testing.assert_close(
        windowed(told, SIZE, 5)(STATES, SIGMA, label=labels), per_item(labels, STATES).expand_as(STATES)
    )
    guided = classifier_free_guidance(told, 3.0, {"label": 0.0})
    torch.testing.assert_close(
        windowed(guided, SIZE, 5)(STATES, SIGMA, label=labels), 3 * per_item(labels, STATES).expand_as(STATES)
    )


@pytest.mark.parametrize("at_once", [1, 7, 80])
def test_no_more_windows_than_allowed_are_given_at_once(at_once):
    given = []

    def noted(x, sigma):
        given.append((len(x), len(sigma), x.shape[-2:]))
        return x

    counter = CallCounter(windowed(noted, SIZE, at_once))
    counter(STATES, SIGMA)
    total = 2 * windows_of(STATES.shape, SIZE)
    assert [n for n, _, _ in given] == [at_once] * (total // at_once) + [total % at_once] * (total % at_once > 0)
    assert all(n == s and shape == (SIZE, SIZE) for n, s, shape in given)
    assert counter.calls == 1


def test_the_host_does_not_wait():
    x, sigma = STATES.float(), SIGMA.float()
    with no_reads():
        windowed(G1, SIZE, 7)(x, sigma)
    with NoWaitingCopies():
        windowed(G1, SIZE, 7)(x.to("meta", non_blocking=True), sigma.to("meta", non_blocking=True))


def test_what_cannot_be_is_refused():
    for overlap, at_once in ((1.0, 1), (-0.1, 1), (0.5, 0)):
        refuses("Windows take", windowed, G1, SIZE, at_once, overlap)
    refuses("30×7 and the model's is 8×8", windowed(G1, SIZE, 4), STATES[..., :7, :], SIGMA)


def test_levels_reach_every_window():
    """A model that reads its level: the first level of the schedule and the last, at once."""
    sigma = LEVELS.sigmas[[0, -1]]
    told = lambda x, sigma: per_item(sigma, x).expand_as(x)  # noqa: E731
    torch.testing.assert_close(windowed(told, SIZE, 3)(STATES, sigma), per_item(sigma, STATES).expand_as(STATES))
