import shutil

import pytest
from comfyui.server import REPOSITORY, Server, missing


@pytest.fixture(scope="session")
def browser():
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no chromium on the PATH")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright (pip install playwright)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(browser, tmp_path_factory):
    """A server for the page alone, started only where there is a browser."""
    if reason := missing():
        pytest.skip(reason)
    with Server(tmp_path_factory.mktemp("comfyui"), "--preview-method", "latent2rgb") as server:
        yield server


@pytest.fixture
def page(browser, server):
    """ComfyUI's page with an empty graph."""
    from browser.page import Page  # imports playwright, which may be absent

    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    context.set_default_timeout(20_000)
    yield Page(context.new_page(), server)
    context.close()


@pytest.fixture(scope="session")
def screenshots():
    """Where pictures of the page are kept to be looked at."""
    folder = REPOSITORY / "out" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
