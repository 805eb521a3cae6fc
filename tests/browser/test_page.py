"""The pack on ComfyUI's own page: templates, workflows, a node dragged in and connected by hand, a picture, help."""

import json

import pytest
from comfyui.server import REPOSITORY

WORKFLOWS = REPOSITORY / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
PACK = "confident-ode"


def shipped(name, folder=""):
    return json.loads((WORKFLOWS / folder / f"{name}.json").read_text(encoding="utf-8"))


def only(page, type):
    """The id of the one node of a type."""
    [id] = page.evaluate("type => app.graph.nodes.filter(node => node.type === type).map(node => node.id)", type)
    return id


def select(page, node):
    """Click a node's title."""
    place = page.evaluate("id => [...app.canvasPosToClientPos(app.graph.getNodeById(id).pos)]", node)
    page.page.mouse.click(place[0] + 40, place[1] - 8)


@pytest.fixture
def restoring(page):
    """The page with restore-in-one-node in view, words and all."""
    page.setting("LiteGraph.Canvas.MinFontSizeForLOD", 0)
    page.load(shipped("restore-in-one-node"), "restore-in-one-node")
    page.command("Comfy.Canvas.FitView")
    page.page.wait_for_timeout(1000)  # the view moves there slowly
    return page


def test_the_templates_list_every_workflow(page, screenshots):
    """And a click on one opens it."""
    assert sorted(page.templates(PACK)) == NAMES
    page.page.wait_for_load_state("networkidle")
    page.page.screenshot(path=screenshots / "templates.png")
    page.close_dialogs()
    page.open_template(PACK, "restore-in-one-node")
    assert page.to_api() == shipped("restore-in-one-node", "api")
    assert page.errors == []


def test_every_workflow_opens_whole(page, screenshots):
    """No node is missing, and what the page would queue is the API format that is shipped."""
    page.setting("LiteGraph.Canvas.MinFontSizeForLOD", 0)
    for name in NAMES:
        page.load(shipped(name), name)
        assert page.missing() == [], name
        assert page.dialogs() == [], name
        assert page.to_api() == shipped(name, "api"), name
        page.screenshot(screenshots / f"{name}.png")
        assert page.errors == [], name


def test_a_workflow_runs_to_a_picture(restoring, screenshots):
    """Compare Images shows its sheet in the node, and Save Image the restored flower."""
    assert restoring.run()["type"] == "execution_success"
    [[width, height]] = restoring.pictures(only(restoring, "CODE_CompareImages"))
    assert width > 2 * height > 200  # reference, damaged and CODE beside each other
    assert restoring.pictures(only(restoring, "SaveImage")) == [[64, 64]]
    report = "id => app.graph.getNodeById(id).widgets[0].value"
    assert "51 network calls at most" in restoring.evaluate(report, only(restoring, "PreviewAny"))
    restoring.screenshot(screenshots / "picture.png")
    assert restoring.errors == []


def test_a_node_from_the_search_box_is_connected_by_hand(restoring, screenshots):
    """CODE Restore taken out and put back by mouse and keys: what the page would queue is the same again, and runs."""
    page, old = restoring, only(restoring, "CODE_Restore")
    before = page.to_api()
    where = page.evaluate("id => [...app.canvasPosToClientPos(app.graph.getNodeById(id).pos)]", old)
    select(page, old)
    page.page.keyboard.press("Delete")
    new = page.add("CODE Restore", at=where)
    prior, picture = only(page, "CODE_LoadPixelPrior"), only(page, "CODE_ExamplePicture")
    page.connect(prior, "model", new, "model")
    page.connect(prior, "vae", new, "vae")
    page.connect(prior, "unconditional", new, "positive")
    page.connect(picture, "damaged", new, "image")
    page.connect(new, "restored", only(page, "CODE_CompareImages"), "b")
    page.connect(new, "restored", only(page, "SaveImage"), "images")
    page.connect(new, "report", only(page, "PreviewAny"), "source")
    page.page.screenshot(path=screenshots / "connected.png")
    assert json.loads(json.dumps(page.to_api()).replace(f'"{new}"', f'"{old}"')) == before
    assert page.run()["type"] == "execution_success"
    assert page.pictures(only(page, "SaveImage")) == [[64, 64]]
    assert page.errors == []


def test_a_failing_node_says_what_to_do_and_runs_once_it_is_done(restoring, screenshots):
    page, node = restoring, only(restoring, "CODE_Restore")
    sentence = "With no updates, no clip and cfg 1 nothing would change: turn one of them on."
    for name, value in {"preset": "custom", "updates": 0, "clip": False}.items():
        page.set_widget(node, name, value)
    ended = page.run()
    assert ended["type"] == "execution_error"
    assert ended["detail"]["exception_message"].strip() == sentence
    assert str(ended["detail"]["node_id"]) == str(node)
    page.page.locator(".p-dialog", has_text=sentence).wait_for()
    page.page.screenshot(path=screenshots / "error.png")
    page.close_dialogs()
    page.page.screenshot(path=screenshots / "red.png")
    page.set_widget(node, "clip", True)
    assert page.run()["type"] == "execution_success"
    assert page.pictures(only(page, "SaveImage")) == [[64, 64]]


def test_a_nodes_help_opens(restoring, screenshots):
    """Beside the graph, with its pictures."""
    page = restoring
    select(page, only(page, "CODE_Restore"))
    page.page.get_by_test_id("info-button").click()
    help = page.page.locator(".node-help-content")
    help.get_by_role("heading").first.wait_for()
    page.page.wait_for_function(
        "() => [...document.querySelectorAll('.node-help-content img')].every(image => image.naturalWidth)"
    )
    page.page.screenshot(path=screenshots / "help.png")
    first = (REPOSITORY / "web" / "docs" / "CODE_Restore.md").read_text(encoding="utf-8").splitlines()[0]
    assert first.strip("# ") in help.inner_text()
    assert help.locator("img").count() >= 1
