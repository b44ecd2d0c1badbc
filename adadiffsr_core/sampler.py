"""The loop: gather running tiles, denoise, measure, decide, jump, scatter.

Source: section 3.3 and DESIGN section 4. Every tile has its own timeline. One turn evaluates up to
`tile_batch` tiles, whatever their timesteps, in one call of the network, and moves each by its own
interval; a finished tile makes room for the next one (continuous batching, as language-model servers
do).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .codebook import Codebook
from .controller import Decision, DtssConfig, TileClass, TileStates, decide, start_states
from .denoiser import Denoiser, ElasticDenoiser
from .errors import ConfigError, DenoiserError
from .gain import GainEstimator
from .merge import merge_tiles
from .noise import StepNoise, keyed_noise
from .report import RunReport, StepRecord, start_report
from .schedule import Schedule
from .solver import take_jump
from .tiles import TileGrid, crop_tiles

Sink = Callable[[Sequence[int], Tensor], None]


@dataclass(frozen=True)
class Progress:
    """How far a run has come, after each turn.

    Attributes:
        nfe: tile evaluations so far.
        expected_nfe: tile evaluations that the whole run will have taken, as it looks now.
    """

    nfe: int
    expected_nfe: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a run needs.

    Attributes:
        denoiser: the network.
        schedule: its noise levels.
        codebook: base schedule and solver.
        grid: where tiles are.
        lq_latent: the paper's o, padded canvas `[N,C,H,W]` float32.
        x: the noisy start, padded canvas `[N,C,H,W]` float32.
        dtss: the controller's rule.
        estimator: of gain; None only if `dtss.is_uniform`.
        compute: level of the compute mask for each tile `[N * grid.count]`, or None; tiles at 0 are never evaluated.
        seed: of the solvers' noise.
        tile_batch: tiles in one call of the network.
        on_step: told after each turn; whatever it raises ends the run.
    """

    denoiser: Denoiser
    schedule: Schedule
    codebook: Codebook
    grid: TileGrid
    lq_latent: Tensor
    x: Tensor
    dtss: DtssConfig
    estimator: GainEstimator | None = None
    compute: Tensor | None = None
    seed: int = 0
    tile_batch: int = 8
    on_step: Callable[[Progress], None] = field(default=lambda progress: None)


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


