"""A checkpoint of Stable Diffusion 2.1's size: time and memory to load it and to sample one 512 px tile in two steps.

Run with the interpreter of a ComfyUI: `python benchmarks/sd21.py COMFYUI_DIR CHECKPOINT`; `scripts/random_sd21.py`
writes a checkpoint with random weights.
"""

import resource
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.host.pack import part  # noqa: E402  (before the host's own `tests` come in the way)

sys.path.insert(0, sys.argv[1])

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing(False)

import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True

import torch  # noqa: E402


@torch.inference_mode()
def main() -> None:
    """Load, encode, sample, decode; print what each took."""
    began = time.perf_counter()

    def tell(what: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{what}: {time.perf_counter() - began:.1f} s since the start, at most {peak:.2f} GiB so far")

    loaded = part("nodes.host.checkpoints").open_checkpoint(Path(sys.argv[2]))
    size = sum(parameter.numel() for parameter in loaded.model.model.diffusion_model.parameters())
    tell(f"loaded a UNet of {size / 1e6:.0f} M parameters")
    picture = torch.rand(1, 512, 512, 3, generator=torch.Generator().manual_seed(0))
    latent = {"samples": loaded.vae.encode(picture)}
    tell("encoded")
    settings = part("nodes.settings")
    chosen = settings.RegionSettings(sampler_name="dpmpp_2m", dtss=settings.parse_dtss("1, 1, 1, 1", 6e-4, False))
    null = loaded.null_prompt
    tiles = part("nodes.host.run").sample_regions(
        loaded.model, null, null, latent, chosen, seed=0, steps=2, cfg=1.0, scheduler="simple", denoise=1.0
    )
    tell(f"sampled {tiles.grid.count} tile of {tiles.grid.tile[0] * 8} px in {tiles.report.nfe} evaluations")
    decoded = loaded.vae.decode(tiles.estimates)
    tell(f"decoded {tuple(decoded.shape)}, finite: {bool(decoded.isfinite().all())}")


if __name__ == "__main__":
    main()
