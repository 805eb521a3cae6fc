from dataclasses import replace

import pytest
import torch
from confident_ode.evaluation.fingerprints import fingerprint
from confident_ode.evaluation.methods import Automatic, Restoration, SDEdit, families_of, method_of, methods_of
from confident_ode.evaluation.presets import PRESETS
from confident_ode.evaluation.restoring import plan, run
from confident_ode.evaluation.settings import Settings
from confident_ode.priors.calibration import Calibration
from confident_ode.samplers.statistics import STATISTICS

QUICK = {"steps": 3, "updates": 2, "blocks": 1, "stop_at": 0.0}


@pytest.mark.parametrize("values", [QUICK, {"method": "sdedit", "steps": 4, "depth": 0.3}], ids=["CODE", "SDEdit"])
def test_methods_restore_each_picture_as_they_do_it_alone(prior, pictures, values):
    method = method_of("a method", values)
    together, calls = method.restore(prior, pictures, 5)
    assert calls == [method.calls(prior)] * 3
    alone, _ = method.restore(prior, pictures[2:], 7)
    torch.testing.assert_close(together[2:], alone, rtol=1e-3, atol=1e-3)
    other, _ = method.restore(prior, pictures[2:], 8)
    assert (other - alone).abs().max() > 0.1


def test_a_method_restores_with_its_settings(prior, pictures):
    method = method_of("CODE", QUICK)
    assert method.calls(prior) == plan(prior, Settings(**QUICK)).calls
    expected = run(prior, pictures, Settings(**QUICK, seed=5))
    assert torch.equal(method.restore(prior, pictures, 5)[0], expected.pictures)


def test_sdedit_takes_its_steps_from_the_depth_to_the_end(prior, pictures):
    method = method_of("SDEdit 0.3", {"method": "sdedit", "steps": 4, "depth": 0.3})
    assert isinstance(method, SDEdit)
    path = method._path(prior)
    assert prior.levels.timestep(path[:-1]).tolist() == pytest.approx([300, 225, 150, 75, 0], abs=0.1)
    assert path[-1] == 0
    assert method.calls(prior) == 5
    # where there are not as many levels
    assert method_of("SDEdit", {"method": "sdedit", "steps": 24, "depth": "t=3"}).calls(prior) == 4


def test_results_of_other_settings_are_about_something_else(prior):
    tables = [
        *({"method": way, "depth": depth} for way in ("sdedit", "code", "odedit") for depth in (0.3, 0.4)),
        {"depth": 0.3, "updates": 5},
        {"depth": 0.3, "clip": False},
    ]
    assert len({fingerprint(method_of("", table).about(prior)) for table in tables}) == len(tables)
    # what it is called, and in what company, makes no other picture
    one = method_of("one", {"depth": 0.3})
    assert all(
        one.about(prior) == other.about(prior)
        for other in (method_of("other", {"depth": 0.3, "samples": 3}), *methods_of({"name": "A", "depth": [0.3]}, {}))
    )


def test_a_preset_is_laid_under_the_settings():
    method = method_of("strokes", {"preset": "strokes", "eta": 0.5})
    assert method.settings == Settings(**PRESETS["strokes"], eta=0.5)


@pytest.fixture(scope="module")
def calibration():
    return Calibration(
        levels=torch.tensor([0.1, 1.0]),
        mean=torch.zeros(2 * STATISTICS),
        directions=torch.ones(2 * STATISTICS, 1),
        centres=torch.tensor([[-1.0], [1.0]]),
        kinds=("no damage", "fog"),
        choices=("light", "bold"),
        settings={"light": {"steps": 3, "updates": 0}, "bold": {"steps": 4, "updates": 3, "blocks": 1, "stop_at": 0.0}},
    )


def test_the_automatic_method_needs_a_calibration_on_which_its_results_depend(prior, pictures, calibration):
    method = method_of("automatic", {"method": "automatic"})
    assert isinstance(method, Automatic)
    for use in (method.calls, method.about):
        with pytest.raises(ValueError, match="has no calibration"):
            use(prior)
    once = replace(prior, calibration=calibration)
    others = [
        replace(calibration, choices=("bold", "bold")),
        replace(calibration, centres=calibration.centres + 1),
        replace(calibration, settings={**calibration.settings, "light": {"steps": 3, "updates": 1}}),
    ]
    marks = [fingerprint(method.about(replace(prior, calibration=known))) for known in (calibration, *others)]
    assert len({*marks}) == len(marks)
    # two to read, four up, four updates, four down
    assert method.calls(once) == 2 + plan(prior, Settings(steps=4, updates=3, blocks=1)).calls
    again = replace(prior, calibration=others[0])
    together, calls = method.restore(again, pictures, 5)
    assert calls == [method.calls(once)] * 3
    alone, _ = method.restore(again, pictures[2:], 7)
    torch.testing.assert_close(together[2:], alone, rtol=1e-3, atol=1e-3)


