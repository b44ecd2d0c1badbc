"""Jobs for the sampler on a mixture about a random picture, and the run of one."""

from dataclasses import replace

import torch

from adadiffsr_core.sampling.canvaswise import sample_canvas
from adadiffsr_core.sampling.codebook import build_codebook
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.sampling.tiles import build_grid
from adadiffsr_core.sampling.tilewise import sample_tiles
from adadiffsr_core.sampling.turn import Job
from tests.oracles import Counting, Mixture, Scripted, mark_tiles, write_script

ONE_TILE = build_grid(8, 8, 8, 0)
SIXTEEN = build_grid(20, 20, 8, 4)  # 4x4 tiles, overlapping by half
SEED = 7
MODES = {"final": sample_tiles, "every_step": sample_canvas}


def equal(interval):
    return DtssConfig(intervals=(interval,) * 4, early_exit=False)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_job(grid=ONE_TILE, *, steps=24, solver="euler", eta=None, prediction="v", images=1, dtss=None, **fields):
    """A job on a mixture about a random picture; the estimator reads tile ids from `lq_latent`."""
    schedule = Schedule(prediction)
    sigmas = schedule.build_sigmas(steps)
    picture = draw(images, 4, *grid.padded, seed=1)
    job = Job(
        denoiser=Counting(Mixture(schedule, picture, grid)),
        timesteps=schedule.sigma_to_timestep(sigmas[:-1]),
        codebook=build_codebook(sigmas, solver, eta, schedule),
        grid=grid,
        lq_latent=mark_tiles(grid, images),
        x=schedule.start(picture, draw(images, 4, *grid.padded, seed=2), float(sigmas[0])),
        dtss=dtss or equal(1),
        seed=SEED,
    )
    return replace(job, **fields)


def run(job, mode="final"):
    """Estimates of all tiles `[T,C,h,w]` by id, and the report."""
    done = {}

    def sink(ids, tiles):
        assert not done.keys() & set(ids)
        done.update(zip(ids, tiles.clone(), strict=True))

    report = MODES[mode](job, sink)
    return torch.stack([done[tile_id] for tile_id in sorted(done)]), report


def stories(*texts, tiles=16):
    return Scripted([write_script(texts[tile % len(texts)]) for tile in range(tiles)])


class Difficulties:
    """An estimator that knows each tile's difficulty; `lq_latent` says which tile it is."""

    def __init__(self, values):
        self.values = torch.tensor(values)

    def quality(self, denoised, lq_latent, sigma):
        tile = lq_latent[:, 0, 0, 0].round().long()
        return torch.cat([torch.full((len(tile), 2), 0.5), self.values[tile, None]], dim=1)


def visits_of(report):
    return [[step.index for step in tile.steps] for tile in report.tiles]
