"""What the sampler costs beside the network: wall time over that of bare, full batches; and how full batches are.

    python -m benchmarks.overhead [--tiles 16] [--tile-batch 8] [--rounds 5] [--model FILE] [--device cuda] [--wide]

Every round times bare calls of the network and whole runs in turn, in one process. A ratio of 1 would be a
sampler that costs nothing. Adaptive runs include the model's estimator. `--wide` takes a random UNet as wide and deep
as Stable Diffusion 2.1's in place of the model's. Prints a table; writes JSON with `--out`.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adadiffsr_core.commands.options import DTYPES, choose_dtype
from adadiffsr_core.models.model import TRAINED_SIDE, Model, load_model
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.models.unet_denoiser import UNetDenoiser
from adadiffsr_core.nets.unet import UNet, UNetConfig
from adadiffsr_core.pipeline import sample_latent
from adadiffsr_core.sampling.report import RunReport
from adadiffsr_core.sampling.tiles import build_grid
from adadiffsr_core.settings import PRESETS, SamplingConfig

WIDE = {"model_channels": 320, "channel_mult": (1, 2, 4, 4), "num_res_blocks": 2, "attention_levels": (0, 1, 2)}


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, until the device is done with it."""
    began = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def widen(model: Model) -> Model:
    """The same with a random UNet of Stable Diffusion 2.1's size, and without injection, which is for the other."""
    small = model.unet.config
    config = UNetConfig.from_dict({**small.to_dict(), "num_heads": None, "num_head_channels": 64, **WIDE})
    unet = UNet(config).to(model.device, model.dtype).eval().requires_grad_(False)
    return replace(model, unet=Processor(model.device).install(unet), pfj=None)


@torch.inference_mode()
def bare_call(model: Model, config: SamplingConfig) -> float:
    """Seconds per tile of a full batch."""
    batch, side, channels = config.tile_batch, TRAINED_SIDE, model.autoencoder.config.z_channels
    lq = torch.randn(batch, channels, side, side, device=model.device)
    denoise = UNetDenoiser(model.unet, model.schedule, lq, build_grid(side, side, side, 0))
    x, sigma = torch.randn_like(lq), torch.linspace(0.1, 10, batch, device=model.device)
    return seconds(lambda: denoise(x, sigma, range(batch), None), model.device) / batch


def one_run(model: Model, config: SamplingConfig, lq: torch.Tensor) -> tuple[float, RunReport]:
    """Seconds and report of a run."""
    reports: list[RunReport] = []
    spent = seconds(lambda: reports.append(sample_latent(model, lq, config).report), model.device)
    return spent, reports[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=16)
    parser.add_argument("--tile-batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("auto", *DTYPES), default="auto")
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device = torch.device(args.device)
    model = load_model(args.model, device, choose_dtype(args.dtype, device))
    model = widen(model) if args.wide else model
    rows = math.isqrt(args.tiles)
    config = replace(PRESETS["everyday"], steps=args.steps, tile_batch=args.tile_batch, tile_fit=False)
    stride = TRAINED_SIDE - config.overlap // 8
    height, width = (TRAINED_SIDE + stride * (count - 1) for count in (rows, args.tiles // rows))
    lq = torch.randn(1, model.autoencoder.config.z_channels, height, width, device=device)
    results: dict[str, dict[str, Any]] = {}
    for name, chosen in (("uniform", config.uniform(1)), ("adaptive", config)):
        ratios, occupancy = [], 0.0
        bare_call(model, chosen)
        for _ in range(args.rounds):
            before = bare_call(model, chosen)
            spent, report = one_run(model, chosen, lq)
            per_tile = (before + bare_call(model, chosen)) / 2
            ratios.append(spent / (report.nfe * per_tile))
            occupancy = report.occupancy
        results[name] = {"overhead": statistics.median(ratios), "all": ratios, "occupancy": occupancy}
    print("| run | overhead, median (min to max) | occupancy |\n| --- | --- | --- |")
    for name, row in results.items():
        spread = f"{min(row['all']):.3f} to {max(row['all']):.3f}"
        print(f"| {name} | {row['overhead']:.3f} ({spread}) | {row['occupancy']:.3f} |")
    if args.out:
        args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
