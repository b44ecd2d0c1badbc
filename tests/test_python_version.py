"""The pack runs with the oldest Python that ComfyUI allows, though it is tested with a newer one.

Names that the standard library of that Python lacks are found by mypy (`scripts/types.sh`), which is told its version;
here are that it is, syntax, and whole modules and names that code is tempted by.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 10)
# The pack, and what tests it inside ComfyUI; other tests and scripts are for developers, who choose their Python.
FILES = [
    ROOT / "__init__.py",
    *(file for room in ("adadiffsr_core", "nodes", "tests/host") for file in ROOT.joinpath(room).rglob("*.py")),
]
NEWER_MODULES = {"tomllib", "wsgiref.types", "annotationlib", "compression"}
NEWER = {
    "asyncio": {"Barrier", "Runner", "TaskGroup", "timeout", "timeout_at"},
    "builtins": {"BaseExceptionGroup", "ExceptionGroup", "PythonFinalizationError"},
    "contextlib": {"chdir"},
    "copy": {"replace"},
    "datetime": {"UTC"},
    "enum": {"EnumCheck", "FlagBoundary", "ReprEnum", "StrEnum", "global_enum", "member", "nonmember", "verify"},
    "functools": {"Placeholder"},
    "hashlib": {"file_digest"},
    "inspect": {"getmembers_static"},
    "itertools": {"batched"},
    "locale": {"getencoding"},
    "logging": {"getHandlerByName", "getHandlerNames", "getLevelNamesMapping"},
    "math": {"cbrt", "exp2", "fma", "sumprod"},
    "operator": {"call", "is_none", "is_not_none"},
    "os": {"process_cpu_count"},
    "sys": {"exception"},
    "typing": {
        "LiteralString", "Never", "NotRequired", "ReadOnly", "Required", "Self", "TypeAliasType", "TypeIs",
        "TypeVarTuple", "Unpack", "assert_never", "assert_type", "dataclass_transform", "get_overloads",
        "get_protocol_members", "is_protocol", "override", "reveal_type",
    },
    "warnings": {"deprecated"},
}  # fmt: skip


def find_newer(source):
    """Modules and names in a file's text that the oldest Python lacks."""
    found = set()
    for node in ast.walk(ast.parse(source, feature_version=OLDEST)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & NEWER_MODULES
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} & NEWER_MODULES
            found |= {alias.name for alias in node.names} & NEWER.get(node.module, set())
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= {node.attr} & NEWER.get(node.value.id, set())
        elif isinstance(node, ast.Name):
            found |= {node.id} & NEWER["builtins"]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_nothing_newer_is_needed(file):
    assert find_newer(file.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    "newer",
    [
        "import tomllib",
        "from typing import Any, Self",
        "import hashlib\nhashlib.file_digest",
        "raise ExceptionGroup('several', [])",
    ],
)
def test_what_is_newer_is_found(newer):
    assert find_newer(newer)


@pytest.mark.parametrize("newer", ["try:\n    pass\nexcept* OSError:\n    pass", "type Name = int"])
def test_newer_syntax_is_found(newer):
    with pytest.raises(SyntaxError):
        find_newer(newer)


def test_every_tool_is_told_the_same_version():
    text = ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8")
    settings = "requires-python|target-version|python_version"
    told = re.findall(rf'^(?:{settings}) = "(?:>=|py)?(\d)\.?(\d+)"', text, re.MULTILINE)
    assert told == [tuple(map(str, OLDEST))] * 3
