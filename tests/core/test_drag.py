"""T15: SDE-Drag, its windows, its moves, and what it leaves as it was."""

import math
from collections import Counter
from itertools import pairwise

import pytest
import torch
from confident_ode.samplers import drag as drags
from confident_ode.samplers.denoisers import CallCounter, classifier_free_guidance, mixture_denoiser
from confident_ode.samplers.drag import (
    KINDS,
    check_drag,
    copied,
    copy_paste,
    drag,
    drag_calls,
    drag_count,
    drag_reports,
    drag_step,
    guidance_ramp,
    moves_of,
    window,
)
from confident_ode.samplers.noise import seeded_noise
from confident_ode.samplers.noise_levels import ve_to_vp
from core.test_no_sync import NoWaitingCopies
from core.toys import F64, G1, LEVELS, normal_pictures, refuses, toy_path
from torch.testing import assert_close

PATH = toy_path()[:-1]
PAIRS = [((8.0, 8.0), (14.0, 8.0)), ((20.0, 22.0), (20.0, 17.0))]
NOISE = seeded_noise(5)


def bent(x, sigma, **_):
    """A denoiser that couples neighbouring pixels, so that what is moved is felt around it."""
    s = sigma.to(x.dtype).view(-1, 1, 1, 1)
    near = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return (near + 0.3 * s**2) / (1 + s**2)


def pictures(batch=1, size=32, dtype=F64):
    return normal_pictures((batch, 3, size, size), dtype=dtype)


@pytest.mark.parametrize(("distance", "m"), [*enumerate((1, 1, 1, 2, 2, 3, 3, 4, 4, 5))])
def test_how_many_steps(distance, m):
    """The rule of the paper's code at whole distances, and its ceiling between."""
    assert drag_count(distance) == m
    assert drag_count(distance + 0.5) == max(1, math.ceil((distance + 0.5) / 2))


def test_moves_lie_end_to_end():
    """As many for each pair as the longest needs, evenly; in turn, each pair has its own."""
    steps = moves_of(PAIRS)
    assert [len(moves) for moves in steps] == [2] * 3
    assert [moves[0] for moves in steps] == [((8 + 2 * k, 8), (10 + 2 * k, 8)) for k in range(3)]
    assert all(a[i][1] == b[i][0] for a, b in pairwise(steps) for i in range(2))
    in_turn = moves_of(PAIRS, "in turn")
    assert [len(moves) for moves in in_turn] == [1] * 6
    assert in_turn[2][0][1] == PAIRS[0][1]
    assert in_turn[3][0][0] == PAIRS[1][0]
    assert moves_of([]) == moves_of([((3, 3), (3, 3))]) == []


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_a_copy_onto_itself_is_the_identity(beta):
    state = pictures()
    moved = copy_paste(state, pictures(), 2.0, [((9.3, 8.0), (9.3, 8.0))], NOISE, alpha=1.0, beta=beta)
    assert torch.equal(moved, state)


def test_a_whole_move_is_exact():
    """What is at the target is alpha times what was at the source, to the bit; the source is perturbed in VP."""
    state, sigma, alpha, beta = pictures(), 3.0, 1.1, 0.3
    moved = copy_paste(state, pictures(), sigma, [((8.0, 9.0), (20.0, 21.0))], NOISE, alpha=alpha, beta=beta)
    here, there = (..., slice(4, 14), slice(3, 13)), (..., slice(16, 26), slice(15, 25))
    assert torch.equal(moved[there], alpha * state[here])
    z = NOISE(state, 0)
    kept = ve_to_vp(moved, sigma)[here] - beta * ve_to_vp(state, sigma)[here]
    torch.testing.assert_close(kept, math.sqrt(1 - beta**2) * z[here], atol=1e-12, rtol=0)
    changed = (moved != state).any(1)
    assert changed.sum() == 200


def test_a_perturbed_patch_keeps_its_variance():
    """beta^2 + 1 - beta^2 = 1 for a state of variance 1 in VP, 1 + sigma^2 in VE."""
    sigma = 2.0
    state = math.sqrt(1 + sigma**2) * normal_pictures((64, 3, 64, 64))
    moved = copy_paste(state, state, sigma, [((16.0, 16.0), (48.0, 48.0))], NOISE, radius=10)
    assert moved[..., 6:26, 6:26].var().item() == pytest.approx(1 + sigma**2, rel=0.02)


