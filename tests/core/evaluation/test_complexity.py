"""Counts against hand counts and published ones, and the bounds that the two small networks must keep."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from adadiffsr_core.evaluation.complexity import complexity_rows, count_flops, count_parameters
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.mmle import Mmle
from adadiffsr_core.nets.pfj import Pfj, PfjConfig
from adadiffsr_core.nets.sd_unet import sd_unet_config
from adadiffsr_core.nets.unet import UNet
from tests.oracles import TINY_MMLE, TINY_PFJ, tiny_model


def make_model(mmle=None, pfj=None):
    coder = Autoencoder(AutoencoderConfig(channels=(4, 8), encoder_blocks=(0, 0), decoder_blocks=(0, 0)))
    return replace(tiny_model(), autoencoder=coder, mmle=mmle, pfj=pfj)


@pytest.fixture(scope="module")
def rows():
    return {row["method"]: row for row in complexity_rows(make_model())}


def test_a_multiply_add_is_two_flops():
    assert count_flops(nn.Linear(5, 7), torch.zeros(3, 5)) == 2 * 3 * 5 * 7
    conv = nn.Conv2d(4, 6, 3, padding=1)
    assert count_flops(conv, torch.zeros(1, 4, 8, 10)) == 2 * 8 * 10 * 9 * 4 * 6
    assert count_parameters(conv) == 4 * 6 * 9 + 6


@pytest.mark.parametrize(("name", "tokens"), [("sd15", 768), ("sd21", 1024)])
def test_sd_unets_agree_with_what_is_published(name, tokens):
    """Of Stable Diffusion 1.4 the BK-SDM authors publish 859,520,964 parameters and 338.7 G multiply-adds.

    They count modules, so not the products of attention; these are, for each of two products and each block, tokens
    seeing times tokens seen times channels.
    """
    with torch.device("meta"):
        unet = UNet(sd_unet_config(name))
        inputs = torch.empty(1, 4, 64, 64), torch.empty(1), None, torch.empty(1, 77, tokens)
    assert count_parameters(unet) == {"sd15": 859_520_964, "sd21": 865_910_724}[name]
    levels = ((64**2, 320, 5), (32**2, 640, 5), (16**2, 1280, 5), (8**2, 1280, 1))
    attention = sum(2 * pixels * (pixels + 77) * width * blocks for pixels, width, blocks in levels)
    assert count_flops(unet, *inputs) / 2 - attention == pytest.approx(338.75e9, rel=0.003)


def test_bounds_of_the_issue_hold_beside_stable_diffusion(rows):
    with torch.device("meta"):
        pfj = Pfj(PfjConfig(channels=(320, 640, 1280, 1280)))
    assert count_parameters(pfj) <= 4.7e6
    assert rows["MMLE beside the SD 2.1 UNet"]["parameters_m"] <= 2.2
    assert rows["MMLE + PFJ beside the SD 2.1 UNet"]["gflops"] <= 0.01 * rows["SD 2.1 UNet"]["gflops"]
    assert rows["SD 2.1 UNet"]["gflops"] == pytest.approx(804.26, abs=0.01)


def test_rows_are_whole(rows):
    assert all(row.keys() == {"method", "parameters_m", "gflops", "note"} for row in rows.values())
    assert all(row["parameters_m"] > 0 and row["gflops"] > 0 for row in rows.values())
    for unet in ("UNet", "SD 2.1 UNet"):
        total, *parts = (
            rows[f"{name} beside the {unet}"] for name in ("MMLE + PFJ", "MMLE", "PFJ features", "PFJ modulation")
        )
        for key in ("parameters_m", "gflops"):
            assert total[key] == pytest.approx(sum(part[key] for part in parts), abs=2e-3)
        assert total["note"].startswith(f"{total['gflops'] / rows[unet]['gflops']:.1%}"[:-2])


def test_coders_are_counted_on_512_pixels(rows):
    """Without blocks the decoder is convolutions of 4 to 8 and 4 to 48 channels, 3x3, and one of 8 to 16, 1x1."""
    macs = 64**2 * (9 * 4 * 8 + 8 * 16) + 128**2 * 9 * 4 * 48
    assert rows["decoder"]["gflops"] == pytest.approx(2 * macs / 1e9, abs=5e-4)


def test_networks_of_the_model_are_counted_if_it_has_them():
    mmle, pfj = Mmle(TINY_MMLE), Pfj(TINY_PFJ)
    rows = {row["method"]: row for row in complexity_rows(make_model(mmle, pfj))}
    assert rows["MMLE beside the UNet"]["parameters_m"] == round(count_parameters(mmle) / 1e6, 3)
    both = count_parameters(mmle) + count_parameters(pfj)
    assert rows["MMLE + PFJ beside the UNet"]["parameters_m"] == round(both / 1e6, 3)


def test_rivals_are_counted_inside_the_unet():
    """Concatenation mixes features with the level's own: 1x1 convolutions that only a call of the UNet runs."""
    flops = {}
    for mode in ("pfj", "concat"):
        rows = complexity_rows(make_model(pfj=Pfj(replace(TINY_PFJ, mode=mode))))
        flops[mode] = next(row["gflops"] for row in rows if row["method"] == "PFJ modulation beside the UNet")
    assert flops["concat"] >= round(2e-9 * (64**2 * 32 * 32 + 32**2 * 64 * 64), 3) > 0
    assert flops["pfj"] > 0
