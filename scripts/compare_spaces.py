"""Which latent space diffuses best, and whether picture or residual should be denoised: one small UNet for each.

    python -m scripts.compare_spaces PHOTOS RUN --autoencoder-minutes 20 --minutes 120 [--device cpu]
        [--taesd FOLDER] [--taesd3 FOLDER] [--threads 1]

Trains an autoencoder for every space and then, for the same minutes each, the same small UNet in it; spaces of a
teacher are left out where its folder is not given. Each training goes on where it was stopped. `RUN/table.md` has what
the last check of each run found on the same twelve held-out photographs; a sheet in each run's folder shows six.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adadiffsr_core.training.state import load_state

_RARELY = 10**9


@dataclass(frozen=True)
class Space:
    """A latent space.

    Attributes:
        channels: of its latents.
        teacher: the option that names the folder of its teacher, or None for a free space.
    """

    channels: int
    teacher: str | None = None


SPACES = {
    "4, SD 1's": Space(4, "taesd"),
    "8, free": Space(8),
    "16, free": Space(16),
    "16, SD 3's": Space(16, "taesd3"),
}
TARGETS = ("picture", "residual")


def write_config(path: Path, config: dict[str, Any]) -> Path:
    """A recipe file that says what differs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
    return path


def train(args: argparse.Namespace, kind: str, run: Path, minutes: float, config: Path, *more: object) -> None:
    """One training; Ctrl-C ends it and this program."""
    words = ["train", kind, args.photos, "--run", run, "--minutes", minutes, "--config", config, *more]
    for name in ("device", "threads", "workers" if kind == "ldm" else "threads"):
        if getattr(args, name) is not None and f"--{name}" not in words:
            words += [f"--{name}", getattr(args, name)]
    subprocess.run([sys.executable, "-m", "adadiffsr_core.cli", *map(str, words)], check=True)


def train_space(args: argparse.Namespace, folder: Path, space: Space) -> Path:
    """The autoencoder of a space; returns its weights."""
    loop = {"check_every": _RARELY, "save_minutes": 1.0, "save_every": _RARELY}
    net = {"z_channels": space.channels, "padding": "replicate"}
    config = write_config(folder / "autoencoder.json", {"loop": loop, "net": net, "task": {"batch_size": args.crops}})
    teacher = () if space.teacher is None else ("--teacher", getattr(args, space.teacher))
    train(args, "autoencoder", folder / "autoencoder", args.autoencoder_minutes, config, *teacher)
    return folder / "autoencoder" / "weights.safetensors"


def train_unet(args: argparse.Namespace, folder: Path, channels: int, weights: Path, target: str) -> dict[str, float]:
    """The small UNet in a space; returns what the check at its end found, and its step."""
    net = {"in_channels": 2 * channels, "out_channels": channels, "channel_mult": [1, 2, 3], "num_res_blocks": 1}
    net |= {"attention_levels": [], "num_head_channels": None}
    loop = {
        "check_every": _RARELY,
        "check_at_end": True,
        "save_minutes": 1.0,
        "save_every": _RARELY,
        "decay_share": 0.4,
    }
    sections = {"loop": loop, "net": net, "task": {"batch_size": args.pairs}, "pairs": args.window, "held_out": 64}
    config = write_config(folder / f"{target}.json", {**sections, "data": {"size_px": 256, "scales": [4, 4]}})
    words = ("--autoencoder", weights, "--target", target, "--cache", folder / "cache")
    train(args, "ldm", folder / target, args.minutes, config, *words)
    facts = load_state(folder / target / "state.safetensors")[1]
    checks = [row for row in facts["history"] if "check.psnr" in row]
    return {"steps": facts["step"], **checks[-1]}


def main() -> None:
    """Train what can be trained, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--autoencoder-minutes", type=float, required=True)
    parser.add_argument("--minutes", type=float, required=True, help="of every UNet")
    parser.add_argument("--taesd", type=Path)
    parser.add_argument("--taesd3", type=Path)
    parser.add_argument("--crops", type=int, default=8, help="batch of the autoencoders")
    parser.add_argument("--pairs", type=int, default=32, help="batch of the UNets")
    parser.add_argument("--window", type=int, default=2048, help="pairs kept at a time on a processor")
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    rows = ["| latents | denoised | steps | PSNR | ST-LPIPS |", "| --- | --- | ---: | ---: | ---: |"]
    for name, space in SPACES.items():
        if space.teacher is not None and getattr(args, space.teacher) is None:
            continue
        folder = args.run / "".join(letter for letter in name if letter.isalnum())
        weights = train_space(args, folder, space)
        for target in TARGETS:
            found = train_unet(args, folder, space.channels, weights, target)
            figures = (found["check.psnr"], found.get("check.st_lpips", float("nan")))
            rows.append(f"| {name} | {target} | {found['steps']:.0f} | {figures[0]:.2f} | {figures[1]:.3f} |")
            (args.run / "table.md").write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
