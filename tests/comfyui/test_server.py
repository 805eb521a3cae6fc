import json
import socket

import numpy as np
import pytest
from comfyui.server import Graph, Refused, comfy_run
from PIL import Image


def noise(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 40, 3), np.uint8))


def inverted(name):
    graph = Graph()
    picture = graph.node("LoadImage", image=name)
    negative = graph.node("ImageInvert", image=picture[0])
    save = graph.node("SaveImage", images=negative[0], filename_prefix="inverted")
    return graph, save


def assert_inverted(result, picture):
    """Up to one level of 255: SaveImage rounds down."""
    np.testing.assert_allclose(np.asarray(result, int), 255 - np.asarray(picture, int), atol=1)


def broken_picture(server):
    """A prompt that is accepted and fails when it runs."""
    (server.input / "broken.png").write_text("not a picture")
    return inverted("broken.png")[0]


def assert_runs(server, seed):
    picture = noise(seed)
    graph, save = inverted(server.upload(picture, f"noise{seed}.png"))
    run = server.run(graph)
    assert run.succeeded, run.error
    assert_inverted(run.pictures(save)[0], picture)
    return run


def test_the_pack_loads(server):
    """Every pack in custom_nodes was imported, and this one's nodes are served under its name."""
    assert "IMPORT FAILED" not in server.log, server.log
    modules = {node["python_module"] for node in server.object_info().values()}
    assert "custom_nodes.confident-ode" in modules


def test_the_pack_adds_no_warning(start_server):
    """At level WARNING the log says what ComfyUI says without any pack."""
    logs = []
    for arguments in [(), ("--disable-all-custom-nodes",)]:
        server = start_server("--verbose", "WARNING", *arguments)
        server.object_info()
        server.stop()
        logs.append(server.log)
    assert logs[0] == logs[1]


def test_a_prompt_runs_and_its_picture_comes_back(server):
    run = assert_runs(server, seed=0)
    assert [data["node"] for data in run.of("executing")] == ["1", "2", "3", None]
    assert run.of("progress_state")[-1]["nodes"].keys() == {"1", "2", "3"}
    assert run.error is None
    assert server.get("system_stats").json()["devices"][0]["type"] == "cpu"
    assert server.memory > 100e6


def test_a_wrong_prompt_is_refused_and_the_next_one_runs(server):
    graph, _ = inverted("no such picture.png")
    with pytest.raises(Refused) as refused:
        server.queue(graph)
    assert list(refused.value.node_errors) == ["1"]
    assert "no such picture.png" in refused.value.node_errors["1"]["errors"][0]["details"]
    assert_runs(server, seed=1)


def test_a_failed_prompt_says_why_and_the_next_one_runs(server):
    run = server.run(broken_picture(server))
    assert not run.succeeded
    assert run.error["node_id"] == "1"
    assert "cannot identify image file" in run.error["exception_message"]
    assert_runs(server, seed=2)


def test_comfy_cli_runs_a_workflow(server, tmp_path):
    picture = noise(3)
    graph, _ = inverted(server.upload(picture, "noise3.png"))
    (tmp_path / "inverted.json").write_text(json.dumps(graph))
    process = comfy_run(server, tmp_path / "inverted.json")
    assert process.returncode == 0, process.stdout + process.stderr
    run = server.history(json.loads(process.stdout)["data"]["prompt_id"])
    [image] = run["outputs"]["3"]["images"]
    assert_inverted(server.view(**image), picture)


def test_comfy_cli_tells_of_a_failed_prompt(server, tmp_path):
    (tmp_path / "broken.json").write_text(json.dumps(broken_picture(server)))
    process = comfy_run(server, tmp_path / "broken.json")
    assert process.returncode == 1
    assert "cannot identify image file" in json.loads(process.stdout)["error"]["message"]


def test_a_server_that_dies_says_so(start_server):
    with pytest.raises(RuntimeError, match="unrecognized arguments: --no-such-option"):
        start_server("--no-such-option")


def test_stop_leaves_nothing_behind(start_server):
    server = start_server("--disable-all-custom-nodes")
    server.stop()
    assert not server.alive
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
