"""The work on a picture, cut so that each piece needs only some rows of what comes before it.

Every step is that of `pipeline.upscale`, on parts: encoder and decoder see the same blocks, tiles the same latents and
the same noise, and the merge adds them in the same order. So the rows are those of the whole picture, to the bit.

Source: decision D74.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..photo.back_projection import Part, back_project_rows
from ..photo.colour import match_colour
from ..photo.enlarging import Box, enlarge_box, reduce_rows
from ..pipeline import start_run
from ..sampling.compute_mask import keep_enlarged, keep_pixels
from ..sampling.merge import StripBuilder
from ..sampling.noise_rows import noise_rows
from ..sampling.report import RunReport
from ..sampling.run import run_strips
from ..sampling.turn import Progress
from .layout import Layout, Rows
from .rows import RowStream


class KeptPixels(NamedTuple):
    """What a compute mask leaves of some rows of the result.

    Attributes:
        touched: latents of `latent_rows` of what `finish_needs` names whose level is above 0, bool `[*,w]`.
        mask: levels of the rows that `kept_needs` names, `[1,1,*,W]`.
    """

    touched: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Bands(Layout):
    """What is done to the pieces of one picture; see `Layout`."""

    @cached_property
    def _strips(self) -> StripBuilder:
        return StripBuilder(self.grid)

    def noise(self) -> RowStream:
        """The field's noise `[1,C,*,w]`, drawn from the top."""
        height, width = self.grid.canvas
        return RowStream(noise_rows(self.channels, height, width, self.config.seed), height)

    @torch.inference_mode()
    def encode(self, picture: Tensor, block_row: Rows, needed: Tensor | None = None) -> Tensor:
        """Latents `[1,C,*,w]` of one row of the encoder's blocks, float32 on the CPU.

        Args:
            picture: the rows `[1,3,*,w]` in [0,1] that `encoder_needs` names.
            block_row: of `encoder.rows`.
            needed: which latents are looked at, bool `[*,w]`; others may be 0. None is all.
        """
        first, (height, width) = self.encoder_needs(block_row)[0], self.work.size

        def crop(top: int, bottom: int, left: int, right: int) -> Tensor:
            # Up to whole latent px the lower and right edge repeat; a part may lie wholly beyond.
            box = Box(min(top, height - 1), min(bottom, height), min(left, width - 1), min(right, width))
            part = enlarge_box(picture, first, self.source, self.work.size, box)
            below, beside = bottom - top - part.shape[-2], right - left - part.shape[-1]
            return self.model.to_network(F.pad(part, (0, beside, 0, below), mode="replicate"))

        latents = self.encoder.map_row(crop, block_row, needed)
        if latents is None:
            return torch.zeros(1, self.channels, (block_row[1] - block_row[0]) // self.factor, self.grid.canvas[1])
        return latents.float().cpu()

    @torch.inference_mode()
    def sample(
        self,
        part: Rows,
        lq_latent: Tensor,
        noise: Tensor,
        mask: Tensor | None = None,
        on_step: Callable[[Progress], None] = lambda progress: None,
    ) -> tuple[list[Tensor], RunReport]:
        """Restore the tiles of some rows.

        Args:
            part: rows of the grid.
            lq_latent: the latent rows `[1,C,*,w]` that they cover.
            noise: the field's, likewise.
            mask: the compute mask's levels `[1,1,*,w]`, likewise, or None.
            on_step: told after each turn.

        Returns:
            A strip for each row (see `StripBuilder`), on the CPU, and where the evaluations went.
        """
        grid = self.grid.cut_rows(*part)
        start = start_run(self.model, lq_latent.to(self.model.device), noise, grid, self.config)
        strips, report = run_strips(start, self.config, self._strips, part[0], mask, on_step)
        return [strip.cpu() for strip in strips], report

    def _repeat_edge(self, values: Tensor, block_row: Rows) -> Tensor:
        """The decoder's rows `[1,C,*,w]` out of those that `canvas_inside` names."""
        edge, (first, last), (top, bottom) = self.edge, self.canvas_inside(block_row), block_row
        above, below = max(0, first + edge - top), max(0, bottom - (last + edge))
        return F.pad(values, (edge, edge, above, below), mode="replicate") if edge else values

    @torch.inference_mode()
    def decode(self, latents: Tensor, block_row: Rows, touched: Tensor | None = None) -> Tensor:
        """Px rows `[1,3,*,W]` in [0,1] of one row of the decoder's blocks, at the size that is worked at, on the CPU.

        Args:
            latents: the rows `[1,C,*,w]` that `decoder_needs` names.
            block_row: of `decoder.rows`.
            touched: of `canvas_inside`'s latents those whose pixels are wanted, bool `[*,w]`; others' may be 0. None
                is all.
        """
        reach, (height, width) = self.decoder.reach(block_row), (block_row[1] - block_row[0], self.decoder.size[1])
        seen, top = self._repeat_edge(latents, reach), reach[0]
        wanted = None
        if touched is not None:
            wanted = self._repeat_edge(touched[None, None].float(), block_row)[0, 0, :height] > 0

        def crop(from_row: int, to_row: int, left: int, right: int) -> Tensor:
            return self.model.to_network(seen[..., from_row - top : to_row - top, left:right])

        pixels = self.decoder.map_row(crop, block_row, wanted)
        if pixels is None:
            pixels = torch.zeros(1, 3, height * self.factor, width * self.factor)
        begin, left = (block_row[0] - self.edge) * self.factor, self.edge * self.factor
        rows = slice(*(row - begin for row in self.decoded_rows(block_row)))
        columns = slice(left, left + self.work.size[1])
        return pixels[..., rows, columns].float().clamp_(0, 1)

    @torch.inference_mode()
    def finish(self, picture: Tensor, restored: Tensor, rows: Rows, kept: KeptPixels | None = None) -> Tensor:
        """Rows `[3,*,w]` of the result, float32 in [0,1].

        Args:
            picture: the picture's rows that `enlarged_needs` names for what `finish_needs` names.
            restored: the decoded rows that `finish_needs` names.
            rows: of the result.
            kept: of a compute mask, if there is one.
        """
        needed = self.finish_needs(rows)
        box = Box(*needed, 0, self.work.size[1])
        first = self.enlarged_needs(needed)[0]
        reference = enlarge_box(picture, first, self.source, self.work.size, box)
        if kept is not None:
            restored = keep_enlarged(restored, reference, kept.touched, self.factor, needed[0] % self.factor)
        matched = match_colour(restored, reference, self.config.colour).clamp_(0, 1)
        if self.projects:
            worked, photo = Part(matched, needed[0], self.work.size), Part(picture, first, self.source)
            result = back_project_rows(worked, photo, self.size, rows)
        else:
            result = reduce_rows(matched, needed[0], self.work.size[0], self.size, rows)
        if kept is not None:
            original = enlarge_box(picture, first, self.source, self.size, Box(*rows, 0, self.size[1]))
            result = keep_pixels(result, original, kept.mask, rows[0] - self.kept_needs(rows)[0])
        return result[0]
