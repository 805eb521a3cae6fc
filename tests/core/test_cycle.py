"""T6: Cycle-SDE returns what is not changed to the bit, and is the step with recorded noise where something is."""

import math
from itertools import pairwise

import pytest
import torch
from confident_ode.samplers import denoisers, ode
from confident_ode.samplers.cycle import RECORDS, cycle_sde, record
from confident_ode.samplers.noise import seeded_noise
from confident_ode.samplers.trajectory import Trajectory
from core.toys import F64, LEVELS, TAU_LEVELS, TOY, a_of, normal_pictures, refuses, rms, toy_path, wrapped

PATH = toy_path(25, depth=999)
NULL, SOURCE, TARGET = 0, 1, 2
LABELS = {"label": torch.tensor([SOURCE, TARGET])}


class Rough(torch.nn.Module):
    """A random network, the rougher the more turns the sine between its two layers makes."""

    def __init__(self, turns):
        super().__init__()
        self.turns = turns
        self.into, self.out = (
            normal_pictures((1, 1, *shape), seed)[0, 0] for seed, shape in enumerate([(36, 64), (64, 36)])
        )

    def forward(self, x_vp, t, label):
        angle = 2 * x_vp.flatten(1) @ self.into.to(x_vp) / 6 + (t / 50 + 2.0 * label).to(x_vp)[:, None]
        return (2 * torch.sin(self.turns * angle) @ self.out.to(x_vp) / 8).view_as(x_vp)


ROUGH, MILD = (denoisers.eps_denoiser(Rough(turns), LEVELS) for turns in (3.0, 0.5))


def smooth(x, sigma, label):
    """Two conditions with closed-form denoisers: all templates under NULL, two of them under each of the others."""
    both = TOY.means[:4].view(2, 2, 1, 6, 6)
    each = [TOY.model(x, sigma)]
    for means in both:
        each.append(denoisers.mixture_denoiser([0.5, 0.5], means, [TOY.std**2] * 2)(x, sigma))
    return torch.stack(each)[label, torch.arange(len(x))]


def of(model, label, guidance=1.0):
    """The denoiser of one condition."""
    guided = denoisers.classifier_free_guidance(model, guidance, {"label": NULL})
    return lambda x, sigma: guided(x, sigma, label=torch.full((len(x),), label))


def pictures(count=3, dtype=torch.float32):
    return TOY.clean(count).to(dtype)


def edited(model, x, source=SOURCE, target=TARGET, guidance=1.0, path=PATH, kind="markov", **options):
    """The pictures x brought from one condition to the other."""
    kept = record(x, path, seeded_noise(3), kind)
    start = kept.states[path[0].item()]
    models = of(model, target, guidance), start, path
    return cycle_sde(*models, source=of(model, source, guidance), path=kept, **options)


@pytest.mark.parametrize("last_zero", [True, False])
@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("guidance", [1.0, 7.5, 15.0])
def test_what_is_not_changed_returns_to_the_bit(guidance, kind, last_zero):
    x, path = pictures(), toy_path(50, 999, last_zero)
    assert torch.equal(edited(ROUGH, x, target=SOURCE, guidance=guidance, kind=kind, path=path), x)


def test_recorded_noise_loses_digits_and_the_more_of_them_the_stronger_the_guidance():
    x = pictures()
    errors = {
        (guidance, recorded): rms(edited(ROUGH, x, target=SOURCE, guidance=guidance, recorded_noise=recorded) - x)
        for guidance in (1.0, 3.0, 7.5)
        for recorded in (False, True)
    }
    assert [errors[guidance, False] for guidance in (1.0, 3.0, 7.5)] == [0.0] * 3
    weak, middle, strong = (errors[guidance, True] for guidance in (1.0, 3.0, 7.5))
    assert 0 < weak < middle < strong
    assert strong > 0.1


@pytest.mark.parametrize(("dtype", "most"), [(F64, 1e-11), (torch.float32, 1e-2)])
def test_recorded_noise_returns_where_the_score_is_exact(dtype, most):
    x = pictures(dtype=dtype)
    for guidance in (1.0, 3.0):
        assert rms(edited(smooth, x, target=SOURCE, guidance=guidance, recorded_noise=True) - x) < most


@pytest.mark.parametrize(("model", "guidance"), [(smooth, 1.0), (smooth, 3.0), (MILD, 1.0)])
@pytest.mark.parametrize("kind", RECORDS)
def test_with_a_changed_condition_both_forms_agree(model, guidance, kind):
    x = pictures(dtype=F64)
    delta, recorded = (edited(model, x, guidance=guidance, kind=kind, recorded_noise=each) for each in (False, True))
    torch.testing.assert_close(delta, recorded, rtol=0, atol=1e-6)
    assert rms(delta - x) > 0.1


