"""One run, whoever hosts the network: the canvas cut into tiles, sampled, merged, and what was to stay put back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

from torch import Tensor

from ..gain.information import GainEstimator
from .canvaswise import sample_canvas
from .codebook import Codebook
from .compute_mask import keep_untouched, tile_levels
from .config import RegionConfig
from .denoiser import Denoiser
from .merge import StripBuilder, TileMerger
from .report import RunReport
from .tiles import TileGrid, crop_canvas, pad_canvas
from .tilewise import sample_tiles
from .turn import Job, Progress, Sink

TILE_BATCH = 8  # where nobody says how many
FULL_BATCHES = 4  # a picture of more tiles than these hold is evaluated by full batches alone (decision D70)


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run begins: all that the core and the host make differently.

    Attributes:
        denoiser: the network.
        codebook: base schedule and solver.
        timesteps: of the N base steps on the training schedule `[N]`, for the report.
        grid: where tiles are.
        lq_latent: the paper's o, padded canvas `[N,C,H,W]` float32.
        x: the noisy start, likewise.
        estimator: of gain.
        seed: of the solvers' noise.
    """

    denoiser: Denoiser
    codebook: Codebook
    timesteps: Tensor
    grid: TileGrid
    lq_latent: Tensor
    x: Tensor
    estimator: GainEstimator
    seed: int


class Sampled(NamedTuple):
    """What a run makes.

    Attributes:
        latent: merged, `[N,C,h,w]`; where the compute mask is 0 it is the input, to the bit.
        report: where the evaluations went.
        grid: where the tiles were.
    """

    latent: Tensor
    report: RunReport
    grid: TileGrid


def run(
    start: Start,
    config: RegionConfig,
    mask: Tensor | None = None,
    on_step: Callable[[Progress], None] = lambda progress: None,
    keep: Sink | None = None,
) -> Sampled:
    """Sample every region with the steps that it needs.

    Args:
        start: where to begin.
        config: how.
        mask: compute mask `[N or 1,1,h,w]` in [0,1], of the canvas: 0 leaves untouched, 0.5 is automatic, 1 is every
            step.
        on_step: told after each turn; whatever it raises ends the run.
        keep: given finished tiles too, as they come.

    Raises:
        ShapeError: the mask does not fit.
        DenoiserError: the network returned NaN or infinity.
    """
    grid = start.grid
    job = _prepare(start, config, mask, on_step, len(start.x) * grid.count)
    merger = TileMerger(grid, len(start.x))
    sinks = [merger.add] if keep is None else [merger.add, keep]

    def sink(ids: Sequence[int], tiles: Tensor) -> None:
        for take in sinks:
            take(ids, tiles)

    report = (sample_tiles if config.merge == "final" else sample_canvas)(job, sink)
    latent = merger.finish()
    if mask is not None:
        latent = keep_untouched(latent, crop_canvas(start.lq_latent, grid), mask.to(latent.device))
    return Sampled(latent, report, grid)


def run_strips(
    start: Start,
    config: RegionConfig,
    strips: StripBuilder,
    first_row: int,
    mask: Tensor | None = None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> tuple[list[Tensor], RunReport]:
    """Sample some rows of tiles of one picture; the strips of all its rows, summed, are what `run` merges, to the bit.

    Args:
        start: of the part that `TileGrid.cut_rows` gives, one image.
        config: how; tiles are merged when they are finished.
        strips: of the whole grid.
        first_row: the part's first row in it.
        mask: of the part; see `run`.
        on_step: told after each turn; whatever it raises ends the run.

    Raises:
        ShapeError: the mask does not fit.
        DenoiserError: the network returned NaN or infinity.
    """
    finished: dict[int, Tensor] = {}

    def sink(ids: Sequence[int], tiles: Tensor) -> None:
        finished.update(zip(ids, tiles, strict=True))

    report = sample_tiles(_prepare(start, config, mask, on_step, strips.grid.count), sink)
    cols = start.grid.cols
    rows = [[finished.pop(row * cols + col) for col in range(cols)] for row in range(start.grid.rows)]
    made = [strips.build(first_row + row, tiles) for row, tiles in enumerate(rows)]
    if mask is not None:
        made = _keep_in_strips(made, start, strips.grid.tops[first_row + 1 :], mask)
    return made, report


def _keep_in_strips(strips: Sequence[Tensor], start: Start, below: Sequence[int], mask: Tensor) -> list[Tensor]:
    """What `keep_untouched` does to the sum of all strips: where the mask is 0 one of them is the input, others are 0.

    Args:
        strips: of a part.
        start: of the part.
        below: where the rows of tiles below each begin on the whole canvas; beneath the last one there is none.
        mask: of the part.
    """
    levels, kept = pad_canvas(mask.to(start.lq_latent.device), start.grid)[0], []
    for strip, top, end in zip_longest(strips, start.grid.tops, below[: len(strips)]):
        rows = slice(top, top + strip.shape[-2])
        lq_latent = start.lq_latent[0, :, rows].clone()
        if end is not None:
            lq_latent[:, end - start.grid.above - top :] = 0
        kept.append(keep_untouched(strip, lq_latent, levels[:, rows]))
    return kept


def _prepare(
    start: Start, config: RegionConfig, mask: Tensor | None, on_step: Callable[[Progress], None], tiles: int
) -> Job:
    """The job of a picture, or a part of one, of so many tiles in all."""
    tile_batch = config.tile_batch or TILE_BATCH
    return Job(
        denoiser=start.denoiser,
        codebook=start.codebook,
        grid=start.grid,
        lq_latent=start.lq_latent,
        x=start.x,
        timesteps=start.timesteps,
        dtss=config.dtss,
        estimator=start.estimator,
        compute=None if mask is None else tile_levels(mask, start.grid, len(start.x)),
        seed=start.seed,
        tile_batch=tile_batch,
        is_filled=tiles > FULL_BATCHES * tile_batch,
        on_step=on_step,
    )
