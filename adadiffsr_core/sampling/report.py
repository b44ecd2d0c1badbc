"""What a run did: for every tile its timesteps, classes, gains and evaluations."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from .rule import TileClass
from .tiles import TileGrid

Unpromised = Literal["", "noise", "conditioning"]
_REASONS = {
    "noise": "this solver draws noise at every step, so that fewer make another picture",
    "conditioning": "the conditioning changes on the way, and between two evaluations it may do so unseen",
}
_OVERSPENT = 1.05  # times the budget that is more than estimates are off by


@dataclass(frozen=True)
class StepRecord:
    """One evaluation of one tile.

    Attributes:
        index: base index at which it was evaluated.
        timestep: the same on the training schedule, 0 to 999, large = noisy.
        tile_class: what the tile was judged to be doing.
        fr_gain, nr_gain: information gain per twentieth of the denoising, in [-1,1].
        target: base index it jumped to.
    """

    index: int
    timestep: float
    tile_class: TileClass
    fr_gain: float
    nr_gain: float
    target: int


@dataclass(frozen=True)
class TileReport:
    """One tile's run.

    Attributes:
        image: which image of the batch.
        top, left, height, width: place on the canvas, latent px.
        steps: its evaluations in order; none if the compute mask left it untouched.
        likeness: by the bounded rule: how near it is thought to be to what all steps would have given, PSNR in dB;
            infinite if it took them all. None by another rule, or untouched.
    """

    image: int
    top: int
    left: int
    height: int
    width: int
    steps: tuple[StepRecord, ...] = ()
    likeness: float | None = None

    @property
    def nfe(self) -> int:
        """Network evaluations spent."""
        return len(self.steps)

    @property
    def outcome(self) -> str:
        """`untouched`, or the tile's class at its last evaluation, in small letters."""
        return self.steps[-1].tile_class.name.lower() if self.steps else "untouched"


