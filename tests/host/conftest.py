"""Finds ComfyUI, imports from it on demand, and starts it as a server, all on the CPU.

The host's modules are imported inside tests only, never at collection. Its folder goes to the front of `sys.path`,
where its own `nodes`, `tests` and `utils` shadow other packages of these names: run `pytest tests/host` by itself.
The server is a process of its own with the Python that runs pytest, so what is imported here does not touch it.
"""

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from tests.host.api import Client
from tests.host.browser import Browser, find_browser
from tests.host.pack import part
from tests.host.server import Server
from tests.host.training import EXTRAS, SETTINGS, save_photos

PACK = Path(__file__).resolve().parents[2]
REQUIRED = ["torch", "aiohttp", "yaml", "alembic", "av", "comfyui_frontend_package"]
Load = Callable[[str], ModuleType]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With ADADIFFSR_NO_SKIP set, a test whose host or browser is missing fails; what a host lacks may be skipped."""
    report = yield
    if report.skipped and report.when == "setup" and os.environ.get("ADADIFFSR_NO_SKIP"):
        reason = report.longrepr[2]
        if not reason.startswith("Skipped: this ComfyUI"):
            report.outcome, report.longrepr = "failed", reason
    return report


def find_host() -> Path | None:
    """$COMFYUI_DIR, or the ComfyUI whose custom_nodes we are in, or ~/comfy/ComfyUI."""
    named = os.environ.get("COMFYUI_DIR")
    if named:
        if not is_host(Path(named)):
            pytest.fail(f"COMFYUI_DIR is {named}, where there is no ComfyUI", pytrace=False)
        return Path(named).resolve()
    above = [PACK.parents[1]] if PACK.parent.name == "custom_nodes" else []
    return next((folder for folder in [*above, Path.home() / "comfy" / "ComfyUI"] if is_host(folder)), None)


def is_host(folder: Path) -> bool:
    return (folder / "comfy" / "model_base.py").is_file()


def require_host() -> Path:
    folder = find_host()
    if folder is None:
        pytest.skip("no ComfyUI here; set COMFYUI_DIR to the folder of a checkout")
    return folder


@pytest.fixture(scope="session")
def host() -> Load:
    """Imports a module of the host by its name below `comfy`, such as `k_diffusion.sampling`."""
    sys.path.insert(0, str(require_host()))
    load("options").enable_args_parsing(False)  # or the host would read pytest's command line
    load("cli_args").args.cpu = True
    try:
        load("model_detection")  # brings in nearly all that the host requires
        load("samplers")
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "comfy":
            raise
        skip_lacking(error.name)
    return load


def load(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the host's, not ours to mend
        return importlib.import_module(f"comfy.{name}")


def skip_lacking(module: str | None) -> None:
    pytest.skip(f"this Python lacks what ComfyUI requires ({module}); install its requirements.txt")


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    """The running host with this pack in it; one for all tests."""
    folder = require_host()
    if lacking := [name for name in REQUIRED if find_spec(name) is None]:
        skip_lacking(lacking[0])
    running = Server(folder, PACK, tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def client(server) -> Client:
    """Talks to `server` over HTTP."""
    return Client(server.address)


@pytest.fixture
def clean_log(server) -> Iterator[None]:
    """Fails the test if the host complained while it ran."""
    start = len(server.log())
    yield
    assert not (found := server.complaints(start)), "\n".join(found)


@pytest.fixture(scope="session")
def browser(server, tmp_path_factory) -> Iterator[Browser]:
    """Headless Chromium with the host's own front end open."""
    if (programs := find_browser()) is None:
        pytest.skip("the browser tests need chromium, chromedriver and the Python package selenium")
    running = Browser(*programs, server.address, tmp_path_factory.mktemp("browser"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """$ADADIFFSR_SCREENSHOTS, or a folder that pytest cleans up."""
    folder = Path(os.environ.get("ADADIFFSR_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def pack(host) -> Load:
    """Imports a module of the pack by its name, such as `nodes.host.run`, as the host would."""
    return part


# ---- training


@pytest.fixture
def extras():
    for name in EXTRAS:
        pytest.importorskip(name, reason="the extras `train` and `iqa` are not installed")


@pytest.fixture
def places(pack, tmp_path, monkeypatch):
    """The host's folders, all in one of this test's own."""
    import folder_paths

    pack("nodes.host.folders").add_model_folder()
    models = tmp_path / "models" / "adadiffsr"
    models.mkdir(parents=True)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "adadiffsr", ([str(models)], {".safetensors"}))
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    save_photos(tmp_path / "input" / "photos")
    run = tmp_path / "user" / "__adadiffsr" / "training" / "learnt"
    return SimpleNamespace(root=tmp_path, models=models, run=run, file=models / "learnt.safetensors")


@pytest.fixture(scope="session")
def embedded(pack):
    with torch.inference_mode():
        model, vae, null_prompt, *_ = pack("nodes.loaders").LoadCheckpoint.execute("embedded model").args
    return {"model": model, "vae": vae, "positive": null_prompt}


@pytest.fixture
def train(pack, places, embedded):
    """Runs the node as the host does: within inference mode."""

    @torch.inference_mode()
    def run(**changes):
        return pack("nodes.training").TrainMmle.execute(**{**embedded, **SETTINGS, **changes})

    return run


@pytest.fixture
def refusal(pack):
    return pack("adadiffsr_core.errors").AdaDiffSRError
