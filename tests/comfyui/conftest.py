from contextlib import ExitStack

import pytest
from comfyui.server import Server, missing


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
