"""Plain colours among the photographs: an autoencoder that never saw pure red paints scratches on it."""

import math

import torch
from torch import Tensor

# What any picture must keep: grey, black, white, red, green, blue and yellow, in [0,1].
SEVEN_COLOURS = ((0.5, 0.5, 0.5), (0, 0, 0), (1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0))
# Of the colours, so many are corners of the colour cube: black, white, and what is fully saturated.
_CORNERS = 0.6


def paint_flats(image: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Replace about a share of the pictures by one colour, or by two that meet in a straight edge.

    Args:
        image: `[B,3,S,S]` in [0,1].
        share: in [0,1]; drawn for each picture by itself.
        generator: of the image's device.

    Returns:
        `[B,3,S,S]`.
    """
    count, _, side, _ = image.shape

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=image.device)

    colours = torch.where(draw(2, count, 1, 1, 1) < _CORNERS, draw(2, count, 3, 1, 1).round(), draw(2, count, 3, 1, 1))
    angle, offset = draw(count, 1, 1) * (2 * math.pi), draw(count, 1, 1) * 2 - 1
    place = torch.linspace(-1, 1, side, device=image.device)
    edge = angle.cos() * place + angle.sin() * place[:, None] > offset
    painted = torch.where(edge[:, None], colours[0], colours[1])
    return torch.where(draw(count, 1, 1, 1) < share, painted, image)
