"""The loop: gather running tiles, denoise, measure, decide, jump, scatter.

Source: section 3.3; docs/design.md, "Sampling". Every tile has its own timeline. One turn evaluates up to
`tile_batch` tiles, whatever their timesteps, in one call of the network, and moves each by its own
interval; a finished tile makes room for the next one (continuous batching, as language-model servers
do).
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from .controller import Decision
from .noise import StepNoise
from .report import RunReport
from .rule import TileClass
from .slots import Slots
from .solver import Before, Jump, take_jump
from .tiles import crop_tiles
from .transfer import send
from .turn import Job, Launched, Rated, Sink, Turns, choose_depth


def sample_tiles(job: Job, sink: Sink, ahead: int | None = None) -> RunReport:
    """Sample every tile alone, handing each to `sink` when it is finished (the paper's choice).

    Memory is that of the tiles in flight: four batches, or a row of tiles if that is more; all, where a budget is to be
    spent on them. The tiles with most evaluations to go come first, so that there are short ones left to fill the last
    batches.

    Args:
        job: what to do.
        sink: called with ids and estimates `[B,C,h,w]`, in the order in which tiles finish.
        ahead: batches that the device is given before the first of them is settled; a tile that waits to be settled
            is in no other. None is `choose_depth`.

    Raises:
        DenoiserError: the network returned NaN or infinity.
        ConfigError: the job needs a gain estimator and has none.
    """
    run, depth = Turns(job), ahead or choose_depth(job.x.device)
    untouched, queue = run.timelines.untouched, deque(run.timelines.touched)
    for start in range(0, len(untouched), job.tile_batch):
        ids = untouched[start : start + job.tile_batch]
        sink(ids, crop_tiles(job.lq_latent, job.grid, ids))
    window = max(4 * job.tile_batch, job.grid.cols)
    room = len(queue) if run.timelines.is_aiming else min(window, len(queue))
    slots = Slots(job, max(1, room), run.estimator is not None, run.codebook.needs_before)
    noise = StepNoise(job.seed, job.grid, job.x.shape[1])
    launched: deque[Launched] = deque()
    rated: list[Rated] = []
    while queue or slots.places:
        slots.admit([queue.popleft() for _ in range(min(slots.room, len(queue)))])
        size = run.denoise.tile_batch
        if len(launched) < depth:
            idle = _idle(slots, [*launched, *(one.batch for one in rated)])
            ids = run.timelines.choose(list(islice(idle, window)), size)
            # A batch that is not full can wait: those under way may fill it.
            if len(ids) == size or (ids and not launched):
                launched.append(_launch(run, slots, ids))
                continue
        rated.append(run.rate(launched.popleft()))
        if run.timelines.is_aiming:
            waiting = len(slots.places) - sum(len(one.batch.ids) for one in rated)
            run.tell_wait()
            if waiting:
                continue
            run.timelines.aim()
        for one in rated:
            _settle(run, slots, noise, one, sink)
            run.tell(one.batch, list(slots.places), len(queue))
        rated.clear()
    return run.close()


def _idle(slots: Slots, launched: Sequence[Launched]) -> Iterator[int]:
    """Running tiles that are in no batch."""
    busy = {tile_id for batch in launched for tile_id in batch.ids}
    return (tile_id for tile_id in slots.places if tile_id not in busy)


def _launch(run: Turns, slots: Slots, ids: Sequence[int]) -> Launched:
    lq_latent = None if slots.lq_latent is None else slots.gather(slots.lq_latent, ids)
    return run.launch(ids, slots.gather(slots.x, ids), lq_latent)


def _settle(run: Turns, slots: Slots, noise: StepNoise, rated: Rated, sink: Sink) -> None:
    """Decide, hand over what is finished, and move the others to their targets."""
    batch, decision = rated.batch, run.decide(rated)
    slots.scatter(slots.x, batch.ids, _jump(run, slots, noise, batch, decision))
    if slots.previous is not None:
        slots.scatter(slots.previous, batch.ids, batch.denoised)
    starts = batch.before.index.tolist()
    for place, tile_id in enumerate(batch.ids):
        slot = slots.places[tile_id]
        slots.previous_start[slot] = starts[place]
        if slots.best is not None and bool(decision.is_best[place]):
            slots.best[slot] = batch.denoised[place]
            slots.has_best[slot] = True
    final = torch.nonzero(decision.is_final).flatten().tolist()
    if final:
        # A copy: what a place or a batch holds will be another's.
        results = torch.stack([_result(slots, batch, decision, place) for place in final])
        ids = [batch.ids[place] for place in final]
        sink(ids, results)
        for tile_id in ids:
            slots.release(tile_id)


def _jump(run: Turns, slots: Slots, noise: StepNoise, batch: Launched, decision: Decision) -> Tensor:
    """`x` of each tile at its target; of a saturated tile, anything (it is not used)."""
    x, device = slots.gather(slots.x, batch.ids), batch.denoised.device
    target = send(torch.maximum(decision.states.index, batch.before.index + 1), device)
    before = None
    if slots.previous is not None:
        starts = [slots.previous_start[slots.places[tile_id]] for tile_id in batch.ids]
        if run.codebook.looks_ahead:
            here = batch.before.index.tolist()
            known = (run.timelines.tells(start, index) for start, index in zip(starts, here, strict=True))
            starts = [start if is_known else -1 for start, is_known in zip(starts, known, strict=True)]
        before = Before(slots.gather(slots.previous, batch.ids), send(torch.tensor(starts), device))
    fresh = noise(batch.ids, target).to(x.dtype) if run.codebook.is_stochastic else None
    return take_jump(run.codebook, x, batch.denoised, Jump(batch.start, target), fresh, before)


def _result(slots: Slots, batch: Launched, decision: Decision, place: int) -> Tensor:
    """A saturated tile's best estimate from the NR point of view; any other's last one (section 3.3)."""
    slot = slots.places[batch.ids[place]]
    is_saturated = int(decision.classes[place]) == TileClass.SATURATED
    return (
        slots.best[slot] if is_saturated and slots.best is not None and slots.has_best[slot] else batch.denoised[place]
    )
