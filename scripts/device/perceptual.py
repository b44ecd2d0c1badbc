"""The perceptual metric's package for the journey: its code and AlexNet's weights, without what it never uses."""

import importlib.metadata
import shutil
from importlib.machinery import PathFinder
from pathlib import Path

from adadiffsr_core.errors import MissingExtraError

from .environment import PACKAGES, STUBS

_PACKAGE = "stlpips_pytorch"
_LEFT_OUT = ("vgg_shift_tolerant.pth", ".DS_Store", "__pycache__")
# It imports these two for debugging and never calls them.
_STUBS = {"IPython": "embed", "torchsummary": "summary"}


def pack_perceptual(pack: Path) -> None:
    """Copy the package, and stubs of what it imports in vain.

    Raises:
        MissingExtraError: it is not installed here.
    """
    spec = PathFinder.find_spec(_PACKAGE)  # as a new process would find it, whatever this one has imported
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("stlpips-pytorch is not installed here: pip install stlpips-pytorch")
    source = Path(next(iter(spec.submodule_search_locations)))
    target = pack / PACKAGES / _PACKAGE
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    (target / "LICENSE").write_text(_licence(), encoding="utf-8")
    for name, function in _STUBS.items():
        stub = pack / STUBS / name / name / "__init__.py"
        stub.parent.mkdir(parents=True)
        stub.write_text(_STUB.format(name=name, function=function), encoding="utf-8")


# matplotlib asks an IPython that has been imported for its version, and wants nothing of it from 8.24 on.
_STUB = '''"""Stands in for {name}, which is imported and never called."""

version_info = (8, 24)


def {function}(*args, **kwargs):
    raise ImportError("{name} is not installed")
'''


def _licence() -> str:
    metadata = importlib.metadata.metadata("stlpips-pytorch")
    stated = metadata.get_all("License") or [None]
    return str(stated[0] or "see the package's page")