@pytest.mark.parametrize("recorded_noise", [False, True])
def test_it_is_algorithm_5(recorded_noise):
    """The loop of the paper in VP, with the noise taken out of the record and put in again, down to the first level."""
    x0, path = pictures(dtype=F64), toy_path(20, last_zero=False)
    levels = [(s, a_of(s), s * a_of(s)) for s in path.flip(0).tolist()]

    def eps(x, label, s):
        y = x / a_of(s)
        return (y - of(smooth, label)(y, torch.full((len(x),), s, dtype=F64))) / s

    states = [a_of(levels[0][0]) * x0]
    for k, ((s, a, _), (s_next, a_next, _)) in enumerate(pairwise(levels)):
        noise = seeded_noise(3)(x0, k)
        states.append(a_next / a * states[-1] + math.sqrt(s_next**2 - s**2) * a_next * noise)
    x = states[-1]
    for i in range(len(levels) - 1, 0, -1):
        (s, a, sigma), (_, a_down, sigma_down) = levels[i], levels[i - 1]
        new = sigma_down / sigma * math.sqrt(1 - (a / a_down) ** 2)

        def step(x, label, w, s=s, a=a, sigma=sigma, a_down=a_down, sigma_down=sigma_down, new=new):
            e = eps(x, label, s)
            return a_down * (x - sigma * e) / a + math.sqrt(sigma_down**2 - new**2) * e + new * w

        noise = (states[i - 1] - step(states[i], SOURCE, 0)) / new
        x = step(x, TARGET, noise)
    ours = edited(smooth, x0, path=path, recorded_noise=recorded_noise)
    torch.testing.assert_close(ours, x / levels[0][1], rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", RECORDS)
def test_each_record_has_the_noise_of_its_levels(kind):
    """N(x, s^2) at each level, x itself at 0."""
    x, path = torch.full((1, 1, 200, 200), 0.4, dtype=F64), toy_path(8)
    states = dict(zip(path.tolist(), record(x, path, seeded_noise(1), kind).at(path.tolist()), strict=True))
    assert torch.equal(states.pop(0.0), x)
    for s, y in states.items():
        assert ((y - x) / s).mean().item() == pytest.approx(0, abs=0.03)
        assert ((y - x) / s).std().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("markov", {}, lambda s, deeper: s / deeper),
        ("posterior", {"eta": 1.0}, lambda s, deeper: s / deeper),
        ("posterior", {"eta": 0.0}, lambda s, deeper: 1.0),
        ("independent", {}, lambda s, deeper: 0.0),
    ],
)
def test_the_states_of_a_record_are_as_alike_as_they_should_be(kind, options, expected):
    """The correlation of two levels: of a Brownian path s / s', of a straight one 1, of fresh noise 0."""
    x, path = torch.zeros(1, 1, 200, 200, dtype=F64), toy_path(8)
    levels = path[:-1].tolist()
    states = record(x, path, seeded_noise(1), kind, **options).at(levels)
    for i, deeper in enumerate(levels):
        for s, y in zip(levels[i + 1 :], states[i + 1 :], strict=True):
            correlation = torch.corrcoef(torch.stack([states[i].flatten(), y.flatten()]))[0, 1].item()
            assert correlation == pytest.approx(expected(s, deeper), abs=0.02)


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_from_an_inversion_it_makes_ddim_return(guidance):
    """Direct inversion: eta 0 beside the states of an inversion, where DDIM itself does not come back."""
    x, down = pictures(), toy_path(20, last_zero=False)
    inverted, guided = Trajectory(x), of(ROUGH, SOURCE, guidance)
    top = inverted.reached(down[0].item(), ode.euler(of(ROUGH, SOURCE), x, down.flip(0), callback=inverted))
    assert torch.equal(cycle_sde(guided, top, down, source=guided, path=inverted, eta=0.0), x)
    assert rms(ode.euler(guided, top, down) - x) > 0.05


def test_at_eta_zero_without_a_change_of_the_source_it_is_ddim():
    """x_i-1 - Y_i-1 is the difference of two Euler steps, whatever the path is."""
    x, down = pictures(dtype=F64), toy_path(5, last_zero=False)
    kept = record(x, down, seeded_noise(3))
    start = kept.states[down[0].item()] + 0.1
    ours = cycle_sde(of(smooth, TARGET), start, down[:2], source=of(smooth, SOURCE), path=kept, eta=0.0)
    y, y_next = kept.at(down[:2].tolist())
    steps = ode.euler(of(smooth, TARGET), start, down[:2]) - ode.euler(of(smooth, SOURCE), y, down[:2])
    torch.testing.assert_close(ours, y_next + steps, rtol=0, atol=1e-12)


@pytest.mark.parametrize("recorded_noise", [False, True])
def test_where_the_mask_is_0_the_picture_returns_to_the_bit(recorded_noise):
    x, mask = pictures(), torch.zeros(1, 1, 6, 6)
    mask[..., 3:] = 1
    y = edited(smooth, x, mask=mask, recorded_noise=recorded_noise)
    assert torch.equal(y[..., :3], x[..., :3])
    assert (y - x)[..., 3:].abs().mean() > 0.1


