"""The nodes that show and measure: what they add to the core, for batches, odd sizes and wrong inputs."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.host import executed
from tests.host.executed import draw, is_image, refusal

run = executed.run
FACTOR = 8
CANVAS = (9, 14)  # latent px
CANVAS_PX = (72, 112)
PHOTOS = Path(__file__).resolve().parents[2] / "photos"
IDS = {
    "nodes.pictures": ["RegionMap", "GainCurves", "Compare"],
    "nodes.measures": ["RunReport", "ImageQuality"],
    "nodes.colour": ["ColourMatch"],
    "nodes.examples": ["ExamplePhoto"],
}


@pytest.fixture
def make_tiles(pack):
    """Builds TILES of a run whose every tile took another number of steps."""

    def build(images=1):
        grid = pack("adadiffsr_core.sampling.tiles").build_grid(*CANVAS, tile=8, overlap=2)
        report_module = pack("adadiffsr_core.sampling.report")
        growing = pack("adadiffsr_core.sampling.rule").TileClass.GROWING
        log = report_module.RunLog(grid, images, base_steps=24)
        for tile_id in range(images * grid.count):
            for n in range(tile_id % 20):
                log.add(tile_id, report_module.StepRecord(n, 900.0, growing, 0.01 / (n + 1), 0.002 * n, n + 1))
        report = log.close(tile_batch=4)
        latent = {"samples": torch.zeros(images, 4, *CANVAS)}
        estimates = torch.zeros(images * grid.count, 4, 8, 8)
        return pack("nodes.tiles").Tiles(estimates, grid, report, latent, None, FACTOR)

    return build


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in IDS.items() for name in names])
def test_every_node_explains_itself(pack, module, name):
    schema = getattr(pack(module), name).define_schema()
    schema.validate()
    assert schema.node_id == f"AdaDiffSR_{name}"
    assert schema.category in ("AdaDiffSR/results", "AdaDiffSR/image")
    assert len(schema.description) > 20
    for entry in [*schema.inputs, *schema.outputs]:
        assert len(entry.tooltip) > 10, entry.id


@pytest.mark.parametrize("size", [CANVAS_PX, (18, 28), (75, 113), (300, 40)])
def test_region_map_takes_a_picture_of_any_size(run, make_tiles, size):
    picture, mask = run("nodes.pictures", "RegionMap", tiles=make_tiles(), image=draw(1, *size, 3)).args
    assert is_image(picture, 1)
    assert picture.shape[2] >= 640
    assert (tuple(mask.shape), mask.dtype) == ((1, *size), torch.float32)


def test_region_map_stretches_the_picture_over_the_whole_canvas(run, make_tiles):
    image = draw(1, *CANVAS_PX, 3)
    small = run("nodes.pictures", "RegionMap", tiles=make_tiles(), image=image[:, ::8, ::8]).args[0]
    large = run("nodes.pictures", "RegionMap", tiles=make_tiles(), image=image).args[0]
    assert small.shape == large.shape


def test_region_mask_is_grey_where_a_tile_took_what_all_take(run, make_tiles):
    tiles = make_tiles()
    mean = tiles.report.mean_nfe
    mask = run("nodes.pictures", "RegionMap", tiles=tiles, image=draw(1, *CANVAS_PX, 3)).args[1]
    for tile in tiles.report.tiles:  # no other cell reaches a tile's outer corner
        top = FACTOR * tile.top if tile.top == 0 else FACTOR * (tile.top + tile.height) - 1
        left = FACTOR * tile.left if tile.left == 0 else FACTOR * (tile.left + tile.width) - 1
        if (tile.top == 0 or top == CANVAS_PX[0] - 1) and (tile.left == 0 or left == CANVAS_PX[1] - 1):
            assert float(mask[0, top, left]) == pytest.approx(min(1, tile.nfe / (2 * mean)))


def test_region_map_draws_each_image_of_a_batch_with_its_own_tiles(run, make_tiles):
    tiles, image = make_tiles(2), draw(2, *CANVAS_PX, 3)
    maps, masks = run("nodes.pictures", "RegionMap", tiles=tiles, image=image).args
    assert is_image(maps, 2)
    assert masks.shape == (2, *CANVAS_PX)
    assert not torch.equal(masks[0], masks[1])
    same = run("nodes.pictures", "RegionMap", tiles=tiles, image=image[:1]).args
    assert torch.equal(same[0][0], maps[0])
    assert torch.equal(same[1], masks)
    assert not torch.equal(same[0][1], maps[1])  # the second run's numbers over the first picture


@pytest.mark.parametrize(("connected", "in_run"), [(3, 2), (2, 1), (2, 3)])
def test_region_map_refuses_a_batch_of_another_length(pack, run, make_tiles, connected, in_run):
    with pytest.raises(refusal(pack), match=f"image has {connected} images where {in_run} .* connect") as caught:
        run("nodes.pictures", "RegionMap", tiles=make_tiles(in_run), image=draw(connected, 16, 16, 3))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_and_alpha_are_understood(run, make_tiles, channels):
    image = draw(1, 32, 32, channels)
    colours = image[..., :3].expand(-1, -1, -1, 3)
    for module, name, inputs in [
        ("nodes.pictures", "RegionMap", lambda picture: {"tiles": make_tiles(), "image": picture}),
        ("nodes.colour", "ColourMatch", lambda picture: {"image": picture, "reference": picture, "method": "wavelet"}),
    ]:
        made, expected = (run(module, name, **inputs(picture)).args[0] for picture in (image, colours))
        assert torch.equal(made[..., :3], expected)


@pytest.mark.parametrize("shape", [(1, 8, 8, 2), (8, 8, 3), (1, 0, 8, 3), (0, 8, 8, 3)])
def test_what_is_no_image_is_refused(pack, run, shape):
    with pytest.raises(refusal(pack), match="an image has shape"):
        run("nodes.colour", "ColourMatch", image=torch.zeros(shape), reference=draw(1, 8, 8, 3), method="adain")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_is_no_colour_is_refused_at_every_image_input(pack, run, make_tiles, value, channels):
    sound = draw(1, 16, 16, 3)
    wrong = draw(1, 16, 16, channels)
    wrong[0, 5, 7, 0] = value
    captions = {"caption_1": "", "caption_2": ""}
    tries = [
        ("nodes.pictures", "RegionMap", {"tiles": make_tiles(), "image": wrong}),
        ("nodes.measures", "ImageQuality", {"image": wrong, "metric": "psnr", "reference": sound}),
        ("nodes.measures", "ImageQuality", {"image": wrong, "metric": "psnr", "reference": wrong}),
        ("nodes.measures", "ImageQuality", {"image": sound, "metric": "psnr", "reference": wrong}),
        ("nodes.colour", "ColourMatch", {"image": wrong, "reference": sound, "method": "adain"}),
        ("nodes.colour", "ColourMatch", {"image": sound, "reference": wrong, "method": "wavelet"}),
        ("nodes.pictures", "Compare", {"image_1": sound, "image_2": wrong, **captions}),
        ("nodes.pictures", "Compare", {"image_1": sound, "image_2": sound, "image_4": wrong, **captions}),
    ]
    for module, name, inputs in tries:
        with pytest.raises(refusal(pack), match="NaN or infinity"):
            run(module, name, **inputs)


@pytest.mark.parametrize("images", [1, 3])
def test_gain_curves_are_one_picture_for_the_run(run, make_tiles, images):
    (curves,) = run("nodes.pictures", "GainCurves", tiles=make_tiles(images)).args
    assert is_image(curves, 1)
    assert 1000 < curves.shape[2] < 1400


def test_report_is_strict_json_and_in_the_history(run, make_tiles):
    tiles = make_tiles(2)
    *others, last = tiles.report.tiles
    first = replace(last.steps[0], fr_gain=math.nan, nr_gain=math.inf)
    report = replace(tiles.report, tiles=(*others, replace(last, steps=(first, *last.steps[1:]))))
    tiles = replace(tiles, report=report)
    output = run("nodes.measures", "RunReport", tiles=tiles)
    (text,) = output.args

    def refuse(constant):
        raise AssertionError(constant)

    report = json.loads(text, parse_constant=refuse)
    assert report == {**tiles.report.to_dict(), "latent_px": FACTOR}
    assert report["tiles"][-1]["fr_gain"][0] is None
    assert output.ui == {"text": [text]}


def test_quality_is_the_mean_over_the_batch(run):
    image, reference = draw(2, 16, 16, 3), draw(1, 16, 16, 3, seed=1)
    output = run("nodes.measures", "ImageQuality", image=image, metric="psnr", reference=reference)
    value, text = output.args
    expected = [-10 * math.log10(float((one - reference[0]).square().mean())) for one in image]
    assert value == pytest.approx(sum(expected) / 2, abs=1e-4)
    assert text.startswith(f"psnr: {value:.4f} ({expected[0]:.2f}")
    assert output.ui == {"text": [text]}


def test_quality_refuses_in_a_sentence(pack, run):
    image = draw(1, 16, 16, 3)
    for reference, sentence in [(None, "give a reference"), (draw(1, 8, 8, 3), "images of one shape")]:
        with pytest.raises(refusal(pack), match=sentence):
            run("nodes.measures", "ImageQuality", image=image, metric="psnr", reference=reference)
    pairs = {"image": draw(2, 8, 8, 3), "reference": draw(3, 8, 8, 3)}
    with pytest.raises(refusal(pack), match="reference has 3 images where 2"):
        run("nodes.measures", "ImageQuality", metric="psnr", **pairs)


def test_quality_says_what_to_install(pack, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(refusal(pack), match=r"^musiq needs packages .*`pip install pyiqa`.*ComfyUI's own$"):
        run("nodes.measures", "ImageQuality", image=draw(1, 32, 32, 3), metric="musiq")


def test_comparison_repeats_a_single_image_for_a_batch(run):
    images = {"image_1": draw(1, 300, 300, 3), "image_2": draw(3, 150, 200, 3, seed=1)}
    captions = {"caption_1": "before", "caption_2": "after"}
    (rows,) = run("nodes.pictures", "Compare", **images, **captions).args
    assert is_image(rows, 3)
    (alone,) = run(
        "nodes.pictures", "Compare", image_1=images["image_1"], image_2=images["image_2"][1:2], **captions
    ).args
    assert torch.equal(rows[1], alone[0])


def test_comparison_has_a_column_for_each_connected_image(run):
    colours = torch.eye(4, 3)[:, None, None, None, :].expand(4, 1, 260, 260, 3)
    two = {"image_1": colours[0], "image_2": colours[1], "caption_1": "a", "caption_2": "b"}
    more = {"image_4": colours[2], "caption_4": "d"}
    for inputs, count in ((two, 2), (two | more, 3)):
        (rows,) = run("nodes.pictures", "Compare", **inputs).args
        assert [int((rows[0] == colours[n, 0, 0, 0]).all(-1).sum()) for n in range(count)] == [260 * 260] * count


def test_comparison_refuses_batches_that_do_not_pair(pack, run):
    images = {"image_1": draw(3, 8, 8, 3), "image_2": draw(2, 8, 8, 3)}
    with pytest.raises(refusal(pack), match="image_2 has 2 images where 3"):
        run("nodes.pictures", "Compare", caption_1="", caption_2="", **images)


@pytest.mark.parametrize("photo", sorted(path.stem for path in PHOTOS.glob("*.jpg")))
def test_example_is_the_file(pack, run, photo):
    (image,) = run("nodes.examples", "ExamplePhoto", photo=photo).args
    assert is_image(image, 1)
    with Image.open(PHOTOS / f"{photo}.jpg") as opened:
        assert np.array_equal((image[0] * 255).round().byte().numpy(), np.array(opened.convert("RGB")))
    (choice,) = pack("nodes.examples").ExamplePhoto.define_schema().inputs
    assert sorted(choice.options) == sorted(path.stem for path in PHOTOS.glob("*.jpg"))


def test_missing_example_is_a_sentence(pack, run, monkeypatch, tmp_path):
    monkeypatch.setattr(pack("nodes.examples"), "FOLDER", tmp_path)
    with pytest.raises(refusal(pack), match=r"photos/cat\.jpg is missing"):
        run("nodes.examples", "ExamplePhoto", photo="cat")
