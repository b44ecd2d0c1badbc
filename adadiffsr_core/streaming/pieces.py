"""Pieces of the work on one picture that anybody can do: each holds all that it needs, and travels.

Source: decision D74.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ImageError
from ..models.model import Model
from ..photo.scales import Size
from ..photo.value import LevelKind
from ..sampling.report import RunReport
from ..settings import SamplingConfig
from .bands import Bands, KeptPixels
from .layout import Rows

Levels = NDArray[np.uint8 | np.uint16]


@dataclass(frozen=True)
class Picture:
    """What all work on a picture has in common.

    Attributes:
        source: (height, width) of the photograph, px.
        size: of the result.
        config: how to sample.
        kind: of the photograph's levels, as they travel.
        result: of the result's.
        is_left: see `Bands`.
    """

    source: Size
    size: Size
    config: SamplingConfig
    kind: LevelKind
    result: LevelKind
    is_left: bool = False

    def bands(self, model: Model) -> Bands:
        """How it is cut."""
        return Bands(model, self.source, self.size, self.config, self.is_left)


@dataclass(frozen=True)
class EncodeWork:
    """One row of the encoder's blocks; comes back as latents `[1,C,*,w]`.

    Attributes:
        picture: see there.
        row: of the blocks.
        levels: the photograph's rows.
        needed: which latents are looked at; None is all.
    """

    picture: Picture
    row: Rows
    levels: Levels
    needed: Tensor | None

    def __call__(self, model: Model) -> Tensor:
        """Do it."""
        return self.picture.bands(model).encode(self.picture.kind.to_pixels(self.levels), self.row, self.needed)


@dataclass(frozen=True)
class SampleWork:
    """Some rows of tiles; comes back as a strip for each, and where the evaluations went.

    Attributes:
        picture: see there.
        part: rows of the grid.
        lq_latent, noise: of the canvas rows that they cover.
        mask: the compute mask's levels of these, or None.
    """

    picture: Picture
    part: Rows
    lq_latent: Tensor
    noise: Tensor
    mask: Tensor | None

    def __call__(self, model: Model) -> tuple[list[Tensor], RunReport]:
        """Do it."""
        return self.picture.bands(model).sample(self.part, self.lq_latent, self.noise, self.mask)


class Decoded(NamedTuple):
    """What one row of the decoder's blocks became.

    Attributes:
        rows: of the result that are finished; none if the blocks are low.
        levels: of these.
        edges: decoded rows that seams need, `[1,3,*,w]` each, and where they begin at the size that is worked at.
    """

    rows: Rows
    levels: Levels
    edges: list[tuple[int, Tensor]]


@dataclass(frozen=True)
class DecodeWork:
    """One row of the decoder's blocks; comes back as `Decoded`.

    Attributes:
        picture: see there.
        row: of the blocks.
        latents: the rows that it needs.
        levels: the photograph's rows, for the colours of what is finished.
        touched: latents whose pixels are wanted; None is all.
        kept: of a compute mask, for what is finished.
    """

    picture: Picture
    row: Rows
    latents: Tensor
    levels: Levels
    touched: Tensor | None
    kept: KeptPixels | None

    def __call__(self, model: Model) -> Decoded:
        """Do it."""
        bands = self.picture.bands(model)
        restored, (top, bottom) = bands.decode(self.latents, self.row, self.touched), bands.worked_rows(self.row)
        restored = restored[..., : bottom - top, :]
        rows, photo = bands.finished_rows(self.row), self.picture.kind.to_pixels(self.levels)
        if rows[0] >= rows[1]:
            return Decoded(rows, self.picture.result.to_levels(restored[0, :, :0, : bands.size[1]]), [(top, restored)])
        first, last = bands.finish_needs(rows)
        pixels = bands.finish(photo, restored[..., first - top : last - top, :], rows, self.kept)
        if not bool(pixels.isfinite().all()):
            raise ImageError("the networks gave values that are not numbers; run them in full precision (float32)")
        above, below = bands.seam_edges(self.row)
        edges = [(top, restored[..., : above - top, :].clone()), (below, restored[..., below - top :, :].clone())]
        return Decoded(rows, self.picture.result.to_levels(pixels), [edge for edge in edges if edge[1].shape[-2]])


Work = EncodeWork | SampleWork | DecodeWork
