"""What region-aware sampling costs in ComfyUI beyond its network calls: a ratio, of two things run in turn.

The denominator is the time of bare `guider(x, sigma)` calls on full batches of tiles, times the tile evaluations
spent; the numerator is the whole of `guider.sample`, preparation and merge included. Both are CPU time of this
process, which other work on the machine does not lengthen; so let OMP_NUM_THREADS be 1. Run with the interpreter of a
ComfyUI: `python benchmarks/host_overhead.py [COMFYUI_DIR] [pairs]`.
"""

import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.host.pack import part  # noqa: E402  (before the host's own `tests` come in the way)

HOST = Path(sys.argv[1]) if len(sys.argv) > 1 else Path.home() / "comfy" / "ComfyUI"
sys.path.insert(0, str(HOST))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing(False)

import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True

import comfy.samplers  # noqa: E402
import torch  # noqa: E402

SIDE, OVERLAP, BATCH, STEPS = 64, 8, 8, 12


class Bare(comfy.samplers.Sampler):
    """Times the guider alone, on full batches."""

    def sample(self, guider, sigmas, extra_args, callback, noise, latent, mask=None, disable_pbar=False):  # noqa: D102
        x = torch.randn(BATCH, *noise.shape[1:])
        sigma = sigmas[torch.arange(BATCH) % (len(sigmas) - 1)]
        guider(x, sigma, **extra_args)
        began = time.process_time()
        for _ in range(STEPS):
            guider(x, sigma, **extra_args)
        self.per_tile = (time.process_time() - began) / (STEPS * BATCH)
        return latent


@torch.inference_mode()
def main() -> None:
    """Print the ratio for a uniform run and for an adaptive one."""
    checkpoints, settings = part("nodes.host.checkpoints"), part("nodes.settings")
    loaded = checkpoints.open_checkpoint(checkpoints.find_checkpoint(checkpoints.EMBEDDED))
    side = SIDE + 3 * (SIDE - OVERLAP)
    canvas = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(0))
    tile = canvas[..., :SIDE, :SIDE].clone()
    sigmas = comfy.samplers.KSampler(loaded.model, STEPS, torch.device("cpu"), "euler", "simple", 1.0).sigmas

    def run(sampler, latent):
        guider = comfy.samplers.CFGGuider(loaded.model)
        guider.set_conds(loaded.null_prompt, loaded.null_prompt)
        guider.set_cfg(1.0)
        guider.sample(torch.randn_like(latent), latent, sampler, sigmas, disable_pbar=True, seed=1)

    for name, intervals in (("uniform", "1, 1, 1, 1"), ("adaptive", "1, 2, 3, 4")):
        ratios = []
        for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 5):
            bare, kept = Bare(), []
            run(bare, tile.expand(1, -1, -1, -1).contiguous())
            how = settings.RegionSettings(
                sampler_name="dpmpp_2m",
                dtss=settings.parse_dtss(intervals, 6e-4, False),
                tile_fit=False,
                overlap=OVERLAP * 8,
                tile_batch=BATCH,
            )
            began = time.process_time()
            run(part("nodes.host.sampler").RegionSampler(how, kept.append), canvas)
            report = kept[0].report
            ratios.append((time.process_time() - began) / (report.nfe * bare.per_tile))
        print(
            f"{name}: overhead {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), {report.nfe} evaluations"
        )


if __name__ == "__main__":
    main()
