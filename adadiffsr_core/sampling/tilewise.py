"""The loop: gather running tiles, denoise, measure, decide, jump, scatter.

Source: section 3.3; docs/design.md, "Sampling". Every tile has its own timeline. One turn evaluates up to
`tile_batch` tiles, whatever their timesteps, in one call of the network, and moves each by its own
interval; a finished tile makes room for the next one (continuous batching, as language-model servers
do).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .controller import Decision, TileClass
from .noise import StepNoise
from .report import RunReport
from .solver import take_jump
from .tiles import crop_tiles
from .turn import Job, Sink, Turns


@dataclass
class _Tile:
    """What a running tile keeps on the device, each `[C,h,w]`.

    Attributes:
        x: noisy latent at the tile's base index.
        previous, previous_start: estimate and base index of the evaluation before.
        best: the estimate with the best R_nr so far; None until one counts.
    """

    x: Tensor
    previous: Tensor
    previous_start: int = -1
    best: Tensor | None = None


def sample_tiles(job: Job, sink: Sink) -> RunReport:
    """Sample every tile alone, handing each to `sink` when it is finished (the paper's choice).

    Memory is that of the tiles in flight: four batches, or a row of tiles if that is more. The tiles with most
    evaluations to go come first, so that there are short ones left to fill the last batches.

    Args:
        job: what to do.
        sink: called with ids and estimates `[B,C,h,w]`, in the order in which tiles finish.

    Raises:
        DenoiserError: the network returned NaN or infinity.
        ConfigError: the job needs a gain estimator and has none.
    """
    began = time.monotonic()
    run = Turns(job)
    queue, untouched = run.split_untouched()
    for start in range(0, len(untouched), job.tile_batch):
        ids = untouched[start : start + job.tile_batch]
        sink(ids, crop_tiles(job.lq_latent, job.grid, ids))
    flight: dict[int, _Tile] = {}
    room = max(4 * job.tile_batch, job.grid.cols)
    noise = StepNoise(job.seed, job.grid, job.x.shape[1])
    queue.reverse()
    while queue or flight:
        _admit(job, flight, queue, room)
        ids = _longest_to_go(run, flight)
        tiles = [flight[tile_id] for tile_id in ids]
        x = torch.stack([tile.x for tile in tiles])
        start_index = run.states.index[torch.tensor(ids)]
        denoised, decision = run.evaluate(ids, x)
        x_next = _jump(run, noise, ids, tiles, x, denoised, start_index, decision)
        for place, (tile_id, tile) in enumerate(zip(ids, tiles, strict=True)):
            if bool(decision.is_best[place]):
                tile.best = denoised[place]
            if bool(decision.is_final[place]):
                sink([tile_id], _result(tile, denoised[place], decision, place)[None])
                del flight[tile_id]
            tile.x, tile.previous, tile.previous_start = x_next[place], denoised[place], int(start_index[place])
        run.tell(ids, denoised, list(flight), len(queue))
    run.report.seconds = time.monotonic() - began
    return run.report


def _admit(job: Job, flight: dict[int, _Tile], queue: list[int], room: int) -> None:
    """Fill the room that finished tiles left."""
    ids = [queue.pop() for _ in range(min(room - len(flight), len(queue)))]
    if ids:
        for tile_id, x in zip(ids, crop_tiles(job.x, job.grid, ids), strict=True):
            flight[tile_id] = _Tile(x, x)


def _longest_to_go(run: Turns, flight: dict[int, _Tile]) -> list[int]:
    """The next batch: tiles with most evaluations to go, all on one side of the conditioning's boundaries."""
    index = run.states.index.tolist()
    left = dict(zip(flight, run.left(list(flight)), strict=True))
    order = sorted(flight, key=lambda tile_id: (-left[tile_id], index[tile_id], tile_id))
    side = run.sides[index[order[0]]]
    return [tile_id for tile_id in order if run.sides[index[tile_id]] == side][: run.denoise.tile_batch]


def _jump(
    run: Turns,
    noise: StepNoise,
    ids: Sequence[int],
    tiles: Sequence[_Tile],
    x: Tensor,
    denoised: Tensor,
    start: Tensor,
    decision: Decision,
) -> Tensor:
    """`x` of each tile at its target; of a saturated tile, anything (it is not used)."""
    target = torch.maximum(decision.states.index, start + 1).to(run.device, non_blocking=True)
    previous = previous_start = None
    if run.codebook.second_order:
        previous = torch.stack([tile.previous for tile in tiles])
        previous_start = torch.tensor([tile.previous_start for tile in tiles]).to(run.device, non_blocking=True)
    fresh = noise(ids, target).to(x.dtype) if run.codebook.is_stochastic else None
    start = start.to(run.device, non_blocking=True)
    return take_jump(run.codebook, x, denoised, start, target, fresh, previous, previous_start)


def _result(tile: _Tile, denoised: Tensor, decision: Decision, place: int) -> Tensor:
    """A saturated tile's best estimate from the NR point of view; any other's last one (section 3.3)."""
    is_saturated = int(decision.classes[place]) == TileClass.SATURATED
    return tile.best if is_saturated and tile.best is not None else denoised
