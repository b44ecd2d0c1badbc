"""Noise: known answers, a scalar second implementation, the statistics of a normal, and independence of batching."""

import math

import pytest
import torch
from scipy import stats

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.sampling.noise import (
    FIELD_INDEX,
    StepNoise,
    _philox,
    field_noise,
    keyed_noise,
    pad_noise,
    whole_canvases,
)
from adadiffsr_core.sampling.tiles import build_grid, crop_tiles

SIDE = 256


def column(*values):
    return torch.tensor(values)


def whole_field(seed=0, base_index=0, image=0, channels=4, side=SIDE):
    return keyed_noise(seed, column(base_index), torch.tensor([[image, 0, 0]]), (channels, side, side))[0]


def correlation(first, second):
    return torch.corrcoef(torch.stack((first.flatten(), second.flatten())))[0, 1].abs().item() * first.numel() ** 0.5


def scalar_philox(counter, key):
    """Philox4x32-10 as in its paper, on Python integers."""
    a, b, c, d = counter
    for step in range(10):
        first, second = 0xD2511F53 * a, 0xCD9E8D57 * c
        keys = [(key[0] + step * 0x9E3779B9) % 2**32, (key[1] + step * 0xBB67AE85) % 2**32]
        a, b, c, d = second >> 32 ^ b ^ keys[0], second % 2**32, first >> 32 ^ d ^ keys[1], first % 2**32
    return a, b, c, d


def scalar_normals(u, v):
    """Box-Muller with the math module: sign bit, mirror bit and 30 bits of angle."""
    radius = math.sqrt(-2 * math.log((u + 0.5) / 2**32)) * (-1 if v >> 31 else 1)
    angle = (v % 2**30 + 0.5 - 2**29) / 2**30 * math.pi / 2
    pair = radius * math.cos(angle), radius * math.sin(angle)
    return pair[::-1] if v >> 30 & 1 else pair


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [  # Random123, tests/kat_vectors
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_answers(counter, key, answer):
    words = _philox(tuple(column(word) for word in counter), key[0] + (key[1] << 32))
    assert [word.item() for word in words] == answer
    assert list(scalar_philox(counter, key)) == answer


def test_keyed_noise_matches_the_scalar_implementation():
    seed, channels = 2**63 + 12345, 6
    noise = keyed_noise(seed, column(7, FIELD_INDEX), torch.tensor([[0, 5, 0], [3, 0, 900]]), (channels, 3, 4))
    assert noise.shape == (2, 6, 3, 4)
    key = (seed % 2**32, seed >> 32)
    for item, (base_index, image, top, left) in enumerate([(7, 0, 5, 0), (FIELD_INDEX, 3, 0, 900)]):
        for y in range(3):
            for x in range(4):
                values = []
                for group in range(2):
                    counter = (left + x, top + y, base_index % 2**32, image + (group << 24))
                    a, b, c, d = scalar_philox(counter, key)
                    (first, third), (second, fourth) = scalar_normals(a, c), scalar_normals(b, d)
                    values += [first, second, third, fourth]
                expected = torch.tensor(values[:channels])
                torch.testing.assert_close(noise[item, :, y, x], expected, rtol=1e-6, atol=1e-6)


def test_keyed_noise_is_a_standard_normal():
    noise = whole_field().flatten()
    count = noise.numel()
    assert abs(noise.mean()) < 4 / count**0.5
    assert abs(noise.var() - 1) < 4 * (2 / count) ** 0.5
    assert abs(stats.skew(noise)) < 4 * (6 / count) ** 0.5
    assert abs(stats.kurtosis(noise)) < 4 * (24 / count) ** 0.5
    assert stats.kstest(noise, "norm").pvalue > 0.01
    assert 4.2 < noise.abs().max() < 6.8


def test_every_channel_is_a_standard_normal():
    for channel in whole_field(seed=1, channels=6):
        assert stats.kstest(channel.flatten(), "norm").pvalue > 0.005


def test_neighbours_are_uncorrelated():
    """In standard errors; squares too, since a poor Box-Muller couples sizes before values."""
    noise = whole_field()
    for power in (noise, noise.square()):
        for dy, dx in [(0, 1), (1, 0), (1, 1), (0, 8), (8, 0), (56, 0), (0, 64)]:
            assert correlation(power[:, dy:, dx:], power[:, : SIDE - dy, : SIDE - dx]) < 4
        for first in range(4):
            for second in range(first):
                assert correlation(power[first], power[second]) < 4


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"seed": 2**32},
        {"seed": 2**63},
        {"base_index": 1},
        {"base_index": 19},
        {"base_index": FIELD_INDEX},
        {"image": 1},
    ],
)
def test_seeds_indices_and_images_are_uncorrelated(other):
    first, second = whole_field(), whole_field(**other)
    assert correlation(first, second) < 4
    assert correlation(first.square(), second.square()) < 4


