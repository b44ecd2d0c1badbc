"""The network as the sampler sees it, whoever hosts it, and calls to it that survive a full device."""

import logging
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..memory import is_out_of_memory

logger = logging.getLogger(__name__)


class Denoiser(Protocol):
    """A network that estimates x0.

    Attributes:
        boundaries: sigmas at which its conditioning changes. No batch straddles one.
    """

    boundaries: Sequence[float]

    def __call__(self, x: Tensor, sigma: Tensor, tiles: Sequence[int], gain: Tensor | None) -> Tensor:
        """Estimate x0.

        Args:
            x: noisy latents `[B,C,h,w]`.
            sigma: noise level of each, `[B]`.
            tiles: id of the tile that each is.
            gain: `[B,2]` information gain at each tile's evaluation before, for feature injection, or None.

        Returns:
            `[B,C,h,w]`.
        """
        ...


class ElasticDenoiser:
    """Calls a denoiser, in halves once memory has run out, the device's or the processor's.

    Attributes:
        tile_batch: the largest batch to ask for; halved at each failure and never raised again.
        calls: tiles of the batches that went through, those that are in one twice counted once.
    """

    def __init__(self, denoiser: Denoiser, tile_batch: int) -> None:
        self.denoiser, self.tile_batch = denoiser, tile_batch
        self.calls: list[int] = []

    @property
    def boundaries(self) -> Sequence[float]:
        """The denoiser's."""
        return self.denoiser.boundaries

    def __call__(self, x: Tensor, sigma: Tensor, tiles: Sequence[int], gain: Tensor | None) -> Tensor:
        """As `Denoiser`; any batch size.

        Raises:
            RuntimeError, MemoryError: a single tile does not fit (see `is_out_of_memory`).
        """
        done: list[Tensor] = []
        start = 0
        while start < len(tiles):
            part = slice(start, start + self.tile_batch)
            try:
                done.append(self.denoiser(x[part], sigma[part], tiles[part], None if gain is None else gain[part]))
            except (RuntimeError, MemoryError) as error:
                if self.tile_batch == 1 or not is_out_of_memory(error):
                    raise
                self.tile_batch = max(1, min(self.tile_batch, len(tiles)) // 2)
                logger.warning("out of memory: going on with %d tiles at a time", self.tile_batch)
                continue
            self.calls.append(len(set(tiles[part])))
            start += len(done[-1])
        return done[0] if len(done) == 1 else torch.cat(done)
