"""The compute mask of a picture that is made in bands: as many of its rows as each piece of work needs.

Every step is that of the whole picture's mask, on parts, so that levels are the same, to the bit.

Source: decisions D40 and D74.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..photo.enlarging import reduce_rows, reduced_rows
from ..photo.scales import Size
from ..sampling.compute_mask import find_needed, pool_latents, tile_levels
from .bands import KeptPixels
from .layout import Layout, Rows
from .rows import RowStream

_POOLED = 8  # latent rows whose levels are found at a time


@dataclass(frozen=True)
class MaskRows:
    """A compute mask that is read row by row, of any size.

    Attributes:
        size: (height, width), px.
        read: begins to read it, `[1,1,*,w]` in [0,1] from top to bottom; called several times.
    """

    size: Size
    read: Callable[[], Iterable[Tensor]]


class FittedRows:
    """Rows of what `fit_pixels` makes of a mask, to the bit; readers go downwards, and may overlap.

    Args:
        mask: see there.
        size: (height, width) of the picture, px.
    """

    def __init__(self, mask: MaskRows, size: Size) -> None:
        self._height, self._width = mask.size[0], size[1]
        self._rows = RowStream(mask.read(), self._height)
        self._smaller: Size = (min(mask.size[0], size[0]), min(mask.size[1], size[1]))
        # Asked of the very function that puts them there: it rounds in its own way.
        places = torch.arange(self._smaller[0], dtype=torch.float32)[None, None, :, None]
        self._places = F.interpolate(places, size=(size[0], 1), mode="nearest-exact").flatten().long()

    def read(self, top: int, bottom: int) -> Tensor:
        """The rows from `top` to `bottom - 1`, `[1,1,*,W]` float32."""
        places = self._places[top:bottom]
        first, last = int(places[0]), int(places[-1]) + 1
        begin, _ = reduced_rows(self._height, self._smaller[0], first)
        _, end = reduced_rows(self._height, self._smaller[0], last - 1)
        mean = reduce_rows(self._rows.read(begin, end), begin, self._height, self._smaller, (first, last))
        across = F.interpolate(mean, size=(last - first, self._width), mode="nearest-exact")
        return across[..., places - first, :]


class LevelRows:
    """Rows of a mask's levels of latents; readers go downwards, and may overlap.

    Args:
        layout: how the picture is cut.
        mask: see there.
    """

    def __init__(self, layout: Layout, mask: MaskRows) -> None:
        self._layout, self._mask = layout, mask
        self._rows: RowStream | None = None

    def read(self, top: int, bottom: int) -> Tensor:
        """The rows from `top` to `bottom - 1`, `[1,1,*,w]` float32."""
        if self._rows is None:  # nothing above is ever asked for
            self._rows = RowStream(self._pool(top), self._layout.grid.canvas[0], top)
        return self._rows.read(top, bottom)

    def touched(self, top: int, bottom: int) -> Tensor:
        """Where they are above 0, bool `[*,w]`."""
        return self.read(top, bottom)[0, 0] > 0

    def _pool(self, top: int) -> Iterator[Tensor]:
        size, factor = self._layout.work.size, self._layout.factor
        rows = FittedRows(self._mask, size)
        for first in range(top * factor, size[0], _POOLED * factor):
            yield pool_latents(rows.read(first, min(first + _POOLED * factor, size[0])), factor)


class MaskPieces:
    """What the pieces of work on one picture need of its mask; None of everything where there is none.

    Each kind is asked for downwards.

    Args:
        layout: how the picture is cut.
        mask: see there, or None.
    """

    def __init__(self, layout: Layout, mask: MaskRows | None) -> None:
        self._layout, self._has_mask = layout, mask is not None
        if mask is not None:
            self._encoded, self._sampled, self._decoded, self._finished = (LevelRows(layout, mask) for _ in range(4))
            self._pixels = FittedRows(mask, layout.size)

    def needed(self, block_row: Rows) -> Tensor | None:
        """Which latents of a row of the encoder's blocks are looked at, bool `[*,w]`; see `find_needed`."""
        if not self._has_mask:
            return None
        layout, reach = self._layout, self._layout.model.autoencoder.config.decoder_halo
        top, bottom = layout.latent_rows(block_row)
        part = layout.tiles_about((max(0, top - reach), min(layout.grid.canvas[0], bottom + reach)))
        rows = layout.canvas_rows(part)
        needed = find_needed(self._encoded.read(*rows), layout.grid.cut_rows(*part), 1, reach)
        return needed[top - rows[0] : bottom - rows[0]]

    def levels(self, part: Rows) -> Tensor | None:
        """Levels `[1,1,*,w]` of the latents that rows of tiles cover."""
        return self._sampled.read(*self._layout.canvas_rows(part)) if self._has_mask else None

    def touched(self, block_row: Rows) -> Tensor | None:
        """Which latents of a row of the decoder's blocks have a level above 0, bool `[*,w]`."""
        return self._decoded.touched(*self._layout.canvas_inside(block_row)) if self._has_mask else None

    def kept(self, rows: Rows) -> KeptPixels | None:
        """What rows of the result keep."""
        if not self._has_mask:
            return None
        latents = self._layout.latent_rows(self._layout.finish_needs(rows))
        return KeptPixels(self._finished.touched(*latents), self._pixels.read(*self._layout.kept_needs(rows)))


def count_touched(layout: Layout, mask: MaskRows) -> int:
    """Tiles that are evaluated; reads the mask once."""
    levels, touched = LevelRows(layout, mask), 0
    for row in range(layout.grid.rows):
        tiles = tile_levels(levels.read(*layout.canvas_rows((row, row + 1))), layout.grid.cut_rows(row, row + 1), 1)
        touched += int((tiles > 0).sum())
    return touched
