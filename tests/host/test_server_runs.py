"""What a service does with the pack: post a graph, follow it, cancel it, fetch picture and report."""

import json
import math
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tests.host.api import find_messages
from tests.host.conftest import PACK
from tests.host.graphs import SAMPLING, SCALE, SIDE, build_upscale

WORKFLOWS = sorted((PACK / "workflows" / "api").glob("*.json"))
AFTER_MERGE = {"merged", "decoded", "matched", "save"}
LATENT_PX, MANY_STEPS, CANCEL_SECONDS = 8, 500, 5

pytestmark = pytest.mark.usefixtures("clean_log")


@pytest.fixture(scope="module")
def first(client):
    """The small graph, run and followed once."""
    return client.record(build_upscale())


def succeeded(entry):
    return entry["status"]["status_str"] == "success"


def find_nodes(prompt, *kinds):
    return {node: value["inputs"] for node, value in prompt.items() if value["class_type"] in kinds}


def expect_shape(pack, prompt):
    """The photograph's, times every factor; cut to whole latents where the host's VAE Encode encoded it."""
    (photo,) = find_nodes(prompt, "AdaDiffSR_ExamplePhoto").values()
    with Image.open(next(pack.rglob(f"{photo['photo']}.jpg"))) as opened:
        width, height = opened.size
    factor = math.prod(scale["scale_by"] for scale in find_nodes(prompt, "ImageScaleBy").values())
    if found := list(find_nodes(prompt, "AdaDiffSR_UpscaleByRegions").values()):
        return (round(height * found[0]["scale"]), round(width * found[0]["scale"]), 3)
    return (*(round(side * factor) // LATENT_PX * LATENT_PX for side in (height, width)), 3)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.stem)
def test_an_api_workflow_gives_pictures_and_a_report(client, server, workflow):
    prompt = json.loads(workflow.read_text(encoding="utf-8"))
    entry = client.run(prompt, timeout=180)
    assert succeeded(entry), entry["status"]["messages"][-1]
    pictures = client.pictures(entry)
    assert find_nodes(prompt, "SaveImage", "PreviewImage").keys() <= pictures.keys()
    assert all(picture.std() > 1 for found in pictures.values() for picture in found)
    for node, inputs in find_nodes(prompt, "SaveImage").items():
        if prompt[inputs["images"][0]]["class_type"] != "AdaDiffSR_Compare":  # which puts several side by side
            assert [picture.shape for picture in pictures[node]] == [expect_shape(server.pack, prompt)]
    if find_nodes(prompt, "AdaDiffSR_RegionAwareKSampler"):  # the SAMPLER form has no tiles to report on
        reports = [json.loads(entry["outputs"][node]["text"][0]) for node in find_nodes(prompt, "AdaDiffSR_RunReport")]
        assert reports or find_nodes(prompt, "AdaDiffSR_RegionMap")
        assert all(report["nfe"] > 0 for report in reports)


def test_the_picture_is_enlarged(client, first):
    assert succeeded(first.entry), first.entry["status"]["messages"][-1]
    (picture,) = client.pictures(first.entry)["save"]
    assert picture.shape == (SIDE * SCALE, SIDE * SCALE, 3)
    assert picture.std() > 10


def test_the_report_counts_what_was_done(first):
    report = json.loads(first.entry["outputs"]["report"]["text"][0])
    assert report["base_steps"] == SAMPLING["steps"]
    assert 0 < report["nfe"] <= report["full_nfe"] == SAMPLING["steps"] * len(report["tiles"])
    assert sum(tile["nfe"] for tile in report["tiles"]) == report["nfe"]


def test_progress_reaches_its_total(first):
    progress = first.progress("tiles")
    values, totals = zip(*progress, strict=True)
    assert list(values) == sorted(values)
    assert list(totals) == sorted(totals, reverse=True)
    assert values[-1] == totals[-1]


def test_previews_show_the_whole_canvas(first):
    shapes = {Image.open(BytesIO(preview)).size for preview in first.previews}
    assert len(shapes) == 1
    ((width, height),) = shapes
    assert width == height


def test_a_second_run_executes_nothing(client, first):
    again = client.record(build_upscale())
    assert again.executed == []
    assert again.cached == build_upscale().keys()


def test_a_changed_spread_executes_the_merge_and_what_follows(client, first):
    changed = client.record(build_upscale(spread=0.3))
    assert set(changed.executed) == AFTER_MERGE
    assert changed.cached == build_upscale().keys() - AFTER_MERGE


def test_another_colour_match_gives_another_picture_of_the_same_tiles(client, first):
    client.run(build_upscale())  # the host keeps only what the last prompt used
    changed = client.record(build_upscale(colour="adain"))
    assert set(changed.executed) == {"matched", "save"}
    (one,), (other,) = client.pictures(first.entry)["save"], client.pictures(changed.entry)["save"]
    assert 0 < np.abs(one.astype(int) - other).mean() < 30


def test_cancel_stops_a_run_and_the_next_one_works(client, first):
    with client.listen() as recorder:
        prompt_id = client.post(build_upscale(seed=2, steps=MANY_STEPS, intervals="1, 1, 1, 1"), recorder.client_id)
        recorder.until(lambda message: message["type"] == "progress" and message["data"]["value"] > 1)
        client.interrupt()
        started = time.monotonic()
        entry = client.wait(prompt_id)
    assert time.monotonic() - started < CANCEL_SECONDS
    assert find_messages(entry, "execution_interrupted")
    assert find_messages(entry, "execution_error") == []
    assert succeeded(client.run(build_upscale(seed=3)))


def test_two_prompts_in_the_queue_both_run(client):
    waiting = [client.post(build_upscale(seed=seed)) for seed in (4, 5)]
    entries = [client.wait(prompt_id) for prompt_id in waiting]
    assert all(map(succeeded, entries))
    one, other = (client.pictures(entry)["save"][0] for entry in entries)
    assert (one != other).any()
    queue = client.queue()
    assert queue["queue_running"] == queue["queue_pending"] == []