@dataclass(frozen=True)
class RunReport:
    """A whole run, as it was when it had ended.

    Attributes:
        base_steps: N, what every tile would cost without skipping.
        tiles: by tile id.
        calls: sizes of the denoiser's batches, in order.
        tile_batch: what the batches could have held.
        seconds: wall time of the sampling.
        gain_threshold: that gains were compared with.
        likeness: dB, the lowest that the bounded rule went by and can promise; None if there is none.
        unpromised: why that rule cannot promise any: `noise` that the solver draws at every step, so that other steps
            make another picture (decision D83), or `conditioning` that changes on the way, which courses know nothing
            of (decision D92).
        budget: evaluations per tile that were asked for, or 0.
    """

    base_steps: int
    tiles: tuple[TileReport, ...]
    tile_batch: int
    calls: tuple[int, ...] = ()
    seconds: float = 0.0
    gain_threshold: float | None = None
    likeness: float | None = None
    unpromised: Unpromised = ""
    budget: float = 0.0

    def __repr__(self) -> str:
        """In short: a run has many tiles, and each many steps."""
        return f"RunReport({len(self.tiles)} tiles, {self.nfe} of {self.full_nfe} evaluations)"

    @property
    def nfe(self) -> int:
        """Tile evaluations spent in all."""
        return sum(tile.nfe for tile in self.tiles)

    @property
    def full_nfe(self) -> int:
        """What every tile at every base step would have cost."""
        return self.base_steps * len(self.tiles)

    @property
    def mean_nfe(self) -> float:
        """Evaluations per tile."""
        return self.nfe / len(self.tiles)

    @property
    def saved(self) -> float:
        """Share of `full_nfe` that was not spent, 0 to 1."""
        return 1 - self.nfe / self.full_nfe

    @property
    def occupancy(self) -> float:
        """Mean share of each batch that was filled, 0 to 1."""
        return sum(self.calls) / (len(self.calls) * self.tile_batch) if self.calls else 1.0

    @property
    def note(self) -> str:
        """What a user would not expect, in a sentence, or nothing."""
        if not self.nfe:
            return "the compute mask is black everywhere, so that the picture is left as it is"
        if self.unpromised and self.nfe < self.full_nfe:
            return f"{_REASONS[self.unpromised]}: likeness is not promised"
        if self.budget and self.mean_nfe > _OVERSPENT * self.budget:
            return (
                f"a budget of {self.budget:g} evaluations per tile was asked for and {self.mean_nfe:.1f} were spent: "
                "every tile takes two, and where a compute mask asks for every step it gets them"
            )
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a gain that is no number becomes None."""
        return {
            "base_steps": self.base_steps,
            "nfe": self.nfe,
            "full_nfe": self.full_nfe,
            "mean_nfe": round(self.mean_nfe, 3),
            "saved": round(self.saved, 4),
            "denoiser_calls": len(self.calls),
            "occupancy": round(self.occupancy, 4),
            "seconds": round(self.seconds, 3),
            "likeness_db": None if self.likeness is None else round(self.likeness, 2),
            "note": self.note,
            "tiles": [_tile_to_dict(tile) for tile in self.tiles],
        }


def join_reports(parts: Sequence[RunReport]) -> RunReport:
    """One report of a picture whose rows of tiles were run in parts, from top to bottom.

    Args:
        parts: at least one, by the same settings.
    """
    likenesses = [part.likeness for part in parts if part.likeness is not None]
    return replace(
        parts[0],
        tiles=tuple(tile for part in parts for tile in part.tiles),
        calls=tuple(size for part in parts for size in part.calls),
        seconds=sum(part.seconds for part in parts),
        likeness=min(likenesses, default=None),
        unpromised=next((part.unpromised for part in parts if part.unpromised), ""),  # none of a part that is black
        budget=max(part.budget for part in parts),
    )


def _tile_to_dict(tile: TileReport) -> dict[str, Any]:
    return {
        "image": tile.image,
        "box": [tile.top, tile.left, tile.height, tile.width],
        "nfe": tile.nfe,
        "outcome": tile.outcome,
        "likeness_db": None if tile.likeness is None or math.isinf(tile.likeness) else round(tile.likeness, 2),
        "index": [step.index for step in tile.steps],
        "timestep": [step.timestep for step in tile.steps],
        "class": [step.tile_class.name.lower() for step in tile.steps],
        "fr_gain": [_round_gain(step.fr_gain) for step in tile.steps],
        "nr_gain": [_round_gain(step.nr_gain) for step in tile.steps],
    }


def _round_gain(gain: float) -> float | None:
    """JSON has no NaN, which a metric gives where it is undefined."""
    return round(gain, 6) if math.isfinite(gain) else None


class RunLog:
    """What happens in a run, written down as it happens.

    Attributes:
        nfe: tile evaluations so far.
        begun: ids of the tiles that have been evaluated.
    """

    def __init__(self, grid: TileGrid, images: int, base_steps: int) -> None:
        self.grid, self.base_steps = grid, base_steps
        self.nfe = 0
        self.begun: set[int] = set()
        self._steps: list[list[StepRecord]] = [[] for _ in range(images * grid.count)]

    def add(self, tile_id: int, record: StepRecord) -> None:
        """One evaluation of one tile."""
        self._steps[tile_id].append(record)
        self.begun.add(tile_id)
        self.nfe += 1

    def latest(self, tile_id: int) -> StepRecord:
        """The newest evaluation of a tile that has begun."""
        return self._steps[tile_id][-1]

    def close(self, tile_batch: int, likenesses: Mapping[int, float] = MappingProxyType({}), **facts: Any) -> RunReport:
        """The report of a run that has ended.

        Args:
            tile_batch: see `RunReport`.
            likenesses: by tile id, where they are known; see `TileReport`.
            facts: the other fields of `RunReport`.
        """
        height, width = self.grid.tile
        tiles = tuple(
            TileReport(*self.grid.locate_in_whole(tile_id), height, width, tuple(steps), likenesses.get(tile_id))
            for tile_id, steps in enumerate(self._steps)
        )
        return RunReport(base_steps=self.base_steps, tiles=tiles, tile_batch=tile_batch, **facts)
