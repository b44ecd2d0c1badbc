"""From a node's table to the host's schema."""

import inspect

import pytest


@pytest.fixture
def define(pack):
    """The host's input of a row with this kind."""

    def build(kind, **options):
        schema = pack("nodes.schema")
        row = ("given", schema.Of(getattr(schema.io, kind), **options), "what it is")
        words = {"node_id": "id", "display_name": "name", "category": "AdaDiffSR", "description": "what it does"}
        table = schema.Table(inputs=[row], outputs=[schema.TILES], **words)
        return type("Declared", (schema.Node,), {"table": table}).define_schema

    return build


def test_a_function_is_asked_for_its_choices_each_time(define):
    files = ["first"]
    schema = define("Combo", options=lambda: list(files))
    assert schema().inputs[0].options == ["first"]
    files.append("second")
    assert schema().inputs[0].options == ["first", "second"]


def test_inputs_are_folded_away_where_the_host_can(define, monkeypatch, pack):
    io = pack("nodes.schema").io
    older = type("Older", (), {"Input": lambda name, default=None, tooltip=None: (name, default, tooltip)})
    monkeypatch.setattr(io, "Older", older, raising=False)
    can = "advanced" in inspect.signature(io.Int.Input).parameters
    assert getattr(define("Int", default=3, advanced=True)().inputs[0], "advanced", False) is can
    assert define("Older", default=3, advanced=True)().inputs == [("given", 3, "what it is")]


def test_outputs_are_shown_by_their_names(define):
    (output,) = define("Int")().outputs
    assert (output.id, output.display_name, output.io_type) == ("tiles", "tiles", "ADADIFFSR_TILES")
