"""What an upscaler must not spoil: plain colours, and sharp photographs that are only doubled.

    python -m benchmarks.fidelity PHOTOS... [--every 1 --from 0] [--seeds 0 1 2] [--likeness 40] [--model FILE]
        [--spoilt sharp blurred "jpeg 75" "jpeg 40" noise]

By the everyday preset. The furthest that any pixel of seven plain pictures comes out from its colour, in levels of 255,
over the seeds; and of photographs at half their size, as they are or spoilt, doubled by the first seed, PSNR in dB and,
where stlpips-pytorch is installed, ST-LPIPS to the photographs, beside those without back-projection (decision D84) and
of enlarging alone (bicubic).
"""

import argparse
import io
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adadiffsr_core.data.flat_colours import SEVEN_COLOURS
from adadiffsr_core.errors import AdaDiffSRError
from adadiffsr_core.models.model import Model, load_model
from adadiffsr_core.photo.back_projection import back_project
from adadiffsr_core.photo.enlarging import enlarge, reduce
from adadiffsr_core.photo.low_pass import low_pass
from adadiffsr_core.photo.reading import read_photo
from adadiffsr_core.pipeline import upscale
from adadiffsr_core.settings import PRESETS, SamplingConfig

from .likeness import list_photos
from .round_trip import read_metrics


def furthest_plain(model: Model, colour: tuple[float, float, float], ways: Iterable[SamplingConfig]) -> float:
    """Levels of 255, of a picture of 96 x 160 px enlarged four times."""
    plain = torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1)
    results = (upscale(model, plain.expand(1, 3, 96, 160), (384, 640), way).image for way in ways)
    return max(float((result - plain).abs().max()) * 255 for result in results)


def halve(photo: Tensor) -> tuple[Tensor, Tensor]:
    """`[1,3,H,W]` with even sides, and the same at half its size."""
    height, width = (side // 2 for side in photo.shape[-2:])
    even = photo[..., : 2 * height, : 2 * width]
    return even, reduce(even, (height, width))


def spoil_by_jpeg(photo: Tensor, quality: int) -> Tensor:
    """As libjpeg, by way of Pillow, writes it."""
    file = io.BytesIO()
    Image.fromarray(photo[0].permute(1, 2, 0).mul(255).round().byte().numpy()).save(file, "JPEG", quality=quality)
    levels = np.asarray(Image.open(file, formats=["JPEG"])).transpose(2, 0, 1)
    return torch.from_numpy(levels.astype(np.float32))[None] / 255


def spoil_by_noise(photo: Tensor) -> Tensor:
    """Six levels of 255."""
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    return ((photo + noise * 6 / 255).clamp(0, 1) * 255).round() / 255


SPOILT: dict[str, Callable[[Tensor], Tensor]] = {
    "sharp": lambda photo: photo,
    "blurred": lambda photo: torch.cat([low_pass(plane, 2)[None] for plane in photo[0]])[None],  # by about 1.6 px
    "jpeg 75": lambda photo: spoil_by_jpeg(photo, 75),
    "jpeg 40": lambda photo: spoil_by_jpeg(photo, 40),
    "noise": spoil_by_noise,
}


def double(model: Model, photo: Tensor, size: tuple[int, int], way: SamplingConfig) -> dict[str, Tensor]:
    """A photograph at twice its size: the upscaler's, the same without back-projection, and bicubic."""
    quadrupled = upscale(model, photo, (2 * size[0], 2 * size[1]), way).image  # which is how it is doubled, too
    return {
        "doubled": back_project(quadrupled, photo, size),
        "without back-projection": reduce(quadrupled, size),
        "bicubic": enlarge(photo, size),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTOS", help="files or folders")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th photograph")
    parser.add_argument("--from", dest="first", type=int, default=0, help="beginning with this one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--spoilt", nargs="+", choices=SPOILT, default=["sharp"], metavar="HOW")
    parser.add_argument("--likeness", type=float, default=PRESETS["everyday"].dtss.likeness)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        paths = list_photos(args)
    except AdaDiffSRError as error:
        parser.error(str(error))
    model, everyday = load_model(args.model), PRESETS["everyday"]
    dtss = replace(everyday.dtss, likeness=args.likeness)
    ways = [replace(everyday, seed=seed, dtss=dtss) for seed in args.seeds]
    for colour in SEVEN_COLOURS:
        print(f"plain {colour}: {furthest_plain(model, colour, ways):.2f} levels", flush=True)
    metrics, sums = read_metrics(), dict[str, list[float]]()
    for path in paths:
        truth, half = halve(read_photo(path).pixels[None])
        for kind in args.spoilt:
            made = double(model, SPOILT[kind](half), (truth.shape[-2], truth.shape[-1]), ways[0])
            for name, picture in made.items():
                values = [float(metric(picture, truth)) for metric in metrics.values()]
                row = f"{kind}, {name}"
                sums[row] = [a + b for a, b in zip(sums.get(row, [0.0] * len(values)), values, strict=True)]
                print(path.name, row, *(f"{value:.4f}" for value in values), flush=True)
    for row, totals in sums.items():
        means = (f"{metric} {total / len(paths):.4f}" for metric, total in zip(metrics, totals, strict=True))
        print(f"{row}: {', '.join(means)}")


if __name__ == "__main__":
    main()
