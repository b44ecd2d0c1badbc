"""Dependence points one way, and the core is at home anywhere: read from the source with `ast`."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

CORE = Path(__file__).resolve().parents[1] / "adadiffsr_core"
FILES = {".".join(path.relative_to(CORE).with_suffix("").parts): path for path in sorted(CORE.rglob("*.py"))}
MODULES = {name.removesuffix(".__init__"): path for name, path in FILES.items() if name != "__init__"}
# Their absence must cost no more than the thing they do; the host's must not be needed at all.
HOST = {"comfy", "comfy_api", "comfy_extras", "folder_paths", "nodes", "server", "execution", "model_management"}
OPTIONAL = {"pyiqa", "stlpips_pytorch", "transformers", "cv2", "scipy", "matplotlib", "pyvips", "ray"}
# Bottom to top: a module imports from its own package and from layers below. Where a layer has several packages, they
# know nothing of each other; the files of the lowest are one package.
BASE = ("config", "constants", "disk", "errors", "files", "memory", "plain_json", "text")
LAYERS = (
    BASE,
    ("nets",),
    ("metrics",),
    ("gain",),
    ("sampling",),
    ("photo",),
    ("models", "drawing"),
    ("settings",),
    ("pipeline",),
    ("streaming",),
    ("data",),
    ("training", "evaluation", "cluster"),
    ("commands",),
    ("cli",),
)
# A run of the sampler needs none of these: whoever hosts it brings the network.
NOT_OF_SAMPLING = ("nets.unet", "nets.autoencoder", "nets.pfj")


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def absolute_imports(nodes: Iterator[ast.AST] | list[ast.stmt]) -> set[str]:
    """Top-level names of what is imported absolutely."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
    return names


def on_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a module is imported: not those in functions, nor for type checkers."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from on_import(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "orelse", "finalbody"):
                yield from on_import(getattr(node, field, []))
            for handler in getattr(node, "handlers", []):
                yield from on_import(handler.body)


def resolve(name: str, node: ast.ImportFrom) -> Iterator[str]:
    """Modules of ours that a relative import in module `name` names."""
    is_package = MODULES[name].name == "__init__.py"
    parts = name.split(".") if is_package else name.split(".")[:-1]
    parts = parts[: len(parts) - (node.level - 1)] + (node.module.split(".") if node.module else [])
    base = ".".join(parts)
    for alias in node.names:
        below = f"{base}.{alias.name}" if base else alias.name
        yield below if below in MODULES else base


@cache
def imports(name: str, lazily: bool = True) -> frozenset[str]:
    """Modules of ours that `name` imports; `lazily` counts those inside functions too."""
    nodes = ast.walk(tree(name)) if lazily else on_import(tree(name).body)
    relative = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.level]
    return frozenset(target for node in relative for target in resolve(name, node) if target)


def reaches(name: str) -> set[str]:
    """Everything of ours that importing and running `name` may pull in."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for target in imports(waiting.pop()) - found:
            found.add(target)
            waiting.append(target)
    return found


def within(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


def test_the_reader_reads():
    """The checks below would pass on nothing; these edges are known."""
    assert {"sampling.solver", "sampling.controller", "sampling.turn"} <= imports("sampling.tilewise")
    assert "gain.information" in reaches("sampling.tilewise")
    assert "errors" in imports("training.loop.loop")
    assert len(MODULES) > 30


@pytest.mark.parametrize("name", MODULES)
def test_ours_are_imported_relatively_and_exist(name):
    assert "adadiffsr_core" not in absolute_imports(ast.walk(tree(name)))
    assert imports(name) <= MODULES.keys() | {""}


@pytest.mark.parametrize("name", MODULES)
def test_the_core_never_knows_the_host(name):
    assert not absolute_imports(ast.walk(tree(name))) & HOST


@pytest.mark.parametrize("name", MODULES)
def test_extras_are_imported_only_where_they_are_used(name):
    assert not absolute_imports(list(on_import(tree(name).body))) & OPTIONAL


def test_no_imports_go_in_circles():
    graph = {name: imports(name, lazily=False) - {name} for name in MODULES}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")
    assert set(order) == MODULES.keys()


def place(name: str) -> tuple[int, str]:
    """Layer and package of a module."""
    top = name.partition(".")[0]
    layer = next(number for number, parts in enumerate(LAYERS) if top in parts)
    return layer, "base" if layer == 0 else top


@pytest.mark.parametrize("name", MODULES)
def test_dependence_points_down(name):
    (layer, package) = place(name)
    wrong = [
        other for other in imports(name) if other and place(other) != (layer, package) and place(other)[0] >= layer
    ]
    assert wrong == [], f"{name} knows {', '.join(wrong)}"


@pytest.mark.parametrize("name", [name for name in MODULES if within(name, "sampling")])
def test_the_sampler_knows_no_network(name):
    assert [other for other in reaches(name) if other in NOT_OF_SAMPLING] == []


def calls(name: str) -> Iterator[str]:
    """What is called, by name; `torch.load` counts as another function where it reads weights only."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call):
            is_safe = any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)
            yield ast.unparse(node.func) + (" of weights only" if is_safe else "")


@pytest.mark.parametrize("name", [name for name in MODULES if not within(name, "cli") and not within(name, "commands")])
def test_only_the_command_line_speaks_and_exits(name):
    assert not {"print", "exit", "quit", "sys.exit", "os._exit", "input"} & set(calls(name))
    raised = {node.id for node in ast.walk(tree(name)) if isinstance(node, ast.Name)}
    assert "SystemExit" not in raised


@pytest.mark.parametrize("name", MODULES)
def test_no_global_randomness_and_no_pickles(name):
    forbidden = {"np.random.seed", "random.seed", "np.random.rand", "torch.load", "pickle.load", "pickle.loads"}
    assert not forbidden & set(calls(name))


@pytest.mark.parametrize("name", MODULES)
def test_no_file_knows_this_machine(name):
    text = MODULES[name].read_text(encoding="utf-8")
    assert not [place for place in ("/work/", "/root/", "/tmp/", "/home/") if place in text]
