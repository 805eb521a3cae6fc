"""The files that pip, ComfyUI's manager and its registry read say the same, and the truth."""

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
WITH_COMFYUI = {"torch", "numpy", "pillow", "safetensors"}


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_requirements_are_the_dependencies_that_comfyui_does_not_bring(pyproject):
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    dependencies = pyproject["project"]["dependencies"]
    names = {dependency: re.split(r"[^\w.-]", dependency)[0].lower() for dependency in dependencies}
    assert sorted(listed) == sorted(name for name in dependencies if names[name] not in WITH_COMFYUI)
    assert set(names.values()) >= WITH_COMFYUI


def test_every_package_is_listed(pyproject):
    folders = [path.parent for path in ROOT.glob("*/__init__.py")]
    found = {"confident_ode", *(f"confident_ode.{folder.name}" for folder in folders)}
    assert set(pyproject["tool"]["setuptools"]["packages"]) == found


def test_package_data_names_files_that_are_there(pyproject):
    for package, patterns in pyproject["tool"]["setuptools"]["package-data"].items():
        folder = ROOT.joinpath(*package.split(".")[1:])
        for pattern in patterns:
            assert list(folder.glob(pattern)), f"{package}: {pattern}"


def test_the_icon_is_a_small_square_in_the_repository(pyproject):
    image = pytest.importorskip("PIL.Image")
    repository = pyproject["project"]["urls"]["Repository"]
    raw = repository.replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main/"
    assert pyproject["tool"]["comfy"]["Icon"].startswith(raw)
    with image.open(ROOT / pyproject["tool"]["comfy"]["Icon"].removeprefix(raw)) as icon:
        assert icon.format == "PNG"
        assert icon.width == icon.height <= 400
