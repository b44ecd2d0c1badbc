"""What the Comfy registry ships and what pip installs are one core, and each has all that it needs and nothing else."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = "adadiffsr_core/"
# What the registry ships beside the core; a new folder belongs here or in .comfyignore.
PACK = {
    ".comfyignore", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "README.md", "__init__.py", "locales", "nodes",
    "photos", "pyproject.toml", "requirements.txt", "subgraphs", "web", "workflows",
}  # fmt: skip

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the list of files that git has")


def list_files(*options):
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", *options]
    return {
        name for name in subprocess.run(listing, check=True, capture_output=True).stdout.decode().split("\0") if name
    }


@pytest.fixture(scope="module")
def registry():
    """What the registry's package holds: git's files but those that .comfyignore names, by git's own reading of it."""
    return list_files() - list_files("--cached", "--ignored", "--exclude-from", ".comfyignore")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """What pip installs: a wheel built from git's files, by the build backend that pyproject.toml names."""
    pytest.importorskip("setuptools", minversion="77")
    folder, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in list_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".safetensors"):
            (folder / name).touch()  # that it is there matters, not what it weighs
        else:
            shutil.copyfile(ROOT / name, folder / name)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(out)], cwd=folder, env={**os.environ, "PYTHONPATH": ""}, check=True,
        capture_output=True,
    )  # fmt: skip
    (built,) = out.glob("*.whl")
    with zipfile.ZipFile(built) as opened:
        return {name for name in opened.namelist() if ".dist-info/" not in name}


def test_the_registry_ships_the_pack_and_nothing_for_developers(registry):
    assert {name.partition("/")[0] for name in registry} == PACK | {CORE.rstrip("/")}


def test_both_ship_the_same_core(registry, wheel):
    assert wheel == {name for name in registry if name.startswith(CORE)}


def test_what_is_left_out_is_there():
    """A name in .comfyignore that stands for nothing is a slip of the pen, and what it meant would be shipped."""
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    names = [line for line in lines if line and not line.startswith("#")]
    assert names
    assert [name for name in names if not (ROOT / name.strip("/")).exists()] == []
