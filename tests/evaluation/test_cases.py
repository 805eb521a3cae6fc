import pickle
from functools import partial

import pytest
import torch
from confident_ode.corruptions import catalogue
from confident_ode.corruptions.damages import MILD, SEVERE
from confident_ode.evaluation.cases import ALL, TWELVE, cases_of

FREE = {name: family for family in ("c-bar", "masks") for name in catalogue.FAMILIES[family]}


@pytest.fixture
def with_library(monkeypatch):
    monkeypatch.setattr(catalogue, "installed", lambda: True)


def pairs(cases):
    return [(case.damage, case.severity) for case in cases]


def test_a_name_is_a_corruption_at_each_severity():
    cases, left_out = cases_of(["ripple", "hue_shift"], [5, 2])
    assert pairs(cases) == [("ripple", 5), ("hue_shift", 5), ("ripple", 2), ("hue_shift", 2)]
    assert [case.name for case in cases][:2] == ["ripple, 5", "hue_shift, 5"]
    assert {case.family for case in cases} == {"c-bar"}
    assert left_out == []
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for case in cases:
        expected = catalogue.corrupt(pictures, case.damage, case.severity, 3)
        assert torch.equal(case.function(pictures, seed=3), expected)
        assert torch.equal(pickle.loads(pickle.dumps(case)).function(pictures, seed=3), expected)


def test_families_and_all_are_their_corruptions_each_once(with_library):
    for family, names in catalogue.FAMILIES.items():
        cases, _ = cases_of([family], [3])
        assert pairs(cases) == [(name, 3) for name in names]
        assert {case.family for case in cases} == {family}
    cases, left_out = cases_of(["ripple", ALL, "masks"], [1])
    assert cases[0].damage == "ripple"
    assert sorted(case.damage for case in cases) == sorted(catalogue.CORRUPTIONS)
    assert {case.damage: case.family for case in cases}.items() >= FREE.items()
    assert left_out == []


def test_the_twelve_have_two_severities():
    cases, left_out = cases_of([TWELVE], [5])
    assert [(case.family, case.damage) for case in cases] == [(f, name) for f, each in SEVERE.items() for name in each]
    assert left_out == []
    both, _ = cases_of([TWELVE], [2, 5])
    assert [case.severity for case in both] == [2] * 12 + [5] * 12
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for case in both:
        own = {2: MILD, 5: SEVERE}[case.severity][case.family][case.damage]
        assert torch.equal(case.function(pictures, seed=1), own(pictures, seed=1))


@pytest.mark.parametrize("names", [["ripple", "ripple"], [TWELVE]])
def test_what_is_given_twice_is_done_once(names):
    cases, _ = cases_of(names, [5, 2, 5])
    assert len({case.name for case in cases}) == len(cases) == (2 if names[0] == "ripple" else 24)
    assert cases[0].severity == 5


def test_what_cannot_be_made_here_is_told_and_left_out(without_library):
    cases, left_out = cases_of([ALL], [5])
    assert {case.damage: case.family for case in cases} == FREE
    assert left_out == [*catalogue.FAMILIES["imagenet-c"]]
    cases, left_out = cases_of(["snow", "ripple"], [5])
    assert (pairs(cases), left_out) == ([("ripple", 5)], ["snow"])


@pytest.mark.parametrize("names", [["snow"], ["imagenet-c"], ["snow", "fog"]])
def test_where_nothing_is_left_to_be_made_it_says_what_to_install(without_library, names):
    first = next(iter(catalogue.FAMILIES.get(names[0], names)))
    with pytest.raises(ValueError, match=rf"^{first} needs .*: pip install imagecorruptions-imaug\.$"):
        cases_of(names, [5])


@pytest.mark.parametrize(
    ("names", "severities", "says"),
    [
        ([], [5], "name corruptions and severities"),
        (["ripple"], [], "name corruptions and severities"),
        (["rippel"], [5], "no corruption 'rippel': did you mean 'ripple'?"),
        (["ripple", "mask"], [5], "did you mean 'masks'?"),
        (["twelv"], [5], "did you mean 'twelve'?"),
        ([3], [5], "no corruption 3: did you mean"),
        # in the catalogue, but none of the 47
        (["sparkles"], [5], "no corruption 'sparkles': did you mean 'inverse_sparkles'?"),
        (["ripple"], [0], "no severity 0: take some of 1, 2, 3, 4, 5"),
        (["ripple"], [5, 6], "no severity 6"),
        (["ripple"], [2.5], "no severity 2.5"),
        (["ripple"], ["5"], "no severity '5'"),
        (["ripple"], [[5]], "no severity [5]"),
        ([["ripple"]], [5], "no corruption ['ripple']"),
        ([TWELVE], [3], "have the severities 2 and 5"),
        ([TWELVE], [2, 3], "have the severities 2 and 5"),
        ([TWELVE, "ripple"], [5], "compared alone"),
        (["snow", TWELVE], [5], "compared alone"),
    ],
)
def test_what_is_wrong_is_one_sentence(names, severities, says):
    with pytest.raises(ValueError, match=r"^[^\n]*[.?]$") as error:
        cases_of(names, severities)
    assert says in str(error.value)


def test_cases_are_told_apart_by_what_they_are_not_by_their_functions():
    (one,), _ = cases_of(["ripple"], [5])
    (other,), _ = cases_of(["ripple"], [5])
    assert isinstance(one.function, partial)
    assert one == other
    assert "function" not in repr(one)
