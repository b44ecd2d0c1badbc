"""What an autoencoder alone loses: round trips of good photographs and of flat colours, and how long decoding takes.

    python -m benchmarks.round_trip --images RealSR=GT_FOLDER [--autoencoder FILE ...] [--teacher FOLDER] [--limit 50]

For the embedded autoencoder, each FILE, and TAESD or TAESD3 if its folder is given: PSNR in dB and, where
stlpips-pytorch is installed, ST-LPIPS of whole photographs; the furthest that any pixel of seven flat colours comes out
from them, in levels of 255; and the time to decode 1024 px (`--px`), as a ratio to the embedded one's, in turn in one
process, as the median of `--rounds`.
"""

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from adadiffsr_core.data.flat_colours import SEVEN_COLOURS
from adadiffsr_core.errors import MissingExtraError
from adadiffsr_core.evaluation.sets import list_images
from adadiffsr_core.metrics.base import Metric
from adadiffsr_core.metrics.registry import create_metric
from adadiffsr_core.models.model import embedded_weights
from adadiffsr_core.photo.reading import read_photo
from adadiffsr_core.training.tasks.ldm import load_autoencoder
from adadiffsr_core.training.tasks.taesd import Taesd


@dataclass(frozen=True)
class Coder:
    """Something that encodes and decodes images in [0,1]."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]

    def round_trip(self, image: Tensor) -> Tensor:
        """`[1,3,H,W]`, sides multiples of 8, there and back."""
        return self.decode(self.encode(image)).clamp(0, 1)


def read_coders(args: argparse.Namespace) -> dict[str, Coder]:
    """The embedded one first."""
    paths = {"embedded": embedded_weights()} | {path.stem: path for path in args.autoencoder}
    coders = {}
    for name, path in paths.items():
        net = load_autoencoder(path).eval()
        coders[name] = Coder(net.encode, net.decode)
    if args.teacher is not None:
        teacher = Taesd(args.teacher)
        coders[args.teacher.name] = Coder(teacher.encode, teacher.decode)
    return coders


def read_metrics() -> dict[str, Metric]:
    """Those that can be had here."""
    metrics = {"psnr": create_metric("psnr")}
    with contextlib.suppress(MissingExtraError):
        metrics["st_lpips"] = create_metric("st_lpips")
    return metrics


def furthest_flat(coder: Coder) -> float:
    """Levels of 255."""
    pictures = (torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 256, 256).float() for colour in SEVEN_COLOURS)
    return max(float((coder.round_trip(picture) - picture).abs().max()) * 255 for picture in pictures)


def time_decoding(coders: dict[str, Coder], px: int, rounds: int) -> dict[str, float]:
    """Each coder's time over the first one's, for a picture of `px` squared."""
    latents = {name: coder.encode(torch.rand(1, 3, px, px)) for name, coder in coders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in coders}
    for _ in range(rounds):
        for name, coder in coders.items():
            began = time.process_time()
            coder.decode(latents[name])
            seconds[name].append(time.process_time() - began)
    first = statistics.median(next(iter(seconds.values())))
    return {name: statistics.median(values) / first for name, values in seconds.items()}


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--autoencoder", action="append", type=Path, default=[], metavar="FILE")
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--px", type=int, default=1024, help="side of the picture whose decoding is timed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    specs = [spec.partition("=") for spec in args.images]
    sets = {name: list_images(Path(folder)) for name, _, folder in specs}  # a wrong name is found out now
    coders, metrics = read_coders(args), read_metrics()
    ratios = time_decoding(coders, args.px, args.rounds)
    results = {name: {"flats": furthest_flat(coder), "decoding": ratios[name]} for name, coder in coders.items()}
    for dataset, found in sets.items():
        paths = found[:: max(1, len(found) // args.limit)][: args.limit]
        for name, coder in coders.items():
            rows = []
            for path in paths:
                photo = read_photo(path).pixels[None]
                photo = photo[..., : photo.shape[-2] // 8 * 8, : photo.shape[-1] // 8 * 8]
                made = coder.round_trip(photo)
                rows.append([float(metric(made, photo)) for metric in metrics.values()])
            means = torch.tensor(rows).mean(dim=0).tolist()
            results[name] |= {f"{dataset} {metric}": value for metric, value in zip(metrics, means, strict=True)}
    columns = list(next(iter(results.values())))
    print(f"| autoencoder | {' | '.join(columns)} |\n| --- |{' ---: |' * len(columns)}")
    for name, row in results.items():
        print(f"| {name} | {' | '.join(f'{row[column]:.3f}' for column in columns)} |")
    if args.out:
        args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
