"""SDE-Drag on the page: a person clicks three pairs of points on the picture, marks what may change, and runs."""

import json

import numpy as np
import pytest
from comfyui.server import REPOSITORY
from PIL import Image

# in pixels of the picture: a petal to the left and up, another to the right, the one below further down
PAIRS = [[(12, 27), (5, 22)], [(48, 16), (56, 12)], [(33, 43), (33, 49)]]
PICTURE = REPOSITORY / "nodes" / "examples" / "sunflower-1.png"
BUILD = """([file, settings]) => {
    const make = (type, at) => {
        const node = LiteGraph.createNode(type)
        app.graph.add(node)
        node.pos = at
        return node
    }
    const link = (from, output, to, input) =>
        from.connect(output, to, to.inputs.findIndex(slot => slot.name === input))
    const set = (node, name, value) => {
        const widget = node.widgets.find(widget => widget.name === name)
        widget.value = value
        widget.callback?.(value)
    }
    app.graph.clear()
    const prior = make("CODE_LoadPixelPrior", [0, 0]), drag = make("CODE_Drag", [360, 0])
    const picture = make(file ? "LoadImage" : "CODE_ExamplePicture", [0, 260]), save = make("SaveImage", [760, 0])
    link(prior, 0, drag, "model")
    link(prior, 1, drag, "vae")
    link(prior, 2, drag, "positive")
    link(picture, file ? 0 : 1, drag, "image")
    if (file) link(picture, 1, drag, "mask")
    link(drag, 0, save, "images")
    if (file) set(picture, "image", file)
    else set(picture, "picture", "sunflower-1")
    for (const [name, value] of Object.entries(settings)) set(drag, name, value)
    return [drag.id, save.id]
}"""
QUICK = {"depth": 0.4, "steps": 10, "radius": 7, "seed": 0, "control_after_generate": "fixed"}


class Canvas:
    """The picture on the node, used by mouse."""

    def __init__(self, page, node):
        self.page, self.node, self.mouse = page, node, page.page.mouse
        page.setting("LiteGraph.Canvas.MinFontSizeForLOD", 0)
        page.command("Comfy.Canvas.FitView")
        page.page.wait_for_timeout(1000)
        self.element = page.page.locator(".dom-widget canvas")

    def on_window(self, point):
        """Where on the window a point of a square picture of 64 pixels is."""
        box = self.element.bounding_box()
        side = min(box["width"], box["height"])
        corner = (box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2)
        return [corner[i] + point[i] * side / 64 for i in (0, 1)]

    def click(self, point, button="left"):
        self.mouse.click(*self.on_window(point), button=button)

    def pull(self, start, end):
        self.mouse.move(*self.on_window(start))
        self.mouse.down()
        self.mouse.move(*self.on_window(end), steps=4)
        self.mouse.up()

    def press(self, name):
        self.page.page.locator(".dom-widget button", has_text=name).click()

    @property
    def pairs(self):
        """What the text says, as [[from, to], ...]."""
        value = "id => app.graph.getNodeById(id).widgets.find(widget => widget.name === 'points').value"
        return [[pair["from"], pair["to"]] for pair in json.loads(self.page.evaluate(value, self.node))]

    @property
    def hint(self):
        return self.page.page.locator(".dom-widget small").inner_text()

    def wait_for_a_picture(self):
        self.page.page.locator(".dom-widget small", has_text="Click a source").wait_for()


def near(found, wanted):
    """To half a pixel of the picture."""
    np.testing.assert_allclose(found, wanted, atol=0.5)


@pytest.fixture
def flower(server):
    """The sunflower as Load Image has it after the mask editor: transparent where it may change."""
    rgb = np.array(Image.open(PICTURE).convert("RGB"))
    alpha = np.full((64, 64, 1), 255, np.uint8)
    alpha[2:58, 0:64] = 0
    return server.upload(Image.fromarray(np.concatenate([rgb, alpha], 2)), "sunflower-masked.png")


@pytest.fixture
def canvas(page, flower):
    node, page.save = page.evaluate(BUILD, [flower, QUICK])
    canvas = Canvas(page, node)
    canvas.wait_for_a_picture()
    return canvas


