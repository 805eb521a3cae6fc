"""What holds for any shape, dtype, seed, depth and grid; examples are the same in every run."""

import pytest
import torch
from confident_ode.samplers import noise_levels as nl
from confident_ode.samplers.clipping import ConfidenceClip, confidence_clip, confidence_interval
from confident_ode.samplers.denoisers import gaussian_denoiser
from confident_ode.samplers.langevin import block_sizes, langevin_calls
from confident_ode.samplers.noise import seeded_noise
from confident_ode.samplers.ode import SOLVERS
from confident_ode.samplers.restore import restore
from confident_ode.samplers.sde import sdedit
from core.toys import F64, LEVELS, normal_pictures, toy_path
from hypothesis import assume, given, settings
from hypothesis import strategies as st

some = settings(max_examples=25, deadline=None, derandomize=True)
many = settings(max_examples=200, deadline=None, derandomize=True)

MODEL = gaussian_denoiser(0.2, 0.3)
PATH = toy_path(4)

shapes = st.tuples(st.integers(1, 4), st.sampled_from([1, 3, 4]), st.integers(1, 9), st.integers(1, 9))
dtypes = st.sampled_from([torch.float32, F64, torch.bfloat16])
seeds = st.integers(-(2**70), 2**70)
finite = st.floats(-10, 10, allow_subnormal=False)


def methods(clip=None):
    """Each method as a function of (x, seed or seeds); the last zero only where the way goes down."""
    yield lambda x, seed: restore(MODEL, x, PATH, seed=seed, step=0.02, updates=3, clip=clip)
    yield lambda x, seed: sdedit(MODEL, x, PATH, noise_sampler=seeded_noise(seed))
    for solve in SOLVERS.values():
        yield lambda x, seed, solve=solve: solve(MODEL, solve(MODEL, x, PATH[:-1].flip(0), clip=clip), PATH)


@some
@given(shapes, dtypes, seeds)
def test_every_method_keeps_the_shape_and_a_state_of_at_least_float32(shape, dtype, seed):
    x = normal_pictures(shape, dtype=dtype)
    for method in methods(ConfidenceClip()):
        y = method(x, seed)
        assert y.shape == shape
        assert y.dtype == (F64 if dtype == F64 else torch.float32)
        assert y.isfinite().all()


@some
@given(shapes, seeds)
def test_a_batch_is_the_loop_over_its_items(shape, seed):
    """T17."""
    x = normal_pictures(shape)
    for method in methods():
        loop = torch.cat([method(x[i : i + 1], seed + i) for i in range(len(x))])
        torch.testing.assert_close(method(x, seed), loop, rtol=0, atol=1e-10)


@some
@given(st.data(), shapes)
def test_permuting_items_and_seeds_permutes_the_results(data, shape):
    """T17."""
    x, order = normal_pictures(shape), data.draw(st.permutations(range(shape[0])))
    own = data.draw(st.lists(seeds, min_size=shape[0], max_size=shape[0]))
    for method in methods():
        permuted = method(x[order], [own[i] for i in order])
        torch.testing.assert_close(permuted, method(x, own)[order], rtol=0, atol=1e-10)


@some
@given(shapes, seeds, st.integers(0, 10**6), st.integers(0, 3))
def test_noise_is_a_function_of_seed_stream_and_step(shape, seed, step, stream):
    x = torch.empty(shape)
    one, two = seeded_noise(seed, stream), seeded_noise(seed, stream)
    two(x, step + 1)
    assert torch.equal(one(x, step), two(x, step))
    assert not torch.equal(one(x, step), one(x, step + 1))
    assert not torch.equal(one(x, step), seeded_noise(seed, stream + 1)(x, step))
    assert not torch.equal(one(x, step), seeded_noise(seed + 1, stream)(x, step))


@many
@given(st.one_of(st.integers(1, 999), st.floats(1, 999)), st.integers(1, 999), st.sampled_from(nl.SPACINGS))
def test_every_path_falls_strictly_from_at_most_the_depth_to_the_first_level(depth, steps, spacing):
    assume(steps <= int(depth))
    if spacing == "trailing":
        depth = int(depth)
        assume((depth + 1) / steps > 1.5)  # or its first step would be none, which is refused
    path = nl.decode_path(LEVELS, depth, steps, spacing)
    assert len(path) == steps + 1
    assert (path.diff() < 0).all()
    assert path[-1].item() == pytest.approx(LEVELS.sigma(0).item(), rel=1e-12)
    deepest = LEVELS.sigma(depth).item()
    if spacing == "leading":
        assert path[0] <= deepest
        assert nl.timestep_grid(depth, steps, spacing)[-1] > depth - steps - 1
    else:
        assert path[0].item() == pytest.approx(deepest, rel=1e-12)


@many
@given(st.lists(st.floats(1e-5, 0.5), min_size=2, max_size=40), st.floats(0, 1))
def test_timestep_and_sigma_invert_each_other_for_any_schedule(betas, fraction):
    levels = nl.NoiseLevels(betas)
    t = fraction * (len(betas) - 1)
    assert levels.timestep(levels.sigma(t)).item() == pytest.approx(t, abs=1e-6)
    whole = torch.arange(len(betas), dtype=F64)
    assert torch.equal(levels.timestep(levels.sigmas), whole)


@many
@given(st.floats(1e-6, 1))
def test_any_fraction_is_a_timestep_of_the_model(fraction):
    depth = LEVELS.depth(fraction=fraction)
    assert depth == int(depth)
    assert 1 <= depth <= 999
    assert LEVELS.depth(timestep=depth) == depth
    assert LEVELS.depth(sigma=LEVELS.sigma(depth).item()) == pytest.approx(depth, abs=1e-9)


@many
@given(st.lists(finite, min_size=1, max_size=12), st.floats(0, 50), st.floats(0, 4), finite, st.floats(0, 5))
def test_a_clip_lands_inside_its_interval_and_changes_nothing_twice(values, sigma, eta, low, width):
    x = torch.tensor(values, dtype=F64)
    once = confidence_clip(x, sigma, eta, low, low + width)
    bottom, top = confidence_interval(sigma, eta, low, low + width)
    assert ((once >= bottom) & (once <= top)).all()
    assert torch.equal(confidence_clip(once, sigma, eta, low, low + width), once)
    inside = (x >= bottom) & (x <= top)
    assert torch.equal(once[inside], x[inside])


@many
@given(st.integers(0, 500), st.integers(1, 40))
def test_updates_are_all_dealt_out_evenly_over_non_empty_blocks(updates, blocks):
    sizes = block_sizes(updates, blocks)
    assert sum(sizes) == updates
    assert len(sizes) == min(updates, blocks)
    assert sizes == sorted(sizes, reverse=True)
    assert not sizes or sizes[-1] >= max(1, sizes[0] - 1)
    assert langevin_calls(updates, blocks) == updates + len(sizes)
    assert langevin_calls(updates, blocks, noiseless_last=False) == updates
