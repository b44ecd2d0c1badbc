"""Upscale by Regions: sizes to the pixel, the command line's picture, masks as people mean them, and over the API."""

import json
from dataclasses import replace

import pytest
import torch

from adadiffsr_core.models.model import load_model
from adadiffsr_core.pipeline import upscale
from adadiffsr_core.settings import PRESETS
from tests.host.graphs import build_masked, build_upscale
from tests.host.test_embedded import close

EVERYDAY = PRESETS["everyday"]
QUICK = {"likeness": 20.0}  # two or three evaluations, since these tests are not about the rule


@pytest.fixture(scope="module")
def node(pack):
    return pack("nodes.upscale").UpscaleByRegions


@pytest.fixture(scope="module")
def cat(pack):
    return pack("nodes.examples").ExamplePhoto.execute("cat").args[0]


@pytest.fixture(scope="module")
def run(node, cat):
    @torch.inference_mode()
    def run(image=None, scale=4.0, **choices):
        return node.execute(cat[:, :40, :48] if image is None else image, scale, **{**QUICK, **choices})

    return run


@pytest.mark.parametrize(
    ("width", "height", "scale"), [(101, 67, 4.0), (40, 30, 3.0), (390, 30, 4.0), (3, 5, 8.0), (37, 41, 2.0)]
)
def test_any_size_comes_out_times_the_scale(run, cat, width, height, scale):
    image = cat.repeat(1, 1, 2, 1)[:, :height, :width]
    out, drawn = run(image, scale).args
    assert out.shape == (1, round(scale * height), round(scale * width), 3)
    assert (drawn.ndim, len(drawn), drawn.shape[-1]) == (4, 1, 3)
    # In place: reduced again it is the photo, and no shift by half of its pixels fits better.
    small = torch.nn.functional.interpolate(out.movedim(-1, 1), (height, width), mode="area").movedim(1, -1)
    error = (small - image).square().mean()
    assert error < 0.01
    if min(width, height) > 10:
        assert all((small.roll(1, axis) - image).square().mean() > error for axis in (1, 2))


def test_it_is_the_command_lines_picture(run, cat):
    image = cat[:, :67, :101]
    ours = upscale(
        load_model(), image.movedim(-1, 1), (268, 404), replace(EVERYDAY, dtss=replace(EVERYDAY.dtss, **QUICK))
    )
    close(run(image).args[0].movedim(-1, 1), ours.image)


def test_megapixels_go_before_the_scale(pack, run):
    choose = pack("nodes.upscale").choose_size
    assert choose((40, 48), 4.0, 0.0) == (160, 192)
    height, width = choose((40, 48), 4.0, 0.5)
    assert abs(height * width - 5e5) < 2000
    assert abs(width / height - 48 / 40) < 0.01
    with pytest.raises(Exception, match="262,144 px a side fit"):
        choose((40, 48), 1e4, 0.0)
    assert run(megapixels=0.01).args[0].shape[1:3] == choose((40, 48), 4.0, 0.01)


def test_masks_mean_what_people_mean(run):
    """An unpainted photograph's mask from Load Image is black and of 64 px, whatever the photograph's size."""
    unpainted, painted = torch.zeros(1, 64, 64), torch.ones(1, 40, 48)
    plain = run()
    assert torch.equal(run(mask=unpainted).args[0], plain.args[0])
    every = run(mask=painted, mask_means="more").ui["text"][0]
    assert "24.0 of 24 evaluations" in every
    left = run(mask=unpainted, mask_means="only")
    assert "left as it is" in left.ui["text"][0]
    assert torch.equal(run(mask=painted, mask_means="only").args[0], plain.args[0])
    assert torch.equal(left.args[0], run(mask=unpainted, mask_means="levels").args[0])
    half = painted.clone()
    half[..., :24] = 0
    mixed = run(mask=half, mask_means="only").args[0]
    assert torch.equal(mixed[:, :, :80], left.args[0][:, :, :80])
    assert not torch.equal(mixed[:, :, 112:], left.args[0][:, :, 112:])


def test_opacity_goes_through(run, cat):
    alpha = torch.ones(1, 40, 48, 1)
    alpha[:, :20] = 0
    out = run(torch.cat([cat[:, :40, :48], alpha], dim=-1)).args[0]
    assert out.shape == (1, 160, 192, 4)
    assert float(out[:, :60, :, 3].max()) < 0.1
    assert float(out[:, 100:, :, 3].min()) > 0.9