def test_three_pairs_and_a_mask_move_the_petals(canvas, page, screenshots):
    for source, target in PAIRS:
        canvas.click(source)
        canvas.click(target)
    near(canvas.pairs, PAIRS)
    page.page.screenshot(path=screenshots / "drag-placed.png")
    [node] = [node for node in page.to_api().values() if node["class_type"] == "CODE_Drag"]
    near([[pair["from"], pair["to"]] for pair in json.loads(node["inputs"]["points"])], PAIRS)
    assert page.run(timeout=300)["type"] == "execution_success"
    assert page.pictures(page.save) == [[64, 64]]
    page.screenshot(screenshots / "drag-ran.png")
    after, before = (np.asarray(picture.convert("RGB"), float) for picture in (saved(page), Image.open(PICTURE)))
    for source, target in PAIRS:
        came, was = unlike(after, target, before, source), unlike(before, target, before, source)
        assert came < 0.7 * was, f"{source} to {target}: {was:.0f} to {came:.0f}"
    assert (after[58:] == before[58:]).all()
    assert page.errors == []


def unlike(a, at, b, place, radius=3):
    """The mean difference of the window of `a` round one point to that of `b` round another, in levels of 255."""
    windows = [x[p[1] - radius : p[1] + radius, p[0] - radius : p[0] + radius] for x, p in ((a, at), (b, place))]
    return np.abs(windows[0] - windows[1]).mean()


def saved(page):
    image = page.evaluate("id => app.nodeOutputs[id].images[0]", page.save)
    return page.server.view(**image)


def test_points_are_moved_deleted_taken_back_and_kept(canvas, page, tmp_path):
    for source, target in PAIRS:
        canvas.click(source)
        canvas.click(target)
    canvas.pull(PAIRS[0][1], (5, 40))
    canvas.pull(PAIRS[1][0], (40, 10))
    moved = [[(12, 27), (5, 40)], [(40, 10), (56, 12)], PAIRS[2]]
    near(canvas.pairs, moved)
    canvas.click(PAIRS[2][0], button="right")
    near(canvas.pairs, moved[:2])
    canvas.press("Undo")
    near(canvas.pairs, moved)
    canvas.press("Undo")
    near(canvas.pairs[1], PAIRS[1])
    with page.page.expect_download() as download:
        canvas.press("Export")
    download.value.save_as(tmp_path / "points.json")
    kept = canvas.pairs
    canvas.press("Clear")
    assert canvas.pairs == []
    import_file(canvas, tmp_path / "points.json")
    assert canvas.pairs == kept
    (tmp_path / "other.json").write_text('{"points": 3}')
    import_file(canvas, tmp_path / "other.json")
    page.page.locator(".dom-widget small", has_text="holds no list of pairs").wait_for()
    assert canvas.pairs == kept
    # a source alone is not written, and an undo takes it back
    canvas.click((32, 5))
    assert canvas.pairs == kept
    canvas.press("Undo")
    canvas.click((20, 5))
    canvas.click((24, 5))
    near(canvas.pairs[-1], [(20, 5), (24, 5)])
    workflow = page.to_ui()
    page.load(workflow)
    assert page.to_ui()["nodes"][0]["type"] == workflow["nodes"][0]["type"]
    assert Canvas(page, canvas.node).pairs == canvas.pairs
    assert len(canvas.pairs) == 4
    assert page.errors == []


def import_file(canvas, path):
    with canvas.page.page.expect_file_chooser() as chooser:
        canvas.press("Import")
    chooser.value.set_files(path)
    canvas.page.page.wait_for_timeout(300)


def test_a_text_that_is_no_list_is_said_and_left(canvas, page):
    page.set_widget(canvas.node, "points", "one, two")
    page.evaluate("() => app.graph.setDirtyCanvas(true, true)")
    page.page.locator(".dom-widget small", has_text="no list of pairs").wait_for()
    canvas.click((20, 20))
    value = "id => app.graph.getNodeById(id).widgets.find(widget => widget.name === 'points').value"
    assert page.evaluate(value, canvas.node) == "one, two"
    canvas.press("Clear")
    assert canvas.pairs == []


def test_a_run_without_points_shows_what_to_click_on(page, screenshots):
    """Where the picture is not one of Load Image."""
    node, save = page.evaluate(BUILD, [None, QUICK])
    canvas = Canvas(page, node)
    assert "Run once" in canvas.hint
    assert page.run()["type"] == "execution_success"
    canvas.wait_for_a_picture()
    assert page.pictures(save) == [[64, 64]]
    canvas.click((12, 27))
    canvas.click((5, 22))
    near(canvas.pairs, [[(12, 27), (5, 22)]])
    page.screenshot(screenshots / "drag-example.png")
    assert page.errors == []
