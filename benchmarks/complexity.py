"""Table 2: parameters and FLOPs of every network, and what regressor and injection cost beside the UNet in time.

    OMP_NUM_THREADS=1 python -m benchmarks.complexity [--tile-batch 8] [--rounds 9] [--model FILE]

Every round times one call of each on a full batch of 512 px tiles, in turn and in one process, in CPU time on one
thread, as the sampler makes them; the ratios are medians over the rounds. A model without MMLE or PFJ is measured with
those of the default shape, whose time does not depend on their weights. Prints Markdown; writes JSON with `--out`.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from adadiffsr_core.evaluation.complexity import TILE, complexity_rows
from adadiffsr_core.gain.mmle import MmleEstimator
from adadiffsr_core.models.injection import FeatureInjector
from adadiffsr_core.models.model import Model, load_model
from adadiffsr_core.models.unet_denoiser import UNetDenoiser
from adadiffsr_core.nets.layout import channels_last
from adadiffsr_core.nets.mmle import Mmle, MmleConfig
from adadiffsr_core.nets.pfj import Pfj, PfjConfig
from adadiffsr_core.sampling.tiles import build_grid


def seconds(function: Callable[[], object]) -> float:
    """CPU time of one call."""
    began = time.process_time()
    function()
    return time.process_time() - began


@torch.inference_mode()
def measure_times(model: Model, tile_batch: int, rounds: int) -> dict[str, list[float]]:
    """Seconds per tile of each part, one number a round."""
    widths, channels = model.unet.config.widths, model.unet.config.out_channels
    mmle = model.mmle or channels_last(Mmle(MmleConfig(latent_channels=channels))).eval()
    pfj = model.pfj or channels_last(Pfj(PfjConfig(latent_channels=channels, channels=widths))).eval()
    lq, x = torch.randn(2, tile_batch, channels, TILE, TILE)
    grid, tiles = build_grid(TILE, TILE, TILE, 0), range(tile_batch)
    sigma, gain = torch.linspace(0.1, 10, tile_batch), torch.full((tile_batch, 2), 1e-3)
    denoise, estimator = UNetDenoiser(model.unet, model.schedule, lq, grid), MmleEstimator(mmle)
    inject = FeatureInjector(pfj, lq, grid)
    inject(tiles, gain)
    parts: dict[str, Callable[[], object]] = {
        "UNet": lambda: denoise(x, sigma, tiles, None),
        "MMLE": lambda: estimator.quality(x, lq, sigma),
        "PFJ modulation": lambda: inject(tiles, gain),
        "PFJ features": lambda: FeatureInjector(pfj, lq, grid)(tiles, gain),
    }
    for function in parts.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, function in parts.items():
            times[name].append(seconds(function) / tile_batch)
        # A fresh injector modulates too.
        times["PFJ features"][-1] -= times["PFJ modulation"][-1]
    return times


def main() -> None:
    """Count, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tile-batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(args.model)
    rows, times = complexity_rows(model), measure_times(model, args.tile_batch, args.rounds)
    print("| network | parameters (M) | GFLOPs | |\n| --- | ---: | ---: | --- |")
    for row in rows:
        print("| {method} | {parameters_m} | {gflops} | {note} |".format(**row))
    per_step = [
        regressor + modulation for regressor, modulation in zip(times["MMLE"], times["PFJ modulation"], strict=True)
    ]
    print("\n| time per tile | ms | of the UNet's, median (min to max) |\n| --- | ---: | ---: |")
    for name, values in (*times.items(), ("MMLE + PFJ modulation", per_step)):
        ratios = [value / unet for value, unet in zip(values, times["UNet"], strict=True)]
        spread = f"{statistics.median(ratios):.2%} ({min(ratios):.2%} to {max(ratios):.2%})"
        print(f"| {name} | {statistics.median(values) * 1e3:.1f} | {spread} |")
    if args.out:
        args.out.write_text(json.dumps({"networks": rows, "seconds_per_tile": times}, indent=1))


if __name__ == "__main__":
    main()
