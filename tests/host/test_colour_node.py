"""Match Colours: the reference's colours, its pixels where the mask is black, and its transparency."""

import math

import pytest
import torch

from tests.host import executed
from tests.host.executed import draw, is_image, refusal

run = executed.run


def test_hidden_alpha_that_is_no_number_is_no_matter(run):
    image = draw(1, 8, 8, 4)
    image[..., 3] = math.nan
    (matched,) = run("nodes.colour", "ColourMatch", image=image, reference=image, method="wavelet").args
    assert torch.allclose(matched[..., :3], image[..., :3], atol=1e-5)
    assert bool((matched[..., 3] == 1).all())


@pytest.mark.parametrize("method", ["wavelet", "adain"])
def test_colours_become_those_of_the_reference(run, method):
    image = 0.4 + 0.1 * draw(2, 64, 64, 3)
    tint = torch.tensor([0.6, 0.3, 0.5]).expand(1, 8, 12, 3)
    (matched,) = run("nodes.colour", "ColourMatch", image=image, reference=tint, method=method).args
    assert is_image(matched, 2)
    assert matched.shape == image.shape
    torch.testing.assert_close(matched.mean((1, 2)), tint.mean((1, 2)).expand(2, 3), atol=5e-3, rtol=0)


def test_every_image_keeps_its_own_colours(run):
    image = draw(2, 20, 30, 3)
    (matched,) = run("nodes.colour", "ColourMatch", image=image, reference=image, method="wavelet").args
    torch.testing.assert_close(matched, image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["wavelet", "adain"])
@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 48, 64)])
def test_colour_match_puts_the_reference_back_under_black(method, shape, run):
    image, reference = draw(2, 48, 64, 3), draw(1, 48, 64, 3, seed=1)
    mask = torch.ones(*shape)
    mask[..., : shape[2] // 2] = 0
    (matched,) = run("nodes.colour", "ColourMatch", image=image, reference=reference, method=method, mask=mask).args
    black = 64 * (shape[2] // 2) // shape[2]
    assert torch.equal(matched[:, :, :black], reference.expand_as(matched)[:, :, :black])
    (plain,) = run("nodes.colour", "ColourMatch", image=image, reference=reference, method=method).args
    assert torch.equal(matched[:, :, black + 9 :], plain[:, :, black + 9 :])


def test_a_black_mask_gives_the_reference_as_vae_encode_cut_it(run):
    """The host cuts sides to multiples of 8 about the middle; what comes back lies where it was."""
    image, reference, mask = draw(1, 48, 64, 3), draw(1, 55, 67, 3, seed=1), torch.zeros(1, 55, 67)
    (matched,) = run("nodes.colour", "ColourMatch", image=image, reference=reference, method="wavelet", mask=mask).args
    assert torch.equal(matched, reference[:, 3:51, 1:65])


@pytest.mark.parametrize("mask", [torch.zeros(3, 8, 8), torch.full((1, 8, 8), torch.nan), torch.zeros(8)])
def test_masks_that_do_not_fit_are_refused(mask, run, pack):
    image = draw(2, 8, 8, 3)
    with pytest.raises(refusal(pack), match="mask"):
        run("nodes.colour", "ColourMatch", image=image, reference=image, method="adain", mask=mask)


def test_colour_match_gives_the_photos_transparency_back(run):
    """Encoding and decoding lost it; what the result has of its own stays."""
    image, reference = draw(1, 16, 24, 3), draw(1, 8, 12, 4)
    matched = run("nodes.colour", "ColourMatch", image=image, reference=reference, method="adain").args[0]
    assert matched.shape == (1, 16, 24, 4)
    half = torch.nn.functional.interpolate(matched[..., 3:].movedim(-1, 1), (8, 12), mode="area")
    assert float((half - reference[..., 3:].movedim(-1, 1)).abs().mean()) < 0.1
    own = torch.cat([image, torch.full((1, 16, 24, 1), 0.25)], dim=-1)
    matched = run("nodes.colour", "ColourMatch", image=own, reference=reference, method="adain").args[0]
    assert bool((matched[..., 3] == 0.25).all())
