"""The shipped workflows against what the running host says of its nodes."""

from scripts.build_workflows import FOLDER, build_all


def test_the_files_are_what_their_description_makes(client):
    shipped = {path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.json")}
    assert build_all(client.object_info()) == shipped
