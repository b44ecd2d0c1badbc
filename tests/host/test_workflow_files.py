"""The shipped workflows against what the running host says of its nodes."""

from scripts.build_workflows import FOLDERS, ROOT, build_all


def test_the_files_are_what_their_description_makes(client):
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.json")]
    shipped = {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in files}
    assert build_all(client.object_info()) == shipped
