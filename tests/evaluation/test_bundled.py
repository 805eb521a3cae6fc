"""What the bundled default draws is what it was asked for, by a judge that has not seen it."""

import pytest
import torch
from confident_ode.evaluation.classifier import agreement, load_classifier
from confident_ode.priors.loading import load
from confident_ode.priors.sampling import sample
from confident_ode.priors.train import mixed_precision


@pytest.fixture(scope="module")
def prior():
    return load("flowers64")


def test_samples_are_of_the_class_asked_for(prior):
    labels = [i % len(prior.classes) for i in range(40)]
    with mixed_precision(torch.device("cpu"), "auto"):
        drawn = sample(prior, labels, steps=20, guidance=2)
    asked, another = ([prior.classes[(i + by) % len(prior.classes)] for i in labels] for by in (0, 1))
    classifier = load_classifier()
    assert agreement(classifier, drawn, asked) > 0.6
    assert agreement(classifier, drawn, another) < 0.2
