"""The node pack stays thin: read from its source with `ast`, so that no host is needed."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "nodes").rglob("*.py"))
# Saved workflows name them, so they never change; new ones are added.
NODE_IDS = {
    "AdaDiffSR_ColourMatch",
    "AdaDiffSR_Compare",
    "AdaDiffSR_ExamplePhoto",
    "AdaDiffSR_GainCurves",
    "AdaDiffSR_GaussianLatentMerge",
    "AdaDiffSR_ImageQuality",
    "AdaDiffSR_LoadCheckpoint",
    "AdaDiffSR_LoadMMLE",
    "AdaDiffSR_LoadPFJ",
    "AdaDiffSR_RegionAwareKSampler",
    "AdaDiffSR_RegionAwareSampler",
    "AdaDiffSR_RegionMap",
    "AdaDiffSR_RunReport",
    "AdaDiffSR_TrainMMLE",
    "AdaDiffSR_UpscaleByRegions",
}


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path):
    """Modules that are imported absolutely."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_nodes_host_touches_the_hosts_internals(path):
    names = set(imported(path))
    tops = {name.partition(".")[0] for name in names}
    assert not {"nodes", "adadiffsr_core", "pyvips", "pyiqa"} & tops
    assert not any(name.startswith("comfy_api") and name != "comfy_api.v0_0_2" for name in names)
    if path.parent.name != "host":
        assert not {"comfy", "folder_paths", "latent_preview", "comfy_extras", "server", "execution"} & tops


def test_node_ids_never_change():
    found = [
        word.value.value
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        for word in node.keywords
        if word.arg == "node_id" and isinstance(word.value, ast.Constant)
    ]
    assert sorted(found) == sorted(NODE_IDS)


def test_the_root_imports_nothing_by_itself():
    """pytest imports it where there is no host."""
    body = tree(ROOT / "__init__.py").body
    assert not [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert "NODE_CLASS_MAPPINGS" not in (ROOT / "__init__.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_replaced_evaluated_or_printed(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {"eval", "exec", "print", "setattr", "subprocess.run", "os.system"}
        targets = node.targets if isinstance(node, ast.Assign) else []
        assert not any(ast.unparse(target).startswith("comfy.") for target in targets)
