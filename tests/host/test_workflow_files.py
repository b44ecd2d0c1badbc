"""The shipped workflows against what the running host says of its nodes."""

import json

from scripts.build_workflows import FOLDER, build_all

OURS = "AdaDiffSR_"


def output_names(schemas):
    """Names of our nodes' outputs; older hosts say kinds in their place, so there they are as shipped."""
    names = {kind: schema["output_name"] for kind, schema in schemas.items() if kind.startswith(OURS)}
    for file in FOLDER.glob("*.json"):
        for node in json.loads(file.read_text(encoding="utf-8"))["nodes"]:
            kind = node["type"]
            if node["outputs"] and names.get(kind) == schemas.get(kind, {}).get("output"):
                names[kind] = [output["name"] for output in node["outputs"]]
    return names


def test_the_files_are_what_their_description_makes(client):
    schemas = client.object_info()
    for kind, names in output_names(schemas).items():
        schemas[kind]["output_name"] = names
    shipped = {path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.json")}
    assert build_all(schemas) == shipped
