"""Rough colours of latents: a fit finds what is there, and its numbers go to a file and back."""

import json

import pytest
import torch

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.latent_colours import LatentColours, plain_colours
from adadiffsr_core.training.tasks.latent_colours import fit_colours


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def paint(latent, colours):
    """Pictures whose every 8x8 pixels have, in the mean, exactly these colours."""
    factors, bias = torch.tensor(colours.factors), torch.tensor(colours.bias)
    image = (torch.einsum("nchw,ck->nkhw", latent, factors) + bias[:, None, None] + 1) / 2
    return image.repeat_interleave(8, -1).repeat_interleave(8, -2)


@pytest.mark.parametrize("channels", [3, 4, 16])
def test_a_fit_finds_colours_that_are_there(channels):
    rows = (draw(channels, 3, seed=1) * 0.2).round(decimals=4).tolist()
    colours = LatentColours(factors=tuple(map(tuple, rows)), bias=(0.1, -0.2, 0.3))
    latents = [draw(2, channels, 9, 12, seed=2), draw(1, channels, 5, 7, seed=3)]
    found = fit_colours((paint(latent, colours), latent) for latent in latents)
    torch.testing.assert_close(torch.tensor(found.factors), torch.tensor(colours.factors), rtol=0, atol=2e-4)
    assert found.bias == pytest.approx(colours.bias, abs=2e-4)


def test_a_fit_is_the_nearest():
    latent, image = draw(1, 4, 12, 12, seed=4), draw(1, 3, 96, 96, seed=5).sigmoid()
    wanted = torch.nn.functional.avg_pool2d(image, 8) * 2 - 1

    def error(colours):
        made = torch.nn.functional.avg_pool2d(paint(latent, colours), 8) * 2 - 1
        return float((made - wanted).square().mean())

    best = fit_colours([(image, latent)])
    for channel in range(4):
        rows = [tuple(value + 0.01 * (place == channel) for value in row) for place, row in enumerate(best.factors)]
        assert error(LatentColours(factors=tuple(rows), bias=best.bias)) > error(best)


def test_a_dead_channel_has_no_colour():
    latent = draw(1, 4, 12, 12)
    latent[:, 2] = 0
    found = fit_colours([(draw(1, 3, 96, 96).sigmoid(), latent)])
    assert found.factors[2] == (0, 0, 0)


@pytest.mark.parametrize("pairs", [[], [(draw(1, 3, 16, 16), draw(1, 16, 2, 2))]])
def test_too_little_to_fit_is_refused(pairs):
    with pytest.raises(ConfigError, match="use larger pictures"):
        fit_colours(pairs)


@pytest.mark.parametrize("channels", [1, 4, 16])
def test_plain_colours_show_every_channel_and_keep_within_the_range(channels):
    colours = torch.tensor(plain_colours(channels).factors)
    assert colours.shape == (channels, 3)
    assert bool((colours.sum(dim=1) > 0).all())
    made = draw(10_000, channels) @ colours
    assert made.abs().quantile(0.9) < 1


def test_colours_go_to_json_and_back():
    colours = plain_colours(16)
    assert LatentColours.from_dict(json.loads(json.dumps(colours.to_dict()))) == colours


@pytest.mark.parametrize(
    "values", [{"factors": []}, {"factors": [[1.0, 2.0]]}, {"factors": [[1, 2, 3]], "bias": [0.0]}]
)
def test_what_is_no_colour_is_refused(values):
    with pytest.raises(ConfigError, match="red, green and blue"):
        LatentColours.from_dict(values)
