"""A checkpoint of Stable Diffusion 2.1's size: time and memory to load it and to sample one 512 px tile in two steps.

Run with the interpreter of a ComfyUI: `python benchmarks/sd21.py COMFYUI_DIR CHECKPOINT`; `scripts/random_sd21.py`
writes a checkpoint with random weights.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.host.pack import load_pack  # noqa: E402  (before the host's own `tests` come in the way)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comfyui", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--side", type=int, default=512, help="side of the tile, px")
    return parser.parse_args()


ARGS = parse()
sys.path.insert(0, str(ARGS.comfyui))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing(False)

import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True

import torch  # noqa: E402

load_pack("pack")  # the name by which mypy knows it too

from pack.nodes.host.checkpoints import open_checkpoint  # noqa: E402
from pack.nodes.host.run import KSamplerSettings, sample_regions  # noqa: E402
from pack.nodes.settings import read_settings  # noqa: E402


@torch.inference_mode()
def main() -> None:
    """Load, encode, sample, decode; print what each took."""
    began = time.perf_counter()

    def tell(what: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{what}: {time.perf_counter() - began:.1f} s since the start, at most {peak:.2f} GiB so far")

    loaded = open_checkpoint(ARGS.checkpoint)
    size = sum(parameter.numel() for parameter in loaded.model.model.diffusion_model.parameters())
    tell(f"loaded a UNet of {size / 1e6:.0f} M parameters")
    picture = torch.rand(1, ARGS.side, ARGS.side, 3, generator=torch.Generator().manual_seed(0))
    latent = {"samples": loaded.vae.encode(picture)}
    tell("encoded")
    chosen = read_settings(sampler_name="dpmpp_2m", intervals="1, 1, 1, 1", tile_size=ARGS.side)
    null = loaded.null_prompt
    tiles = sample_regions(loaded.model, null, null, latent, chosen, KSamplerSettings(seed=0, steps=2))
    tell(f"sampled {tiles.grid.count} tile of {tiles.grid.tile[0] * 8} px in {tiles.report.nfe} evaluations")
    decoded = loaded.vae.decode(tiles.estimates)
    tell(f"decoded {tuple(decoded.shape)}, finite: {bool(decoded.isfinite().all())}")


if __name__ == "__main__":
    main()
