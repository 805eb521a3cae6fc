"""The preset auto of CODE Restore, against the command line's automatic mode."""

import pytest
import torch
from comfyui.prompts import Prompt
from comfyui.test_restore import given, latent, same
from confident_ode.evaluation.automatic import choose
from confident_ode.evaluation.settings import Settings
from confident_ode.priors.loading import load


@pytest.fixture(scope="module")
def info(server):
    return server.object_info()


@pytest.fixture(scope="module")
def node(server, info):
    return given(server, info, preset="auto", seed=4, samples=2)


def test_it_sees_what_the_command_line_sees(node):
    found = choose(load("flowers32"), latent(node.seen), Settings(seed=4))
    lines = node.report.splitlines()
    assert len(lines) == len({(kind, name) for kind, name, _ in found})
    for i, (kind, name, _) in enumerate(found):
        told = [line for line in lines if f"looks like {kind}, restored as {name}: " in line]
        assert len(told) == 1
        assert str(i + 1) in told[0].partition(":")[0]


def test_each_picture_is_as_the_preset_alone_restores_it(server, info, node):
    found = choose(load("flowers32"), latent(node.seen), Settings(seed=4))
    for name in {name for _, name, _ in found}:
        own = given(server, info, preset=name, seed=4, samples=2)
        for i, (_, chosen, _) in enumerate(found):
            if chosen == name:
                same(node.image[2 * i : 2 * i + 2], own.image[2 * i : 2 * i + 2])
                same(node.heat[i], own.heat[i])


def test_one_picture_has_one_line(server, info):
    node = given(server, info, preset="auto", names=("rose-1",), fit="whole")
    assert node.report.startswith("Looks like ")
    assert len(node.report.splitlines()) == 1
    assert torch.isfinite(node.image).all()
    assert len(node.image) == 1


def test_a_model_that_is_not_calibrated_is_refused_in_one_sentence(server, info):
    prompt = Prompt(info)
    prompt.use("Restore", preset="auto", model=prompt.tiny(channels=3))
    run = server.run(prompt)
    assert run.error["exception_message"].strip() == (
        "The preset auto needs a prior that was calibrated, as the bundled ones are: take another preset, or calibrate "
        "your prior with `confident-ode priors calibrate`."
    )
