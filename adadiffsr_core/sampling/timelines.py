"""Where every tile of a run is in its own timeline, and which are evaluated together next; all on the CPU."""

from collections.abc import Iterable, Sequence

import torch

from .bounded import deviation_of, likeness_db
from .controller import Decision, TileStates, evaluations_left, find_likeness, start_states
from .rule import ALL_STEPS_DB, DtssConfig


class Timelines:
    """States of all tiles of a run.

    Args:
        count: of tiles.
        steps: base steps N.
        dtss: the controller's rule.
        compute: level of the compute mask for each tile `[count]`, or None.
        sides: which side of the conditioning's boundaries each base index is on.
        strayed: dB by which the run's schedule is worse than the one that courses were measured with.

    Attributes:
        touched, untouched: ids of tiles to evaluate, and of those that the compute mask leaves alone.
        likeness: dB, that the bounded rule goes by at present.
        promised: the lowest that it has gone by; a budget that has something left at the end raises it for the last.
    """

    def __init__(
        self,
        count: int,
        steps: int,
        dtss: DtssConfig,
        compute: torch.Tensor | None,
        sides: Sequence[int],
        strayed: float = 0.0,
    ) -> None:
        self.steps, self.sides, self.dtss, self._strayed = steps, sides, dtss, strayed
        self.likeness = min(dtss.likeness + strayed, ALL_STEPS_DB)
        self._has_budget = dtss.rule == "bounded" and dtss.budget > 0
        self.promised = ALL_STEPS_DB if self._has_budget else dtss.likeness
        self._states = start_states(count, dtss, compute)
        levels = torch.ones(count) if compute is None else compute.cpu()
        self.touched: list[int] = torch.nonzero(levels > 0).flatten().tolist()
        self.untouched: list[int] = torch.nonzero(levels <= 0).flatten().tolist()

    def take(self, ids: Sequence[int]) -> TileStates:
        """States of these tiles."""
        return self._states.take(torch.tensor(ids, dtype=torch.long))

    def aim(self, ids: Sequence[int], rated: TileStates) -> float:
        """The likeness that spends the budget, if there is one, now that a batch has been rated."""
        if self._has_budget:
            rows = torch.tensor(ids)
            states = self._states.put(rows, rated)
            begun = states.visits > 0
            begun[rows] = True
            self.likeness = find_likeness(states.take(torch.nonzero(begun).flatten()), self.dtss, self.steps)
            self.promised = min(self.promised, self.likeness - self._strayed)
        return self.likeness

    def put(self, ids: Sequence[int], decision: Decision) -> None:
        """Let these tiles go on as was decided."""
        self._states = self._states.put(torch.tensor(ids), decision.states)

    def likenesses(self) -> dict[int, float]:
        """How near each tile is thought to be to what all steps would have given, dB, by id; for the bounded rule."""
        if self.dtss.rule == "paper":
            return {}
        values = likeness_db(self._states.difficulty, deviation_of(self._states.visits, self.steps)).tolist()
        return {tile_id: values[tile_id] - self._strayed for tile_id in self.touched}

    def tells(self, start: int, index: int) -> bool:
        """Whether estimates at two base indices were made by the same conditioning, so that their change says more."""
        return start >= 0 and self.sides[start] == self.sides[index]

    def due(self, ids: Iterable[int], index: int) -> list[int]:
        """Those of the tiles that are at this base index."""
        here: list[int] = self._states.index.tolist()
        return [tile_id for tile_id in ids if here[tile_id] == index]

    def left(self, ids: Sequence[int]) -> list[int]:
        """Evaluations that each tile needs to its end, as it looks now."""
        left: list[int] = evaluations_left(self.take(ids), self.dtss, self.steps, self.likeness).tolist()
        return left

    def choose(self, ids: Sequence[int], size: int) -> list[int]:
        """The next batch: tiles with most evaluations to go, all on one side of the conditioning's boundaries."""
        if not ids:
            return []
        index: list[int] = self.take(ids).index.tolist()
        order = sorted(zip((-left for left in self.left(ids)), index, ids, strict=True))
        side = self.sides[order[0][1]]
        return [tile_id for _, place, tile_id in order if self.sides[place] == side][:size]
