"""Langevin updates on Gaussians, where mean and variance have closed recursions, and how updates are dealt out."""

import math
import warnings
from itertools import pairwise

import pytest
import torch
from confident_ode.samplers.denoisers import CallCounter, gaussian_denoiser
from confident_ode.samplers.langevin import block_sizes, langevin, langevin_calls
from confident_ode.samplers.noise import seeded_noise
from core.toys import F64, TOY, normal_pictures, numbers, refuses, toy_path

# a level with alpha_bar = 0.8 at which the VP state is N(0.4, 0.3)
A2, MEAN, VARIANCE = 0.8, 0.4, 0.3
SIGMA = math.sqrt((1 - A2) / A2)
LEVEL = torch.tensor([SIGMA, SIGMA / 2], dtype=F64)
MODEL = gaussian_denoiser(MEAN / math.sqrt(A2), (VARIANCE - (1 - A2)) / A2)


def vp_updates(x, noise_sampler, **options):
    """`langevin` on VP states, without the noiseless last update."""
    options = {"noiseless_last": False, "updates": 1} | options
    return langevin(MODEL, x / math.sqrt(A2), LEVEL, noise_sampler=noise_sampler, **options) * math.sqrt(A2)


def still(x, step):
    return torch.zeros_like(x)


@pytest.mark.parametrize("step", [0.05, 0.1, 0.39])
@pytest.mark.filterwarnings("ignore:The Langevin step")
def test_the_mean_follows_its_recursion(step):
    """T4: M_k = m + (1 - e / v)^k (M_0 - m)."""
    start = numbers(-3, 3, 7)
    for k in (1, 2, 10):
        expected = MEAN + (1 - step / VARIANCE) ** k * (start - MEAN)
        torch.testing.assert_close(vp_updates(start, still, step=step, updates=k), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 1 / 3, 0.0])
def test_each_update_adds_noise_of_variance_two_e_t(temperature):
    """T4: V_k = (1 - e / v)^2k V_0 + 2 e T sum_j<k (1 - e / v)^2j, noise by noise."""
    step, k = 0.05, 6
    for drawn in range(k):
        one = vp_updates(
            numbers(MEAN, MEAN, 1),
            lambda x, i, drawn=drawn: torch.full_like(x, float(i == drawn)),
            step=step,
            updates=k,
            temperature=temperature,
        )
        gain = (1 - step / VARIANCE) ** (k - 1 - drawn)
        assert (one - MEAN).item() == pytest.approx(math.sqrt(2 * step * temperature) * gain, abs=1e-13)


@pytest.mark.parametrize(
    ("step", "temperature", "variance"),
    [(0.05, 1.0, 0.3273), (0.05, 1 / 3, 0.1091), (0.3, 1.0, 0.6), (0.3, 1 / 3, 0.2)],
)
@pytest.mark.filterwarnings("ignore:The Langevin step")
def test_the_stationary_variance(step, temperature, variance):
    """T4: T v / (1 - e / 2v), 200,000 samples within 1 %."""
    assert temperature * VARIANCE / (1 - step / (2 * VARIANCE)) == pytest.approx(variance, abs=1e-4)
    start = MEAN + math.sqrt(VARIANCE) * normal_pictures((200_000, 1, 1, 1))
    updates = 18 if step == 0.05 else 3  # at e = v one update forgets the start
    end = vp_updates(start, seeded_noise(1), step=step, updates=updates, temperature=temperature)
    assert end.var().item() == pytest.approx(variance, rel=0.01)
    assert end.mean().item() == pytest.approx(MEAN, abs=0.01)


def test_updates_climb_the_likelihood():
    """T4, the sign: E[log p] rises from a start in the tail. The paper's printed sign would lower it."""

    def log_p(x):
        return (-((x - MEAN) ** 2) / (2 * VARIANCE)).mean().item()

    tail = MEAN + 3 + 0.1 * normal_pictures((2000, 1, 1, 1))
    trail = [log_p(vp_updates(tail, seeded_noise(0), step=0.02, updates=k)) for k in (0, 1, 2, 4, 8)]
    assert all(b > a for a, b in pairwise(trail))


def test_at_temperature_zero_there_is_no_noise():
    start = normal_pictures((3, 1, 1, 1))
    loud = vp_updates(start, lambda x, i: 1e6 * torch.ones_like(x), step=0.05, updates=5, temperature=0.0)
    assert torch.equal(loud, vp_updates(start, still, step=0.05, updates=5))


def test_blocks_decay_and_end_without_noise():
    """By the formula: block b has the step e * decay^b, its numbered noises, and one more update without."""
    step, decay, x = 0.04, 0.7, normal_pictures((2, 1, 1, 1))
    sampler, expected, drawn = seeded_noise(5), x, 0
    for block, size in enumerate([3, 2, 2]):
        e = step * decay**block
        for _ in range(size):
            drift = e * (expected - MEAN) / VARIANCE
            expected = expected - drift + math.sqrt(2 * e) * sampler(x, drawn)
            drawn += 1
        expected = expected - e * (expected - MEAN) / VARIANCE
    ours = vp_updates(x, sampler, step=step, updates=7, blocks=3, decay=decay, noiseless_last=True)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("noiseless_last", [True, False])
