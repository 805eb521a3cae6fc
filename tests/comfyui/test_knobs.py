"""CODE Knobs and CODE Film Strip: their pictures are CODE Restore's, their numbers the core's, on one progress bar."""

import re
import shutil
from itertools import count

import pytest
import torch
from comfyui.prompts import QUICK, Prompt, assert_clear
from comfyui.server import REPOSITORY
from comfyui.test_restore import latent, same
from confident_ode.evaluation.knobs import NO_CURVE, NO_UPDATES
from confident_ode.priors.calibration import FILE, Calibration, discriminants
from confident_ode.priors.loading import load
from confident_ode.samplers.denoisers import dynamic_thresholding
from confident_ode.samplers.noise_levels import decode_path
from confident_ode.samplers.statistics import read
from safetensors import safe_open

NAMES = count()
SETTINGS = {**QUICK, "steps": 3, "updates": 4, "seed": 3}
GRID = {"depths": "0.3,0.4", "step_sizes": "0.001, 0.002"}


@pytest.fixture(scope="module")
def info(server):
    return server.object_info()


@pytest.fixture(scope="module")
def calibrated(server):
    """The name of a prior that is calibrated, on eight random pictures and as many of one colour, and the Prior."""
    folder = server.models / "diffusers" / "calibrated"
    shutil.copytree(REPOSITORY / "priors" / "flowers32", folder, dirs_exist_ok=True)
    prior = load(folder)
    levels = decode_path(prior.levels, prior.levels.depth(fraction=0.4), 2, "karras").flip(0)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(3, 8, 3, 32, 32, generator=generator) * torch.tensor([2.0, 0.5, 0.1]).view(3, 1, 1, 1, 1) - 1
    labels = prior.conditioning(None, 8)
    with torch.inference_mode():
        found = torch.stack([read(prior.model(), kind, levels, labels) for kind in pictures])
    settings = {"balanced": {}}
    Calibration(levels.cpu(), *discriminants(found), ("a", "b", "c"), ("balanced",) * 3, settings).save(folder)
    yield "calibrated", load(folder)
    # other tests share the server, and its list of priors
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def plain(server):
    """The name of a prior that is not calibrated."""
    folder = server.models / "diffusers" / "plain"
    shutil.copytree(REPOSITORY / "priors" / "flowers32", folder, ignore=shutil.ignore_patterns(FILE))
    yield "plain"
    shutil.rmtree(folder)


class Saved(Prompt):
    """A prompt of an example picture, whose outputs come back by name."""

    def __init__(self, info, prior):
        super().__init__(info)
        loaded = self.node("CODE_LoadPixelPrior", prior=prior)
        self.sockets = {"model": loaded[0], "vae": loaded[1], "positive": loaded[2]}
        self.damaged = self.node("TEST_SmallExample", picture="daisy-1", damage="random pixels")[0]
        self.files = {}

    def add(self, kind, **inputs):
        return self.node(f"CODE_{kind}", **{**self.sockets, "image": self.damaged, **SETTINGS, **inputs})

    def keep(self, name, **output):
        file = f"knobs-{next(NAMES)}"
        self.node("TEST_Save", name=file, **output)
        self.files[name] = file, *output

    def run_on(self, server):
        run, given = server.run(self), {}
        assert run.succeeded, run.error
        for name, (file, kind) in self.files.items():
            with safe_open(server.output / f"{file}.safetensors", "pt") as saved:
                given[name] = saved.metadata()["text"] if kind == "text" else saved.get_tensor(kind)
        return given, run


def knobs(server, info, prior, **inputs):
    """({grid, curve, convergence, report}, progress) of CODE Knobs."""
    prompt = Saved(info, prior)
    node = prompt.add("Knobs", **{**GRID, **inputs})
    for slot, name in enumerate(("grid", "curve", "convergence")):
        prompt.keep(name, image=node[slot])
    prompt.keep("report", text=node[3])
    given, run = prompt.run_on(server)
    return given, [(data["value"], data["max"]) for data in run.of("progress") if data["node"] == node]


def rows_of(report):
    """{(depth, step size): (moved in percent, damage or None)} of a report."""
    row = r"depth ([\d.]+), step size ([\d.]+).*: moved ([\d.]+)%(?:, damage seen ([\d.]+))?"
    return {
        (float(depth), float(step)): (float(moved), damage and float(damage))
        for depth, step, moved, damage in re.findall(row, report)
    }


def test_the_numbers_are_those_of_code_restore_s_pictures(server, info, calibrated):
    name, prior = calibrated
    given, progress = knobs(server, info, name)
    found = rows_of(given["report"])
    assert list(found) == [(0.3, 0.001), (0.3, 0.002), (0.4, 0.001), (0.4, 0.002)]
    prompt = Saved(info, name)
    for depth, step in found:
        node = prompt.add("Restore", depth=depth, step_size=step)
        prompt.keep((depth, step), image=node[0])
    prompt.keep("seen", image=node[1])
    pictures, _ = prompt.run_on(server)
    model, labels = dynamic_thresholding(prior.model(threshold=False)), prior.conditioning(None, 1)
    for place, (moved, damage) in found.items():
        distance = (pictures[place] - pictures["seen"]).square().mean().sqrt().item()
        assert moved == pytest.approx(100 * distance, abs=0.06)
        with torch.inference_mode():
            statistics = read(model, latent(pictures[place]), prior.calibration.levels, labels, seed=3)
        # ComfyUI asks the network at whole timesteps
        assert damage == pytest.approx(prior.calibration.damage(statistics).item(), rel=0.01, abs=0.06)
    assert len({moved for moved, _ in found.values()}) == 4
    # four runs, and one each of 0, 1 and 2 updates, of steps up and down; reading each of them and the photo
    total = 4 * (3 + 5 + 4) + (3 + 0 + 4) + (3 + 2 + 4) + (3 + 3 + 4) + 8 * prior.calibration.calls
    assert progress[-1] == (total, total)
    assert [value for value, _ in progress] == sorted({value for value, _ in progress})
    assert {most for _, most in progress} == {total}
    # up and down each start with a call more
    assert given["report"].startswith(f"{total + 7 * 2} network calls\n")
    sheets = [given[sheet] for sheet in ("grid", "curve", "convergence")]
    assert len({sheet.shape for sheet in sheets}) == 3
    for sheet in sheets:
        assert sheet.std() > 0.05


