"""DiffEdit's mask: where two conditions disagree, by closed form, and what is made of it."""

import pytest
import torch
from confident_ode.samplers.denoisers import CallCounter, classifier_free_guidance, gaussian_denoiser
from confident_ode.samplers.diffedit import disagreement, mask_from
from confident_ode.samplers.noise import seeded_noise
from core.toys import F64, LEVELS, TOY, normal_pictures, refuses, toy_path

LEVEL = LEVELS.sigma(500).view(1)
VARIANCE = 0.2
X = TOY.clean(2)


def gaussian_at(row, column, height):
    """The denoiser of N(mean, VARIANCE), whose mean is 0 but at one pixel."""
    mean = torch.zeros(1, 1, 6, 6, dtype=F64)
    mean[..., row, column] = height
    return gaussian_denoiser(mean, VARIANCE)


def between(target, source, x=X, level=LEVEL, **options):
    return disagreement(target, x, level, source=source, noise_sampler=seeded_noise(0), **options)


def test_it_is_the_mean_distance_of_the_two_noises():
    """Of two Gaussians of one variance s |m - m'| / (v + s^2), whatever the noise is."""
    found = between(gaussian_at(2, 4, 0.7), gaussian_at(2, 4, -0.1))
    expected = torch.zeros(2, 1, 6, 6, dtype=F64)
    expected[..., 2, 4] = 0.8 * LEVEL.item() / (VARIANCE + LEVEL.item() ** 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_mask_is_the_pixel_where_they_differ():
    mask = mask_from(between(gaussian_at(2, 4, 0.7), gaussian_at(2, 4, -0.1)))
    assert mask.nonzero()[:, 2:].tolist() == [[2, 4], [2, 4]]
    assert mask[..., 2, 4].flatten().tolist() == [1.0, 1.0]


def test_it_is_the_mean_over_maps_and_channels():
    x, target, source = normal_pictures((2, 3, 5, 5)), lambda y, s: torch.sin(3 * y), lambda y, s: 0.5 * y
    level = LEVEL.item()
    total = 0
    for k in range(4):
        noised = x + level * seeded_noise(0)(x, k)
        eps = [(noised - model(noised, None)) / level for model in (target, source)]
        total = total + (eps[0] - eps[1]).abs()
    torch.testing.assert_close(between(target, source, x, maps=4), total.mean(1, keepdim=True) / 4)


def test_guidance_of_both_scales_it_and_leaves_the_mask():
    """What has no condition cancels."""
    null, conditions = gaussian_at(0, 0, 3.0), [gaussian_at(2, 4, 0.7), gaussian_at(1, 1, 0.5)]

    def model(x, sigma, label):
        each = torch.stack([null(x, sigma), *(condition(x, sigma) for condition in conditions)])
        return each[label, torch.arange(len(x))]

    def found(scale):
        guided = classifier_free_guidance(model, scale, {"label": 0})
        target, source = (lambda x, s, label=label: guided(x, s, label=torch.full((2,), label)) for label in (1, 2))
        return between(target, source)

    torch.testing.assert_close(found(7.5), 7.5 * found(1.0))
    assert torch.equal(mask_from(found(7.5)), mask_from(found(1.0)))


def test_of_a_path_only_the_first_level_counts():
    model, other = gaussian_at(2, 4, 0.7), gaussian_at(1, 1, 0.2)
    assert torch.equal(between(model, other, level=toy_path()), between(model, other, level=toy_path()[:1]))


@pytest.mark.parametrize("difference", [0.0, 0.3])
def test_where_they_do_not_disagree_more_at_one_place_than_another_the_mask_is_empty(difference):
    assert not mask_from(torch.full((1, 1, 4, 4), difference)).any()


def test_the_threshold_is_half_of_three_means():
    """min(M, 3 mean) > 1.5 mean, of each picture on its own."""
    difference = normal_pictures((3, 1, 8, 8)).abs() * torch.tensor([1.0, 10.0, 0.1]).view(-1, 1, 1, 1)
    expected = torch.cat([(each > 1.5 * each.mean()).to(F64)[None] for each in difference])
    assert torch.equal(mask_from(difference), expected)
    # above the ratio there is nothing left to be above
    assert not mask_from(difference, threshold=1.0).any()


def dot(row=3, column=4):
    difference = torch.zeros(1, 1, 8, 8)
    difference[..., row, column] = 1
    return difference


@pytest.mark.parametrize("grow", [1, 2])
def test_growing_widens_it_by_so_many_pixels(grow):
    mask = mask_from(dot(), grow=grow)
    places = mask[0, 0].nonzero()
    assert places.min(0).values.tolist() == [3 - grow, 4 - grow]
    assert places.max(0).values.tolist() == [3 + grow, 4 + grow]
    assert mask.sum() == (2 * grow + 1) ** 2


def test_a_blur_makes_its_edge_soft_and_moves_nothing():
    hard, soft = mask_from(dot(), grow=1), mask_from(dot(), grow=1, blur=1.0)
    assert 0 <= soft.min() < soft.max() < 1
    assert soft.sum().item() == pytest.approx(hard.sum().item(), rel=0.05)
    assert soft[0, 0].argmax() == 3 * 8 + 4
    # as far to either side of the dot
    torch.testing.assert_close(soft[0, 0, 3, 2], soft[0, 0, 3, 6])
    torch.testing.assert_close(soft[0, 0, 3, 4:7], soft[0, 0, 3:6, 4])


def test_a_blurred_mask_of_everything_stays_everything():
    """Nothing dark comes in from beyond the picture's edge."""
    everything = mask_from(dot(), grow=8, blur=2.0)
    torch.testing.assert_close(everything, torch.ones(1, 1, 8, 8))


def test_the_calls_that_it_makes_and_reports():
    target, source, reports = CallCounter(TOY.model), CallCounter(TOY.model), []
    between(target, source, maps=3, callback=reports.append)
    assert (target.calls, source.calls) == (3, 3)
    assert [r["i"] for r in reports] == [0, 1, 2]


def test_a_picture_has_the_same_mask_alone_and_in_a_batch():
    target, source = TOY.model, gaussian_at(2, 4, 0.7)
    together = between(target, source)
    for i in range(2):
        options = {"source": source, "noise_sampler": seeded_noise(i)}
        torch.testing.assert_close(disagreement(target, X[i : i + 1], LEVEL, **options), together[i : i + 1])


def test_it_refuses_what_cannot_be():
    refuses("at least 1 map", between, TOY.model, TOY.model, maps=0)
    refuses("finite one above 0", between, TOY.model, TOY.model, level=torch.zeros(1))
