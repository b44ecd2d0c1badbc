"""One turn of a run, whatever the merge mode: denoise a batch of tiles, measure, decide, record.

Source: section 3.3; docs/design.md, "Sampling".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import ConfigError, DenoiserError
from ..gain.information import GainEstimator
from .codebook import Codebook
from .controller import Decision, DtssConfig, TileClass, TileStates, decide, start_states
from .denoiser import Denoiser, ElasticDenoiser
from .report import StepRecord, start_report
from .tiles import TileGrid, crop_tiles

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
    """

    nfe: int
    expected_nfe: int
    tiles: Sequence[int] = ()
    denoised: Tensor | None = None


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
    on_step: Callable[[Progress], None] = field(default=lambda progress: None)


class Turns:
    """A run in the making: evaluate tiles, decide, and write the report.

    Attributes:
        job: what to do.
        device: where the latents are.
        codebook: on that device.
        denoise: the network.
        states: of all tiles, on the CPU.
        sides: which side of the conditioning's boundaries each base index is on.
        report: so far.
    """

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
        self.report.gain_threshold = job.dtss.gain_threshold
        self.states = start_states(images * job.grid.count, job.dtss, job.compute)
        self.timesteps = job.timesteps.tolist()
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
                f"{self.job.codebook.steps} (timestep {self.timesteps[step]:.0f}); run it in full precision (float32)"
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

    def tell(self, ids: Sequence[int], denoised: Tensor, running: Sequence[int], waiting: int) -> None:
        """Report a turn: tiles that run finish at their present interval, those that wait cost as the others."""
        spent = self.report.nfe
        known = spent + sum(self.left(running))
        begun = {tile_id for tile_id, tile in enumerate(self.report.tiles) if tile.steps}
        each = known / max(1, len(begun.union(running)))
        self.job.on_step(Progress(spent, round(known + waiting * each), ids, denoised))

    def left(self, ids: Sequence[int]) -> list[int]:
        """Evaluations that each tile needs to its end if its interval stays."""
        states = self.states.take(torch.tensor(ids, dtype=torch.long))
        intervals = torch.tensor(self.job.dtss.intervals)[states.rung]
        left: list[int] = torch.ceil((self.job.codebook.steps - states.index) / intervals).long().tolist()
        return left
