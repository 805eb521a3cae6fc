"""Corrupt Image in the real server: without its library, as most have it, and with it."""

import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest
import torch
from comfyui.prompts import Prompt, assert_clear, options
from comfyui.server import PYTHON, Graph, Refused, Server, missing
from confident_ode.corruptions.catalogue import CORRUPTIONS, FAMILIES, MORE, corrupt
from safetensors.torch import load_file

INSTALL = "pip install imagecorruptions-imaug"
OF_LIBRARY = {*FAMILIES["imagenet-c"]}


def python(code):
    return subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def with_library(tmp_path_factory):
    """A server that finds the library behind its own packages, where these tests run with it and the same Python."""
    library = util.find_spec("imagecorruptions")
    if reason := missing():
        pytest.skip(reason)
    if library is None:
        pytest.skip(f"no imagecorruptions-imaug ({INSTALL})")
    if python("import sys; print(sys.version_info[:2])") != str(sys.version_info[:2]):
        pytest.skip(f"{PYTHON} is another Python than {sys.executable}")
    base = tmp_path_factory.mktemp("comfyui")
    pack = base / "custom_nodes" / "library"
    pack.mkdir(parents=True)
    (pack / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    packages = str(Path(library.origin).parents[1])
    (pack / "prestartup_script.py").write_text(f"import sys\n\nsys.path.append({packages!r})\n")
    with Server(base) as server:
        yield server


@pytest.fixture(scope="module")
def without_library(server):
    if python("import importlib.util as u; print(u.find_spec('imagecorruptions'))") != "None":
        pytest.skip(f"{PYTHON} has imagecorruptions")
    return server


def corruptions(server):
    return options(*server.object_info()["CODE_CorruptImage"]["input"]["required"]["corruption"])


def kept(server, graph, image, corruption, severity=5, seed=0):
    """(IMAGE, MASK) of the node; `image` is a link."""
    node = graph.node("CODE_CorruptImage", image=image, corruption=corruption, severity=severity, seed=seed)
    graph.node("TEST_Save", name="corrupted", image=node[0])
    graph.node("TEST_Save", name="where", mask=node[1])
    run = server.run(graph)
    assert run.succeeded, run.error
    return [next(iter(load_file(server.output / f"{name}.safetensors").values())) for name in ("corrupted", "where")]


def example(server):
    graph = Graph()
    node = graph.node("CODE_ExamplePicture", picture="daisy-1", damage="none", seed=0)
    graph.node("TEST_Save", name="original", image=node[1])
    assert server.run(graph).succeeded
    return load_file(server.output / "original.safetensors")["image"]


def through(server, corruption, **widgets):
    """(original, IMAGE, MASK) of an example picture."""
    graph = Graph()
    node = graph.node("CODE_ExamplePicture", picture="daisy-1", damage="none", seed=0)
    return example(server), *kept(server, graph, node[0], corruption, **widgets)


def test_without_the_library_what_can_run_is_listed(without_library):
    assert corruptions(without_library) == [name for name in {**CORRUPTIONS, **MORE} if name not in OF_LIBRARY]


def test_with_the_library_all_are_listed_and_run(with_library):
    assert corruptions(with_library) == [*CORRUPTIONS, *MORE]
    for name in ("snow", "glass_blur", "impulse_noise"):
        original, image, mask = through(with_library, name, severity=3, seed=5)
        own = (corrupt(2 * original.movedim(-1, 1) - 1, name, 3, 5).movedim(1, -1) + 1) / 2
        assert (image - own).abs().max() < 2 / 255
        assert mask.all() == (name != "impulse_noise")


@pytest.mark.parametrize("name", ["snow", "gaussian_blur"])
def test_what_cannot_run_here_says_what_to_install(without_library, name):
    """As of a workflow that was saved where it could, before anything runs."""
    prompt = Prompt(without_library.object_info())
    node = prompt.use("CorruptImage", image=prompt.image(), corruption=name)
    with pytest.raises(Refused) as refused:
        without_library.queue(prompt)
    errors = refused.value.node_errors[node]["errors"]
    assert {error["type"] for error in errors} == {"custom_validation_failed"}
    assert all(f"{name} needs one more package" in error["details"] for error in errors)
    assert all(error["details"].endswith(f"{INSTALL}.") for error in errors)


@pytest.mark.parametrize("name", ["masking_random_color", "lines", "ripple"])
def test_the_mask_is_where_the_damage_is(server, name):
    original, image, mask = through(server, name, seed=3)
    assert image.shape == original.shape == (1, 64, 64, 3)
    assert mask.shape == (1, 64, 64)
    change = 255 * (image - original).abs().amax(-1)
    if name == "ripple":
        assert mask.all()
    else:
        assert mask[change > 1].all()
        assert not mask[change < 0.01].any()
        assert 0.05 < mask.mean() < 0.9


def test_each_picture_of_a_batch_has_its_own_seed(server):
    graph = Graph()
    pictures = [
        graph.node("CODE_ExamplePicture", picture=name, damage="none", seed=0)[0] for name in ("daisy-1", "rose-1")
    ]
    both = graph.node("ImageBatch", image1=pictures[1], image2=pictures[0])[0]
    image, mask = kept(server, graph, both, "masking_random_color_random", seed=7)
    assert len(image) == len(mask) == 2
    assert not torch.equal(mask[0], mask[1])
    _, alone, where = through(server, "masking_random_color_random", seed=8)
    assert torch.equal(image[1:], alone)
    assert torch.equal(mask[1:], where)


@pytest.mark.parametrize("inputs", [{"channels": 4}, {"channels": 1}, {"height": 8, "width": 300}])
def test_grey_and_transparent_and_narrow_pictures(server, inputs):
    graph = Prompt(server.object_info())
    image, _ = kept(server, graph, graph.image(batch=2, **inputs), "hue_shift")
    assert image.shape == (2, inputs.get("height", 32), inputs.get("width", 32), 3)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"batch": 0}, "holds no picture"),
        ({"fill": "nan"}, "NaN or infinity"),
        ({"channels": 2}, "2 channels"),
        ({"height": 7}, "at least 8 a side"),
    ],
)
def test_pictures_that_are_none_are_told(server, inputs, says):
    prompt = Prompt(server.object_info())
    node = prompt.use("CorruptImage", image=prompt.image(**inputs))
    run = server.run(prompt)
    assert run.error["node_id"] == node
    assert_clear(run.error)
    assert says in run.error["exception_message"]


@pytest.mark.parametrize("severity", [0, 6])
def test_a_severity_over_a_link_is_told(server, severity):
    prompt = Prompt(server.object_info())
    node = prompt.use("CorruptImage", image=prompt.image(), severity=prompt.integer(severity))
    run = server.run(prompt)
    assert run.error["node_id"] == node
    assert_clear(run.error)
    assert "from 1 to 5" in run.error["exception_message"]


@pytest.mark.parametrize(
    "inputs",
    [{"corruption": "motion"}, {"corruption": {"__value__": ["ripple"]}}, {"severity": 6}, {"image": "a text"}],
)
def test_wrong_widgets_are_refused(server, inputs):
    prompt = Prompt(server.object_info())
    node = prompt.use("CorruptImage", **{"image": prompt.image(), **inputs})
    with pytest.raises(Refused) as refused:
        server.queue(prompt)
    details = " ".join(error["details"] for error in refused.value.node_errors[node]["errors"])
    for name, says in {"corruption": "the nearest name is", "severity": "severity", "image": "connect a node"}.items():
        assert name not in inputs or says in details
