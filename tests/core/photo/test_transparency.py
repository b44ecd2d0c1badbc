"""What a transparent pixel hides is seen by nobody."""

import pytest
import torch

from adadiffsr_core.photo.transparency import fill_hidden, show_over_grey


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def draw_disc(side=64, radius=20.0):
    """A disc's opacity with one soft pixel at its edge, `[1,1,side,side]`."""
    place = torch.arange(side) - (side - 1) / 2
    distance = (place[:, None] ** 2 + place**2).sqrt()
    return (radius - distance).clamp(0, 1)[None, None]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (17, 3), (64, 64), (33, 90)])
def test_hidden_colours_change_nothing(size):
    image, alpha = draw(2, 3, *size), draw(2, 1, *size, seed=1)
    alpha = torch.where(alpha < 0.5, 0.0, alpha)
    filled = fill_hidden(image, alpha)
    for other in (0.0, 1.0, torch.nan):
        assert torch.equal(fill_hidden(torch.where(alpha == 0, other, image), alpha), filled)


def test_opaque_pixels_come_through_to_the_bit():
    image, alpha = draw(1, 3, 40, 50), (draw(1, 1, 40, 50, seed=1) > 0.5).float()
    filled = fill_hidden(image, alpha)
    is_seen = (alpha == 1).expand_as(image)
    assert torch.equal(filled[is_seen], image[is_seen])
    assert torch.equal(fill_hidden(image, torch.ones(1, 1, 40, 50)), image)


def test_a_picture_that_is_half_transparent_all_over_is_left_as_it_is():
    image = draw(1, 3, 40, 50)
    assert torch.equal(fill_hidden(image, torch.full((1, 1, 40, 50), 0.5)), image)


@pytest.mark.parametrize("colour", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("haze", [0.0, 1 / 255])
def test_a_disc_of_one_colour_fills_its_surroundings_with_it(colour, haze):
    """Nearly so if what surrounds it is all but transparent, and of another colour."""
    alpha = draw_disc().clamp_min(haze)
    image = torch.where(draw_disc() > 0, colour, 1 - colour).expand(1, 3, -1, -1)
    radius, worst = (30.0, 1e-5) if haze == 0 else (21.0, 0.25)
    near = draw_disc(radius=radius) > 0
    filled = fill_hidden(image, alpha)
    assert (filled - colour).abs()[near.expand_as(filled)].max() < worst


def test_near_colours_win_over_far_ones():
    image, alpha = torch.zeros(1, 3, 32, 64), torch.zeros(1, 1, 32, 64)
    alpha[..., :8], alpha[..., -8:] = 1, 1
    image[..., -8:] = 1
    row = fill_hidden(image, alpha)[0, 0, 16]
    assert row[12] < 0.1
    assert row[-13] > 0.9
    assert (row.diff() >= -1e-6).all()


def test_what_nobody_sees_of_a_picture_is_nothing():
    assert fill_hidden(draw(1, 3, 9, 9), torch.zeros(1, 1, 9, 9)).eq(0).all()


def test_pictures_are_shown_over_grey():
    image, alpha = draw(3, 4, 5), torch.zeros(1, 4, 5)
    assert show_over_grey(image, None) is image
    alpha[..., 1:] = 1
    shown = show_over_grey(image, alpha)
    assert shown[..., 0].eq(0.5).all()
    assert torch.equal(shown[..., 1:], image[..., 1:])
