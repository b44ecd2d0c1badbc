"""Where every tile of a run is in its own timeline, and which are evaluated together next; all on the CPU."""

from collections.abc import Iterable, Sequence

import torch

from .bounded import MASK_DB, courses, likeness_db
from .controller import Decision, Seen, TileStates, choose, evaluations_left, find_likeness, start_states
from .rule import ALL_STEPS_DB, DtssConfig


class Timelines:
    """States of all tiles of a run.

    Args:
        levels: of the compute mask for each tile of each picture, `[N,T]`; 0.5 decides by itself.
        steps: base steps N.
        dtss: the controller's rule.
        sides: which side of the conditioning's boundaries each base index is on.
        strayed: dB by which the run's schedule is worse than the one that courses were measured with.

    Attributes:
        touched, untouched: ids of tiles to evaluate, and of those that the compute mask leaves alone.
        has_borders: whether the conditioning changes on the way.
        is_aiming: whether all tiles are to be evaluated once before any goes on, since a budget is to be spent on them.
    """

    def __init__(
        self, levels: torch.Tensor, steps: int, dtss: DtssConfig, sides: Sequence[int], strayed: float = 0.0
    ) -> None:
        self.steps, self.sides, self.dtss, self._strayed = steps, sides, dtss, strayed
        borders = tuple(index for index in range(1, steps) if sides[index] != sides[index - 1])
        self.has_borders, self._courses = bool(borders), courses(steps, borders)
        self._likeness = torch.full(levels.shape, min(dtss.likeness + strayed, ALL_STEPS_DB), dtype=torch.float64)
        self._states = start_states(levels.numel(), dtss, levels.flatten())
        self.touched: list[int] = torch.nonzero(self._states.level > 0).flatten().tolist()
        self.untouched: list[int] = torch.nonzero(self._states.level <= 0).flatten().tolist()
        self.is_aiming = dtss.rule == "bounded" and dtss.budget > 0
        if self.is_aiming:
            self._spend()  # as if all tiles were alike, which is what can be told until they have been evaluated

    @property
    def promised(self) -> float:
        """The lowest likeness, dB, that any tile goes by which the compute mask does not give every step."""
        flat = self._likeness.flatten()
        wanted = (flat + MASK_DB * (self._states.level - 0.5)).where(flat < ALL_STEPS_DB, ALL_STEPS_DB)
        decided = [tile_id for tile_id in self.touched if self._states.level[tile_id] < 1]
        lowest = float(wanted[decided].min()) if decided else ALL_STEPS_DB
        return min(lowest, ALL_STEPS_DB) - (self._strayed if lowest < ALL_STEPS_DB else 0)

    def take(self, ids: Sequence[int]) -> TileStates:
        """States of these tiles."""
        return self._states.take(torch.tensor(ids, dtype=torch.long))

    def hold(self, ids: Sequence[int], rated: TileStates) -> None:
        """Keep what was measured of these tiles, which stay where they are."""
        self._states = self._states.put(torch.tensor(ids), rated)

    def aim(self) -> None:
        """Find the likeness of each picture that spends the budget, of what the first evaluation of all tiles says.

        So it does not hang on which tiles share a call of the network, and of several pictures none on the others.
        """
        self._spend()
        self.is_aiming = False

    def _spend(self) -> None:
        images, count = self._likeness.shape
        for image in range(images):
            ids = [tile_id for tile_id in self.touched if tile_id // count == image]
            if ids:
                self._likeness[image] = find_likeness(self.take(ids), self.dtss, self._courses)

    def decide(self, ids: Sequence[int], rated: TileStates, seen: Seen) -> Decision:
        """Let these tiles go on."""
        decision = choose(rated, seen, self.dtss, self._courses, self._likeness.flatten()[torch.tensor(ids)])
        self._states = self._states.put(torch.tensor(ids), decision.states)
        return decision

    def likenesses(self) -> dict[int, float]:
        """How near each tile is thought to be to what all steps would have given, dB, by id; for the bounded rule."""
        if self.dtss.rule == "paper":
            return {}
        values = likeness_db(self._states.difficulty, self._courses.deviation[self._states.course]).tolist()
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
        wanted = self._likeness.flatten()[torch.tensor(ids, dtype=torch.long)]
        left: list[int] = evaluations_left(self.take(ids), self.dtss, self._courses, wanted).tolist()
        return left

    def choose(self, ids: Sequence[int], size: int) -> list[int]:
        """The next batch: tiles with most evaluations to go, all on one side of the conditioning's boundaries."""
        if not ids:
            return []
        index: list[int] = self.take(ids).index.tolist()
        order = sorted(zip((-left for left in self.left(ids)), index, ids, strict=True))
        side = self.sides[order[0][1]]
        return [tile_id for _, place, tile_id in order if self.sides[place] == side][:size]
