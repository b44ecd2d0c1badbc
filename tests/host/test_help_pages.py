"""A help page for every node: it names every input and output, and its pictures are there."""

import re

import pytest

from tests.host.pack import PACK

DOCS = PACK / "web" / "docs"
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]*)\)")
SECTION, BLOCK = re.compile(r"^## ", re.MULTILINE), re.compile(r"^\S", re.MULTILINE)  # points and paragraphs
LARGEST_IMAGE = 80_000  # bytes
SECTIONS = ["## Input", "## Output", "## Recipes", "## What it refuses"]


def find_pages():
    return sorted(DOCS.rglob("*.md"))


def find_images(page):
    """Alternative texts and paths, which the front end resolves against `docs`, for translations too."""
    return IMAGE.findall(page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def schemas(pack):
    return {schema.node_id: schema for schema in (node.define_schema() for node in pack("nodes").NODES)}


def test_pages_are_those_of_the_nodes(schemas):
    assert {page.stem for page in DOCS.glob("*.md")} == schemas.keys()
    assert {folder.name for folder in DOCS.iterdir() if folder.is_dir()} <= schemas.keys() | {"img"}


def test_every_page_has_the_name_and_all_sections(schemas):
    for node_id, schema in schemas.items():
        text = (DOCS / f"{node_id}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# {schema.display_name}\n")
        assert [section for section in SECTIONS if f"\n{section}" not in text] == [], node_id


def test_every_page_names_every_input_and_output(schemas):
    for page in find_pages():
        schema = schemas[page.stem if page.parent == DOCS else page.parent.name]
        text = page.read_text(encoding="utf-8")
        ids = [*(each.id for each in schema.inputs), *(each.display_name for each in schema.outputs)]
        assert [name for name in ids if f"**{name}**" not in text and f"`{name}`" not in text] == [], page.name


def test_a_translation_has_every_section_and_point_of_its_page():
    for page in find_pages():
        if page.parent != DOCS:
            texts = [file.read_text(encoding="utf-8") for file in (page.parent.with_suffix(".md"), page)]
            english, translated = [[len(BLOCK.findall(part)) for part in SECTION.split(text)] for text in texts]
            assert translated == english, page


@pytest.mark.parametrize("page", find_pages(), ids=lambda page: str(page.relative_to(DOCS)))
def test_every_page_has_pictures_that_are_there_and_small(page):
    images = find_images(page)
    assert images
    for alternative, path in images:
        assert alternative
        assert (DOCS / path).stat().st_size < LARGEST_IMAGE


def test_no_picture_is_left_over():
    shown = {DOCS / path for page in find_pages() for _, path in find_images(page)}
    assert shown == set((DOCS / "img").iterdir())


def test_the_host_serves_pages_and_pictures(client, schemas):
    modules = {client.json("/object_info")[node_id]["python_module"] for node_id in schemas}
    assert len(modules) == 1
    root = f"/extensions/{modules.pop().removeprefix('custom_nodes.')}/docs"
    for page in find_pages():
        assert client.get(f"{root}/{page.relative_to(DOCS).as_posix()}") == page.read_bytes()
        for _, path in find_images(page):
            assert client.get(f"{root}/{path}") == (DOCS / path).read_bytes()
