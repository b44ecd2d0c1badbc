"""The other merge mode: all tiles on one canvas that advances on the base schedule.

Source: decision D7.
"""

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from .controller import Decision
from .merge import TileMerger
from .noise import keyed_noise, whole_canvases
from .report import RunReport
from .rule import TileClass
from .solver import Before, Jump, take_jump
from .tiles import TileGrid, crop_tiles
from .timelines import Timelines
from .turn import Job, Launched, Rated, Sink, Turns, choose_depth


def sample_canvas(job: Job, sink: Sink, ahead: int | None = None) -> RunReport:
    """Sample all tiles on one canvas.

    The canvas advances on the base schedule. Its estimate at each step is composed of every tile's newest
    one, and only tiles that are due are evaluated. For a deterministic solver of first order a skipped step
    with a held estimate is the long step, so on a single tile this equals `sample_tiles` (decision D7); and so it does
    where jumps look ahead, for which estimates go on changing until the next evaluation (decision D88).

    Args:
        job: what to do.
        sink: called once with all ids and estimates; merged, they are the canvas.
        ahead: see `sample_tiles`.

    Raises:
        DenoiserError: the network returned NaN or infinity.
        ConfigError: the job needs a gain estimator and has none.
    """
    run, depth = Turns(job), ahead or choose_depth(job.x.device)
    everything = range(len(job.x) * job.grid.count)
    estimates = crop_tiles(job.lq_latent, job.grid, everything)
    best = estimates.clone() if job.dtss.exits else estimates
    drift = Drift(estimates, run.timelines) if run.codebook.looks_ahead else None
    # The sampler works on the padded canvas.
    canvas = TileMerger(TileGrid(job.grid.padded, job.grid.tile, job.grid.tops, job.grid.lefts), len(job.x))
    canvas.add(everything, estimates)
    merged = canvas.finish().clone()  # the merger goes on writing into its own
    running, x, previous = set(run.timelines.touched), job.x, None
    for index in range(job.codebook.steps):
        due = run.timelines.due(sorted(running), index)
        before = _take(estimates, due)
        if drift is not None:
            drift.go_on()
        waiting, launched, rated = deque(due), deque[Launched](), list[Rated]()
        while waiting or launched:
            if waiting and len(launched) < depth:
                ids = [waiting.popleft() for _ in range(min(run.denoise.tile_batch, len(waiting)))]
                lq_latent = None if run.estimator is None else crop_tiles(job.lq_latent, job.grid, ids)
                launched.append(run.launch(ids, crop_tiles(x, job.grid, ids), lq_latent))
                continue
            rated.append(run.rate(launched.popleft()))
            if run.timelines.is_aiming:
                to_come = len(due) - sum(len(one.batch.ids) for one in rated)
                run.tell_wait()
                if to_come:
                    continue
                run.timelines.aim()
            for one in rated:
                batch, decision = one.batch, run.decide(one)
                if drift is not None:
                    drift.turn(batch, estimates, index)
                _hold(batch, decision, estimates, best)
                final = zip(batch.ids, decision.is_final.tolist(), strict=True)
                running.difference_update(tile_id for tile_id, is_final in final if is_final)
                run.tell(batch, sorted(running), 0)
            rated.clear()
        if drift is not None:
            canvas.update(everything, drift.held, drift.held)  # all, which is to merge anew
            merged = canvas.finish().clone()
        elif due:
            canvas.update(due, before, _take(estimates, due))
            merged = canvas.finish().clone()
        x, previous = _advance_canvas(run, x, merged, previous, index), merged
    sink(everything, estimates)
    return run.close()


class Drift:
    """Where the estimates of tiles would be by now that go on changing as they did between their last evaluations.

    Args:
        estimates: of all tiles before the first evaluation, `[T,C,h,w]`.
        timelines: of the run.

    Attributes:
        held: of each at the present base step.
    """

    def __init__(self, estimates: Tensor, timelines: Timelines) -> None:
        self.held, self._change = estimates.clone(), torch.zeros_like(estimates)
        self._timelines, self._start = timelines, [-1] * len(estimates)

    def go_on(self) -> None:
        """By a base step."""
        self.held += self._change

    def turn(self, batch: Launched, estimates: Tensor, index: int) -> None:
        """Go on from new estimates; `estimates` has those of the evaluations before."""
        for place, tile_id in enumerate(batch.ids):
            new, start = batch.denoised[place], self._start[tile_id]
            is_known = self._timelines.tells(start, index)
            self._change[tile_id] = (new - estimates[tile_id]) / (index - start) if is_known else 0
            self.held[tile_id], self._start[tile_id] = new, index


def _take(tiles: Tensor, ids: Sequence[int]) -> Tensor:
    """A copy of some tiles: slices, for which no index need cross to the device."""
    return torch.stack([tiles[tile_id] for tile_id in ids]) if ids else tiles[:0]


def _hold(batch: Launched, decision: Decision, estimates: Tensor, best: Tensor) -> None:
    """Keep each tile's newest estimate, or its best one when it stops early."""
    for place, tile_id in enumerate(batch.ids):
        if bool(decision.is_best[place]) and best is not estimates:
            best[tile_id] = batch.denoised[place]
        is_saturated = int(decision.classes[place]) == TileClass.SATURATED
        estimates[tile_id] = best[tile_id] if is_saturated else batch.denoised[place]


def _advance_canvas(run: Turns, x: Tensor, denoised: Tensor, previous: Tensor | None, index: int) -> Tensor:
    """One base step of the whole canvas."""
    images, channels, height, width = x.shape
    start = torch.full((images,), index, device=x.device)
    fresh = None
    if run.codebook.is_stochastic:
        corners = whole_canvases(images, x.device)
        fresh = keyed_noise(run.job.seed, start + 1, corners, (channels, height, width))
    before = None if previous is None else Before(previous, start - 1)
    return take_jump(run.codebook, x, denoised, Jump(start, start + 1), fresh, before)
