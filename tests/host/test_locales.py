"""The words that a user sees: every one translated, none left over, English as the schema has it."""

import json

import pytest

from tests.host.pack import PACK

LANGUAGES = ["en", "zh", "ja", "de"]
MESSAGE_SYNTAX = set("{}@|")  # the front end's translator gives these a meaning of their own


def read_locale(language, name):
    return json.loads((PACK / "locales" / language / f"{name}.json").read_text(encoding="utf-8"))


def describe(schema):
    """A node's words, in the form of nodeDefs.json."""
    inputs = {each.id: {"name": each.display_name or each.id, "tooltip": each.tooltip} for each in schema.inputs}
    if any(getattr(each, "control_after_generate", None) for each in schema.inputs):
        inputs["control_after_generate"] = {"name": "control after generate"}  # a widget that the front end adds
    outputs = {
        str(number): {"name": each.display_name or each.id, "tooltip": each.tooltip}
        for number, each in enumerate(schema.outputs)
    }
    words = {"display_name": schema.display_name, "description": schema.description}
    return words | {"inputs": inputs, "outputs": outputs}


def flatten(words, path=()):
    """Every text by its path of keys."""
    if not isinstance(words, dict):
        return {path: words}
    return {key: text for name, part in words.items() for key, text in flatten(part, (*path, name)).items()}


@pytest.fixture(scope="module")
def schemas(pack):
    return [node.define_schema() for node in pack("nodes").NODES]


@pytest.fixture(scope="module")
def english(schemas):
    return {schema.node_id: describe(schema) for schema in schemas}


def test_english_is_the_schema(english):
    assert read_locale("en", "nodeDefs") == english


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_translated_and_none_is_stale(english, language):
    translated = flatten(read_locale(language, "nodeDefs"))
    assert translated.keys() == flatten(english).keys()
    for path, text in translated.items():
        assert text.strip() == text != "", path
        assert not MESSAGE_SYNTAX & set(text), path


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_descriptions_and_tooltips_are_not_left_in_english(english, language):
    translated, original = flatten(read_locale(language, "nodeDefs")), flatten(english)
    left = [
        path for path, text in original.items() if path[-1] in ("description", "tooltip") and translated[path] == text
    ]
    assert left == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_category_is_translated(schemas, language):
    parts = {part for schema in schemas for part in schema.category.split("/")}
    categories = read_locale(language, "main")["nodeCategories"]
    assert categories.keys() == parts
    assert all(categories.values())


def test_the_host_serves_every_language(client):
    served = client.json("/i18n")
    for language in LANGUAGES:
        assert served[language]["nodeDefs"] == read_locale(language, "nodeDefs")
        assert served[language]["nodeCategories"] == read_locale(language, "main")["nodeCategories"]
