import os
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from comfyui.server import COMFYUI, PYTHON, QUIET_THREADS, Server, missing


@pytest.fixture(scope="session")
def start_server(tmp_path_factory):
    """start_server(*arguments) -> a Server of its own folders; whatever a test leaves running is killed at the end."""
    if reason := missing():
        pytest.skip(reason)
    with ExitStack() as stack:

        def start(*arguments, **options):
            return stack.enter_context(Server(tmp_path_factory.mktemp("comfyui"), *arguments, **options))

        yield start


@pytest.fixture(scope="session")
def server(start_server):
    """The server that tests share, with previews of x̂0 on."""
    return start_server("--preview-method", "latent2rgb")


@pytest.fixture(scope="session")
def give_weights(tmp_path_factory):
    """give_weights(server, *names) puts random weights where the server looks for them; each is written once."""
    folder = tmp_path_factory.mktemp("weights")

    def give(server, *names):
        if new := [name for name in names if not (folder / f"{name}.safetensors").exists()]:
            command = [PYTHON, Path(__file__).with_name("random_weights.py"), folder, *new]
            subprocess.run(command, env={**os.environ, **QUIET_THREADS, "PYTHONPATH": str(COMFYUI)}, check=True)
        for name in names:
            place = server.models / ("vae" if name.endswith("vae") else "diffusion_models")
            place.mkdir(exist_ok=True)
            if not (file := place / f"{name}.safetensors").exists():
                file.symlink_to(folder / file.name)

    yield give
    # they are large
    shutil.rmtree(folder)
