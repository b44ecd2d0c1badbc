"""Fine-tuning a checkpoint of Stable Diffusion 2.1's size: time and memory of a few steps at 512 px, and of a resume.

Run it as `python benchmarks/finetune_sd21.py CHECKPOINT RUN`; `scripts/random_sd21.py` writes a checkpoint with random
weights, and `benchmarks/sd21.py` opens the result in a ComfyUI. Needs 16 GiB of memory and 18 GB of disk.
"""

import argparse
import json
import math
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from adadiffsr_core.cli import main as adadiffsr  # noqa: E402
from adadiffsr_core.models.networks import UNET_PREFIX  # noqa: E402
from adadiffsr_core.models.tensor_file import TensorFile  # noqa: E402
from adadiffsr_core.training.loop.loop import Run  # noqa: E402
from adadiffsr_core.training.loop.state import load_state  # noqa: E402

# One pair a pass, two passes a step; all but this and the size of pictures is the shipped recipe.
RECIPE = {
    "loop": {"accumulation": 2, "warmup_steps": 1, "log_every": 1},
    "task": {"batch_size": 1},
    "pairs": 4,
    "held_out": 1,
    "holdout": 0.5,
}


def train(checkpoint: Path, folder: Path, px: int, steps: int) -> None:
    """The command, with its parts timed; in a process of its own, so that its peak of memory is its own."""
    for name in ("__init__", "_one_step", "save"):
        setattr(Run, name, timed(name, getattr(Run, name)))
    config = folder.with_suffix(".json")
    config.write_text(json.dumps({**RECIPE, "data": {"size_px": px, "min_scale": 1.0}}))
    words = ["train", "ldm", str(ROOT / "photos"), "--init", str(checkpoint), "--run", str(folder)]
    words += ["--config", str(config), "--steps", str(steps), "--threads", "1", "--device", "cpu"]
    status = adadiffsr(words)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"up to step {steps}: status {status}, peak {peak:.2f} GiB", flush=True)


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, telling what it took."""

    def wrapper(*args: Any) -> Any:
        began = time.perf_counter()
        result = function(*args)
        now, peak = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"  {name}: {now - began:.1f} s, peak so far {peak:.2f} GiB", flush=True)
        return result

    return wrapper


def look(checkpoint: Path, folder: Path) -> None:
    """Whether losses are finite and how many of the weights moved."""
    tensors, facts = load_state(folder / "state.safetensors")
    losses = [row["model.total"] for row in facts["history"]]
    before, after = TensorFile(checkpoint), TensorFile(folder / "checkpoint.safetensors")
    names = [key for key in before if key.startswith(UNET_PREFIX)]
    trained = sum(
        not torch.equal(before[key].float(), tensors[f"network.model.unet.{key.removeprefix(UNET_PREFIX)}"])
        for key in names
    )
    written = sum(not torch.equal(before[key], after[key]) for key in names)
    others = sum(torch.equal(before[key], after[key]) for key in before if key not in set(names))
    print(f"step {facts['step']}, losses {losses}, all finite: {all(map(math.isfinite, losses))}")
    print(
        f"{trained} of {len(names)} UNet tensors moved, {written} of them in the checkpoint; {others} others untouched"
    )


def main() -> None:
    """Train, look and go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--px", type=int, default=512, help="side of a picture")
    # Every process but the first goes on where the one before ended.
    parser.add_argument("--steps", type=int, nargs="+", default=[2, 3], help="at which each process ends")
    args = parser.parse_args()
    for steps in args.steps:
        arguments = (args.checkpoint, args.run, args.px, steps)
        worker = multiprocessing.get_context("spawn").Process(target=train, args=arguments)
        worker.start()
        worker.join()
        look(args.checkpoint, args.run)


if __name__ == "__main__":
    main()
