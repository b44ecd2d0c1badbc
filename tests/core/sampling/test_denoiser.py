"""The network as the sampler sees it: conditioning by tile, mixed noise levels, and a device that is too small."""

import logging

import pytest
import torch

from adadiffsr_core.models.unet_denoiser import UNetDenoiser
from adadiffsr_core.nets.unet import UNet
from adadiffsr_core.sampling.denoiser import ElasticDenoiser
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.sampling.tiles import build_grid, crop_tiles
from tests.oracles import TINY_UNET, randomise


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Cramped:
    """Runs out of memory above `room` tiles; otherwise an answer that tells items apart."""

    boundaries = ()

    def __init__(self, room):
        self.room, self.seen, self.gains = room, [], []

    def __call__(self, x, sigma, tiles, gain):
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.seen.append(list(tiles))
        self.gains.append(gain)
        return x * 2 + sigma.reshape(-1, 1, 1, 1) + torch.tensor(tiles).reshape(-1, 1, 1, 1)


def ask(denoiser, count, gain=None):
    x, sigma, tiles = draw(count, 4, 2, 2), torch.arange(count) / 10, list(range(10, 10 + count))
    return denoiser(x, sigma, tiles, gain), Cramped(99)(x, sigma, tiles, gain)


@pytest.mark.parametrize("room", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_a_full_device_halves_the_batch_and_loses_nothing(room, count, caplog):
    inner = Cramped(room)
    elastic = ElasticDenoiser(inner, 8)
    with caplog.at_level(logging.WARNING):
        got, expected = ask(elastic, count, draw(count, 2))
    assert torch.equal(got, expected)
    assert [tile for tiles in inner.seen for tile in tiles] == list(range(10, 10 + count))
    assert elastic.calls == [len(tiles) for tiles in inner.seen]
    assert max(elastic.calls) <= room
    assert torch.equal(torch.cat(inner.gains), draw(count, 2))
    assert bool(caplog.records) == (room < count)


def test_the_smaller_batch_is_remembered():
    elastic = ElasticDenoiser(Cramped(3), 8)
    ask(elastic, 8)
    assert elastic.tile_batch == 2
    ask(elastic, 8)
    assert elastic.tile_batch == 2
    assert elastic.calls == [2] * 8


def test_a_single_tile_that_does_not_fit_is_the_callers_problem():
    with pytest.raises(torch.OutOfMemoryError):
        ask(ElasticDenoiser(Cramped(0), 8), 3)


def test_memory_that_runs_out_halfway_keeps_what_is_done():
    class Leaky(Cramped):
        def __call__(self, x, sigma, tiles, gain):
            self.room = 4 if not self.seen else 1
            return super().__call__(x, sigma, tiles, gain)

    inner = Leaky(4)
    elastic = ElasticDenoiser(inner, 4)
    got, expected = ask(elastic, 7)
    assert torch.equal(got, expected)
    assert inner.seen == [[10, 11, 12, 13], [14], [15], [16]]


@pytest.mark.parametrize("prediction", ["eps", "v", "flow"])
def test_unet_denoiser_shows_each_tile_its_own_condition_and_timestep(prediction):
    schedule, grid, unet = Schedule(prediction), build_grid(12, 20, 8, 2), UNet(TINY_UNET)
    randomise(unet)
    lq = draw(2, 4, *grid.padded)
    denoise = UNetDenoiser(unet, schedule, lq, grid)
    tiles = [0, 5, grid.count * 2 - 1]
    x, sigma = draw(3, 4, 8, 8, seed=1), schedule.timestep_to_sigma(torch.tensor([900.0, 400.0, 30.0]))
    together = denoise(x, sigma, tiles, None)
    timesteps = torch.tensor([901.0, 401.0, 31.0] if prediction == "flow" else [900.0, 400.0, 30.0])
    for place, tile in enumerate(tiles):
        image, top, left = grid.locate(tile)
        condition = lq[image : image + 1, :, top : top + 8, left : left + 8]
        item, level = x[place : place + 1], sigma[place : place + 1]
        shown = item if prediction == "flow" else item / (level**2 + 1).sqrt()
        output = unet(torch.cat([shown, condition], dim=1), timesteps[place : place + 1])
        expected = schedule.output_to_denoised(output, item, level)
        torch.testing.assert_close(together[place : place + 1], expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together, denoise(x, sigma, tiles[::-1], None), atol=1e-2)


def test_unet_denoiser_keeps_the_samplers_dtype_whatever_the_networks():
    grid, unet = build_grid(8, 8, 8, 0), UNet(TINY_UNET)
    randomise(unet)
    x, lq, sigma = draw(1, 4, 8, 8), draw(1, 4, 8, 8, seed=1), torch.ones(1)
    exact = UNetDenoiser(unet, Schedule(), lq, grid)(x, sigma, [0], None)
    coarse = UNetDenoiser(unet.bfloat16(), Schedule(), lq, grid)(x, sigma, [0], None)
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse, exact, rtol=0, atol=0.1)
    assert torch.equal(crop_tiles(lq, grid, [0]), lq)
