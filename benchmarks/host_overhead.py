"""What region-aware sampling costs in ComfyUI beyond its network calls: a ratio, of two things run in turn.

The denominator is the time of bare `guider(x, sigma)` calls on full batches of tiles, times the tile evaluations
spent; the numerator is the whole of `guider.sample`, preparation and merge included. Both are CPU time of this
process, which other work on the machine does not lengthen; so let OMP_NUM_THREADS be 1. Run with the interpreter of a
ComfyUI: `python benchmarks/host_overhead.py [COMFYUI_DIR] [pairs]`.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.host.pack import load_pack  # noqa: E402  (before the host's own `tests` come in the way)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comfyui", type=Path, nargs="?", default=Path.home() / "comfy" / "ComfyUI")
    parser.add_argument("pairs", type=int, nargs="?", default=5)
    parser.add_argument("--side", type=int, default=64, help="side of a tile, latent px")
    parser.add_argument("--overlap", type=int, default=8, help="overlap of tiles, latent px")
    parser.add_argument("--rows", type=int, default=4, help="rows of tiles, and columns")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    return parser.parse_args()


ARGS = parse()
sys.path.insert(0, str(ARGS.comfyui))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing(False)

import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True

import comfy.samplers  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

load_pack("pack")  # the name by which mypy knows it too

from pack.nodes.host.checkpoints import EMBEDDED, find_checkpoint, open_checkpoint  # noqa: E402
from pack.nodes.host.sampler import FinishedTiles, RegionSampler  # noqa: E402
from pack.nodes.settings import read_settings  # noqa: E402


class Bare(comfy.samplers.Sampler):
    """Times the guider alone, on full batches."""

    def sample(  # noqa: PLR0913  the host calls it so
        self,
        guider: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent: Tensor,
        mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """See the host's `Sampler`; the seconds of a tile stay in `per_tile`."""
        x = torch.randn(ARGS.batch, *noise.shape[1:])
        sigma = sigmas[torch.arange(ARGS.batch) % (len(sigmas) - 1)]
        guider(x, sigma, **extra_args)
        began = time.process_time()
        for _ in range(ARGS.steps):
            guider(x, sigma, **extra_args)
        self.per_tile = (time.process_time() - began) / (ARGS.steps * ARGS.batch)
        return latent


@torch.inference_mode()
def main() -> None:
    """Print the ratio for a uniform run and for an adaptive one."""
    loaded = open_checkpoint(find_checkpoint(EMBEDDED))
    side = ARGS.side + (ARGS.rows - 1) * (ARGS.side - ARGS.overlap)
    channels = loaded.model.model.latent_format.latent_channels
    canvas = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(0))
    tile = canvas[..., : ARGS.side, : ARGS.side].clone()
    sigmas = comfy.samplers.KSampler(loaded.model, ARGS.steps, torch.device("cpu"), "euler", "simple", 1.0).sigmas

    def run(sampler: Any, latent: Tensor) -> None:
        guider = comfy.samplers.CFGGuider(loaded.model)
        guider.set_conds(loaded.null_prompt, loaded.null_prompt)
        guider.set_cfg(1.0)
        guider.sample(torch.randn_like(latent), latent, sampler, sigmas, disable_pbar=True, seed=1)

    for name, intervals in (("uniform", "1, 1, 1, 1"), ("adaptive", "1, 2, 3, 4")):
        ratios = []
        for _ in range(ARGS.pairs):
            bare = Bare()
            kept: list[FinishedTiles] = []
            run(bare, tile.expand(1, -1, -1, -1).contiguous())
            how = read_settings(
                sampler_name="dpmpp_2m",
                intervals=intervals,
                gain_threshold=6e-4,
                tile_size=ARGS.side * 8,
                tile_fit=False,
                overlap=ARGS.overlap * 8,
                tile_batch=ARGS.batch,
            )
            began = time.process_time()
            run(RegionSampler(how, kept.append), canvas)
            report = kept[0].report
            ratios.append((time.process_time() - began) / (report.nfe * bare.per_tile))
        print(
            f"{name}: overhead {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), {report.nfe} evaluations"
        )


if __name__ == "__main__":
    main()
