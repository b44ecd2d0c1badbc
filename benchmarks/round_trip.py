"""The autoencoder beside its teacher: round trips of good photographs, and how far apart the latents are.

    python -m benchmarks.round_trip --teacher TAESD_FOLDER --images RealSR=GT_FOLDER [--limit 12] [--out FILE]

PSNR in dB of the photograph after encoding and decoding, up to 512 px of it, RGB: by ours, by our decoder from the
teacher's latents, and by the teacher. The distance is that of our latents from the teacher's, relative to their norm.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from adadiffsr_core.evaluation.pairs import list_images
from adadiffsr_core.images import read_photo
from adadiffsr_core.metrics.psnr import psnr
from adadiffsr_core.pipeline import Model, load_model
from adadiffsr_core.training.taesd import Taesd

COLUMNS = ("ours", "ours from TAESD's latents", "TAESD", "latent distance")


@torch.inference_mode()
def measure(image: Tensor, model: Model, teacher: Taesd) -> list[float]:
    """The four figures of one photograph `[1,3,H,W]`, sides multiples of 8."""
    ours, theirs = model.encode(image), teacher.encode(image)
    made = [model.decode(ours), model.decode(theirs), teacher.decode(theirs).clamp(0, 1)]
    distance = (ours - theirs).norm() / theirs.norm()
    return [*(float(psnr(picture, image)) for picture in made), float(distance)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--images", action="append", required=True)
    parser.add_argument("--limit", type=int, default=12)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    model, teacher, results = load_model(args.model), Taesd(args.teacher), {}
    print(f"| set | images | {' | '.join(COLUMNS)} |\n| --- | --- |{' ---: |' * len(COLUMNS)}")
    for spec in args.images:
        name, _, folder = spec.partition("=")
        paths = list_images(Path(folder))
        paths = paths[:: max(1, len(paths) // args.limit)][: args.limit]
        photos = [read_photo(path).pixels[None, :, :512, :512] for path in paths]
        rows = [measure(p[..., : p.shape[-2] // 8 * 8, : p.shape[-1] // 8 * 8], model, teacher) for p in photos]
        means = torch.tensor(rows).mean(dim=0).tolist()
        results[name] = dict(zip(COLUMNS, means, strict=True)) | {"images": len(rows)}
        print(f"| {name} | {len(rows)} | {' | '.join(f'{value:.2f}' for value in means)} |", flush=True)
    if args.out:
        args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