@pytest.mark.parametrize(("updates", "blocks"), [(0, 1), (0, 4), (1, 1), (3, 4), (4, 4), (10, 4), (200, 4)])
def test_langevin_makes_the_calls_it_announces(updates, blocks, noiseless_last):
    """T16, and the callback counts them."""
    model, reports = CallCounter(MODEL), []
    langevin(
        model,
        numbers(0, 1, 2),
        LEVEL,
        callback=reports.append,
        noise_sampler=seeded_noise(0),
        step=0.01,
        updates=updates,
        blocks=blocks,
        noiseless_last=noiseless_last,
    )
    expected = updates + noiseless_last * min(updates, blocks)
    assert model.calls == langevin_calls(updates, blocks, noiseless_last) == expected
    assert [r["i"] for r in reports] == list(range(expected))
    assert {r["sigma"] for r in reports} <= {SIGMA}


def test_block_sizes_are_even():
    assert block_sizes(10, 4) == [3, 3, 2, 2]
    assert block_sizes(2, 4) == [1, 1]
    assert block_sizes(0, 4) == []


def test_no_update_leaves_the_state_as_it_is():
    x = TOY.clean(2)
    assert torch.equal(langevin(TOY.model, x, toy_path(), noise_sampler=still, step=0.01, updates=0), x)


def test_a_clip_acts_before_each_network_call():
    seen = []

    def model(x, sigma):
        seen.append(x.abs().max().item())
        return MODEL(x, sigma)

    langevin(
        model,
        numbers(5, 9, 3),
        LEVEL,
        noise_sampler=seeded_noise(0),
        step=0.05,
        updates=4,
        clip=lambda x, s: x.clamp(-s, s),
    )
    assert len(seen) == 5
    assert max(seen) <= SIGMA


@pytest.mark.parametrize("step", [0.0, -0.01, 0.4, 1.0, math.nan, math.inf])
def test_a_step_that_cannot_work_is_refused(step):
    """sigma_vp^2 is 0.2 here: e >= 0.4 diverges on a state that is all noise."""
    refuses("unstable at this depth", vp_updates, numbers(0, 1, 2), still, step=step)


def test_a_large_step_is_warned_of_once_and_a_safe_one_is_not():
    with pytest.warns(UserWarning, match="below 0.1 is safe") as caught:
        vp_updates(numbers(0, 1, 2), still, step=0.11, updates=5)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vp_updates(numbers(0, 1, 2), still, step=0.099)


@pytest.mark.parametrize("options", [{"updates": -1}, {"updates": 3, "blocks": 0}])
def test_updates_that_cannot_be_dealt_out_are_refused(options):
    refuses("0 or more updates in at least 1 block", vp_updates, numbers(0, 1, 2), still, step=0.01, **options)


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.5, math.nan])
def test_a_decay_that_is_none_is_refused(decay):
    options = {"step": 0.09, "updates": 9, "blocks": 9, "decay": decay}
    refuses("decay", vp_updates, numbers(0, 1, 2), still, **options)


@pytest.mark.parametrize("temperature", [-1.0, math.nan])
def test_a_negative_temperature_is_refused(temperature):
    refuses("temperature", vp_updates, numbers(0, 1, 2), still, step=0.05, temperature=temperature)


def test_a_relative_step_is_a_share_of_the_levels_noise():
    """e = r sigma_vp^2, which is 0.2 r here; unstable from 2 on, at every level."""
    x = numbers(-1, 2, 4)
    one = vp_updates(x, seeded_noise(0), step=0.3, updates=5, blocks=2, mode="relative")
    two = vp_updates(x, seeded_noise(0), step=0.3 * (1 - A2), updates=5, blocks=2)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-12)
    refuses("take one above 0 and below 0.5", vp_updates, x, still, step=2.0, mode="relative")


def test_a_step_by_signal_to_noise_is_songs_for_each_picture():
    """e = 2 alpha_bar (r |z| / |score|)^2 with the VP score and the mean of |z|^2, by the formula, with its decay."""
    r, decay, x = 0.2, 0.5, 2 * normal_pictures((3, 1, 4, 5)) * torch.tensor([1.0, 2.0, 5.0]).view(3, 1, 1, 1)
    sampler, expected, drawn = seeded_noise(5), x, 0
    for block, size in enumerate([2, 2]):
        for k in range(size + 1):
            score = (MEAN - expected) / VARIANCE
            size_of_score = score.square().sum((1, 2, 3), keepdim=True)
            e = 2 * A2 * (r * decay**block) ** 2 * 20 / size_of_score
            expected = expected + e * score
            if k < size:
                expected = expected + (2 * e).sqrt() * sampler(x, drawn)
                drawn += 1
    options = {"step": r, "mode": "snr", "updates": 4, "blocks": 2, "decay": decay, "noiseless_last": True}
    torch.testing.assert_close(vp_updates(x, sampler, **options), expected, rtol=1e-12, atol=1e-12)


