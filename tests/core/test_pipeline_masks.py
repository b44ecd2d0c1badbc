"""Compute masks on a whole tiny model: black is the enlarged input to the bit, and what nobody asks for is not made."""

from dataclasses import replace

import pytest
import torch

from adadiffsr_core import pipeline
from adadiffsr_core.errors import ShapeError
from adadiffsr_core.photo.enlarging import enlarge
from adadiffsr_core.photo.scales import Scales
from adadiffsr_core.pipeline import sample_latent, upscale
from tests.core.restored import SMALL, draw


def test_a_mask_of_zeros_keeps_the_latent_to_the_bit(model):
    lq_latent = torch.randn(2, 4, 11, 19, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 11, 19)
    latent, report, _ = sample_latent(model, lq_latent, SMALL, mask=mask)
    assert torch.equal(latent, lq_latent)
    assert report.nfe == 0
    mask[..., :2, :2] = 1.0
    latent, report, grid = sample_latent(model, lq_latent, SMALL, mask=mask)
    untouched = (mask == 0).expand_as(latent)
    assert torch.equal(latent[untouched], lq_latent[untouched])
    assert (latent[~untouched] != lq_latent[~untouched]).float().mean() > 0.9
    assert [tile.nfe for tile in report.tiles] == ([SMALL.steps] + [0] * (grid.count - 1)) * 2


def test_a_mask_of_any_size_reaches_the_tiles(model):
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :20, :20] = 1.0
    result = upscale(model, draw(1, 3, 32, 32), (128, 128), SMALL, mask=mask)
    asked = [tile.top * 8 < 40 and tile.left * 8 < 40 for tile in result.report.tiles]
    assert [tile.nfe > 0 for tile in result.report.tiles] == asked
    assert 0 < sum(asked) < len(asked)


# Black halves, of a mask as large as the input, and of one in levels of its own.
HALVES = [torch.cat([torch.zeros(1, 1, rows, 5), torch.ones(1, 1, rows, 5)], dim=3) for rows in (1, 64)]


@pytest.mark.parametrize("colour", ["wavelet", "adain", "none"])
@pytest.mark.parametrize("mask", HALVES, ids=["small", "large"])
@pytest.mark.parametrize(("size", "scales"), [((30, 30), (1, 8)), ((30, 30), (3, 8)), ((60, 120), (1, 8))])
def test_black_is_the_enlarged_input_to_the_bit(size, scales, mask, colour, model):
    image = draw(1, 3, 30, 30)
    model = replace(model, scales=Scales(*scales))
    found = upscale(model, image, size, replace(SMALL, colour=colour), mask=mask).image
    half = size[1] // 2
    assert torch.equal(found[..., :half], enlarge(image, size)[..., :half])
    assert (found - enlarge(image, size))[..., half + 8 :].abs().mean() > 1e-3


def test_all_black_touches_no_network(model):
    def fail(*args):
        raise AssertionError("asked for nothing")

    idle = replace(model)
    object.__setattr__(idle, "encode", fail)
    object.__setattr__(idle, "decode", fail)
    image = draw(2, 3, 30, 20)
    result = upscale(idle, image, (120, 80), SMALL, mask=torch.zeros(1, 1, 3, 3))
    assert torch.equal(result.image, enlarge(image, (120, 80)))
    assert {tile.outcome for tile in result.report.tiles} == {"untouched"}
    assert len(result.report.tiles) == 2 * result.grid.count


@pytest.mark.parametrize("merge", ["final", "every_step"])
def test_what_is_not_encoded_is_missed_by_nobody(merge, model, monkeypatch):
    """Only a corner is asked for: it is the same as if all latents were there."""
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., 30:, 30:] = 1.0
    config, image = replace(SMALL, merge=merge), draw(1, 3, 40, 40)
    found = upscale(model, image, (320, 320), config, mask=mask).image
    monkeypatch.setattr(pipeline, "find_needed", lambda *args: None)
    everything = upscale(model, image, (320, 320), config, mask=mask).image
    torch.testing.assert_close(found, everything, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "mask",
    [torch.full((1, 1, 4, 4), torch.nan), torch.full((1, 1, 4, 4), 2.0), torch.zeros(1, 3, 4, 4), torch.zeros(4, 4)],
)
def test_masks_that_make_no_sense_are_refused(mask, model):
    with pytest.raises(ShapeError, match="compute mask"):
        upscale(model, draw(1, 3, 8, 8), (32, 32), SMALL, mask=mask)
