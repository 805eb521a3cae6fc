"""ComfyUI's page as a person uses it: load, drag, connect, run, look, and read back what the page made of it."""

import json

from playwright.sync_api import expect

SETTINGS = {
    "Comfy.TutorialCompleted": True,  # else the templates cover the first page
    "Comfy.Notification.ShowVersionUpdates": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Workflow.Persist": False,  # each page starts empty
    "Comfy.Pointer.DoubleClickTime": 1000,  # a busy machine is slow between the two clicks
}

EVERY_NODE = "[app.graph, ...app.graph.subgraphs.values()].flatMap(graph => graph.nodes)"


class Page:
    """A Playwright page with ComfyUI ready in it; `page` is there for what has no method here."""

    def __init__(self, page, server):
        self.page, self.server = page, server
        server.post("settings", **SETTINGS)
        page.goto(server.url)
        page.wait_for_function("window.app?.vueAppReady && app.graph && !app.extensionManager.spinner", timeout=300_000)
        page.get_by_test_id("queue-button").wait_for()
        self.clear()
        self.errors = []  # what JavaScript threw and nobody caught, without what the page itself throws while it starts
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def evaluate(self, script, argument=None):
        return self.page.evaluate(script, argument)

    def command(self, name):
        """Run one of the page's own commands, such as "Comfy.Canvas.FitView"."""
        self.evaluate("name => app.extensionManager.command.execute(name)", name)

    def load(self, workflow, name="workflow"):
        """Open a workflow (UI format) as the page does when a file is dropped on it."""
        self.evaluate("([workflow, name]) => app.loadGraphData(workflow, true, true, name)", [workflow, name])

    def clear(self):
        self.load({"version": 0.4, "nodes": [], "links": [], "groups": [], "last_node_id": 0, "last_link_id": 0})

    def missing(self):
        """Types of nodes, in subgraphs too, that no installed pack provides."""
        types = f"{EVERY_NODE}.map(node => node.type).filter(type => !(type in LiteGraph.registered_node_types))"
        return self.evaluate(f"() => [...new Set({types})].sort()")

    def dialogs(self):
        """The text of every dialog that covers the page."""
        return self.page.locator(".p-dialog").all_inner_texts()

    def close_dialogs(self):
        dialogs = self.page.locator(".p-dialog")
        while count := dialogs.count():
            dialogs.last.locator(".p-dialog-close-button").click()
            expect(dialogs).to_have_count(count - 1)

    def to_api(self):
        """The prompt the page would queue, in API format."""
        return json.loads(self.evaluate("async () => JSON.stringify((await app.graphToPrompt()).output)"))

    def to_ui(self):
        """The workflow the page would save, in UI format."""
        return json.loads(self.evaluate("async () => JSON.stringify((await app.graphToPrompt()).workflow)"))

    def add(self, name, at):
        """Double-click an empty spot (x, y of the window), type a node's name, take the first hit; returns its id."""
        before = self.evaluate("() => app.graph.nodes.map(node => node.id)")
        self.page.mouse.dblclick(*at, delay=30)  # two clicks of one timestamp are not a double click to the page
        box = self.page.locator(".comfy-vue-node-search-container input")
        box.press_sequentially(name)
        self.page.locator(".p-autocomplete-option.p-focus", has_text=name).wait_for()
        box.press("Enter")
        box.wait_for(state="detached")  # it would eat what is typed next
        return self.evaluate("before => app.graph.nodes.find(node => !before.includes(node.id)).id", before)

    def connect(self, source, output, target, input):
        """Drag a link from one node's output to another's input, both by name."""
        start, end = self.slot(source, output, "outputs"), self.slot(target, input, "inputs")
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=10)
        self.page.mouse.up()

    def slot(self, node, name, side):
        """Where on the window the dot of a node's input or output is."""
        return self.evaluate(
            """([id, name, side]) => {
                const node = app.graph.getNodeById(id)
                const slot = node[side].findIndex(slot => slot.name === name)
                const position = side === "inputs" ? node.getInputPos(slot) : node.getOutputPos(slot)
                const [x, y] = app.canvasPosToClientPos(position)
                return [x, y]
            }""",
            [node, name, side],
        )

    def set_widget(self, node, name, value):
        self.evaluate(
            "([id, name, value]) => app.graph.getNodeById(id).widgets.find(w => w.name === name).value = value",
            [node, name, value],
        )

    def run(self, timeout=120):
        """Press Run and wait for the end; returns {type: execution_success, execution_error... or refused, detail}."""
        self.evaluate(
            """() => {
                window.ended = null
                for (const type of ["execution_success", "execution_error", "execution_interrupted"])
                    app.api.addEventListener(type, ({detail}) => window.ended ??= {type, detail}, {once: true})
            }"""
        )
        self.page.get_by_test_id("queue-button").get_by_role("button").first.click()
        # a refused prompt never starts: all that is seen of it is a dialog
        done = "() => window.ended || document.querySelector('.p-dialog')"
        self.page.wait_for_function(done, timeout=timeout * 1000)
        return self.evaluate("() => window.ended") or {"type": "refused", "detail": self.dialogs()[-1]}

    def pictures(self, node):
        """[width, height] of the pictures that a node shows, once they have loaded."""
        loaded = "id => app.graph.getNodeById(id).imgs?.every(image => image.naturalWidth)"
        self.page.wait_for_function(loaded, arg=node)
        sizes = "id => app.graph.getNodeById(id).imgs.map(image => [image.naturalWidth, image.naturalHeight])"
        return self.evaluate(sizes, node)

    def templates(self, pack):
        """Open the template browser at a pack's own templates; returns their names."""
        self.command("Comfy.BrowseTemplates")
        self.page.get_by_text(pack, exact=True).click()
        cards = self.page.locator("[data-testid^=template-workflow-]")
        cards.first.wait_for()
        # more come as the last is scrolled to
        count = 0
        while count < cards.count():
            count = cards.count()
            cards.last.scroll_into_view_if_needed()
            self.page.wait_for_timeout(1000)
        return [card.get_attribute("data-testid").removeprefix("template-workflow-") for card in cards.all()]

    def open_template(self, pack, name):
        """Load one of a pack's templates by a click on its card."""
        self.templates(pack)
        self.page.get_by_test_id(f"template-workflow-{name}").click()
        expect(
            self.page.locator(".p-dialog", has=self.page.locator("[data-testid^=template-workflow-]"))
        ).to_have_count(0)

    def to_subgraph(self, nodes, name):
        """Put the nodes with these ids into a subgraph, as the toolbox's button does; returns the new node's id."""
        return self.evaluate(
            """([ids, name]) => {
                const {node, subgraph} = app.graph.convertToSubgraph(new Set(ids.map(id => app.graph.getNodeById(id))))
                node.title = subgraph.name = name
                return node.id
            }""",
            [nodes, name],
        )

    def screenshot(self, path, graph_only=False):
        """A picture of the page with the whole graph in view; graph_only leaves out the menus around it."""
        self.page.mouse.move(0, 0)  # no tooltips
        if graph_only:
            self.command("Workspace.ToggleFocusMode")
            self.setting("Comfy.Graph.CanvasMenu", False)
        self.command("Comfy.Canvas.FitView")
        self.page.wait_for_timeout(1000)  # the view moves there slowly
        self.page.screenshot(path=path)
        if graph_only:
            self.command("Workspace.ToggleFocusMode")
            self.setting("Comfy.Graph.CanvasMenu", True)

    def setting(self, name, value):
        self.evaluate("([name, value]) => app.extensionManager.setting.set(name, value)", [name, value])
