"""One picture made by many workers: what work there is at each moment, whoever does it, in whatever order it returns.

Three kinds of work, each of which needs only what travels with it: rows of the encoder's blocks, rows of tiles, and
rows of the decoder's blocks, finished as far as they do not need their neighbours. What lies between is little, and is
done here: strips are summed, and the seams of finished rows, whose colours look across, are matched.

Source: decision D74.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from ..models.model import Model
from ..sampling.merge import merge_strips
from .masked import MaskPieces, MaskRows
from .pieces import Decoded, DecodeWork, EncodeWork, Levels, Picture, SampleWork, Work
from .rows import RowStream

T = TypeVar("T")


class _InOrder(Generic[T]):
    """What arrives in any order and is taken in one.

    Attributes:
        arrived: pieces, from the first on, of which none is missing.
    """

    def __init__(self) -> None:
        self.arrived = 0
        self._held: dict[int, T] = {}

    def put(self, number: int, piece: T) -> None:
        """A piece has arrived."""
        self._held[number] = piece
        while self.arrived in self._held:
            self.arrived += 1

    def take(self) -> Iterator[T]:
        """All pieces from the first on; none must be asked for that has not arrived."""
        for number in count():
            yield self._held.pop(number)


class Spread:
    """A picture in the making.

    Args:
        picture: see there.
        model: what its networks are like; none of them is called here.
        read: begins to read the photograph, `[1,3,*,w]` in [0,1] from top to bottom; called three times.
        ahead: pieces of each kind that may be under way, or wait for those before them: what bounds memory.
        top: row of the result where to begin; those above are there already.
        mask: compute mask, or None.

    Attributes:
        first_row: of tiles, that is sampled.
    """

    def __init__(
        self,
        picture: Picture,
        model: Model,
        read: Callable[[], Iterable[Tensor]],
        ahead: int,
        top: int = 0,
        mask: MaskRows | None = None,
    ) -> None:
        self.picture, self.ahead = picture, ahead
        self.bands = bands = picture.bands(model)
        self._written = top
        self._decodes = bands.decodes_from(top)
        self.first_row = bands.first_row(bands.decoder_needs(self._decodes[0])[0])
        self._parts, self._encodes = bands.parts(self.first_row), bands.encodes_from(self.first_row)
        height = bands.grid.canvas[0]
        self._to_encode, self._to_match, self._to_seam = (RowStream(read(), bands.source[0]) for _ in range(3))
        self._mask, self._seam_mask = MaskPieces(bands, mask), MaskPieces(bands, mask)
        self._latents, self._strips, self._decoded = _InOrder[Tensor](), _InOrder[Tensor](), _InOrder[Decoded]()
        self._lq_latent = RowStream(self._latents.take(), height, self._encodes[0][0] // bands.factor)
        self._noise = bands.noise()
        self._merged = RowStream(self._merge(), height, bands.grid.tops[self.first_row])
        self._finished, self._edges = self._decoded.take(), list[tuple[int, Tensor]]()
        self._encoding = self._sampling = self._decoding = self._done = 0  # pieces that were begun, and written

    @property
    def is_done(self) -> bool:
        """Whether all rows of the result were given."""
        return self._written >= self.bands.size[0]

    def work(self) -> Iterator[Work]:
        """What may be begun now, what is furthest along first."""
        yield from self._decode_work()
        yield from self._sample_work()
        yield from self._encode_work()

    def settle(self, work: Work, result: Any) -> Iterator[Levels]:
        """Take what came back; gives rows of the result `[*,w,channels]` that follow those given before."""
        if isinstance(work, EncodeWork):
            self._latents.put(self._encodes.index(work.row), result)
        elif isinstance(work, SampleWork):
            for row, strip in enumerate(result[0], start=work.part[0]):
                self._strips.put(row - self.first_row, strip)
        else:
            self._decoded.put(self._decodes.index(work.row), result)
            while self._done < self._decoded.arrived:
                self._done += 1
                yield from self._finish(next(self._finished))

    def _decode_work(self) -> Iterator[DecodeWork]:
        bands, tops = self.bands, [*self.bands.grid.tops, self.bands.grid.canvas[0]]
        while self._decoding < min(len(self._decodes), self._done + self.ahead):
            row = self._decodes[self._decoding]
            needed = bands.decoder_needs(row)
            if needed[1] > tops[self.first_row + self._strips.arrived]:
                return
            self._decoding += 1
            first, last = bands.finished_rows(row)
            rows = (first, last) if first < last else (min(first, bands.size[0] - 1), min(first + 1, bands.size[0]))
            photo = self._to_match.read(*bands.enlarged_needs(bands.finish_needs(rows)))
            levels, latents = self.picture.kind.to_levels(photo[0]), self._merged.read(*needed).clone()
            yield DecodeWork(self.picture, row, latents, levels, self._mask.touched(row), self._mask.kept(rows))

    def _sample_work(self) -> Iterator[SampleWork]:
        arrived = self.first_row + self._strips.arrived
        done = sum(part[1] <= arrived for part in self._parts)
        while self._sampling < min(len(self._parts), done + self.ahead):
            part = self._parts[self._sampling]
            rows, encoded = self.bands.canvas_rows(part), self._latents.arrived
            if not encoded or rows[1] * self.bands.factor > self._encodes[encoded - 1][1]:
                return
            self._sampling += 1
            lq_latent, noise = self._lq_latent.read(*rows).clone(), self._noise.read(*rows).clone()
            yield SampleWork(self.picture, part, lq_latent, noise, self._mask.levels(part))

    def _encode_work(self) -> Iterator[EncodeWork]:
        last = self._parts[min(len(self._parts) - 1, self._sampling + self.ahead)]
        wanted = self.bands.canvas_rows(last)[1] * self.bands.factor
        while self._encoding < len(self._encodes) and self._encodes[self._encoding][0] < wanted:
            row = self._encodes[self._encoding]
            self._encoding += 1
            photo = self._to_encode.read(*self.bands.encoder_needs(row))
            yield EncodeWork(self.picture, row, self.picture.kind.to_levels(photo[0]), self._mask.needed(row))

    def _merge(self) -> Iterator[Tensor]:
        height, width = self.bands.grid.canvas
        strips = islice(self._strips.take(), self.bands.grid.rows - self.first_row)
        for rows in merge_strips(strips, self.bands.grid, self.first_row):
            yield rows[None, :, :height, :width]

    def _finish(self, block: Decoded) -> Iterator[Levels]:
        """The seam above what a row of blocks finished, and that; at the end what is left."""
        self._edges += block.edges
        is_last = self._done == len(self._decodes)
        (first, last), height = block.rows, self.bands.size[0]
        if first < last and last > self._written:
            yield from self._match_seam(first)
            yield block.levels[self._written - first :]
            self._written = last
        if is_last:
            yield from self._match_seam(height)
        elif self._written < height:
            above = self.bands.finish_needs((self._written, self._written + 1))[0]
            self._edges = [(top, edge) for top, edge in self._edges if top + edge.shape[-2] > above]

    def _match_seam(self, bottom: int) -> Iterator[Levels]:
        """Rows of the result down to `bottom`, out of edges."""
        rows = (self._written, bottom)
        if rows[0] >= rows[1]:
            return
        place, needed = self.bands.finish_needs(rows)
        parts = []
        for top, edge in self._edges:
            part = edge[..., max(place - top, 0) : max(needed - top, 0), :]
            if part.shape[-2] and top <= place:
                parts.append(part)
                place += part.shape[-2]
        photo = self._to_seam.read(*self.bands.enlarged_needs(self.bands.finish_needs(rows)))
        pixels = self.bands.finish(photo, torch.cat(parts, dim=-2), rows, self._seam_mask.kept(rows))
        yield self.picture.result.to_levels(pixels)
        self._written = bottom
