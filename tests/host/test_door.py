"""What is typed wrongly is told before anything runs, every wrong value at once, with what to do."""

import pytest

from tests.host.api import RejectedError
from tests.host.graphs import build_upscale

WRONG = {
    "intervals": ("3, 1", "intervals must be whole numbers of at least 1, smallest first"),
    "tile_size": (499, "tile_size 499 px is not a multiple of 64; use 448 or 512"),
    "overlap": (5000, "overlap must be from 0 to 1024, got 5000"),
    "steps": (0, "smaller than min of 1"),
    "denoise": (0.0, "smaller than min of 0.01"),
    "gain_threshold": (-1.0, "smaller than min of 0.0"),
    "cfg": (500.0, "bigger than max of 100.0"),
}
SAMPLER = "AdaDiffSR_RegionAwareSampler"


def refuse(client, prompt, node="tiles"):
    """What the host answers to a prompt, by input."""
    with pytest.raises(RejectedError) as refused:
        client.run(prompt)
    answer = refused.value.answer["node_errors"][node]
    assert answer["class_type"].startswith("AdaDiffSR_")
    assert client.queue()["queue_running"] == client.queue()["queue_pending"] == []
    return {error["extra_info"]["input_name"]: f"{error['message']}: {error['details']}" for error in answer["errors"]}


def test_seven_wrong_values_are_told_at_once(client):
    told = refuse(client, build_upscale(**{name: value for name, (value, _) in WRONG.items()}))
    assert told.keys() == WRONG.keys()
    for name, (_, remedy) in WRONG.items():
        assert name in told[name]
        assert remedy in told[name]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"intervals": "a, b"}, "intervals 'a, b' must be whole numbers and commas, such as 1, 2, 3, 4"),
        ({"intervals": [1, 2, 3, 4]}, "intervals [1, 2, 3, 4] must be whole numbers and commas, such as 1, 2, 3, 4"),
        ({"tile_size": 1}, "tile_size 1 px is not a multiple of 64; use 64"),
        ({"tile_size": -32}, "tile_size must be from 0 to 4096, got -32"),
        ({"overlap": -8}, "overlap must be from 0 to 1024, got -8"),
        ({"tile_size": 8192}, "tile_size must be from 0 to 4096, got 8192"),
        (
            {"tile_size": 64, "overlap": 64},
            "overlap 64 px leaves no room in tile_size 64 px; use an overlap of at most 32, or a tile_size above 64",
        ),
    ],
)
def test_one_wrong_value_is_told_in_one_sentence(client, given, sentence):
    for found in refuse(client, build_upscale(**given)).values():
        assert found.partition(" - ")[2].startswith(sentence)
        assert ". " not in found


def test_what_is_linked_is_left_to_the_run(client):
    linked = {"number": {"class_type": "PrimitiveInt", "inputs": {"value": 500}}}
    told = refuse(client, {**linked, **build_upscale(tile_size=["number", 0], intervals="")})
    assert {"intervals"} <= told.keys()
    assert not any("tile_size" in sentence.partition(" - ")[2] for sentence in told.values())


def test_the_sampler_for_guiders_has_the_same_door(client):
    values = build_upscale(tile_size=498, overlap=600)["tiles"]["inputs"]
    of_ours = client.object_info()[SAMPLER]["input"]
    inputs = {name: value for name, value in values.items() if any(name in part for part in of_ours.values())}
    prompt = {
        "sampler": {"class_type": SAMPLER, "inputs": inputs},
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["sampler", 0]}},
    }
    told = refuse(client, prompt, "sampler")
    assert "tile_size 498 px is not a multiple of 64; use 448 or 512" in told["tile_size"]


@pytest.mark.parametrize("spread", ["nan", 0.0, 2.0])
def test_tiles_are_not_sampled_for_a_merge_that_cannot_be(client, spread):
    prompt = build_upscale()
    (merge,) = (key for key, node in prompt.items() if node["class_type"] == "AdaDiffSR_GaussianLatentMerge")
    prompt[merge]["inputs"]["spread"] = spread
    prompt = {key: node for key, node in prompt.items() if key != "report"}  # for which the host would run the rest
    (told,) = refuse(client, prompt, merge).values()
    assert f"spread must be from 0.02 to 1.0, got {float(spread)}" in told


@pytest.mark.parametrize("tile_size", [0, 64, 96, 500, 4096])  # 500 px suit a model whose latents are pixels
def test_what_some_model_can_take_passes(host, pack, tile_size):
    for node in (pack("nodes.sampling").RegionAwareKSampler, pack("nodes.sampling").RegionAwareSampler):
        assert node.validate_inputs(intervals="1, 2", tile_size=tile_size, overlap=32) is True
        assert node.validate_inputs() is True
