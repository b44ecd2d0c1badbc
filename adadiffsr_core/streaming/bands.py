"""The work on a picture, cut so that each piece needs only some rows of what comes before it.

Every step is that of `pipeline.upscale`, on parts: encoder and decoder see the same blocks, tiles the same latents and
the same noise, and the merge adds them in the same order. So the rows are those of the whole picture, to the bit.

Source: decision D74.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from ..models.model import Model
from ..nets.blocks import BlockMap
from ..photo.colour import WAVELET_REACH, match_colour
from ..photo.enlarging import Box, enlarge_box, reduce, reduced_rows, source_rows
from ..photo.scales import Size, Work, plan_work
from ..pipeline import plan_tiles, start_run
from ..sampling.merge import StripBuilder
from ..sampling.noise_rows import noise_rows
from ..sampling.report import RunReport
from ..sampling.run import FULL_BATCHES, TILE_BATCH, run_strips
from ..sampling.tiles import TileGrid
from ..sampling.turn import Progress
from ..settings import SamplingConfig
from .rows import RowStream

Rows = tuple[int, int]  # first, and one past the last

_FINISHED_PX = 128  # rows of the size that is worked at, finished at a time


@dataclass(frozen=True)
class Bands:
    """How one picture is upscaled in parts.

    Attributes:
        model: the networks.
        source: (height, width) of the picture, px.
        size: of the result.
        config: how to sample.

    Raises:
        ConfigError: it cannot be, and the message says what would have to be otherwise.
    """

    model: Model
    source: Size
    size: Size
    config: SamplingConfig

    def __post_init__(self) -> None:
        if self.size[0] < self.source[0] or self.size[1] < self.source[1]:
            raise ConfigError("a picture that gets smaller cannot be made in bands; ask for its own size or more")
        if self.config.merge != "final":
            raise ConfigError("merge every_step needs the whole picture in memory; use merge final")
        if self.config.colour == "adain":
            raise ConfigError("the colour match adain needs the whole picture in memory; use wavelet or none")

    @cached_property
    def work(self) -> Work:
        """The size that is worked at."""
        return plan_work(self.source, self.size, self.model.scales, most=None)

    @cached_property
    def grid(self) -> TileGrid:
        """Where tiles are."""
        return plan_tiles(self.model.sizes, self.work.size, self.config)

    @cached_property
    def _strips(self) -> StripBuilder:
        return StripBuilder(self.grid)

    @property
    def factor(self) -> int:
        """Px per latent px, at the size that is worked at."""
        return self.model.sizes.factor

    @property
    def part_rows(self) -> int:
        """Rows of tiles in a part."""
        return max(1, -(-FULL_BATCHES * (self.config.tile_batch or TILE_BATCH) // self.grid.cols))

    @property
    def has_budget(self) -> bool:
        """Whether a part's tiles share their evaluations, so that its pixels depend on which tiles it has."""
        return self.config.dtss.rule == "bounded" and self.config.dtss.budget > 0

    def parts(self, begin: int = 0) -> list[Rows]:
        """Rows of tiles, from row `begin` on, that are sampled together: as few as fill the network's batches."""
        each = self.part_rows
        return [(first, min(first + each, self.grid.rows)) for first in range(begin, self.grid.rows, each)]

    def first_row(self, canvas_row: int) -> int:
        """Where to begin with rows of tiles, so that all are there that reach a latent row, or lie below it.

        With a part, and so with the same batches wherever work begins: a run that goes on does what one that is not
        stopped does, and has the same report.
        """
        row = next(row for row, top in enumerate(self.grid.tops) if top + self.grid.tile[0] > canvas_row)
        return row - row % self.part_rows

    def decodes_from(self, row: int) -> list[Rows]:
        """Rows of the decoder's blocks that a row of the result, and all below it, are made of."""
        top = self.finish_needs((row, row + 1))[0]
        return [block_row for block_row in self.decoder.rows if self.worked_rows(block_row)[1] > top]

    def encodes_from(self, row: int) -> list[Rows]:
        """Rows of the encoder's blocks that a row of tiles, and all below it, are made of."""
        top = self.grid.tops[row] * self.factor
        return [block_row for block_row in self.encoder.rows if block_row[1] > top]

    def noise(self) -> RowStream:
        """The field's noise `[1,C,*,w]`, drawn from the top."""
        (height, width), channels = self.grid.canvas, self.model.autoencoder.config.z_channels
        return RowStream(noise_rows(channels, height, width, self.config.seed), height)

    def canvas_rows(self, part: Rows) -> Rows:
        """The latent rows that rows of tiles cover."""
        return self.grid.tops[part[0]], min(self.grid.canvas[0], self.grid.tops[part[1] - 1] + self.grid.tile[0])

    # Encoding.

    @cached_property
    def encoder(self) -> BlockMap:
        """The encoder's blocks, px."""
        height, width = self.grid.canvas
        return self.model.autoencoder.encoder_map((height * self.factor, width * self.factor))

    def encoder_needs(self, block_row: Rows) -> Rows:
        """The picture's rows that one row of the encoder's blocks is made of."""
        top, bottom = self.encoder.reach(block_row)
        return self.enlarged_needs((min(top, self.work.size[0] - 1), bottom))

    def enlarged_needs(self, rows: Rows) -> Rows:
        """The picture's rows that rows of the enlarged one are made of."""
        height = self.work.size[0]
        return source_rows(self.source[0], height, rows[0], min(rows[1], height))

    @torch.inference_mode()
    def encode(self, picture: Tensor, block_row: Rows) -> Tensor:
        """Latents `[1,C,*,w]` of one row of the encoder's blocks, float32 on the CPU.

        Args:
            picture: the rows `[1,3,*,w]` in [0,1] that `encoder_needs` names.
            block_row: of `encoder.rows`.
        """
        first, (height, width) = self.encoder_needs(block_row)[0], self.work.size

        def crop(top: int, bottom: int, left: int, right: int) -> Tensor:
            # Up to whole latent px the lower and right edge repeat; a part may lie wholly beyond.
            box = Box(min(top, height - 1), min(bottom, height), min(left, width - 1), min(right, width))
            part = enlarge_box(picture, first, self.source, self.work.size, box)
            below, beside = bottom - top - part.shape[-2], right - left - part.shape[-1]
            return self.model.to_network(F.pad(part, (0, beside, 0, below), mode="replicate"))

        latents = self.encoder.map_row(crop, block_row)
        assert latents is not None  # everything is wanted
        return latents.float().cpu()

    # Sampling.

    @torch.inference_mode()
    def sample(
        self,
        part: Rows,
        lq_latent: Tensor,
        noise: Tensor,
        on_step: Callable[[Progress], None] = lambda progress: None,
    ) -> tuple[list[Tensor], RunReport]:
        """Restore the tiles of some rows.

        Args:
            part: rows of the grid.
            lq_latent: the latent rows `[1,C,*,w]` that they cover.
            noise: the field's, likewise.
            on_step: told after each turn.

        Returns:
            A strip for each row (see `StripBuilder`), on the CPU, and where the evaluations went.
        """
        grid = self.grid.cut_rows(*part)
        start = start_run(self.model, lq_latent.to(self.model.device), noise, grid, self.config)
        strips, report = run_strips(start, self.config, self._strips, part[0], on_step)
        return [strip.cpu() for strip in strips], report

    # Decoding.

    @cached_property
    def decoder(self) -> BlockMap:
        """The decoder's blocks, latent px of a canvas whose edge is repeated."""
        return self.model.autoencoder.decoder_map(self.grid.canvas, "cpu")

    @property
    def _edge(self) -> int:
        return self.model.autoencoder.config.decoder_border

    def decoded_rows(self, block_row: Rows) -> Rows:
        """Px rows, of the canvas at the size that is worked at, that one row of the decoder's blocks becomes."""
        height = self.grid.canvas[0]
        inside = (min(max(row - self._edge, 0), height) for row in block_row)
        top, bottom = (row * self.factor for row in inside)
        return top, bottom

    def worked_rows(self, block_row: Rows) -> Rows:
        """Those of them that are not beyond the picture's lower edge."""
        top, bottom = (min(row, self.work.size[0]) for row in self.decoded_rows(block_row))
        return top, bottom

    def decoder_needs(self, block_row: Rows) -> Rows:
        """The latent rows that one row of the decoder's blocks is made of."""
        edge, last = self._edge, self.grid.canvas[0] - 1
        top, bottom = self.decoder.reach(block_row)
        return min(max(0, top - edge), last), max(1, min(last, bottom - edge - 1) + 1)

    @torch.inference_mode()
    def decode(self, latents: Tensor, block_row: Rows) -> Tensor:
        """Px rows `[1,3,*,W]` in [0,1] of one row of the decoder's blocks, at the size that is worked at, on the CPU.

        Args:
            latents: the rows `[1,C,*,w]` that `decoder_needs` names.
            block_row: of `decoder.rows`.
        """
        edge = self._edge
        (first, last), (top, bottom) = self.decoder_needs(block_row), self.decoder.reach(block_row)
        above, below = max(0, first + edge - top), max(0, bottom - (last + edge))
        seen = F.pad(latents, (edge, edge, above, below), mode="replicate") if edge else latents

        def crop(from_row: int, to_row: int, left: int, right: int) -> Tensor:
            return self.model.to_network(seen[..., from_row - top : to_row - top, left:right])

        pixels = self.decoder.map_row(crop, block_row)
        assert pixels is not None
        begin = (block_row[0] - edge) * self.factor
        rows = slice(*(row - begin for row in self.decoded_rows(block_row)))
        columns = slice(edge * self.factor, edge * self.factor + self.work.size[1])
        return pixels[..., rows, columns].float().clamp_(0, 1)

    # Finishing.

    def finished_rows(self, block_row: Rows) -> Rows:
        """Rows of the result that need no other row of the decoder's blocks; none, or fewer, if it is low."""
        (top, bottom), (height, after) = self.worked_rows(block_row), (self.work.size[0], self.size[0])
        first = -(-(top + self._reach) * after // height) if top else 0
        last = after if bottom == height else (bottom - self._reach) * after // height
        return first, max(0, last)

    def seam_edges(self, block_row: Rows) -> Rows:
        """Where the rows that the seam above needs end, and where those begin that the one below needs."""
        (top, bottom), (first, last) = self.worked_rows(block_row), self.finished_rows(block_row)
        above = self.finish_needs((first - 1, first))[1] if first else top
        below = self.finish_needs((last, last + 1))[0] if last < self.size[0] else bottom
        return above, below

    @property
    def _reach(self) -> int:
        return WAVELET_REACH if self.config.colour == "wavelet" else 0

    @property
    def result_rows(self) -> list[Rows]:
        """Rows of the result that are finished together."""
        each = max(1, _FINISHED_PX * self.size[0] // self.work.size[0])
        return [(top, min(top + each, self.size[0])) for top in range(0, self.size[0], each)]

    def finish_needs(self, rows: Rows) -> Rows:
        """Rows of the size that is worked at that rows of the result are made of."""
        height, reach = self.work.size[0], self._reach
        top, _ = reduced_rows(height, self.size[0], rows[0])
        _, bottom = reduced_rows(height, self.size[0], rows[1] - 1)
        return max(0, top - reach), min(height, bottom + reach)

    @torch.inference_mode()
    def finish(self, picture: Tensor, restored: Tensor, rows: Rows) -> Tensor:
        """Rows `[3,*,w]` of the result, float32 in [0,1].

        Args:
            picture: the picture's rows that `enlarged_needs` names for what `finish_needs` names.
            restored: the decoded rows that `finish_needs` names.
            rows: of the result.
        """
        needed = self.finish_needs(rows)
        box = Box(*needed, 0, self.work.size[1])
        first = self.enlarged_needs(needed)[0]
        reference = enlarge_box(picture, first, self.source, self.work.size, box)
        matched = match_colour(restored, reference, self.config.colour).clamp_(0, 1)
        return self._reduce(matched, needed[0], rows)[0]

    def _reduce(self, matched: Tensor, top: int, rows: Rows) -> Tensor:
        before, after = self.work.size[0], self.size[0]
        if self.work.size == self.size:
            return matched[..., rows[0] - top : rows[1] - top, :]
        spans = [reduced_rows(before, after, row) for row in range(*rows)]
        # Row by row, as windows of another height would begin elsewhere.
        parts = [reduce(matched[..., begin - top : end - top, :], (1, self.size[1])) for begin, end in spans]
        return torch.cat(parts, dim=-2)
