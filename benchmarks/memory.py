"""Peak memory against size: the sampler alone up to 1,024 tiles, and the whole pipeline up to 4096 px.

    python -m benchmarks.memory [--sides 512,1024,2048,4096] [--device cuda] [--out FILE]

Every size runs in a process of its own, whose peak resident memory the operating system tells. The sampler alone
runs with a network that costs nothing, in float32. Three canvases are what any method needs: input, noise, result.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import torch
from torch import Tensor

from adadiffsr_core.commands.options import choose_dtype
from adadiffsr_core.models.model import load_model
from adadiffsr_core.pipeline import upscale
from adadiffsr_core.sampling.codebook import build_codebook
from adadiffsr_core.sampling.merge import TileMerger
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.sampling.tiles import build_grid
from adadiffsr_core.sampling.tilewise import sample_tiles
from adadiffsr_core.sampling.turn import Job
from adadiffsr_core.settings import PRESETS

TILE, OVERLAP = 64, 8


class Halving:
    """A denoiser that costs nothing."""

    boundaries: Sequence[float] = ()

    def __call__(self, x: Tensor, sigma: Tensor, tiles: Sequence[int], gain: Tensor | None) -> Tensor:
        """See `Denoiser`."""
        return x * 0.5


def sampler_alone(tiles_per_side: int) -> None:
    """Sample a canvas of so many tiles squared."""
    side = TILE + (TILE - OVERLAP) * (tiles_per_side - 1)
    grid = build_grid(side, side, TILE, OVERLAP)
    schedule = Schedule("v")
    sigmas = schedule.build_sigmas(4)
    lq = torch.zeros(1, 4, side, side)
    job = Job(
        denoiser=Halving(),
        timesteps=schedule.sigma_to_timestep(sigmas[:-1]),
        codebook=build_codebook(sigmas, "euler"),
        grid=grid,
        lq_latent=lq,
        x=torch.randn(lq.shape),
        dtss=DtssConfig(intervals=(1, 1, 1, 1), early_exit=False),
    )
    merger = TileMerger(grid)
    sample_tiles(job, merger.add)
    merger.finish()


def whole_pipeline(side_px: int, device: str) -> None:
    """Upscale to so many pixels squared, two steps."""
    config = replace(PRESETS["everyday"].uniform(1), steps=2)
    image = torch.rand(1, 3, side_px // 4, side_px // 4)
    place = torch.device(device)
    upscale(load_model(None, place, choose_dtype("auto", place)), image, (side_px, side_px), config)


def peak(kind: str, size: int, device: str) -> float:
    """Peak memory in MB of a process of its own: resident, or on CUDA what torch had allocated there."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", "--device", device, "--child", kind, str(size)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default="512,1024,2048,4096")
    parser.add_argument("--tiles-per-side", default="1,8,16,32")
    parser.add_argument("--device", default="cpu", help="processor of the whole pipeline")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=2)
    args = parser.parse_args()
    if args.child:
        if args.child[0] == "sampler":
            sampler_alone(int(args.child[1]))
        else:
            whole_pipeline(int(args.child[1]), args.device)
        is_cuda = torch.device(args.device).type == "cuda"
        kilobytes = torch.cuda.max_memory_allocated() / 1024 if is_cuda else getrusage(RUSAGE_SELF).ru_maxrss
        print(kilobytes / 1024)
        return
    rows = []
    for kind, sizes in (("sampler", args.tiles_per_side), ("pipeline", args.sides)):
        first = None
        for size in map(int, filter(None, sizes.split(","))):
            used = peak(kind, size, args.device if kind == "pipeline" else "cpu")
            first = used if first is None else first
            side = TILE + (TILE - OVERLAP) * (size - 1) if kind == "sampler" else size
            canvas = 3 * (4 if kind == "sampler" else 3) * side**2 * 4 / 2**20
            rows.append({"what": kind, "size": size, "peak_mb": used, "growth_mb": used - first, "canvas_mb": canvas})
    print("| what | size | peak MB | growth MB | three canvases MB |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        label = f"{row['size']}x{row['size']} {'tiles' if row['what'] == 'sampler' else 'px'}"
        print(f"| {row['what']} | {label} | {row['peak_mb']:.0f} | {row['growth_mb']:.0f} | {row['canvas_mb']:.0f} |")
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