def test_windows_shrink_where_either_would_reach_out():
    assert window(16.0, 20.0, 32, 5) == (15, 25, 4, 0.0)
    assert window(2.0, 4.0, 32, 5) == (2, 9, 2, 0.0)
    assert window(31.0, 29.0, 32, 5) == (24, 30, -2, 0.0)
    assert window(0.0, 32.0, 32, 5) == (32, 32, 32, 0.0)
    low, high, whole, rest = window(10.0, 11.75, 32, 5)
    assert (low, high, whole, rest) == (7, 17, 2, -0.25)


@pytest.mark.parametrize("far", [0.25, 0.4, 1.5, 2.75, -0.3])
def test_less_than_a_pixel_moves(far):
    """A ramp, which linear interpolation carries exactly, moves by what was asked for; the noise by whole pixels."""
    ramp = torch.arange(32, dtype=F64).expand(1, 3, 32, 32)
    noise = pictures()
    patch, place, origin = copied(ramp + 3 * noise, ramp, ((14.0, 16.0), (14.0 + far, 16.0)), 5)
    torch.testing.assert_close(patch - 3 * noise[origin], ramp[place] - far, atol=1e-12, rtol=0)


def test_pairs_at_once_read_one_snapshot():
    """Two patches change places; one after the other, the second would find the first."""
    state = pictures()
    a, b = (8.0, 16.0), (24.0, 16.0)
    moved = copy_paste(state, state, 1.0, [(a, b), (b, a)], NOISE, alpha=1.0)
    left, right = (..., slice(11, 21), slice(3, 13)), (..., slice(11, 21), slice(19, 29))
    assert torch.equal(moved[left], state[right])
    assert torch.equal(moved[right], state[left])


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_way_to_go_it_is_the_picture(kind):
    x = pictures(dtype=torch.float32)
    for pairs in ([], [((8.0, 8.0), (8.0, 8.0))]):
        assert drag(bent, x, PATH, pairs=pairs, noise_sampler=NOISE, kind=kind) is x


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_step_onto_itself_returns_the_picture_to_the_bit(dtype, beta):
    x = pictures(2, dtype=dtype)
    moves = [((8.0, 8.0), (8.0, 8.0))]
    assert torch.equal(drag_step(bent, x, PATH, moves=moves, noise_sampler=NOISE, alpha=1.0, beta=beta), x)


@pytest.mark.parametrize("kind", KINDS)
def test_outside_the_mask_nothing_changes(kind):
    x = pictures(2, dtype=torch.float32)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 4:24, 4:20] = 1
    y = drag(bent, x, PATH, pairs=PAIRS, noise_sampler=NOISE, kind=kind, mask=mask)
    assert torch.equal(y[..., 20:], x[..., 20:])
    assert torch.equal(y[..., 24:, :], x[..., 24:, :])
    inside = (..., slice(4, 24), slice(4, 20))
    assert (y[inside] - x[inside]).abs().mean() > 1e-3
    whole = {"pairs": PAIRS, "noise_sampler": NOISE, "kind": kind}
    assert torch.equal(drag(bent, x, PATH, mask=torch.ones_like(mask), **whole), drag(bent, x, PATH, **whole))


@pytest.mark.parametrize("solver", ["ab2", "euler", "heun"])  # dpmpp_2m steps by what a state was before the reset
def test_a_soft_mask_leaves_its_share_whatever_the_solver(solver):
    """Where the ODE stands still, half of what was pasted."""
    x, mask = pictures(), torch.ones(1, 1, 32, 32, dtype=F64)
    still = {"moves": moves_of(PAIRS)[0], "noise_sampler": NOISE, "kind": "ode", "solver": solver}
    whole, half = (drag_step(lambda x, sigma: x, x, PATH, mask=share * mask, **still) for share in (1, 0.5))
    assert_close(half - x, (whole - x) / 2, atol=1e-12, rtol=0)
    assert (whole - x).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_blob_is_carried_to_its_target(kind):
    """Where a likely picture is one with a blob anywhere along a line, the blob is at the target afterwards."""
    places = torch.zeros(25, 3, 32, 32, dtype=F64)
    for left in range(25):
        places[left, :, 13:19, left : left + 6] = 1.5
    model = mixture_denoiser(torch.full((25,), 1 / 25), places, torch.full((25,), 0.02))
    y = drag(model, places[5:6], PATH, pairs=[((8.0, 16.0), (20.0, 16.0))], noise_sampler=NOISE, kind=kind)
    nearest = (y - places).square().mean((1, 2, 3)).argmin().item()
    assert abs(nearest - 17) <= 2
    if kind == "sde":
        assert (y - places[nearest]).square().mean() < 0.03


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", drags.ORDERS)
def test_a_batch_is_each_alone(kind, order):
    x, options = pictures(3), {"pairs": PAIRS, "kind": kind, "order": order}
    together = drag(bent, x, PATH, noise_sampler=seeded_noise(7), **options)
    for i in range(3):
        alone = drag(bent, x[i : i + 1], PATH, noise_sampler=seeded_noise(7 + i), **options)
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-12, rtol=0)


