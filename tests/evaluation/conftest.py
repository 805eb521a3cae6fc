"""What the tests of methods restore, and with what."""

import pytest
import torch
from confident_ode.priors.loading import load


@pytest.fixture(scope="module")
def prior(prior_folder):
    return load(prior_folder)


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
