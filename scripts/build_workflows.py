"""Writes the JSON files of `workflows`, `workflows/api` and `subgraphs` from their description in `scripts/workflows`.

`python -m scripts.build_workflows [address of a running ComfyUI with this pack]`
"""

import argparse
import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .workflows.blueprint import graph_to_blueprint
from .workflows.forms import graph_to_api, graph_to_ui
from .workflows.graph import Graph
from .workflows.graphs import BLUEPRINTS, GRAPHS

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("workflows", "subgraphs")


def build_all(schemas: Mapping[str, Any]) -> dict[str, str]:
    """Every file's text by its path below `ROOT`, in one of the `FOLDERS`.

    Args:
        schemas: what the host's `/object_info` says.
    """
    files = {}
    for describe in GRAPHS:
        graph = Graph(f"adadiffsr_{describe.__name__}", schemas)
        describe(graph)
        files[f"workflows/{graph.name}.json"] = _to_text(graph_to_ui(graph))
        files[f"workflows/api/{graph.name}.json"] = _to_text(graph_to_api(graph))
    for name, describe_blueprint in BLUEPRINTS.items():
        graph = Graph(name, schemas)
        files[f"subgraphs/{name}.json"] = _to_text(graph_to_blueprint(graph, describe_blueprint(graph)))
    return files


def main() -> None:
    """Read the schemas from the host and write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", nargs="?", default="http://127.0.0.1:8188", help="address of a running ComfyUI")
    with urllib.request.urlopen(f"{parser.parse_args().address}/object_info") as answer:
        files = build_all(json.load(answer))
    for name, text in files.items():
        (ROOT / name).write_text(text, encoding="utf-8", newline="\n")


def _to_text(workflow: Mapping[str, Any]) -> str:
    return json.dumps(workflow, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
