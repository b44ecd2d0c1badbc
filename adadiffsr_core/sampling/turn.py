"""One turn of a run, whatever the merge mode: denoise a batch of tiles, measure, decide, record.

A turn is cut in two. To *launch* it is work for the device alone; to *settle* it, the CPU reads the gains and decides.
In between the next may be launched, so that the device never waits for the CPU.

Source: section 3.3; docs/design.md, "Sampling".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError, DenoiserError
from ..gain.information import GainEstimator
from .bounded import uneven_db
from .codebook import Codebook
from .controller import Decision, Seen, TileStates, rate
from .denoiser import Denoiser, ElasticDenoiser
from .report import RunLog, RunReport, StepRecord, Unpromised
from .rule import DtssConfig, TileClass
from .tiles import TileGrid
from .timelines import Timelines
from .transfer import Readback, send

# Takes finished tiles: ids and estimates `[B,C,h,w]`.
Sink = Callable[[Sequence[int], Tensor], None]


@dataclass(frozen=True)
class Progress:
    """How far a run has come, after each turn.

    Attributes:
        nfe: tile evaluations so far.
        expected_nfe: tile evaluations that the whole run will have taken, as it looks now.
        tiles: ids of the tiles just evaluated.
        denoised: their estimates `[B,C,h,w]`, for previews; not to be changed.
        steps: what was recorded of each of them, in the same order.
        finished: ids of those of them that will not be evaluated again.
    """

    nfe: int
    expected_nfe: int
    tiles: Sequence[int] = ()
    denoised: Tensor | None = None
    steps: Sequence[StepRecord] = ()
    finished: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a run needs.

    Attributes:
        denoiser: the network.
        codebook: base schedule and solver.
        grid: where tiles are.
        lq_latent: the paper's o, padded canvas `[N,C,H,W]` float32.
        x: the noisy start, padded canvas `[N,C,H,W]` float32.
        timesteps: of the N base steps on the training schedule `[N]`, for the report.
        dtss: the controller's rule.
        estimator: of gain; None only if `dtss.is_uniform`.
        compute: level of the compute mask for each tile `[N * grid.count]`, or None; tiles at 0 are never evaluated.
        seed: of the solvers' noise.
        tile_batch: tiles in one call of the network.
        is_filled: whether calls with fewer are filled up with copies (decision D70).
        on_step: told after each turn; whatever it raises ends the run.
    """

    denoiser: Denoiser
    codebook: Codebook
    grid: TileGrid
    lq_latent: Tensor
    x: Tensor
    timesteps: Tensor
    dtss: DtssConfig
    estimator: GainEstimator | None = None
    compute: Tensor | None = None
    seed: int = 0
    tile_batch: int = 8
    is_filled: bool = False
    on_step: Callable[[Progress], None] = field(default=lambda progress: None)


def _fill_up(values: Tensor, count: int) -> Tensor:
    """A batch and so many copies of its first row."""
    return torch.cat([values, values[:1].expand(count, *values.shape[1:])])


@dataclass(frozen=True)
class Launched:
    """A batch that the device is working on.

    Attributes:
        ids: of its tiles.
        before: their states, on the CPU.
        start: their base indices `[B]`, on the device.
        denoised: their estimates `[B,C,h,w]`.
        signs: `[B,1]` whether the estimate is finite, with an estimator quality beside it, `[B,3]` or `[B,4]`.
    """

    ids: Sequence[int]
    before: TileStates
    start: Tensor
    denoised: Tensor
    signs: Readback


class Rated(NamedTuple):
    """A batch, and what it shows of its tiles: their states, where they still are, and classes."""

    batch: Launched
    states: TileStates
    seen: Seen


def choose_depth(device: torch.device) -> int:
    """Batches that a device is given before the first of them is settled: the CPU cannot work on two."""
    return 1 if device.type == "cpu" else 2