def test_a_mask_of_ones_is_none_and_one_of_zeros_the_identity():
    x = pictures()
    assert torch.equal(edited(smooth, x, mask=torch.ones(1, 1, 1, 1)), edited(smooth, x))
    assert torch.equal(edited(smooth, x, mask=torch.zeros(1, 1, 1, 1)), x)


def test_a_soft_mask_leaves_its_share_of_a_change():
    """Of a shift of the state, which the ODE carries down; each step takes its share."""
    x, down = pictures(dtype=F64), toy_path(20, depth=100, last_zero=False)
    kept, still = record(x, down, seeded_noise(3)), denoisers.gaussian_denoiser(0.0, 1e6)
    start = kept.states[down[0].item()] + 1.0
    for value in (0.0, 0.25, 0.5, 0.9, 1.0):
        mask = torch.full((1, 1, 1, 1), value, dtype=F64)
        change = cycle_sde(still, start, down, source=still, path=kept, eta=0.0, mask=mask) - x
        assert change.mean().item() == pytest.approx(value, abs=0.01)


@pytest.mark.parametrize("kind", RECORDS)
def test_a_picture_comes_out_the_same_alone_and_in_a_batch(kind):
    x = pictures(3, F64)
    together = edited(smooth, x, kind=kind)
    for i in range(3):
        kept = record(x[i : i + 1], PATH, seeded_noise(3 + i), kind)
        start = kept.states[PATH[0].item()]
        alone = cycle_sde(of(smooth, TARGET), start, PATH, source=of(smooth, SOURCE), path=kept)
        torch.testing.assert_close(alone, together[i : i + 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_both_conditions_in_one_batch_give_what_two_calls_give(guidance):
    x = pictures(dtype=F64)
    kept = record(x, PATH, seeded_noise(3))
    conditions = {"label": torch.tensor([TARGET] * 3 + [SOURCE] * 3)}
    both = denoisers.classifier_free_guidance(smooth, guidance, {"label": NULL})
    ours = cycle_sde(both, kept.states[PATH[0].item()], PATH, conditions, path=kept)
    torch.testing.assert_close(ours, edited(smooth, x, guidance=guidance), rtol=0, atol=1e-9)


@pytest.mark.parametrize("guidance", [7.5, 15.0])
def test_in_one_batch_too_it_returns_to_the_bit(guidance):
    x = pictures()
    kept = record(x, PATH, seeded_noise(3))
    both = denoisers.classifier_free_guidance(ROUGH, guidance, {"label": NULL})
    start, conditions = kept.states[PATH[0].item()], {"label": torch.full((6,), SOURCE)}
    assert torch.equal(cycle_sde(both, start, PATH, conditions, path=kept), x)


def test_the_calls_that_it_makes_and_reports():
    x, path, batches, reports = pictures(2), toy_path(7), [], []
    kept = record(x, path, seeded_noise(0))
    start = kept.states[path[0].item()]

    def model(y, sigma):
        batches.append((len(y), len(sigma)))
        return TOY.model(y, sigma)

    cycle_sde(model, start, path, callback=reports.append, path=kept, source=model)
    assert batches == [(2, 2)] * 16
    assert [(r["i"], r["sigma"]) for r in reports] == list(enumerate(path[:-1].tolist()))
    assert all(r["x"].shape == r["denoised"].shape == x.shape for r in reports)
    batches.clear()
    cycle_sde(model, start, path, path=kept)
    assert batches == [(4, 4)] * 8


@pytest.mark.parametrize("kind", ["v", "flow"])
def test_v_and_flow_networks_give_what_eps_gives(kind):
    """T17."""
    x, other = pictures(dtype=F64), denoisers.gaussian_denoiser(0.2, 0.3)
    path = TAU_LEVELS.sigmas[4:120:5].flip(0)
    kept = record(x, path, seeded_noise(3))
    start = kept.states[path[0].item()]
    ours, eps = (
        cycle_sde(wrapped(each, TOY.model), start, path, source=wrapped(each, other), path=kept)
        for each in (kind, "eps")
    )
    torch.testing.assert_close(ours, eps, rtol=0, atol=1e-9)


def test_a_record_of_a_half_precision_picture_is_in_float32():
    kept = record(pictures().bfloat16(), PATH, seeded_noise(0))
    assert {state.dtype for sigma, state in kept.states.items() if sigma > 0} == {torch.float32}


def test_it_refuses_what_cannot_be():
    x, path = pictures(1), toy_path(5)
    kept = record(x, path, seeded_noise(0))
    start = kept.states[path[0].item()]
    refuses("record 'straight' is unknown", record, x, path, seeded_noise(0), "straight")
    refuses("take 0, the ODE, to 1", record, x, path, seeded_noise(0), "posterior", 1.5)
    refuses("flip them", record, x, toy_path(5, last_zero=False).flip(0), seeded_noise(0))
    refuses("no state at sigma", cycle_sde, TOY.model, start, toy_path(6), path=kept, source=TOY.model)
    refuses("take 0, the ODE, to 1", cycle_sde, TOY.model, start, path, path=kept, source=TOY.model, eta=-0.1)
