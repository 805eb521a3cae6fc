"""The kernels of the fused steps equal plain torch: on a GPU, and without one in Triton's interpreter.

The interpreter must be asked for before Triton is imported, so this file runs again in a process of its own.
"""

import math
import os
import subprocess
import sys
import warnings

import pytest
import torch
from confident_ode.samplers import clipping, fused
from confident_ode.samplers.clipping import ConfidenceClip, observation_range, quantile_range
from confident_ode.samplers.denoisers import dynamic_thresholding
from confident_ode.samplers.langevin import langevin
from confident_ode.samplers.noise import philox, seeded_noise
from confident_ode.samplers.ode import SOLVERS
from confident_ode.samplers.restore import restore
from core.toys import TOY, normal_pictures, toy_path

triton = pytest.importorskip("triton")
from confident_ode.samplers import kernels  # noqa: E402
from triton import language as tl  # noqa: E402

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if INTERPRETED and triton.__version__.startswith("3.5."):
    # it prepares the language again for every call of a function, which takes most of its time: once a module will do
    from triton.runtime import interpreter

    prepare, prepared = interpreter._patch_lang, set()

    def prepare_once(function):
        if id(function.__globals__) not in prepared:
            prepared.add(id(function.__globals__))
            prepare(function)

    interpreter._patch_lang = prepare_once

# (shape, layout)
FORMS = [
    ((1, 1, 1, 1), "contiguous"),
    ((3, 1, 5, 7), "part"),
    ((2, 3, 37, 31), "channels last"),
    ((1, 4, 64, 16), "contiguous"),
    ((2, 5, 3, 4, 6), "channels last"),
]
SEEDS = [0, 2**32 + 7, 2**63 - 1, 2**63, 2**64 - 1, -5]
# the ends of the range, 1 and 1.3, and their neighbours
EDGES = [0.0, 0.5, 1 - 2**-24, 1.0, 1 + 2**-23, 1.2, 1.2999999, 1.3, 1.3000001, 1.4, 7.0, math.inf]