class Turns:
    """A run in the making.

    Attributes:
        job: what to do.
        codebook: on the device; by the bounded rule jumps look ahead.
        denoise: the network.
        timelines: where tiles are.
        estimator: of gain; None where gains cannot change anything.
    """

    def __init__(self, job: Job) -> None:
        if job.estimator is None and not job.dtss.is_uniform:
            raise ConfigError("steps can adapt to a tile only with a gain estimator; give one, or use equal intervals")
        self.job, self._began = job, monotonic()
        codebook = job.codebook.look_ahead() if job.dtss.rule == "bounded" else job.codebook
        self.codebook = codebook.to(job.x.device)
        self.denoise = ElasticDenoiser(job.denoiser, job.tile_batch)
        edges = torch.tensor(sorted(job.denoiser.boundaries), dtype=torch.float32)
        sides = torch.bucketize(job.codebook.sigmas, edges).tolist()
        steps, images = job.codebook.steps, len(job.x)
        # Timesteps of flow models are shifted, so that they tell nothing of even ones.
        strayed = 0.0 if job.codebook.is_flow else uneven_db(job.timesteps)
        levels = torch.full((images, job.grid.count), 0.5) if job.compute is None else job.compute
        self.timelines = Timelines(levels.reshape(images, -1), steps, job.dtss, sides, strayed)
        self.estimator = None if job.dtss.is_uniform else job.estimator
        self._log, self._timesteps = RunLog(job.grid, images, steps), job.timesteps.tolist()
        self._rated = 0

    def launch(self, ids: Sequence[int], x: Tensor, lq_latent: Tensor | None) -> Launched:
        """Have the device denoise and rate tiles `ids`.

        Args:
            ids: of the tiles.
            x: `[B,C,h,w]`.
            lq_latent: `[B,C,h,w]`; needed where there is an estimator.
        """
        before, device = self.timelines.take(ids), x.device
        start, gain = send(before.index, device), send(before.gain, device)
        sigma, tiles = self.codebook.sigmas[start], list(ids)
        if (missing := self.denoise.tile_batch - len(ids)) > 0 and self.job.is_filled:
            x, sigma, gain = (_fill_up(values, missing) for values in (x, sigma, gain))
            lq_latent = None if lq_latent is None else _fill_up(lq_latent, missing)
            tiles += tiles[:1] * missing
        denoised = self.denoise(x, sigma, tiles, gain)
        signs = denoised.isfinite().flatten(1).all(dim=1).float()[:, None]
        if self.estimator is not None and lq_latent is not None:
            signs = torch.cat([signs, self.estimator.quality(denoised, lq_latent, sigma)], dim=1)
        return Launched(ids, before, start, denoised[: len(ids)], Readback(signs[: len(ids)]))

    def rate(self, batch: Launched) -> Rated:
        """Read what a batch shows: the turn's only wait for the device, which also tells of NaN.

        Raises:
            DenoiserError: the network returned NaN or infinity.
        """
        signs = batch.signs.wait()
        if not bool(signs[:, 0].all()):
            self._refuse(batch, int(signs[:, 0].argmin()))
        quality = None if self.estimator is None else signs[:, 1:]
        states, seen = rate(batch.before, quality, self.job.dtss, self.job.codebook.steps)
        self._rated += len(batch.ids)
        if self.timelines.is_aiming:
            self.timelines.hold(batch.ids, states)
        return Rated(batch, states, seen)

    def decide(self, rated: Rated) -> Decision:
        """Decide how each tile of a batch goes on."""
        batch = rated.batch
        decision = self.timelines.decide(batch.ids, rated.states, rated.seen)
        self._record(batch, decision)
        return decision

    def _refuse(self, batch: Launched, place: int) -> None:
        step = int(batch.before.index[place])
        raise DenoiserError(
            f"the network returned NaN or infinity for tile {batch.ids[place]} at step {step} of "
            f"{self.job.codebook.steps} (timestep {self._timesteps[step]:.0f}); run it in full precision (float32)"
        )

    def _record(self, batch: Launched, decision: Decision) -> None:
        after = decision.states
        rows = zip(
            batch.ids,
            batch.before.index.tolist(),
            decision.classes.tolist(),
            after.gain.tolist(),
            after.index.tolist(),
            strict=True,
        )
        for tile_id, index, tile_class, (fr, nr), target in rows:
            self._log.add(tile_id, StepRecord(index, self._timesteps[index], TileClass(tile_class), fr, nr, target))

    def tell(self, batch: Launched, running: Sequence[int], waiting: int) -> None:
        """Report a turn: tiles that run finish at their present interval, those that wait cost as the others."""
        known = self._log.nfe + sum(self.timelines.left(running))
        each = known / max(1, len(self._log.begun.union(running)))
        steps = [self._log.latest(tile_id) for tile_id in batch.ids]
        finished = sorted(set(batch.ids).difference(running))
        expected = round(known + waiting * each)
        self.job.on_step(Progress(self._rated, expected, batch.ids, batch.denoised, steps, finished))

    def tell_wait(self) -> None:
        """Report a turn whose tiles wait for others before they go on."""
        self.job.on_step(Progress(self._rated, sum(self.timelines.left(self.timelines.touched))))

    def close(self) -> RunReport:
        """What was done."""
        dtss, draws_noise = self.job.dtss, self.job.codebook.is_stochastic
        goes_by_likeness = dtss.rule == "bounded" and bool(self.timelines.touched)
        changes = self.timelines.has_borders
        unpromised: Unpromised = "noise" if draws_noise else "conditioning" if changes else ""
        likenesses = self.timelines.likenesses() if goes_by_likeness and not unpromised else {}
        return self._log.close(
            self.job.tile_batch,
            likenesses,
            calls=tuple(self.denoise.calls),
            seconds=monotonic() - self._began,
            gain_threshold=dtss.gain_threshold,
            # A tile may have turned out harder where no course was left that would have been near enough.
            likeness=min(self.timelines.promised, *likenesses.values()) if likenesses else None,
            unpromised=unpromised if goes_by_likeness else "",
            budget=dtss.budget if goes_by_likeness else 0.0,
        )