def test_a_step_by_signal_to_noise_is_held_where_the_state_has_no_noise():
    """A state that is its own denoised picture has no score: e is then 0.5 sigma_vp^2, the safe one."""
    moved = vp_updates(numbers(MEAN, MEAN, 2), lambda x, k: torch.ones_like(x), step=0.2, mode="snr")
    assert (moved - MEAN).flatten().tolist() == [pytest.approx(math.sqrt(2 * 0.5 * (1 - A2)))] * 2


def test_a_ratio_that_diverges_on_a_state_of_pure_noise_is_refused():
    """2 alpha_bar r^2 < 2 there: r < 1 / sqrt(0.8)."""
    vp_updates(numbers(0, 1, 2), still, step=0.55, mode="snr")
    refuses("take one above 0 and below 0.559", vp_updates, numbers(0, 1, 2), still, step=1.12, mode="snr")


def test_the_mean_of_a_picture_in_its_mode_follows_its_recursion_in_every_mode():
    """T4: M_k = m + (1 - e / v)^k (M_0 - m), e = 0.03 by each mode's own number."""
    start = numbers(-3, 3, 7)
    expected = MEAN + (1 - 0.03 / VARIANCE) ** 5 * (start - MEAN)
    for mode, step in (("absolute", 0.03), ("relative", 0.15)):
        ours = vp_updates(start, still, step=step, mode=mode, updates=5)
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_an_unknown_mode_is_refused():
    refuses("take one of absolute, relative, snr", vp_updates, numbers(0, 1, 2), still, step=0.1, mode="auto")


# the noise that the model sees in these, by its mean square: likely, too strong, and hopeless
POWERS = (0.9, 3.0, 1e9)


def states():
    """A state for each of POWERS, of a model that knows data at 0 only: its eps is x / sigma."""
    noise = normal_pictures((len(POWERS), 3, 16, 16))
    noise = noise / noise.square().flatten(1).mean(1).sqrt().view(-1, 1, 1, 1)
    return noise * torch.tensor(POWERS, dtype=F64).sqrt().view(-1, 1, 1, 1) * SIGMA


def power(x):
    return x.div(SIGMA).square().flatten(1).mean(1).tolist()


def stopped(x, stop_at, counter=None, seed=0, **options):
    options = {"step": 0.02, "updates": 60, "blocks": 6, "decay": 1.0} | options
    model = counter or gaussian_denoiser(0, 0)
    return langevin(model, x, LEVEL, noise_sampler=seeded_noise(seed), stop_at=stop_at, **options)


def test_updates_stop_where_the_noise_is_what_the_model_expects():
    x = states()
    likely, strong, hopeless = power(stopped(x, 1.1))
    # as it was, down to where it may stop and no further than one update, and on its way
    torch.testing.assert_close(stopped(x, 1.1)[0], x[0])
    assert likely == pytest.approx(0.9)
    assert 0.8 < strong <= 1.1
    assert 1.1 < hopeless < 1e9
    assert power(stopped(x, 0.0))[0] != pytest.approx(0.9, abs=1e-6)


def test_who_stops_does_not_depend_on_the_others():
    x = states()
    together = stopped(x, 1.1)
    for i in range(len(x)):
        torch.testing.assert_close(stopped(x[i : i + 1], 1.1, seed=i)[0], together[i], rtol=0, atol=0)


def test_a_batch_at_rest_makes_no_more_calls():
    calls, most = [], langevin_calls(60, 6)
    for x, stop_at in ((states()[:1], 1.1), (states()[:2], 1.1), (states(), 1.1), (states()[:1], 0.0)):
        stopped(x, stop_at, counter := CallCounter(gaussian_denoiser(0, 0)))
        calls.append(counter.calls)
    # a block is ten updates and one without noise
    assert calls == [11, calls[1], most, most]
    assert calls[1] in range(22, most, 11)


def test_the_step_of_signal_to_noise_stops_as_well():
    x = states()[:2]
    likely, strong = stopped(x, 1.1, mode="snr", step=0.2)
    torch.testing.assert_close(likely, x[0])
    assert power(strong[None])[0] <= 1.1


@pytest.mark.parametrize("stop_at", [-1.0, math.nan])
def test_a_mean_square_below_zero_is_refused(stop_at):
    with pytest.raises(ValueError, match="take about 1, or 0 never to stop"):
        stopped(states(), stop_at)
