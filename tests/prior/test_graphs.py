"""CUDA graphs of a network's calls. Without a GPU what records and replays is a stand-in that computes anew."""

import warnings

import pytest
import torch
from confident_ode.priors.graphs import KEPT, Replayed
from prior.tiny import UNET, filled


class Recorder:
    """A capture(function) whose replay computes the result anew in its place; `made` counts the graphs."""

    def __init__(self):
        self.made = 0

    def __call__(self, function):
        self.made += 1
        result = function()
        return result, lambda: result.sample.copy_(function().sample)


@pytest.fixture
def network():
    return filled({**UNET, "num_class_embeds": 4})


def call(batch, seed=0, size=16):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, 3, size, size, generator=draw)
    t = torch.randint(1000, (batch,), generator=draw).float()
    return x, t, {"class_labels": torch.randint(4, (batch,), generator=draw)}


def equal(replayed, network, batch=2, seed=0, size=16):
    x, t, labels = call(batch, seed, size)
    torch.testing.assert_close(replayed(x, t, **labels).sample, network(x, t, **labels).sample)


@torch.inference_mode()
def test_each_call_of_a_shape_replays_its_first(network):
    replayed = Replayed(network, recorder := Recorder())
    for seed in range(3):
        equal(replayed, network, seed=seed)
    assert recorder.made == 1


@torch.inference_mode()
def test_every_shape_has_a_graph_and_the_last_ones_are_kept(network):
    replayed = Replayed(network, recorder := Recorder())
    for batch in range(1, KEPT + 2):
        equal(replayed, network, batch)
    assert recorder.made == KEPT + 1
    assert len(replayed.graphs) == KEPT
    equal(replayed, network, 2)
    assert recorder.made == KEPT + 1
    equal(replayed, network, 1)
    assert recorder.made == KEPT + 2


def test_modes_have_graphs_of_their_own(network):
    replayed, labels = Replayed(network, recorder := Recorder()), call(2)
    with torch.no_grad():
        equal(replayed, network)
    with torch.inference_mode():
        equal(replayed, network)
        with torch.autocast("cpu", torch.bfloat16):
            equal(replayed, network)
    assert recorder.made == 3
    replayed(labels[0], labels[1], **labels[2]).sample.sum().backward()
    assert recorder.made == 3
    assert network.conv_in.weight.grad.abs().sum() > 0


@torch.inference_mode()
def test_what_cannot_be_recorded_is_called(network):
    def fails(function):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    replayed = Replayed(network, fails)
    with pytest.warns(RuntimeWarning, match="without a CUDA graph: operation not permitted when stream is capturing$"):
        equal(replayed, network)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        equal(replayed, network, 3)
    replayed = Replayed(network, recorder := Recorder())
    x, _, labels = call(2)
    torch.testing.assert_close(replayed(x, 3, **labels).sample, network(x, 3, **labels).sample)
    assert recorder.made == 0


@torch.inference_mode()
def test_they_can_be_turned_off(network, monkeypatch):
    monkeypatch.setenv("CONFIDENT_ODE_GRAPHS", "0")
    replayed = Replayed(network, recorder := Recorder())
    equal(replayed, network)
    assert recorder.made == 0


@pytest.mark.parametrize("device", ["cuda"])
@torch.inference_mode()
def test_on_a_gpu(network, device):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    network, replayed = network.cuda(), Replayed(network)
    for seed, batch in ((0, 2), (1, 2), (2, 3), (3, 2)):
        x, t, labels = call(batch, seed)
        x, t, labels = x.cuda(), t.cuda(), {"class_labels": labels["class_labels"].cuda()}
        torch.testing.assert_close(replayed(x, t, **labels).sample, network(x, t, **labels).sample)
    assert replayed.able
    assert len(replayed.graphs) == 2
