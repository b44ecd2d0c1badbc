"""Imports the pack as the host does: by its folder, under a made-up name, so that only relative imports can work."""

import importlib
import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType

PACK = Path(__file__).resolve().parents[2]
NAME = "a_made-up name"


def load_pack(name: str = NAME) -> ModuleType:
    """The pack's root module; the host must be importable."""
    if name not in sys.modules:
        place = PACK / "__init__.py"
        spec = importlib.util.spec_from_file_location(name, place, submodule_search_locations=[str(PACK)])
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def part(name: str) -> ModuleType:
    """A module of the pack, such as `nodes.host.run`."""
    load_pack()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the host's, not ours to mend
        return importlib.import_module(f"{NAME}.{name}")
