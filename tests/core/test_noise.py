"""The counter-based generator: known answers, a plain second implementation, statistics, and any batching."""

import math

import pytest
import torch
from confident_ode.samplers.noise import box_muller, item_seeds, normals, philox, seeded_noise
from core.toys import F64, refuses

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, answer, device):
    words = philox([torch.tensor(c, device=device) for c in counter], [torch.tensor(k, device=device) for k in key])
    assert tuple(word.item() for word in words) == answer


def plain_philox(counter, key):
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & ONES, (p0 >> 32) ^ c3 ^ k1, p0 & ONES
        k0, k1 = (k0 + 0x9E3779B9) & ONES, (k1 + 0xBB67AE85) & ONES
    return c0, c1, c2, c3


def plain_normal(seed, stream, step, i):
    """Number i of a draw, in Python integers and doubles: words 0 and 1 give numbers 0 and 1, the others 2 and 3."""
    key = seed % 2**64
    words = plain_philox((i // 4, step, stream, 0), (key & ONES, key >> 32))
    pair = words[:2] if i % 4 < 2 else words[2:]
    u, v = (((word >> 8) + 0.5) / 2**24 for word in pair)
    return math.sqrt(-2 * math.log(u)) * (math.cos if i % 2 == 0 else math.sin)(2 * math.pi * v)


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**32 + 7, 2**63, 2**64 - 1, -5])
def test_normals_are_those_of_a_plain_implementation(seed, device):
    for stream, step in ((0, 0), (1, 3), (7, 100_000)):
        drawn = seeded_noise(seed, stream)(torch.empty(1, 1, 3, 3, device=device), step).flatten()
        expected = [plain_normal(seed, stream, step, i) for i in range(9)]
        torch.testing.assert_close(drawn.cpu().double(), torch.tensor(expected, dtype=F64), rtol=0, atol=2e-6)


def test_first_normals_of_seed_0(device):
    """As printed by this generator when it was made: a seed must give the same picture in every later version."""
    drawn = seeded_noise(0)(torch.empty(1, 1, 2, 3, device=device), 0).flatten().tolist()
    assert drawn == pytest.approx(GOLDEN, abs=1e-6)


GOLDEN = [0.9911378, -0.9246625, -0.6176088, -0.4820687, -0.1536383, 0.180826]


@pytest.fixture(scope="module")
def many():
    """(steps, items, numbers): a million numbers of eight steps and four seeds."""
    return normals(2**15, torch.arange(8), torch.arange(4)).double()


def test_normals_have_the_moments_of_a_standard_normal(many):
    """Each within five standard errors."""
    n = many.numel()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10_170)):
        assert (many**power).mean().item() == pytest.approx(moment, abs=5 * math.sqrt(variance / n))
    assert (many < 1).double().mean().item() == pytest.approx(0.841345, abs=5 * math.sqrt(0.1335 / n))
    assert 4.5 < many.abs().max() < 6.1


def test_items_steps_streams_and_positions_are_independent(many):
    """Correlations of values and of squares, within five standard errors."""
    other_stream = normals(2**15, torch.arange(8), torch.arange(4), stream=1).double()
    far_seed = normals(2**15, torch.arange(8), torch.arange(4) + (1 << 32)).double()
    pairs = [
        (many[1:], many[:-1]),
        (many[:, 1:], many[:, :-1]),
        (many, other_stream),
        (many, far_seed),
        *((many[..., lag:], many[..., :-lag]) for lag in (1, 2, 3, 4, 32)),
    ]
    for a, b in pairs:
        bound = 5 / math.sqrt(a.numel())
        assert abs((a * b).mean()) < bound
        assert abs(((a**2 - 1) * (b**2 - 1)).mean()) < 2 * bound


def test_box_muller_stays_finite_at_the_ends_of_its_range():
    ends = torch.tensor([0, 0, ONES, ONES])
    assert all(z.isfinite().all() for z in box_muller(ends, ends.flip(0)))


def test_an_item_draws_the_same_alone_and_in_any_batch(device):
    batch = torch.empty(5, 3, 7, 5, device=device)
    for step in (0, 4, 700):
        together = seeded_noise(40)(batch, step)
        for i in range(5):
            assert torch.equal(together[i : i + 1], seeded_noise(40 + i)(batch[:1], step))
            assert torch.equal(together[i : i + 1], seeded_noise([40 + i])(batch[:1], step))


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (3, 1, 5, 5), (2, 3, 64, 64), (1, 3, 300, 301)])
def test_the_order_of_asking_does_not_matter(shape):
    """Whether many steps are drawn at a time, as for small pictures, or one, as for large ones."""
    x, asked = torch.empty(shape), [9, 0, 2000, 1, 9]
    sampler = seeded_noise(3)
    for step in asked:
        assert torch.equal(sampler(x, step), seeded_noise(3)(x, step))
        direct = normals(x[0].numel(), torch.tensor([step]), torch.tensor(item_seeds(3, len(x))))
        assert torch.equal(sampler(x, step), direct.view(shape))


def test_one_sampler_serves_states_of_different_shapes():
    small, large, sampler = torch.empty(2, 1, 3, 3), torch.empty(2, 1, 4, 5), seeded_noise(3)
    for x in (small, large, small):
        assert torch.equal(sampler(x, 2), seeded_noise(3)(x, 2))


def test_shifted_noise_is_that_of_later_steps():
    x, noise = torch.empty(2, 1, 3, 3), seeded_noise(3)
    later = noise.shifted(4)
    assert torch.equal(later(x, 1), noise(x, 5))
    assert torch.equal(later.shifted(2)(x, 1), noise(x, 7))
    assert torch.equal(noise(x, 1), seeded_noise(3)(x, 1))


def test_noise_takes_the_dtype_of_the_state():
    for dtype in (torch.float32, F64, torch.bfloat16):
        assert seeded_noise(0)(torch.empty(2, 1, 4, 4, dtype=dtype), 0).dtype == dtype


def test_noise_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    seeded_noise(0)(torch.empty(2, 1, 4, 4), 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_count_on_and_wrap_at_64_bits():
    assert item_seeds(7, 3) == [7, 8, 9]
    assert item_seeds([5, 5, 1], 3) == [5, 5, 1]
    assert item_seeds(2**63 - 1, 2) == [2**63 - 1, -(2**63)]
    assert item_seeds(2**64 - 1, 2) == [-1, 0]


def test_a_list_of_seeds_that_does_not_fit_the_batch_is_refused():
    refuses("give one each, or a single number", item_seeds, [1, 2], 3)
    refuses("2 seeds for a batch of 3", seeded_noise([1, 2]), torch.empty(3, 1, 2, 2), 0)


def test_integers_and_normals_are_the_same_on_the_gpu(cuda):
    words = [
        philox([torch.arange(4096, device=d), *torch.tensor([3, 1, 0], device=d)], torch.tensor([9, 2], device=d))
        for d in ("cpu", cuda)
    ]
    assert all(torch.equal(a, b.cpu()) for a, b in zip(*words, strict=True))
    a, b = (seeded_noise(5)(torch.empty(4, 3, 33, 31, device=d), 6).cpu() for d in ("cpu", cuda))
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
