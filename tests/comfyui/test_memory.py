"""Fifty prompts in a row, good and bad, leave the server's memory where it was after the fifth."""

import json
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
from comfyui.prompts import Prompt, assert_clear
from comfyui.server import Refused, Server, missing
from safetensors import safe_open

MB = 2**20
# one arena, and freed memory goes back at once: what stays resident is what is held
PLAIN_MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
# a leak of one trajectory of 5.6 MB a prompt would add 250 MB, and in the bad ones alone 100 MB
RESIDENT = 30 * MB
SEEDS = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of its own, with nothing before the first prompt and a node that counts what is held."""
    if reason := missing():
        pytest.skip(reason)
    base = tmp_path_factory.mktemp("memory")
    (base / "custom_nodes").mkdir()
    (base / "custom_nodes" / "held").symlink_to(Path(__file__).parent / "fuzz_pack")
    with Server(base, "--preview-method", "latent2rgb", env=PLAIN_MALLOC) as server:
        yield server


@pytest.fixture(scope="module")
def info(server):
    return server.object_info()


def inversion(p, seed):
    """Of 4 latents at 128x128: a trajectory of 7 states, most of 1 MB, through a network that takes no time."""
    latent = p.latent(batch=4, height=128, width=128, seed=seed)
    return p.inversion(latent=latent, sigmas=p.sigmas("20, 10, 5, 2, 1, 0.5, 0.1"))


def step_by_step(p, seed):
    inverted = inversion(p, seed)
    moved = p.node("CODE_LangevinUpdate", **p.good("LangevinUpdate") | {"latent": inverted[0], "sigmas": inverted[1]})
    p.use("ODEDecode", latent=moved[0], sigmas=inverted[1], trajectory=inverted[2], mask=p.mask(height=128, width=128))


def restored(p, seed):
    """With the real prior, a class, guidance, a clip and two samples, and measured."""
    picture = p.node("CODE_ExamplePicture", seed=seed)
    model = p.pixels()
    rose = p.node("CODE_ClassCondition", model=model, label="rose")
    settings = {"image": picture[0], "mask": picture[2], "positive": rose[0], "negative": p.condition(), "cfg": 2.0}
    restored = p.use("Restore", model=model, samples=2, seed=seed, **settings)
    p.use("CompareImages", reference=restored[1], a=restored[0])
    inversion(p, seed)


def sampled(p, seed):
    """SDEdit, and the stock KSampler, on the real prior."""
    model = p.pixels()
    sigmas = p.node("CODE_Schedule", model=model, steps=3)
    edited = p.use("SDEdit", model=model, latent=p.pixel_latent(seed=seed), sigmas=sigmas[0])
    clipped = p.use("ConfidenceClip", latent=inversion(p, seed)[0])
    condition = p.condition()
    settings = {"seed": seed, "steps": 3, "positive": condition, "negative": condition, "cfg": 1.0}
    drawn = p.node("KSampler", model=model, latent_image=edited[0], **settings)
    p.node("TEST_Save", name="drawn", latent=drawn[0])
    return clipped


def fails_while_decoding(p, seed):
    """In the third step, with the trajectory at hand."""
    inverted = inversion(p, seed)
    links = {"latent": inverted[0], "trajectory": inverted[2], "mask": p.mask(height=128, width=128)}
    return p.use("ODEDecode", sigmas=p.sigmas("20, 10, 5, 3, 1"), **links)


def fails_before(p, seed):
    """At the checks, of what a large inversion has made."""
    inverted = inversion(p, seed)
    return p.use("SDEdit", model=p.pixels(), latent=inverted[0])


GOOD, BAD = (step_by_step, restored, sampled), (fails_while_decoding, fails_before)


def queue(server, info, build):
    """Run a prompt unlike all before; it ends as it must."""
    p = Prompt(info)
    node = build(p, seed=next(SEEDS))
    run = server.run(p)
    if build in GOOD:
        assert run.succeeded, run.error
    else:
        assert run.error["node_id"] == node
        assert_clear(run.error)
    with pytest.raises(Refused):
        server.run({**p, "1": {**p["1"], "class_type": "no such node"}})


class Held(NamedTuple):
    """What the server holds: bytes of tensors, trajectories, Python's objects, and bytes of resident memory."""

    tensors: int
    trajectories: int
    objects: int
    resident: int

    def __str__(self):
        return (
            f"{self.tensors / MB:.2f} MB of tensors, {self.trajectories} trajectories, {self.objects} objects, "
            f"{self.resident / MB:.0f} MB resident"
        )


def held(server, info):
    """Asked in a prompt, with which ComfyUI lets the outputs of the one before go."""
    p = Prompt(info)
    p.node("TEST_Save", name="held", text=p.node("TEST_Held", again=next(SEEDS))[0])
    run = server.run(p)
    assert run.succeeded, run.error
    with safe_open(server.output / "held.safetensors", "pt") as saved:
        counted = json.loads(saved.metadata()["text"])
    return Held(counted["bytes"], counted["trajectories"], counted["objects"], server.memory)


def test_fifty_prompts_leave_nothing_behind(server, info):
    figures = []
    for number in range(1, 51):
        queue(server, info, (*GOOD, *BAD)[number % 5])
        if number % 5 == 0:
            figures.append(held(server, info))
            print(f"after prompt {number}: {figures[-1]}")
    fifth, last = figures[0], figures[-1]
    assert {now.trajectories for now in figures} == {0}
    assert max(now.tensors for now in figures) <= fifth.tensors + MB
    assert last.resident <= fifth.resident + RESIDENT


@pytest.mark.parametrize("build", BAD)
def test_a_failed_prompt_is_let_go(server, info, build):
    before = held(server, info)
    queue(server, info, build)
    after = held(server, info)
    assert after.trajectories == 0
    assert after.tensors <= before.tensors + MB / 2