def test_conditioning_is_told_to_both_branches():
    shifts = []

    def model(x, sigma, shift, note):
        shifts.append(len(shift))
        assert note == "as it is"
        return G1(x, sigma) + shift.view(-1, 1, 1, 1)

    extra_args = {"shift": torch.tensor([0.0, 1.0]), "note": "as it is"}
    drag(model, pictures(2), PATH, extra_args, pairs=PAIRS[1:], noise_sampler=NOISE)
    assert set(shifts) == {4}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", drags.ORDERS)
def test_calls_reports_and_steps_are_known_beforehand(kind, order):
    model, seen, steps = CallCounter(bent), [], []
    options = {"pairs": PAIRS, "order": order, "kind": kind, "noise_sampler": NOISE}
    y = drag(model, pictures(), PATH, callback=lambda state: seen.append(state["i"]), on_step=steps.append, **options)
    count = len(moves_of(PAIRS, order))
    assert model.calls == drag_calls(count, PATH, kind)
    assert seen == list(range(count * drag_reports(PATH, kind)))
    assert len(steps) == count
    assert steps[-1] is y


def test_every_draw_is_another():
    """Of the record and of the sources, in every step."""
    drawn = Counter()

    def noise(x, k):
        drawn[k] += 1
        return NOISE(x, k)

    drag(bent, pictures(), PATH, pairs=PAIRS, noise_sampler=noise)
    assert set(drawn.values()) == {1}
    assert len(drawn) == 3 * (len(PATH) - 1 + len(PAIRS))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_waits_for_the_device(kind):
    """On torch's meta device, where a read or a copy that is waited for raises."""
    x = torch.empty(2, 3, 32, 32, device="meta")
    pairs = [((8.0, 8.0), (13.5, 8.25))]
    with NoWaitingCopies():
        y = drag(bent, x, PATH, pairs=pairs, noise_sampler=seeded_noise(0), kind=kind)
        guidance_ramp(PATH, 1.0, 3.0)(torch.ones(2, device="meta"))
    assert y.shape == x.shape


def test_the_ramp_rises_from_the_clean_end():
    levels = LEVELS.sigma(torch.linspace(0, 600, 7))
    for path in (levels, levels.flip(0)):
        scale = guidance_ramp(path, 1.0, 4.0)
        found = torch.stack([scale(level.float().repeat(2)) for level in levels])
        torch.testing.assert_close(found, torch.linspace(1, 4, 7)[:, None].repeat(1, 2))


def test_guidance_takes_a_ramp():
    """classifier_free_guidance with the scale of each item's own level."""
    levels = LEVELS.sigma(torch.linspace(0, 600, 7))

    def model(x, sigma, label):
        return label.view(-1, 1, 1, 1).expand_as(x)

    guided = classifier_free_guidance(model, guidance_ramp(levels, 1.0, 4.0), {"label": 0.0})
    x0 = guided(torch.zeros(2, 1, 1, 1, dtype=F64), levels[[1, 5]], label=torch.ones(2, dtype=F64))
    torch.testing.assert_close(x0.flatten(), torch.tensor([1.5, 3.5], dtype=F64))


@pytest.mark.parametrize("radius", [0, 17])
def test_a_window_that_does_not_fit_is_refused(radius):
    refuses(f"radius {radius} does not fit into 32x40: take a radius from 1 to 16", check_drag, [], (3, 40, 32), radius)


@pytest.mark.parametrize("point", [(-0.1, 3.0), (3.0, -1.0), (32.5, 3.0), (3.0, 41.0), (math.nan, 3.0)])
def test_a_point_outside_is_refused(point):
    x, options = torch.zeros(1, 3, 40, 32), {"pairs": [((3.0, 3.0), point)], "noise_sampler": NOISE}
    refuses("lies outside the picture: take x from 0 to 32 and y from 0 to 40", drag, bent, x, PATH, **options)


def test_unknown_choices_are_refused():
    refuses("order 'backwards' is unknown", moves_of, PAIRS, "backwards")
    refuses("kind 'pde' is unknown", drag, bent, pictures(), PATH, pairs=PAIRS, noise_sampler=NOISE, kind="pde")
    refuses("beta is 1.5: take 0", drag, bent, pictures(), PATH, pairs=PAIRS, noise_sampler=NOISE, beta=1.5)
