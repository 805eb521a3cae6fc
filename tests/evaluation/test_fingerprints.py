import torch
from confident_ode.evaluation.fingerprints import fingerprint, fingerprint_of
from confident_ode.priors.loading import load
from prior.tiny import write_prior


def test_what_differs_is_told_apart():
    facts = [0, "0", [1], {"a": 1}, torch.zeros(2), torch.zeros(3), torch.zeros(2).double(), torch.ones(2)]
    assert len({fingerprint(fact) for fact in facts}) == len(facts)
    assert fingerprint(1, 2) != fingerprint(2, 1)
    assert len(fingerprint(0)) == 12


def test_the_order_of_names_and_the_layout_in_memory_do_not_matter():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    picture = torch.arange(24.0).view(1, 2, 3, 4)
    assert fingerprint(picture) == fingerprint(picture.to(memory_format=torch.channels_last))


def test_a_prior_is_its_weights_and_its_noise_levels(prior_folder, tmp_path):
    prior = load(prior_folder)
    before = fingerprint_of(prior)
    assert fingerprint_of(load(prior_folder)) == before
    prior.network.to(memory_format=torch.channels_last)
    assert fingerprint_of(prior) == before
    next(prior.network.parameters())[0, 0, 0, 0] += 1
    assert fingerprint_of(prior) != before
    # that of the fixture, but for what is written here
    same = {"unet": {"num_class_embeds": 3}, "labels": {"0": "cat", "1": "dog"}}
    marks = []
    for i, scheduler in enumerate(({}, {"beta_end": 0.03}, {"prediction_type": "v_prediction"})):
        write_prior(tmp_path / str(i), scheduler=scheduler, **same)
        marks.append(fingerprint_of(load(tmp_path / str(i))))
    assert marks[0] == before
    assert len({*marks}) == 3


def test_any_precision_and_any_layout_has_one():
    x = torch.randn(2, 3, 4, 5)
    assert fingerprint(x) == fingerprint(x.to(memory_format=torch.channels_last))
    marks = {fingerprint(x.to(dtype)) for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)}
    assert len(marks) == 4
    assert fingerprint(torch.tensor(1.0)) != fingerprint(torch.tensor(2.0))
