"""What the device is told to do, it is told without waiting for it: on a device that is none, on a GPU if there is."""

import gc
from dataclasses import replace

import pytest
import torch

from adadiffsr_core.gain.mmle import MmleEstimator
from adadiffsr_core.gain.statistics import LatentStatistics
from adadiffsr_core.models.unet_denoiser import UNetDenoiser
from adadiffsr_core.nets.mmle import Mmle
from adadiffsr_core.nets.pfj import Pfj
from adadiffsr_core.sampling import turn
from adadiffsr_core.sampling.codebook import build_codebook
from adadiffsr_core.sampling.merge import TileMerger
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.sampling.slots import Slots
from adadiffsr_core.sampling.tiles import build_grid
from adadiffsr_core.sampling.tilewise import sample_tiles
from adadiffsr_core.sampling.turn import Job, Turns
from tests.devices import WaitError, strictly
from tests.oracles import TINY_MMLE, TINY_PFJ, randomise, tiny_model

GRID = build_grid(20, 20, 8, 4)
ESTIMATORS = {
    "mmle": lambda device: MmleEstimator(randomise(Mmle(TINY_MMLE)).to(device).eval()),
    "statistics": lambda device: LatentStatistics(),
}
ON_GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"))


def make_job(device, estimator, solver="dpmpp_2m", **fields):
    model = tiny_model()
    unet, pfj = model.unet.to(device), randomise(Pfj(TINY_PFJ)).to(device).eval()
    sigmas = model.schedule.build_sigmas(6)
    canvas = torch.zeros(1, 4, *GRID.padded).to(device)
    job = Job(
        denoiser=UNetDenoiser(unet, model.schedule, canvas, GRID, pfj),
        codebook=build_codebook(sigmas, solver),
        grid=GRID,
        lq_latent=canvas,
        x=torch.randn(1, 4, *GRID.padded).to(device),
        timesteps=model.schedule.sigma_to_timestep(sigmas[:-1]),
        dtss=DtssConfig(gain_threshold=1e-4),
        estimator=ESTIMATORS[estimator](device),
        tile_batch=3,
    )
    return replace(job, **fields)


@torch.inference_mode()
def launch_twice(job):
    """The first time constants are made, and what a network keeps."""
    run, slots = Turns(job), Slots(job, 6, is_rated=True, needs_before=False)
    slots.admit(range(6))
    ids = [0, 2, 4]
    given = ids, slots.gather(slots.x, ids), slots.gather(slots.lq_latent, ids)
    run.launch(*given)
    return lambda: run.launch(*given)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_launch_stays_on_the_device_and_waits_for_nothing(estimator, monkeypatch):
    again = launch_twice(make_job("meta", estimator))
    with strictly(torch.device("meta"), monkeypatch, turn, "send"), torch.inference_mode():
        launched = again()
    assert launched.denoised.device.type == "meta"


@pytest.mark.parametrize(
    "slip",
    [
        lambda x: x * torch.tensor(2.0, device="meta"),
        lambda x: x.sum().item() * x,
        lambda x: x + torch.ones(3).to("meta").sum(),
        lambda x: x * torch.tensor([1.0] * 8),
    ],
)
def test_a_slip_in_the_network_is_found(slip, monkeypatch):
    job = make_job("meta", "statistics")

    class Slipping:
        boundaries, slips = (), False

        def __call__(self, x, sigma, tiles, gain):
            return slip(x) if self.slips else job.denoiser(x, sigma, tiles, gain)

    again = launch_twice(replace(job, denoiser=Slipping()))
    Slipping.slips = True
    with pytest.raises(WaitError), strictly(torch.device("meta"), monkeypatch, turn, "send"):
        again()


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("device", [ON_GPU])
def test_a_gpu_is_waited_for_once_a_turn(device, estimator, monkeypatch):
    job = make_job(device, estimator)
    sample_tiles(job, lambda ids, tiles: None)  # warm up: cuDNN and caches
    wait = turn.Readback.wait

    def waits(self):
        torch.cuda.set_sync_debug_mode("default")
        try:
            return wait(self)
        finally:
            torch.cuda.set_sync_debug_mode("error")

    monkeypatch.setattr(turn.Readback, "wait", waits)
    merger = TileMerger(GRID)
    merger.add([], job.x.new_empty(0, 4, *GRID.tile))  # its weights are sent before the first turn
    try:
        torch.cuda.set_sync_debug_mode("error")
        sample_tiles(job, merger.add)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert merger.finish().isfinite().all()


@pytest.mark.parametrize("device", [ON_GPU])
def test_a_gpu_samples_what_the_cpu_does(device, monkeypatch):
    # TF32, which training turns on for the whole process, keeps ten bits of a product.
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    results = []
    for where in ("cpu", device):
        torch.manual_seed(0)
        merger = TileMerger(GRID)
        sample_tiles(make_job(where, "mmle"), merger.add)
        results.append(merger.finish().cpu())
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=2e-3)


def test_what_is_held_in_flight_is_little_more_than_the_slots():
    """Between turns: no finished tile, and no batch but the one that was told of."""
    grid, held = build_grid(40, 40, 8, 4), []

    def count(progress):
        if progress.nfe % 3:  # looking at all objects takes its time
            return
        tiles = [value for value in gc.get_objects() if issubclass(type(value), torch.Tensor) and value.ndim == 4]
        stores = [tile.untyped_storage() for tile in tiles if tuple(tile.shape[1:]) == (4, *grid.tile)]
        held.append(sum({store.data_ptr(): store.nbytes() for store in stores}.values()))

    canvas, model = torch.zeros(1, 4, *grid.padded), tiny_model()
    job = make_job("cpu", "statistics", grid=grid, lq_latent=canvas, x=torch.randn(canvas.shape), on_step=count)
    job = replace(job, denoiser=UNetDenoiser(model.unet, model.schedule, canvas, grid), tile_batch=4)
    sample_tiles(job, lambda ids, tiles: None)
    buffers = 4  # x, lq_latent, previous, best
    assert 0 < max(held) <= 1.2 * buffers * (4 * job.tile_batch) * 4 * 4 * 64
