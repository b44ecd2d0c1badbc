"""Finds ComfyUI and imports from it on demand, on the CPU.

The host's modules are imported inside tests only, never at collection. Its folder goes to the front of `sys.path`,
where its own `nodes`, `tests` and `utils` shadow other packages of these names: run `pytest tests/host` by itself.
"""

import importlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

PACK = Path(__file__).resolve().parents[2]
Load = Callable[[str], ModuleType]


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


@pytest.fixture(scope="session")
def host() -> Load:
    """Imports a module of the host by its name below `comfy`, such as `k_diffusion.sampling`."""
    folder = find_host()
    if folder is None:
        pytest.skip("no ComfyUI here; set COMFYUI_DIR to the folder of a checkout")
    sys.path.insert(0, str(folder))
    load("options").enable_args_parsing(False)  # or the host would read pytest's command line
    load("cli_args").args.cpu = True
    try:
        load("model_detection")  # brings in nearly all that the host requires
        load("samplers")
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "comfy":
            raise
        pytest.skip(f"this Python lacks what ComfyUI requires ({error.name}); install its requirements.txt")
    return load


def load(name: str) -> ModuleType:
    with warnings.catch_warnings(action="ignore"):  # the host's, not ours to mend
        return importlib.import_module(f"comfy.{name}")
