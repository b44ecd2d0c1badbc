"""Running a fully convolutional network block by block, to the same values as on the whole."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..errors import ShapeError

Crop = Callable[[int, int, int, int], Tensor]  # top, bottom, left and right to that part of an image `[N,C,*,*]`


@dataclass(frozen=True)
class BlockMap:
    """A fully convolutional network that is run block by block over images of one size.

    Every block sees `halo` more pixels on each side than it is asked for, or the true border where that is nearer. If
    the halo is not smaller than the network's reach, the result is that of one call on the whole image, at the memory
    of one block.

    Attributes:
        function: makes sides `scale` times as long and needs multiples of its denominator d.
        size: (height, width) of the images, multiples of d.
        side: of a block without its halo, a multiple of d.
        halo: a multiple of d.
        scale: one of whose numerator and denominator is 1.
    """

    function: Callable[[Tensor], Tensor]
    size: tuple[int, int]
    side: int
    halo: int
    scale: Fraction

    @property
    def rows(self) -> list[tuple[int, int]]:
        """Top and bottom of each row of blocks."""
        return list(_spans(self.size[0], self.side))

    def reach(self, row: tuple[int, int]) -> tuple[int, int]:
        """The image rows that a row of blocks sees."""
        return max(0, row[0] - self.halo), min(self.size[0], row[1] + self.halo)

    def scaled(self, place: int) -> int:
        """Where a place of the image is in the result."""
        return place * self.scale.numerator // self.scale.denominator

    def map_row(self, crop: Crop, row: tuple[int, int], wanted: Tensor | None = None) -> Tensor | None:
        """The result of one row of blocks, `[N,C,*,*]`.

        Args:
            crop: gives parts of the image.
            row: one of `rows`.
            wanted: bool `[*,W/d]`, of the row; of each block only the box about these is computed, and the rest of the
                result is 0. None wants everything.

        Returns:
            None if nothing is wanted.
        """
        result: Tensor | None = None
        (height, width), halo, cell = self.size, self.halo, self.scale.denominator
        top, bottom = row
        for box in _boxes(top, bottom, _spans(width, self.side), cell, wanted):
            outer_top, outer_left = max(0, box[0] - halo), max(0, box[2] - halo)
            part = self.function(crop(outer_top, min(height, box[1] + halo), outer_left, min(width, box[3] + halo)))
            if result is None:
                result = part.new_zeros((*part.shape[:2], self.scaled(bottom - top), self.scaled(width)))
            y, x = self.scaled(box[0] - outer_top), self.scaled(box[2] - outer_left)
            inner = part[..., y : y + self.scaled(box[1] - box[0]), x : x + self.scaled(box[3] - box[2])]
            first = self.scaled(box[0] - top)
            result[..., first : first + inner.shape[-2], self.scaled(box[2]) : self.scaled(box[3])] = inner
        return result

    def map_image(self, image: Tensor, wanted: Tensor | None = None) -> Tensor:
        """The result of a whole image, `[N,C,*,*]`.

        Args:
            image: `[N,C,*size]`.
            wanted: bool `[H/d,W/d]`; see `map_row`.

        Raises:
            ShapeError: the image has no pixels, or none is wanted.
        """

        def crop(top: int, bottom: int, left: int, right: int) -> Tensor:
            return image[..., top:bottom, left:right]

        result: Tensor | None = None
        for row in self.rows:
            cells = slice(*(place // self.scale.denominator for place in row))
            part = self.map_row(crop, row, None if wanted is None else wanted[cells])
            if part is None:
                continue
            if result is None and len(self.rows) == 1:
                return part
            if result is None:
                result = part.new_zeros((*part.shape[:2], *map(self.scaled, self.size)))
            result[..., self.scaled(row[0]) : self.scaled(row[1]), :] = part
        if result is None:
            raise ShapeError("an image without pixels, or none of them wanted")
        return result


def _boxes(
    top: int, bottom: int, spans: Iterable[tuple[int, int]], cell: int, wanted: Tensor | None
) -> Iterator[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of every block of a row, or of what is wanted of it."""
    for left, right in spans:
        if wanted is None:
            yield top, bottom, left, right
            continue
        part = wanted[:, left // cell : right // cell]
        rows, cols = (torch.nonzero(part.any(dim=dim)).flatten().tolist() for dim in (1, 0))
        if rows:
            yield top + rows[0] * cell, top + (rows[-1] + 1) * cell, left + cols[0] * cell, left + (cols[-1] + 1) * cell


def _spans(length: int, block: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, block):
        yield start, min(start + block, length)