class _Evaluator:
    """What both merge modes share: evaluate tiles, decide, and write the report."""

    def __init__(self, job: Job) -> None:
        if job.estimator is None and not job.dtss.is_uniform:
            raise ConfigError("steps can adapt to a tile only with a gain estimator; give one, or use equal intervals")
        self.job = job
        self.device = job.x.device
        self.codebook = job.codebook.to(self.device)
        images = len(job.x)
        self.denoise = ElasticDenoiser(job.denoiser, job.tile_batch)
        self.report = start_report(job.grid, images, job.codebook.steps, job.tile_batch)
        self.report.calls = self.denoise.calls
        self.states = start_states(images * job.grid.count, job.dtss, job.compute)
        self.timesteps = job.schedule.sigma_to_timestep(job.codebook.sigmas[:-1]).tolist()
        self.estimator = None if job.dtss.is_uniform else job.estimator
        edges = torch.tensor(sorted(job.denoiser.boundaries), dtype=torch.float32)
        self.sides = torch.bucketize(job.codebook.sigmas, edges).tolist()

    def split_untouched(self) -> tuple[list[int], list[int]]:
        """Ids of tiles to evaluate, and of those that the compute mask leaves alone."""
        levels = torch.ones(len(self.report.tiles)) if self.job.compute is None else self.job.compute.cpu()
        return torch.nonzero(levels > 0).flatten().tolist(), torch.nonzero(levels <= 0).flatten().tolist()

    def evaluate(self, ids: Sequence[int], x: Tensor) -> tuple[Tensor, Decision]:
        """Denoise `x` `[B,C,h,w]` of tiles `ids`, and decide how each goes on."""
        rows = torch.tensor(ids)
        before = self.states.take(rows)
        sigma = self.codebook.sigmas[before.index.to(self.device, non_blocking=True)]
        denoised = self.denoise(x, sigma, ids, before.gain.to(self.device, non_blocking=True))
        decision = decide(before, self._measure(ids, denoised, sigma, before), self.job.dtss, self.job.codebook.steps)
        self.states = self.states.put(rows, decision.states)
        self._record(ids, before, decision)
        return denoised, decision

    def _measure(self, ids: Sequence[int], denoised: Tensor, sigma: Tensor, before: TileStates) -> Tensor | None:
        """Quality `[B,2]` on the CPU: the turn's only wait for the device, which also brings word of NaN."""
        is_finite = denoised.isfinite().flatten(1).all(dim=1).float()[:, None]
        if self.estimator is None:
            flags, quality = is_finite.cpu(), None
        else:
            lq = crop_tiles(self.job.lq_latent, self.job.grid, ids)
            both = torch.cat([is_finite, self.estimator.quality(denoised, lq, sigma)], dim=1).cpu()
            flags, quality = both[:, :1], both[:, 1:]
        if not bool(flags.all()):
            place = int(flags[:, 0].argmin())
            step = int(before.index[place])
            raise DenoiserError(
                f"the network returned NaN or infinity for tile {ids[place]} at step {step} of "
                f"{self.job.codebook.steps} (timestep {self.timesteps[step]:.0f}); try --dtype float32"
            )
        return quality

    def _record(self, ids: Sequence[int], before: TileStates, decision: Decision) -> None:
        after = decision.states
        rows = zip(
            ids,
            before.index.tolist(),
            decision.classes.tolist(),
            after.gain.tolist(),
            after.index.tolist(),
            strict=True,
        )
        for tile_id, index, tile_class, (fr, nr), target in rows:
            record = StepRecord(index, self.timesteps[index], TileClass(tile_class), fr, nr, target)
            self.report.tiles[tile_id].steps.append(record)

    def tell(self, running: Sequence[int], waiting: int) -> None:
        """Report progress: tiles that run finish at their present interval, those that wait cost as the others."""
        spent = self.report.nfe
        known = spent + sum(self.left(running))
        begun = {tile_id for tile_id, tile in enumerate(self.report.tiles) if tile.steps}
        each = known / max(1, len(begun.union(running)))
        self.job.on_step(Progress(spent, round(known + waiting * each)))

    def left(self, ids: Sequence[int]) -> list[int]:
        """Evaluations that each tile needs to its end if its interval stays."""
        states = self.states.take(torch.tensor(ids, dtype=torch.long))
        intervals = torch.tensor(self.job.dtss.intervals)[states.rung]
        left: list[int] = torch.ceil((self.job.codebook.steps - states.index) / intervals).long().tolist()
        return left


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
    run = _Evaluator(job)
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
        run.tell(list(flight), len(queue))
    run.report.seconds = time.monotonic() - began
    return run.report


def _admit(job: Job, flight: dict[int, _Tile], queue: list[int], room: int) -> None:
    """Fill the room that finished tiles left."""
    ids = [queue.pop() for _ in range(min(room - len(flight), len(queue)))]
    if ids:
        for tile_id, x in zip(ids, crop_tiles(job.x, job.grid, ids), strict=True):
            flight[tile_id] = _Tile(x, x)


def _longest_to_go(run: _Evaluator, flight: dict[int, _Tile]) -> list[int]:
    """The next batch: tiles with most evaluations to go, all on one side of the conditioning's boundaries."""
    index = run.states.index.tolist()
    left = dict(zip(flight, run.left(list(flight)), strict=True))
    order = sorted(flight, key=lambda tile_id: (-left[tile_id], index[tile_id], tile_id))
    side = run.sides[index[order[0]]]
    return [tile_id for tile_id in order if run.sides[index[tile_id]] == side][: run.denoise.tile_batch]


def _jump(
    run: _Evaluator,
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


def sample_canvas(job: Job, sink: Sink) -> RunReport:
    """Sample all tiles on one canvas: `merge = every_step`.

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
    run = _Evaluator(job)
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
            run.tell(sorted(running), 0)
        merged = merge_tiles_padded(estimates, job.grid)
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


def merge_tiles_padded(tiles: Tensor, grid: TileGrid) -> Tensor:
    """Merge to the padded canvas, on which the sampler works."""
    return merge_tiles(tiles, TileGrid(grid.padded, grid.tile, grid.tops, grid.lefts))


def _advance_canvas(run: _Evaluator, x: Tensor, denoised: Tensor, previous: Tensor | None, index: int) -> Tensor:
    """One base step of the whole canvas."""
    images, channels, height, width = x.shape
    start = torch.full((images,), index, device=run.device)
    fresh = None
    if run.codebook.is_stochastic:
        image = torch.arange(images, device=run.device)
        origin = torch.zeros_like(image)
        fresh = keyed_noise(run.job.seed, start + 1, image, origin, origin, channels, height, width)
    return take_jump(run.codebook, x, denoised, start, start + 1, fresh, previous, start - 1)