def test_without_a_calibration_there_is_a_grid_in_place_of_the_curve(server, info, plain):
    given, _ = knobs(server, info, plain, depths="0.3", step_sizes="0.001", updates=2)
    assert torch.equal(given["curve"], given["grid"])
    assert not torch.equal(given["convergence"], given["grid"][:, : given["convergence"].shape[1]])
    assert NO_CURVE in given["report"].splitlines()
    # the settings as given are not on the grid, and are run all the same
    assert rows_of(given["report"]).keys() == {(0.3, 0.001), (0.4, 0.002)}
    assert "(custom)" in given["report"]


def test_without_updates_there_is_nothing_to_converge(server, info, plain):
    given, _ = knobs(server, info, plain, **{"depths": "0.4", "step_sizes": "0.002", "updates": 0})
    assert torch.equal(given["convergence"], given["grid"])
    assert NO_UPDATES in given["report"].splitlines()


@pytest.mark.parametrize("kind", ["eps", "flow"])
def test_latent_models_of_all_kinds_have_a_grid_and_a_film(server, info, kind):
    """Of a model with a latent format of its own, whose prediction is shown in the picture's colours."""
    prompt = Saved(info, "flowers32")
    prompt.sockets |= {"model": prompt.tiny(kind, 3), "positive": prompt.condition()}
    node = prompt.add("Knobs", depths="0.3", step_sizes="0.001")
    prompt.keep("grid", image=node[0])
    prompt.keep("report", text=node[3])
    node = prompt.add("Film")
    prompt.keep("film", image=node[0])
    prompt.keep("restored", image=node[1])
    prompt.keep("same", image=prompt.add("Restore")[0])
    given, _ = prompt.run_on(server)
    assert NO_CURVE in given["report"]
    same(given["restored"], given["same"], atol=1e-6)
    assert given["film"].std() > 0.05
    # the first frame, a step of noise away from the photo, is much like it
    photo, first = (given["film"][0, 90:270, x : x + 180] for x in (40, 280))
    assert (photo - first).abs().mean() < 0.1
    assert (photo - photo.mean()).abs().mean() > 0.1


def test_a_film_is_of_code_restore_s_run(server, info, plain):
    """With a mask, and of the first picture of a batch."""
    prompt = Saved(info, plain)
    mask = prompt.mask(height=32, width=32, fill="constant", value=0.5)
    other = prompt.node("TEST_SmallExample", picture="rose-1", damage="none")[0]
    batch = prompt.node("ImageBatch", image1=prompt.damaged, image2=other)[0]
    node = prompt.add("Film", image=batch, mask=mask)
    prompt.keep("film", image=node[0])
    prompt.keep("restored", image=node[1])
    prompt.keep("same", image=prompt.add("Restore", mask=mask)[0])
    given, run = prompt.run_on(server)
    assert torch.equal(given["restored"], given["same"])
    progress = [(data["value"], data["max"]) for data in run.of("progress") if data["node"] == node]
    assert progress == [(i + 1, 12) for i in range(12)]
    # the photo, 3 up, after the updates, 3 down, and restored, of 224 pixels each
    assert 9 * 224 < given["film"].shape[2] < 10 * 240 + 100


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("Knobs", {"depths": "deep"}),
        ("Knobs", {"depths": "0.4, 2"}),
        ("Knobs", {"step_sizes": ""}),
        ("Knobs", {"step_sizes": "0.002, nan"}),
        ("Knobs", {"depths": "inf"}),
        ("Knobs", {"step_sizes": "0.002, 1.9"}),
        ("Knobs", {"depths": ",".join(f"0.{i}" for i in range(11, 30))}),
        ("Knobs", {"preset": "masked"}),
        ("Knobs", {"preset": "auto"}),
        ("Film", {"preset": "auto"}),
        ("Film", {"updates": 0, "clip": False}),
    ],
)
def test_wrong_values_are_a_sentence(server, info, plain, kind, inputs):
    prompt = Saved(info, plain)
    node = prompt.add(kind, **{**(GRID if kind == "Knobs" else {}), **inputs})
    prompt.keep("never", image=node[0])
    run = server.run(prompt)
    assert not run.succeeded
    assert run.error["node_id"] == node
    assert_clear(run.error, server.base)


def test_an_interrupt_stops_it_within_a_step(server, info, plain):
    prompt = Saved(info, plain)
    node = prompt.add("Knobs", **GRID, updates=10_000)
    prompt.keep("never", image=node[0])
    run, asked = server.queue(prompt), False
    for _ in run:
        steps = [data for data in run.of("progress") if data["node"] == node]
        # one more may have been on its way
        assert len(steps) <= 6
        if len(steps) == 5 and not asked:
            server.interrupt()
            asked = True
    [interrupted] = run.of("execution_interrupted")
    assert interrupted["node_id"] == node


def test_auto_chooses_what_is_marked(server, info, calibrated):
    given, _ = knobs(server, info, calibrated[0], preset="auto", depths="0.2", step_sizes="0.002")
    assert "(balanced)" in given["report"]