def test_a_table_without_lists_is_one_method_of_its_own():
    (one,) = methods_of({"name": "A", "samples": 3}, {"steps": 4, "depth": 0.2})
    assert type(one) is Restoration
    assert (one.name, one.family, one.varied, one.samples) == ("A", None, (), 3)
    assert one.settings == Settings(steps=4, depth=0.2)


def test_a_list_is_a_family_that_differs_in_nothing_else():
    base = {"steps": 4, "depth": 0.2}
    first, second = methods_of({"name": "A", "depth": [0.3, "t=500"], "samples": 2}, base)
    assert [first.name, second.name] == ["A 0.3", "A t=500"]
    assert [first.family, second.family] == ["A", "A"]
    assert [first.varied, second.varied] == [(("depth", 0.3),), (("depth", "t=500"),)]
    assert [first.samples, second.samples] == [2, 2]
    assert second.settings == replace(first.settings, depth="t=500") == Settings(steps=4, depth="t=500")


def test_two_lists_are_all_their_combinations():
    methods = methods_of({"name": "A", "depth": [0.2, 0.3], "updates": [0, 5, 9]}, {"steps": 4})
    expected = [(depth, updates) for depth in (0.2, 0.3) for updates in (0, 5, 9)]
    assert [(m.settings.depth, m.settings.updates) for m in methods] == expected
    assert [m.varied for m in methods] == [(("depth", d), ("updates", u)) for d, u in expected]
    assert [m.name for m in methods] == [f"A {d}, {u}" for d, u in expected]
    assert {m.settings.steps for m in methods} == {4}


def test_lists_vary_presets_and_sdedit_too():
    light, bold = methods_of({"name": "A", "preset": ["light", "bold"]}, {"steps": 4})
    assert [light.settings, bold.settings] == [Settings(**PRESETS["light"]), Settings(**PRESETS["bold"])]
    assert {type(m) for m in methods_of({"name": "B", "method": "sdedit", "depth": [0.1, 0.2]}, {})} == {SDEdit}


def test_what_is_of_code_is_not_given_to_other_methods():
    base = {"steps": 4, "depth": 0.2}
    (other,) = methods_of({"name": "B", "method": "odedit"}, base)
    assert other.settings == Settings.of({"method": "odedit"})
    (sdedit,) = methods_of({"name": "B", "method": "sdedit"}, base)
    assert (sdedit.settings.steps, sdedit.settings.depth) == (Settings().steps, Settings().depth)
    (preset,) = methods_of({"name": "B", "preset": "smooth"}, base)
    assert preset.settings == Settings(**PRESETS["smooth"])


def test_families_keep_their_order_and_leave_out_what_has_none():
    tables = [{"name": "B", "depth": [0.2, 0.3]}, {"name": "alone"}, {"name": "A", "updates": [1]}]
    methods = [method for table in tables for method in methods_of(table, {})]
    assert families_of(methods) == {"B": methods[:2], "A": methods[3:]}
    assert [*families_of(methods)] == ["B", "A"]
    assert families_of(methods[2:3]) == {}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"preset": "thick"}, "preset 'thick' is unknown: take one of balanced"),
        ({"samples": 0}, "cannot be 0 samples: take a whole number from 1"),
        ({"samples": -2}, "cannot be -2 samples"),
        ({"samples": 1.5}, "cannot be 1.5 samples"),
        ({"samples": "two"}, "cannot be 'two' samples"),
        ({"samples": [1, 0]}, "cannot be 0 samples"),
        ({"seed": 1}, "gives each picture a seed"),
        ({"method": "sdedit", "seed": 1}, "gives each picture a seed"),
        ({"sdedit": True}, "SDEdit a method of its own"),
        ({"strength": 1}, "no setting 'strength'"),
        ({"method": "sdedit", "strength": 1}, "no setting 'strength'"),
        ({"method": "magic"}, "method 'magic' is unknown"),
        ({"depth": [0.1, "deep"]}, "depth 'deep' is not understood"),
        ({"name": None}, "has no name"),
        ({"name": ""}, "has no name"),
        ({"name": ["A", "B"]}, "has no name"),
    ],
)
def test_what_is_wrong_is_one_sentence(values, says):
    with pytest.raises(ValueError, match=r"^[^\n]*[.]$") as error:
        methods_of({"name": "A", **values}, {})
    assert says in str(error.value)
