"""Where every tile of a run is in its own timeline, and which are evaluated together next; all on the CPU."""

from collections.abc import Iterable, Sequence

import torch

from .controller import Decision, DtssConfig, TileStates, start_states


class Timelines:
    """States of all tiles of a run.

    Args:
        count: of tiles.
        steps: base steps N.
        dtss: the controller's rule.
        compute: level of the compute mask for each tile `[count]`, or None.
        sides: which side of the conditioning's boundaries each base index is on.

    Attributes:
        touched, untouched: ids of tiles to evaluate, and of those that the compute mask leaves alone.
    """

    def __init__(
        self, count: int, steps: int, dtss: DtssConfig, compute: torch.Tensor | None, sides: Sequence[int]
    ) -> None:
        self.steps, self.sides = steps, sides
        self._states = start_states(count, dtss, compute)
        self._intervals = torch.tensor(dtss.intervals)
        levels = torch.ones(count) if compute is None else compute.cpu()
        self.touched: list[int] = torch.nonzero(levels > 0).flatten().tolist()
        self.untouched: list[int] = torch.nonzero(levels <= 0).flatten().tolist()

    def take(self, ids: Sequence[int]) -> TileStates:
        """States of these tiles."""
        return self._states.take(torch.tensor(ids, dtype=torch.long))

    def put(self, ids: Sequence[int], decision: Decision) -> None:
        """Let these tiles go on as was decided."""
        self._states = self._states.put(torch.tensor(ids), decision.states)

    def due(self, ids: Iterable[int], index: int) -> list[int]:
        """Those of the tiles that are at this base index."""
        here: list[int] = self._states.index.tolist()
        return [tile_id for tile_id in ids if here[tile_id] == index]

    def left(self, ids: Sequence[int]) -> list[int]:
        """Evaluations that each tile needs to its end if its interval stays."""
        states = self.take(ids)
        left: list[int] = torch.ceil((self.steps - states.index) / self._intervals[states.rung]).long().tolist()
        return left

    def choose(self, ids: Sequence[int], size: int) -> list[int]:
        """The next batch: tiles with most evaluations to go, all on one side of the conditioning's boundaries."""
        if not ids:
            return []
        index: list[int] = self.take(ids).index.tolist()
        order = sorted(zip((-left for left in self.left(ids)), index, ids, strict=True))
        side = self.sides[order[0][1]]
        return [tile_id for _, place, tile_id in order if self.sides[place] == side][:size]
