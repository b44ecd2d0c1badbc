"""Fixed places on the device for the tiles in flight, as a language-model server has for its requests."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .tiles import crop_tiles
from .turn import Job


class Slots:
    """Buffers `[room,C,h,w]`, one place for each running tile.

    Attributes:
        x: noisy latents at the tiles' base indices.
        lq_latent: the paper's o of each, or None if nothing rates them.
        previous: estimates of the evaluations before, or None where no jump asks for them.
        best: estimates with the best R_nr so far, or None if no tile stops early.
        places: slot by id of each running tile, in the order in which they came.
        previous_start: base index of the evaluation before by slot, -1 before the first.
        has_best: whether `best` holds anything, by slot.
    """

    def __init__(self, job: Job, room: int, is_rated: bool, needs_before: bool) -> None:
        def buffer(is_needed: bool) -> Tensor | None:
            return job.x.new_empty(room, job.x.shape[1], *job.grid.tile) if is_needed else None

        self.job = job
        self.x = job.x.new_empty(room, job.x.shape[1], *job.grid.tile)
        self.lq_latent, self.previous = buffer(is_rated), buffer(needs_before)
        self.best = buffer(job.dtss.exits)
        self.places: dict[int, int] = {}
        self.previous_start, self.has_best = [-1] * room, [False] * room
        self._free = list(range(room))[::-1]

    @property
    def room(self) -> int:
        """Free places."""
        return len(self._free)

    def admit(self, ids: Sequence[int]) -> None:
        """Begin tiles."""
        job = self.job
        for tile_id in ids:
            slot = self._free.pop()
            self.places[tile_id], self.previous_start[slot], self.has_best[slot] = slot, -1, False
            self.x[slot] = crop_tiles(job.x, job.grid, [tile_id])[0]
            if self.previous is not None:
                self.previous[slot] = self.x[slot]  # counted as nothing, but NaN times nothing is NaN
            if self.lq_latent is not None:
                self.lq_latent[slot] = crop_tiles(job.lq_latent, job.grid, [tile_id])[0]

    def release(self, tile_id: int) -> None:
        """Make room for another tile."""
        self._free.append(self.places.pop(tile_id))

    def gather(self, buffer: Tensor, ids: Sequence[int]) -> Tensor:
        """A copy of what a buffer holds of these tiles: slices, for which no index need cross to the device."""
        return torch.stack([buffer[self.places[tile_id]] for tile_id in ids])

    def scatter(self, buffer: Tensor, ids: Sequence[int], values: Tensor) -> None:
        """Put values `[B,C,h,w]` in the places of these tiles, in one launch, as optimisers do."""
        torch._foreach_copy_([buffer[self.places[tile_id]] for tile_id in ids], list(values.unbind()))
