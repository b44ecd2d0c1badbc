"""Running a fully convolutional network block by block, to the same values as on the whole."""

from collections.abc import Callable, Iterator
from fractions import Fraction

import torch
from torch import Tensor

from ..errors import ShapeError


def map_blocks(
    function: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    block: int,
    halo: int,
    scale: Fraction,
    wanted: Tensor | None = None,
) -> Tensor:
    """Apply `function` to overlapping blocks of `image` `[N,C,H,W]` and put the results together.

    Every block sees `halo` more pixels on each side than it is asked for, or the true border where that is
    nearer. If the halo is not smaller than the network's reach, the result is that of one call on the
    whole image, at the memory of one block.

    Args:
        function: makes sides `scale` times as long and needs multiples of its denominator d.
        image: sides multiples of d.
        block: side of a block without its halo, a multiple of d.
        halo: a multiple of d.
        scale: one of whose numerator and denominator is 1.
        wanted: bool `[H/d,W/d]`; of each block only the box about these is computed, and the rest
            of the result is 0. None wants everything.

    Raises:
        ShapeError: the image has no pixels, or none is wanted.
    """
    height, width = image.shape[-2:]
    result: Tensor | None = None

    def scaled(place: int) -> int:
        return place * scale.numerator // scale.denominator

    for top, bottom, left, right in _boxes(height, width, block, scale.denominator, wanted):
        outer_top, outer_left = max(0, top - halo), max(0, left - halo)
        part = function(image[..., outer_top : bottom + halo, outer_left : right + halo])
        if result is None:
            result = part.new_zeros((*part.shape[:2], scaled(height), scaled(width)))
        y, x = scaled(top - outer_top), scaled(left - outer_left)
        inner = part[..., y : y + scaled(bottom - top), x : x + scaled(right - left)]
        result[..., scaled(top) : scaled(bottom), scaled(left) : scaled(right)] = inner
    if result is None:
        raise ShapeError("an image without pixels, or none of them wanted")
    return result


def _boxes(
    height: int, width: int, block: int, cell: int, wanted: Tensor | None
) -> Iterator[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of every block, or of what is wanted of it."""
    for top, bottom in _spans(height, block):
        for left, right in _spans(width, block):
            if wanted is None:
                yield top, bottom, left, right
                continue
            part = wanted[top // cell : bottom // cell, left // cell : right // cell]
            rows, cols = (torch.nonzero(part.any(dim=dim)).flatten().tolist() for dim in (1, 0))
            if rows:
                yield (
                    top + rows[0] * cell,
                    top + (rows[-1] + 1) * cell,
                    left + cols[0] * cell,
                    left + (cols[-1] + 1) * cell,
                )


def _spans(length: int, block: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, block):
        yield start, min(start + block, length)
