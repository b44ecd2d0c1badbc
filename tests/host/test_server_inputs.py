"""What the host tells a user who asks for the impossible: one sentence, after which it goes on."""

import pytest

from tests.host.api import RejectedError, find_messages
from tests.host.graphs import build_masked, build_upscale

REFUSED = {
    "words for intervals": (build_upscale(intervals="a, b"), "intervals 'a, b'"),
    "no intervals": (build_upscale(intervals=""), "intervals"),
    "falling intervals": (build_upscale(intervals="3, 1"), "intervals"),
    "interval zero": (build_upscale(intervals="0, 1"), "intervals"),
    "odd tile": (build_upscale(tile_size=500), "tile_size 500 px"),
    "odd overlap": (build_upscale(overlap=33), "33"),
    "overlap of a tile": (build_upscale(tile_size=128, overlap=128), "overlap"),
    "overlap above a tile": (build_upscale(tile_size=128, overlap=512), "overlap"),
    "no steps": (build_upscale(steps=0), "steps"),
    "negative threshold": (build_upscale(gain_threshold=-1.0), "gain_threshold"),
    "unknown solver": (build_upscale(sampler_name="magic"), "magic"),
    "unknown merge": (build_upscale(merge_mode="never"), "never"),
    "spread too small": (build_upscale(spread=0.001), "spread"),
    "no such weights": (
        {**build_upscale(), "model": {"class_type": "AdaDiffSR_LoadCheckpoint", "inputs": {"checkpoint": "no.ckpt"}}},
        "checkpoint",
    ),
}
ACCEPTED = {
    "a black mask": build_masked(0.0),
    "a white mask": build_masked(1.0),
    "a mask of another size": build_masked(0.5, side=37),
    "one tile batch for all": build_upscale(tile_batch=64),
    "one interval": build_upscale(intervals="2"),
}


def find_refusals(client, prompt):
    """Every sentence with which the host, or a node of ours, refused a prompt.

    The host says what a node's own check says once for each input that the check looks at.
    """
    try:
        entry = client.run(prompt)
    except RejectedError as refused:
        errors = [error for node in refused.answer["node_errors"].values() for error in node["errors"]]
        told = [(error["message"], *error["details"].partition(" - ")[::2]) for error in errors]
        return [*dict.fromkeys(own or f"{message}: {details}" for message, details, own in told)]
    return [error["exception_message"].strip() for error in find_messages(entry, "execution_error")]


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_input_is_refused_in_one_sentence(client, case, record_property):
    prompt, named = REFUSED[case]
    (sentence,) = find_refusals(client, prompt)
    record_property("sentence", sentence)
    assert named in sentence
    assert 10 < len(sentence) < 250
    assert "\n" not in sentence


@pytest.mark.usefixtures("clean_log")
@pytest.mark.parametrize("case", ACCEPTED)
def test_an_unusual_input_runs(client, case):
    assert find_refusals(client, ACCEPTED[case]) == []


def test_the_host_goes_on_after_a_refusal(client):
    assert len(find_refusals(client, build_upscale(intervals="a, b"))) == 1
    assert find_refusals(client, build_upscale(seed=9)) == []


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"tile_size": 500}, "adadiffsr.ConfigError"),
        ({"compute_mask": ["mask", 0]}, "adadiffsr.ShapeError"),
    ],
)
def test_an_error_has_a_name_whatever_the_folder_is_called(client, server, wrong, name):
    three = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 3, "color": 0}}
    as_mask = {"class_type": "ImageToMask", "inputs": {"image": ["three", 0], "channel": "red"}}
    entry = client.run({"three": three, "mask": as_mask, **build_upscale(seed=5, **wrong)})
    (error,) = find_messages(entry, "execution_error")
    assert error["exception_type"] == name
    assert error["node_type"] == "AdaDiffSR_RegionAwareKSampler"
    assert not any(server.pack.name in text for text in (error["exception_type"], error["exception_message"]))