def test_a_batch_is_a_batch(run, cat):
    out, drawn = run(torch.cat([cat[:, :40, :48], cat[:, 40:80, :48]])).args
    assert (len(out), len(drawn)) == (2, 2)
    assert not torch.equal(out[0], out[1])


def test_a_model_of_ones_own_with_its_vae(pack, run):
    loaded = pack("nodes.host.checkpoints").open_checkpoint(
        pack("nodes.host.checkpoints").find_checkpoint("embedded model")
    )
    given = run(model=loaded.model, vae=loaded.vae, positive=loaded.null_prompt, negative=loaded.null_prompt)
    assert torch.equal(given.args[0], run().args[0])
    for alone, missing in (({"model": loaded.model}, "its vae"), ({"vae": loaded.vae}, "its model")):
        with pytest.raises(Exception, match=f"{missing} is not; connect both, or neither"):
            run(**alone)


@pytest.mark.parametrize("choice", [{"preset": "fast"}, {"mask_means": "paint"}, {"likeness": 200.0}])
def test_a_wrong_choice_is_named(run, choice):
    with pytest.raises(Exception, match=next(iter(choice))):
        run(**choice)


@pytest.mark.parametrize("name", ["scale", "megapixels", "likeness", "cfg", "denoise"])
def test_what_is_no_number_is_told_with_its_range(run, name):
    """The host lets NaN pass: nothing is less than it."""
    with pytest.raises(Exception, match=f"^{name} must be from [0-9.]+ to [0-9.]+, got nan$"):
        run(**{name: float("nan")})


@pytest.mark.usefixtures("clean_log")
def test_a_program_names_photo_and_scale_alone(client):
    entry = client.run(
        {
            "photo": {"class_type": "AdaDiffSR_ExamplePhoto", "inputs": {"photo": "cat"}},
            "small": {
                "class_type": "ImageScale",
                "inputs": {
                    "image": ["photo", 0],
                    "upscale_method": "area",
                    "width": 48,
                    "height": 40,
                    "crop": "center",
                },
            },
            "up": {"class_type": "AdaDiffSR_UpscaleByRegions", "inputs": {"image": ["small", 0], "scale": 4.0}},
        }
    )
    assert entry["status"]["status_str"] == "success", entry["status"]
    said = entry["outputs"]["up"]
    assert said["text"][0].startswith("192 x 160 px in ")
    assert len(said["images"]) == 1


@pytest.mark.usefixtures("clean_log")
def test_a_new_sampler_takes_what_travels_with_the_model(client):
    """MMLE and PFJ need not be connected; a graph that was saved before that takes what it is connected to."""
    new, own = {"own_networks": True}, {"mmle": ["model", 4], "pfj": ["model", 5]}
    pictures = {}
    for name, more in {"new": new, "connected": {**new, **own}, "old": {}, "old, connected": own}.items():
        report = json.loads(client.run(build_upscale(steps=6, **more))["outputs"]["report"]["text"][0])
        pictures[name] = [(tile["index"], tile["fr_gain"]) for tile in report["tiles"]]
    assert pictures["new"] == pictures["connected"] == pictures["old, connected"]
    assert pictures["old"] != pictures["new"]


@pytest.mark.parametrize("is_page", [True, False], ids=["page", "program"])
@pytest.mark.parametrize(("node", "seed"), [("tiles", 50), ("up", 51)])
def test_a_node_says_in_the_page_what_nobody_would_expect(client, node, seed, is_page):
    """And to nobody else: there are programs that take whatever is binary for a picture."""
    seed += 10 * is_page
    prompt = build_masked(0.0, mask_means="levels", steps=2, seed=seed)  # a seed of its own: nothing is cached
    up = {"image": ["small", 0], "scale": 4.0, "mask": ["mask", 0], "mask_means": "only", "seed": seed}
    prompt["up"] = {"class_type": "AdaDiffSR_UpscaleByRegions", "inputs": up}
    with client.listen(is_page=is_page) as page:
        client.wait(client.post(prompt, page.client_id))
        page.until(lambda message: message["type"] == "executing" and message["data"]["node"] is None)
    assert "left as it is" in page.texts[node] if is_page else page.texts == {}
