"""The other merge mode: all tiles on one canvas that advances on the base schedule.

Source: decision D7.
"""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from .controller import Decision, TileClass
from .merge import merge_tiles
from .noise import keyed_noise
from .report import RunReport
from .solver import take_jump
from .tiles import TileGrid, crop_tiles
from .turn import Job, Sink, Turns


def sample_canvas(job: Job, sink: Sink) -> RunReport:
    """Sample all tiles on one canvas.

    The canvas advances on the base schedule. Its estimate at each step is composed of every tile's newest
    one, and only tiles that are due are evaluated. For a deterministic solver of first order a skipped step
    with a held estimate is the long step, so on a single tile this equals `sample_tiles` (decision D7).

    Args:
        job: what to do.
        sink: called once with all ids and estimates; merged, they are the canvas.

    Raises:
        DenoiserError: the network returned NaN or infinity.
        ConfigError: the job needs a gain estimator and has none.
    """
    began = time.monotonic()
    run = Turns(job)
    touched, _ = run.split_untouched()
    everything = range(len(run.report.tiles))
    estimates = crop_tiles(job.lq_latent, job.grid, everything)
    best = estimates.clone() if job.dtss.early_exit else estimates
    running = set(touched)
    x, previous = job.x, None
    for index in range(job.codebook.steps):
        due = [tile_id for tile_id in touched if tile_id in running and int(run.states.index[tile_id]) == index]
        for first in range(0, len(due), job.tile_batch):
            ids = due[first : first + job.tile_batch]
            denoised, decision = run.evaluate(ids, crop_tiles(x, job.grid, ids))
            _hold(ids, denoised, decision, estimates, best)
            running.difference_update(i for i, final in zip(ids, decision.is_final.tolist(), strict=True) if final)
            run.tell(ids, denoised, sorted(running), 0)
        merged = _merge_padded(estimates, job.grid)
        x, previous = _advance_canvas(run, x, merged, previous, index), merged
    sink(everything, estimates)
    run.report.seconds = time.monotonic() - began
    return run.report


def _hold(ids: Sequence[int], denoised: Tensor, decision: Decision, estimates: Tensor, best: Tensor) -> None:
    """Keep each tile's newest estimate, or its best one when it stops early."""
    for place, tile_id in enumerate(ids):
        if bool(decision.is_best[place]) and best is not estimates:
            best[tile_id] = denoised[place]
        is_saturated = int(decision.classes[place]) == TileClass.SATURATED
        estimates[tile_id] = best[tile_id] if is_saturated else denoised[place]


def _merge_padded(tiles: Tensor, grid: TileGrid) -> Tensor:
    """Merge to the padded canvas, on which the sampler works."""
    return merge_tiles(tiles, TileGrid(grid.padded, grid.tile, grid.tops, grid.lefts))


def _advance_canvas(run: Turns, x: Tensor, denoised: Tensor, previous: Tensor | None, index: int) -> Tensor:
    """One base step of the whole canvas."""
    images, channels, height, width = x.shape
    start = torch.full((images,), index, device=run.device)
    fresh = None
    if run.codebook.is_stochastic:
        image = torch.arange(images, device=run.device)
        origin = torch.zeros_like(image)
        fresh = keyed_noise(run.job.seed, start + 1, image, origin, origin, channels, height, width)
    return take_jump(run.codebook, x, denoised, start, start + 1, fresh, previous, start - 1)
