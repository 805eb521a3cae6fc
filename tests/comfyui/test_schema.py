"""What the nodes promise: their schema as committed, words on everything, help pages and workflows that show them."""

import json
import os
import re

import pytest
from comfyui.server import REPOSITORY
from PIL import Image

SNAPSHOT = REPOSITORY / "tests" / "comfyui" / "object_info.json"
WORKFLOWS, DOCS = REPOSITORY / "workflows", REPOSITORY / "web" / "docs"
# what a saved workflow and the page rely on; newer ComfyUIs say more
PROMISED = (
    "input",
    "input_order",
    "output",
    "output_name",
    "output_is_list",
    "output_tooltips",
    "name",
    "display_name",
    "description",
    "category",
    "output_node",
    "deprecated",
    "experimental",
)


@pytest.fixture(scope="module")
def nodes(server):
    """{node id: its entry in /object_info} of this pack."""
    return {name: info for name, info in server.object_info().items() if name.startswith("CODE_")}


def names(folder, suffix):
    return {path.stem for path in folder.glob(f"*.{suffix}")}


def test_the_schema_is_the_committed_one(nodes):
    """Ids, names and types are in people's workflows, so that none of them changes unseen."""
    schema = {node: {key: info[key] for key in PROMISED} for node, info in nodes.items()}
    if os.environ.get("RENEW_SCHEMA"):
        SNAPSHOT.write_text(json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    assert schema == json.loads(SNAPSHOT.read_text(encoding="utf-8")), (
        "The nodes are not what object_info.json says. Where that is meant: RENEW_SCHEMA=1 pytest "
        "tests/comfyui/test_schema.py, then look at the difference."
    )


def test_every_node_is_this_packs_and_in_one_menu(nodes):
    assert len(nodes) == 25
    assert {info["python_module"] for info in nodes.values()} == {"custom_nodes.confident-ode"}
    assert {info["category"] for info in nodes.values()} == {"CODE"}


def test_everything_has_words(nodes):
    """A description of every node, a tooltip on every input and output."""
    silent = [node for node, info in nodes.items() if not info["description"]]
    for node, info in nodes.items():
        inputs = {**info["input"]["required"], **info["input"].get("optional", {})}
        silent += [f"{node}.{name}" for name, (_, options) in inputs.items() if not options.get("tooltip")]
        assert len(info["output_tooltips"]) == len(info["output"])
        outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
        silent += [f"{node} -> {name}" for name, tooltip in outputs if not tooltip]
    assert not silent


def test_every_node_has_a_help_page_that_is_served(nodes, server):
    assert names(DOCS, "md") == set(nodes)
    for node in nodes:
        page = server.get(f"extensions/confident-ode/docs/{node}.md").content.decode()
        assert page == (DOCS / f"{node}.md").read_text(encoding="utf-8")
        pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", page)
        assert pictures, f"{node}.md shows no picture"
        for picture in pictures:
            Image.open(DOCS / picture).verify()
            assert server.get(f"extensions/confident-ode/docs/{picture}").content == (DOCS / picture).read_bytes()


def test_every_node_is_used_by_a_shipped_workflow(nodes):
    shipped = [json.loads(path.read_text(encoding="utf-8")) for path in (WORKFLOWS / "api").glob("*.json")]
    used = {node["class_type"] for prompt in shipped for node in prompt.values()}
    assert not set(nodes) - used


def test_every_workflow_has_its_twin_and_its_picture_and_is_offered(server):
    shipped = names(WORKFLOWS, "json")
    assert len(shipped) >= 7
    assert names(WORKFLOWS / "api", "json") == shipped
    assert names(WORKFLOWS, "jpg") == shipped
    assert set(server.get("workflow_templates").json()["confident-ode"]) == shipped
    for name in shipped:
        for suffix in ("json", "jpg"):
            served = server.get(f"api/workflow_templates/confident-ode/{name}.{suffix}").content
            assert served == (WORKFLOWS / f"{name}.{suffix}").read_bytes()
        Image.open(WORKFLOWS / f"{name}.jpg").verify()
