"""A real ComfyUI of the tests' own: a server with its own folders, graphs to queue on it, and comfy-cli."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import psutil
import requests
import websocket
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
TEST_PACK = Path(__file__).parent / "pack"
COMFYUI = Path(os.environ.get("COMFYUI_PATH", "~/comfy/ComfyUI")).expanduser()
PYTHON = Path(os.environ.get("COMFYUI_PYTHON", COMFYUI / ".venv/bin/python")).expanduser()
QUIET_THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def missing():
    """One sentence that names what this tier lacks on this machine; empty if nothing."""
    if not (COMFYUI / "main.py").is_file():
        return f"no ComfyUI at {COMFYUI} (set COMFYUI_PATH)"
    if not PYTHON.is_file():
        return f"no interpreter at {PYTHON} (set COMFYUI_PYTHON)"
    absent = "import importlib.util as u; print(*[m for m in ('diffusers', 'torchmetrics') if not u.find_spec(m)])"
    names = subprocess.run([PYTHON, "-c", absent], capture_output=True, text=True, check=True).stdout.split()
    return f"{PYTHON} lacks {' and '.join(names)} (pip install -r requirements.txt)" if names else ""


class Node(str):
    """The id of a node in a Graph; node[slot] is a link to one of its outputs."""

    def __getitem__(self, slot):
        return [str(self), slot]


class Graph(dict):
    """A prompt in API format, written from left to right."""

    def node(self, class_type, **inputs):
        node = Node(len(self) + 1)
        self[str(node)] = {"class_type": class_type, "inputs": inputs}
        return node


class Refused(Exception):
    """POST /prompt answered 400; `node_errors` is {node id: {errors: [{type, message, details}], ...}}."""

    def __init__(self, body):
        super().__init__(json.dumps(body, indent=1))
        self.error, self.node_errors = body["error"], body["node_errors"]


class Message(NamedTuple):
    """A websocket message; of type "preview", data holds the picture under "image" beside its node_id."""

    type: str
    data: dict


class Run:
    """A queued prompt: iterate over its messages as they come, or `wait()` for its end and look at what was kept."""

    def __init__(self, server, prompt, timeout):
        self.server, self.messages = server, []
        client = uuid.uuid4().hex
        self.socket = websocket.create_connection(f"ws://{server.address}/ws?clientId={client}", timeout=timeout)
        self.socket.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
        answer = requests.post(f"{server.url}/prompt", json={"prompt": prompt, "client_id": client}, timeout=timeout)
        if answer.status_code == 400:
            self.socket.close()
            raise Refused(answer.json())
        answer.raise_for_status()
        self.prompt_id, self.node_errors = answer.json()["prompt_id"], answer.json()["node_errors"]

    def __iter__(self):
        while self.socket.connected:
            message = self._receive()
            self.messages.append(message)
            if message.type == "executing" and message.data["node"] is None:
                self.socket.close()
            yield message

    def _receive(self):
        try:
            received = self.socket.recv()
        except (websocket.WebSocketException, OSError) as error:
            raise RuntimeError(f"prompt {self.prompt_id} did not end; the server's log:\n{self.server.tail}") from error
        return preview(received) if isinstance(received, bytes) else Message(**json.loads(received))

    def wait(self):
        for _ in self:
            pass
        return self

    def of(self, kind):
        """The data of every message of one type so far, in the order they came."""
        return [message.data for message in self.messages if message.type == kind]

    @property
    def error(self):
        """What a failed node said (exception_message, node_id, node_type, traceback...), or None."""
        return next(iter(self.of("execution_error")), None)

    @cached_property
    def history(self):
        """The server's record of the finished prompt: prompt, outputs, status, meta."""
        return self.server.history(self.prompt_id)

    @property
    def succeeded(self):
        return self.history["status"]["status_str"] == "success"

    def pictures(self, node=None):
        """The pictures that an output node (or all of them) saved or previewed."""
        outputs = self.history["outputs"]
        outputs = outputs.values() if node is None else [outputs[str(node)]]
        return [self.server.view(**image) for output in outputs for image in output.get("images", [])]


def preview(received):
    """A binary message with metadata: event type 4, length of the JSON, the JSON, then the encoded picture."""
    event, length = struct.unpack_from(">II", received)
    assert event == 4, f"a binary message of an unknown type {event}"
    image = Image.open(BytesIO(received[8 + length :]))
    return Message("preview", {**json.loads(received[8 : 8 + length]), "image": image})