def test_a_channel_does_not_depend_on_how_many_there_are():
    sixteen = whole_field(channels=16, side=32)
    for channels in (1, 3, 4, 5):
        assert torch.equal(whole_field(channels=channels, side=32), sixteen[:channels])
    assert correlation(sixteen[:4], sixteen[4:8]) < 4


@pytest.mark.parametrize("tile", [7, 16, 33])
def test_overlapping_tiles_agree_to_the_bit(tile):
    """Each tile, computed alone and with others, is a crop of the field computed whole."""
    grid = build_grid(50, 61, tile, tile // 3)
    field = keyed_noise(9, column(4, 4), whole_canvases(2, torch.device("cpu")), (4, *grid.padded))
    step_noise = StepNoise(9, grid, channels=4)
    tile_ids = list(range(2 * grid.count))
    tiles = step_noise(tile_ids, torch.full((len(tile_ids),), 4))
    assert tiles.dtype == torch.float32
    assert torch.equal(tiles, crop_tiles(field, grid, tile_ids))
    for tile_id in tile_ids[:: len(tile_ids) // 5]:
        assert torch.equal(step_noise([tile_id], column(4))[0], tiles[tile_id])


def test_step_noise_does_not_depend_on_batch_or_order():
    grid = build_grid(100, 100, 32, 8)
    step_noise = StepNoise(2**64 - 1, grid, channels=4)
    tile_ids, base_index = [5, 0, 3, grid.count + 3, 3], column(10, 2, 7, 7, 8)
    noise = step_noise(tile_ids, base_index)
    order = [3, 1, 4, 0, 2]
    assert torch.equal(step_noise([tile_ids[item] for item in order], base_index[order]), noise[order])
    for item, tile_id in enumerate(tile_ids):
        assert torch.equal(step_noise([tile_id], base_index[item : item + 1])[0], noise[item])
    assert not torch.equal(noise[2], noise[3])  # another image
    assert not torch.equal(noise[2], noise[4])  # another base index


@pytest.mark.parametrize("seed", [0, 42, 2**32 + 5, 2**64 - 1])
@pytest.mark.parametrize("shape", [(1, 4, 64, 64), (3, 4, 17, 9), (1, 16, 1, 1)])
def test_field_noise_is_the_host_s(seed, shape):
    """As `comfy.sample.prepare_noise` draws it, and without touching the global generator."""
    state = torch.random.get_rng_state()
    noise = field_noise(shape, seed)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.random.fork_rng(devices=[]):
        generator = torch.manual_seed(seed)
        host = torch.randn(
            torch.Size(shape), dtype=torch.float32, layout=torch.strided, generator=generator, device="cpu"
        )
    assert torch.equal(noise, host)


def test_pad_noise_keeps_the_field_and_fills_the_rest_with_fresh_noise():
    grid = build_grid(40, 300, 128, 8, multiple=128)
    field = field_noise((2, 4, 40, 300), seed=3)
    padded = pad_noise(field, grid, seed=3)
    assert padded.shape == (2, 4, 128, 300)
    assert torch.equal(padded[..., :40, :], field)
    padding = padded[..., 40:, :]
    assert stats.kstest(padding.flatten(), "norm").pvalue > 0.01
    assert correlation(padding[..., :39, :], field[..., 1:, :].flip(2)) < 4  # reflected noise would show here
    assert correlation(padding[0], padding[1]) < 4
    assert torch.equal(padded, pad_noise(field, grid, seed=3))
    for step in (0, 1):  # no later step repeats it
        assert correlation(padding[0, :, :, :256], whole_field(seed=3, base_index=step)[:, 40:128]) < 4


def test_pad_noise_keeps_dtype_and_copies_nothing_without_need():
    field = field_noise((1, 4, 64, 64), seed=0)
    assert pad_noise(field, build_grid(64, 64, 64, 8), seed=0) is field
    assert pad_noise(field.half(), build_grid(64, 64, 80, 8), seed=0).dtype == torch.float16


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_out_of_range_are_refused(seed):
    for draw in (lambda: field_noise((1, 4, 8, 8), seed), lambda: whole_field(seed=seed, side=2)):
        with pytest.raises(ConfigError, match="out of range; use 0 to 18446744073709551615"):
            draw()


def test_a_saved_seed_keeps_its_noise():
    """Golden: pictures already made with a stochastic solver must come out the same in every later version."""
    noise = keyed_noise(123, column(5), torch.zeros(1, 3, dtype=torch.long), (4, 64, 64))
    assert noise[0, :, 0, 0].tolist() == [
        0.012406286783516407,
        1.692213535308838,
        0.6865913271903992,
        0.6401979327201843,
    ]
