"""One picture from top to bottom on one machine, with a few bands of it in memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..sampling.merge import merge_strips
from ..sampling.report import RunReport
from ..sampling.turn import Progress
from .bands import Bands
from .layout import Rows
from .masked import MaskPieces, MaskRows
from .rows import RowStream


@dataclass(frozen=True)
class Watch:
    """Who is told how a picture gets on.

    Attributes:
        begin: told of each band before it is sampled, as rows of tiles.
        end: told of it afterwards, and where its evaluations went.
        on_step: told after each turn.
    """

    begin: Callable[[Rows], None] = lambda part: None
    end: Callable[[Rows, RunReport], None] = lambda part, report: None
    on_step: Callable[[Progress], None] = lambda progress: None


_NOBODY = Watch()


class Stream:
    """What becomes of a picture, row by row.

    Args:
        bands: how.
        read: begins to read the picture, `[1,3,*,w]` in [0,1] from top to bottom; called twice, as its colours are
            looked at again long after it was encoded.
        first: of `bands.result_rows`, where to begin: those above are there already.
        mask: compute mask, or None.
        watch: see `Watch`.
    """

    def __init__(
        self,
        bands: Bands,
        read: Callable[[], Iterable[Tensor]],
        first: int = 0,
        mask: MaskRows | None = None,
        watch: Watch = _NOBODY,
    ) -> None:
        self.bands, self.read, self.first, self.watch = bands, read, first, watch
        self._mask = MaskPieces(bands, mask)
        self._decodes = bands.decodes_from(bands.result_rows[first][0])
        self.first_row = bands.first_row(bands.decoder_needs(self._decodes[0])[0])

    def rows(self) -> Iterator[Tensor]:
        """The result `[3,*,w]` in [0,1] from top to bottom."""
        bands = self.bands
        top, height = bands.decoded_rows(self._decodes[0])[0], bands.grid.canvas[0] * bands.factor
        latents = RowStream(self._restore(), bands.grid.canvas[0], bands.grid.tops[self.first_row])
        restored = RowStream(self._decode(latents), height, top)
        picture = RowStream(self.read(), bands.source[0])
        for rows in bands.result_rows[self.first :]:
            needed = bands.finish_needs(rows)
            photo = picture.read(*bands.enlarged_needs(needed))
            yield bands.finish(photo, restored.read(*needed), rows, self._mask.kept(rows))

    def _encode(self, block_rows: Sequence[Rows]) -> Iterator[Tensor]:
        picture = RowStream(self.read(), self.bands.source[0])
        for block_row in block_rows:
            photo = picture.read(*self.bands.encoder_needs(block_row))
            yield self.bands.encode(photo, block_row, self._mask.needed(block_row))

    def _strips(self) -> Iterator[Tensor]:
        bands = self.bands
        encodes, noise = bands.encodes_from(self.first_row), bands.noise()
        lq_latent = RowStream(self._encode(encodes), bands.grid.canvas[0], encodes[0][0] // bands.factor)
        for part in bands.parts(self.first_row):
            rows = bands.canvas_rows(part)
            self.watch.begin(part)
            mask = self._mask.levels(part)
            strips, report = bands.sample(part, lq_latent.read(*rows), noise.read(*rows), mask, self.watch.on_step)
            self.watch.end(part, report)
            yield from strips

    def _restore(self) -> Iterator[Tensor]:
        """Latents `[1,C,*,w]`, merged."""
        height, width = self.bands.grid.canvas
        for rows in merge_strips(self._strips(), self.bands.grid, self.first_row):
            yield rows[None, :, :height, :width]

    def _decode(self, latents: RowStream) -> Iterator[Tensor]:
        for block_row in self._decodes:
            seen = latents.read(*self.bands.decoder_needs(block_row))
            yield self.bands.decode(seen, block_row, self._mask.touched(block_row))