class Server:
    """`main.py --cpu` on a free port, with its folders below `base` and this pack linked into custom_nodes."""

    def __init__(self, base, *arguments, env=None, start_timeout=120):
        self.base, self.arguments, self.env = Path(base), arguments, {**QUIET_THREADS, **(env or {})}
        self.input, self.output, self.models, self.custom_nodes, self.user = (
            self.base / name for name in ("input", "output", "models", "custom_nodes", "user")
        )
        self.log_file, self.start_timeout = self.base / "log.txt", start_timeout

    def __enter__(self):
        for folder in (self.input, self.output, self.models, self.custom_nodes, self.user):
            folder.mkdir(parents=True, exist_ok=True)
        for name, pack in {"confident-ode": REPOSITORY, "confident-ode-test-pack": TEST_PACK}.items():
            if pack.is_dir() and not (self.custom_nodes / name).exists():
                (self.custom_nodes / name).symlink_to(pack)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        # the default database lies in ComfyUI's own folder, whatever the base directory
        folders = ("--base-directory", self.base, "--database-url", f"sqlite:///{self.user / 'comfyui.db'}")
        command = [PYTHON, "main.py", "--cpu", "--port", self.port, *folders, "--disable-api-nodes", *self.arguments]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                cwd=COMFYUI,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_it_serves()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def _wait_until_it_serves(self):
        deadline = time.monotonic() + self.start_timeout
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                return self.get("system_stats")
            except requests.ConnectionError:
                time.sleep(0.1)
        state = "is still silent" if self.process.poll() is None else f"ended with {self.process.returncode}"
        raise RuntimeError(f"ComfyUI {state} instead of serving; its log ends:\n{self.tail}")

    def stop(self):
        """Kill the whole process group; nothing it holds is worth a graceful end."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def alive(self):
        return self.process.poll() is None

    @property
    def log(self):
        return self.log_file.read_text(errors="replace")

    @property
    def tail(self):
        return "\n".join(self.log.splitlines()[-40:])

    @property
    def memory(self):
        """The process's resident memory in bytes."""
        return psutil.Process(self.process.pid).memory_info().rss

    def get(self, path, **query):
        answer = requests.get(f"{self.url}/{path}", params=query, timeout=60)
        answer.raise_for_status()
        return answer

    def post(self, path, **body):
        answer = requests.post(f"{self.url}/{path}", json=body, timeout=60)
        answer.raise_for_status()
        return answer

    def queue(self, prompt, timeout=120):
        """Post a prompt; `timeout` is how many seconds it may be silent. Raises Refused."""
        return Run(self, prompt, timeout)

    def run(self, prompt, timeout=120):
        """Post a prompt and wait for its end, good or bad."""
        return self.queue(prompt, timeout).wait()

    def interrupt(self):
        self.post("interrupt")

    def history(self, prompt_id):
        return self.get(f"history/{prompt_id}").json()[prompt_id]

    def object_info(self):
        return self.get("object_info").json()

    def upload(self, image, name):
        """Put a PIL picture where LoadImage finds it; returns the name to give LoadImage."""
        file = BytesIO()
        image.save(file, format="PNG")
        answer = requests.post(f"{self.url}/upload/image", files={"image": (name, file.getvalue())}, timeout=60)
        answer.raise_for_status()
        return answer.json()["name"]

    def view(self, filename, subfolder="", type="output"):  # named as in the server's own records
        return Image.open(BytesIO(self.get("view", filename=filename, subfolder=subfolder, type=type).content))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def comfy():
    """The comfy-cli beside this interpreter, else on the PATH, else None."""
    return shutil.which("comfy", path=Path(sys.executable).parent) or shutil.which("comfy")


def comfy_run(server, workflow, *arguments):
    """`comfy run --wait` on a workflow file (API or UI format); what it records stays below the server's folder.

    Without a terminal it prints one line of JSON: {ok, data: {prompt_id, outputs: [URLs]...}, error: {message...}}.
    The exit status is 0 or 1, also for a prompt that was refused or failed.
    """
    home = server.base / "home"
    home.mkdir(exist_ok=True)
    host, port = server.address.split(":")
    target = ("--workflow", workflow, "--host", host, "--port", port, "--wait")
    return subprocess.run(
        [str(part) for part in (comfy(), "--skip-prompt", "run", *target, *arguments)],
        cwd=home,
        env={**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
