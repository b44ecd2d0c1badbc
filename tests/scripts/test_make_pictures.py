"""The pictures that one command makes: all that are no screenshots, of their size, small enough, each run made once."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adadiffsr_core import PRESETS
from adadiffsr_core.errors import ConfigError
from scripts.make_pictures import make_pictures
from scripts.pictures import results as module
from scripts.pictures.album import ALBUM, choose_pictures
from scripts.pictures.layout import THUMBNAIL, encode_jpeg, join_strips
from scripts.pictures.results import MASKS, Results
from tests import oracles

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = {
    f"web/docs/img/{name}.jpg"
    for name in (
        *("example_photo", "load_checkpoint", "load_mmle", "load_pfj", "merge"),
        *("region_aware_sampler", "run_report", "train_mmle"),
    )
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with all pictures by a tiny model in two steps, and how often each run was made."""
    folder, runs = tmp_path_factory.mktemp("pictures"), Counter()
    original = module.upscale

    def count(model, pixels, size, config, mask=None):
        runs[float(pixels.sum()), config, None if mask is None else float(mask.sum())] += 1
        return original(model, pixels, size, config, mask=mask)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "upscale", count)
        make_pictures(ALBUM, Results(oracles.tiny_model(), replace(PRESETS["everyday"], steps=2)), folder)
    return folder, runs


def test_every_picture_of_the_repository_is_made_or_a_screenshot():
    folders = [ROOT / name for name in ("docs/img", "web/docs/img", "workflows")]
    there = {file.relative_to(ROOT).as_posix() for folder in folders for file in folder.glob("*.jpg")}
    assert there == {picture.path for picture in ALBUM} | SCREENSHOTS


@pytest.mark.parametrize("picture", ALBUM, ids=lambda picture: picture.path)
def test_a_picture_has_the_size_of_the_one_in_the_repository_and_is_small_enough(made, picture):
    for root in (made[0], ROOT):
        file = root / picture.path
        with Image.open(file) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", picture.size)
        assert file.stat().st_size < picture.limit


def test_no_run_is_made_twice(made):
    assert set(made[1].values()) == {1}


def test_names_choose_pictures_and_none_chooses_all():
    assert choose_pictures([]) == list(ALBUM)
    assert [picture.path for picture in choose_pictures(["upscale", "mask"])] == [
        "web/docs/img/mask.jpg",
        "workflows/adadiffsr_upscale.jpg",
    ]


def test_the_quality_is_the_highest_that_fits_and_what_never_fits_is_refused():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    large = encode_jpeg(picture, 10**6)
    small = encode_jpeg(picture, len(large))
    assert len(small) < len(large)
    with pytest.raises(ConfigError, match="64 x 64 px"):
        encode_jpeg(picture, 100)


def test_strips_keep_each_pictures_own_place():
    left, right = (Image.new("RGB", THUMBNAIL, colour) for colour in ("red", "blue"))
    joined = join_strips([left, right])
    assert [joined.getpixel((x, 200)) for x in (0, 250, 262, 511)] == [(255, 0, 0)] * 2 + [(0, 0, 255)] * 2


def test_a_mask_in_thirds_is_black_grey_and_white_from_the_left():
    levels = MASKS["thirds"](6, 9)
    assert torch.equal(levels[0], torch.tensor([0.0] * 3 + [0.5] * 3 + [1.0] * 3).expand(6, 9))