@pytest.fixture(params=["cpu" if INTERPRETED else "cuda"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return torch.empty(0, device=request.param).device


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels that were launched."""
    names, launch = [], kernels.launch

    def noting(kernel, *args, **options):
        names.append(kernel.__name__)
        launch(kernel, *args, **options)

    monkeypatch.setattr(kernels, "launch", noting)
    return names


@pytest.fixture
def both(device, launched, monkeypatch):
    """both(step) -> its results by kernels, some of which must have run, and by plain torch alone."""

    def run(step):
        results = []
        for works in (True, False):
            monkeypatch.setitem(fused.WORKING, device, works)
            launched.clear()
            results.append(step())
            assert bool(launched) == works
        return results

    return run


def close(pair, tolerance=1e-6):
    torch.testing.assert_close(*pair, rtol=tolerance, atol=tolerance)


def states(shape, device, count, layout="contiguous"):
    """`count` states of normals, float32."""
    normals = (normal_pictures(shape, seed, dtype=torch.float32).to(device) for seed in range(0, 100 * count, 100))
    if layout == "channels last":
        return [x.movedim(1, -1).contiguous().movedim(-1, 1) for x in normals]
    if layout == "part":
        return [torch.cat([x, x], -1)[..., 1 : x.shape[-1] + 1] for x in normals]
    return list(normals)


forms = pytest.mark.parametrize(("shape", "layout"), FORMS, ids=str)


@triton.jit
def words_kernel(out, seed, step, stream, COUNT: tl.constexpr):
    i = tl.arange(0, COUNT)
    words = tl.philox(tl.load(seed), i, step, stream, 0)
    for k in tl.static_range(4):
        tl.store(out + k * COUNT + i, words[k].to(tl.int64))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_integers_are_those_of_the_generator(device, seed):
    noise, out = seeded_noise(seed), torch.zeros(4, 256, dtype=torch.int64, device=device)
    key = noise.seeds(out[:1])
    for step, stream in ((0, 0), (16, 1), (1, 2), (2**31 - 1, 7)):
        words_kernel[(1,)](out, key, step, stream, COUNT=256)
        words = philox((torch.arange(256), step, stream, 0), (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))
        assert torch.equal(out.cpu(), torch.stack([word.expand(256) for word in words]))


@forms
def test_langevin_step(both, device, shape, layout):
    x, y, gains = states(shape, device, 3, layout)
    gains = gains.flatten(1)[:, 0].abs().view(-1, *[1] * (len(shape) - 1))
    for gain, step in ((1, 0), (1, 100_000), (gains, 1), (gains, 16)):
        close(both(lambda gain=gain, step=step: fused.langevin_step(x, y, 0.1, 0.4, gain, seeded_noise(1), step)))


@pytest.mark.parametrize("seed", [*SEEDS, [2**63 - 1, 7]])
def test_the_noise_in_the_kernel_is_that_of_the_seeds(both, device, seed):
    """x being 0, the noise alone: of every item, stream and shifted step."""
    zeros = torch.zeros(2, 3, 20, 21, device=device)
    for stream, by, step in ((0, 0, 0), (1, 300, 7), (5, 1, 0)):
        noise = seeded_noise(seed, stream).shifted(by)
        close(both(lambda noise=noise, step=step: fused.langevin_step(zeros, zeros, 0.5, 1.0, 1, noise, step)))


@forms
def test_ode_and_heun_steps(both, device, shape, layout):
    x, y, eps, z = states(shape, device, 4, layout)
    for s, h in ((3.0, 0.4), (0.1, -0.09)):
        close(both(lambda s=s, h=h: fused.ode_step(x, y, s, h)))
        close(both(lambda s=s, h=h: fused.ode_step(x, y, s, h, eps, 0.3 * h)))
        close(both(lambda s=s, h=h: fused.heun_step(x, eps, z, y, s, h)))


def bounds(shape, layout, device):
    """(low, high) of every kind that a ConfidenceClip takes."""
    x, center = states(shape, device, 2, layout)
    channels = [1 + x[0].flatten(1)[:, 0].abs().view(-1, *[1] * (len(shape) - 2)) for x in (x, center)]
    return {
        "numbers": (-1.0, 1.0),
        "whole numbers": (-1, 1),
        "channels": (-channels[0], channels[1]),
        "pictures and channels": quantile_range(0.5 * x, 0.1),
        "values": observation_range(center, 0.2),
        "one picture": observation_range(center[:1], 0.2),
        "a number and channels": (-1.0, channels[1]),
        "values and a number": (center - 0.5, 4.0),
    }


@pytest.mark.parametrize("kind", bounds(*FORMS[0], "cpu"))
@forms
def test_clip(both, device, shape, kind, layout):
    """To the bit, with what it counts."""
    x = states(shape, device, 1, layout)[0]
    low, high = bounds(shape, layout, device)[kind]

    def clipped():
        clip = ConfidenceClip(0.7, low, high)
        return [clip(scale * x, sigma) for scale, sigma in ((1, 0.1), (2, 0.5), (0.5, 3.0))], clip.times, clip.shares

    by_kernel, plain = both(clipped)
    assert all(torch.equal(a, b) for a, b in zip(by_kernel[0], plain[0], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(by_kernel[1:], plain[1:], strict=True))
    assert plain[1].any() or x.numel() < 10


def test_clip_of_what_is_not_finite(both, device):
    x = torch.tensor([math.nan, math.inf, -math.inf, 0.0], device=device).view(1, 1, 2, 2)
    close([torch.nan_to_num(r, 99) for r in both(lambda: ConfidenceClip(1.0)(x, 0.5))], 0)


def test_clip_over_more_calls_than_there_is_room_for(both, device, monkeypatch):
    monkeypatch.setattr(clipping, "ROOM", 4)
    x = states((3, 1, 2, 5), device, 1)[0]

    def counts():
        clip = ConfidenceClip(0.0)
        for k in range(9):
            clip(x * (k % 7), 1.0)
        return clip.times, clip.shares

    by_kernel, plain = both(counts)
    assert len(plain[1]) == 9
    assert all(torch.equal(a, b) for a, b in zip(by_kernel, plain, strict=True))


def thresholded(both, x0, ratio=0.98, maximum=1.3):
    """By both: to the last bit, in which the interpolation may round in other ways."""
    by_kernel, plain = both(lambda: fused.threshold(x0, ratio, maximum))
    torch.testing.assert_close(by_kernel, plain, rtol=2**-23, atol=0, equal_nan=True)


@forms
@pytest.mark.parametrize("ratio", [0.01, 0.5, 0.98, 1.0])
def test_threshold(both, device, shape, ratio, layout):
    x0 = states(shape, device, 1, layout)[0]
    for scale in (0.3, 0.5, 0.7, 5.0):
        thresholded(both, scale * x0, ratio)
    thresholded(both, 0.6 * x0, ratio, 1.0)
    thresholded(both, 0.6 * x0, ratio, 1.499)


def test_threshold_of_large_pictures(both, device):
    """Several programs to a picture, and pictures of their own threshold."""
    x0 = states((3, 3, 80, 81), device, 1)[0] * torch.tensor([0.3, 0.5, 0.55], device=device).view(3, 1, 1, 1)
    ks = x0.abs().flatten(1).quantile(0.98, dim=1)
    assert ks[0] < 1 < ks[1] < ks[2] < 1.3
    thresholded(both, x0)


@pytest.mark.parametrize("ratio", [0.5, 0.98, 1.0])
def test_threshold_of_constant_pictures(both, device, ratio):
    values = torch.tensor([*EDGES, math.nan], device=device).view(-1, 1, 1, 1)
    thresholded(both, -values.expand(-1, 3, 5, 4), ratio)


def test_threshold_of_ties_and_edges(both, device):
    """Few values, so that ranks meet the ends of the range and one another in every way."""
    edges, choose = torch.tensor(EDGES[:-1]), torch.Generator().manual_seed(0)
    for count in (2, 3, 9):
        picked = torch.randint(len(edges), (16, 1, 1, count), generator=choose)
        signs = torch.randint(2, picked.shape, generator=choose) * 2 - 1
        for ratio in (0.3, 0.98):
            thresholded(both, (edges[picked] * signs).to(device), ratio)


def test_threshold_keeps_what_is_not_a_number(both, device):
    """So that a network that fails is noticed."""
    x0 = states((2, 1, 20, 20), device, 1)[0]
    for count in (1, 5, 100):
        x0[0].flatten()[:count] = math.nan
        for result in both(lambda: fused.threshold(x0, 0.98, 1.3)):
            assert result[0].isnan().sum() >= count
            assert result[1].isfinite().all()


SETTINGS = {"step": 0.02, "updates": 3, "blocks": 1, "seed": 2**63 - 2, "samples": 2}
PATH = toy_path(4)


@pytest.mark.parametrize(("solver", "mode"), [("ab2", "absolute"), ("heun", "snr"), ("euler", "relative")])
def test_restore_as_a_whole(both, launched, device, solver, mode):
    x, model = normal_pictures((2, 3, 9, 7), dtype=torch.float32).to(device), dynamic_thresholding(toy_model)

    def restored():
        clips = ConfidenceClip(0.3), ConfidenceClip(0.2), ConfidenceClip(0.4, torch.full((3, 1, 1), -1.0).to(x), 1.0)
        options = {"clip": clips[0], "langevin_clip": clips[1], "decode_clip": clips[2], "levels": PATH[[0, 2]]}
        y = restore(model, x, PATH, solver=solver, mode=mode, **options, **SETTINGS)
        if launched:
            used = {"_langevin", "_clip", "_coarse", "_fine", "_threshold"}
            assert set(launched) == used | ({"_ode"} if solver != "euler" else set())
        return y, *(clip.heat() for clip in clips)

    by_kernel, plain = both(restored)
    close((by_kernel[0], plain[0]), 1e-5)
    # values at the very edge may fall to either side
    assert all((a != b).float().mean() < 0.01 for a, b in zip(by_kernel[1:], plain[1:], strict=True))


def toy_model(x, sigma):
    return 1.4 * torch.tanh(x / (1 + sigma.view(-1, 1, 1, 1)))


def test_other_states_and_noise_take_plain_torch(device, launched, monkeypatch):
    monkeypatch.setitem(fused.WORKING, device, True)
    x, y = states((2, 1, 4, 4), device, 2)
    noise = seeded_noise(0)
    fused.langevin_step(x, y, 0.1, 0.1, 1, lambda x, k: noise(x, k), 0)
    fused.langevin_step(x.double(), y.double(), 0.1, 0.1, 1, noise, 0)
    fused.ode_step(x, y.clone().requires_grad_(), 1.0, 0.1)[0].sum().backward()
    fused.ode_step(x, y[:1], 1.0, 0.1)
    fused.threshold(x, 0.98, 1.5)
    ConfidenceClip(1.0, -torch.ones(1, 1, 1, dtype=torch.float64, device=device), 1.0)(x, 1.0)
    assert not launched


def test_the_check_passes(device, monkeypatch):
    monkeypatch.delitem(fused.WORKING, device, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fused.check(device)
    assert fused.WORKING[device]


@pytest.mark.parametrize("fault", ["differs", "raises"])
def test_a_kernel_that_fails_is_told_of_once_and_not_used(device, launched, monkeypatch, fault):
    def faulty(x0, ratio, maximum):
        if fault == "raises":
            raise RuntimeError("no compiler\nat line 3")
        return (x0 / maximum).clamp(-1, 1)

    monkeypatch.setattr(kernels, "threshold", faulty)
    monkeypatch.delitem(fused.WORKING, device, raising=False)
    with pytest.warns(RuntimeWarning, match="Plain torch replaces the fused steps") as caught:
        fused.check(device)
    fused.check(device)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    launched.clear()
    x = states((2, 1, 6, 6), device, 1)[0]
    langevin(toy_model, x, PATH, noise_sampler=seeded_noise(0), step=0.02, updates=3)
    assert not launched


def test_the_environment_turns_the_kernels_off(device, monkeypatch):
    monkeypatch.delitem(fused.WORKING, device, raising=False)
    monkeypatch.setenv("CONFIDENT_ODE_FUSED", "0")
    fused.check(device)
    assert not fused.WORKING[device]


if not INTERPRETED:

    def test_in_the_interpreter():
        """All of the above."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
        environment = {**os.environ, "TRITON_INTERPRET": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]

    def test_triton_without_a_gpu_leaves_plain_torch(monkeypatch):
        """A real failure: these kernels cannot run on a CPU."""
        device = torch.device("cpu")
        monkeypatch.delitem(fused.WORKING, device, raising=False)
        with pytest.warns(RuntimeWarning, match="replaces the fused steps on cpu"):
            fused.check(device)
        x = TOY.clean(2).float()
        y = SOLVERS["ab2"](TOY.model, x, PATH)
        monkeypatch.setitem(fused.WORKING, device, False)
        assert torch.equal(y, SOLVERS["ab2"](TOY.model, x, PATH))

    def test_the_kernels_compile(monkeypatch):
        """For a GPU that need not be there; every form that is launched."""
        compiler, backends = pytest.importorskip("triton.compiler"), pytest.importorskip("triton.backends.compiler")
        forms, cpu = [], torch.device("cpu")
        monkeypatch.setattr(kernels, "launch", lambda *launch, **options: forms.append((launch, options)))
        monkeypatch.setitem(fused.WORKING, cpu, True)
        fused.samples(cpu)
        for (kernel, x, *args), options in forms:
            given = dict(zip(kernel.arg_names, [*args, x[0].numel()], strict=False))
            size = {"BLOCK": options.pop("block", 1024), **{k: v for k, v in options.items() if k.isupper()}}
            constants = {**{name: None for name, value in given.items() if value is None}, **size}
            types = {name: type_of(value) for name, value in given.items()} | dict.fromkeys(constants, "constexpr")
            source = compiler.ASTSource(kernel, types, constants)
            assert triton.compile(source, target=backends.GPUTarget("cuda", 80, 32)).asm["cubin"]
        assert len(forms) == 12


def type_of(value):
    if isinstance(value, torch.Tensor):
        return "*" + {torch.float32: "fp32", torch.int16: "i16", torch.int32: "i32", torch.int64: "i64"}[value.dtype]
    return {int: "i32", float: "fp32"}.get(type(value))
