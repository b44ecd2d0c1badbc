"""How near tiles come to what all steps would have given, by schedule and by rule, at which number of evaluations.

    python -m benchmarks.likeness PHOTOS... [--tile-px 512] [--tiles 1] [--scale 4] [--every 1 --from 0] [--model FILE]
        [--steps 24] [--denoise 1] [--out JSON] [--chart PNG]
    python -m benchmarks.likeness --read JSON...        # several runs as one

One tile of each photograph, or more, is enlarged and sampled as a canvas of its own. Likeness is the PSNR in dB of the
decoded tile to that of all base steps: of the mean tile, of the worst twentieth, of the worst; and of the worst
twentieth of blocks of 128 px. `course n` are the same n evaluations for every tile, the rule's course of that number;
`intervals k` every k-th step and the last; `paper` is the rule of classes; `bounded` are dials of likeness. `kept` is
the share of tiles that are as near as the dial says. The line below the table is the law that `sampling/bounded.py`
holds: log10 of each course's deviation, in the mean over tiles, where that of seven evaluations is as it says there.
`--courses` measures nothing else.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adadiffsr_core.drawing.charts import new_figure
from adadiffsr_core.errors import AdaDiffSRError, ConfigError
from adadiffsr_core.evaluation.sets import list_images
from adadiffsr_core.files import whole_file
from adadiffsr_core.gain.mmle import MmleEstimator
from adadiffsr_core.models.model import Model, load_model
from adadiffsr_core.photo.enlarging import enlarge
from adadiffsr_core.photo.reading import read_photo
from adadiffsr_core.pipeline import sample_latent
from adadiffsr_core.sampling.bounded import courses, deviation_of
from adadiffsr_core.settings import PRESETS, SamplingConfig

UNIT = 7  # evaluations whose deviation in force the law is relative to
IN_FORCE = float(deviation_of(torch.tensor(UNIT), PRESETS["everyday"].steps).log10())
LINES = {
    "bounded": "bounded, by likeness",
    "course": "the same course for every tile",
    "intervals": "every k-th step and the last",
    "paper": "the paper's rule",
}
DIALS = (36.0, 38.0, 40.0, 42.0, 44.0, 46.0)
BLOCK_PX = 128


def list_photos(args: argparse.Namespace) -> list[Path]:
    """Files named on the command line: of each folder's photographs, every so many-th.

    Raises:
        ImageError: a folder holds none.
    """
    files = [list_images(path) if path.is_dir() else [path] for path in args.photos]
    shown = [[path for path in group if not path.name.startswith(".")] for group in files]
    return [path for group in shown for path in group[args.first :: args.every]]


def tiles(paths: list[Path], side_px: int, scale: int, seed: int, each: int = 1) -> Iterator[tuple[str, Tensor]]:
    """Names, and `each` tiles `[1,3,side_px,side_px]` of every photograph that is large enough, enlarged.

    Raises:
        ConfigError: none is.
    """
    rng, side, found = np.random.default_rng(seed), side_px // scale, 0
    for path in paths:
        photo = read_photo(path).pixels[None]
        room = [length - side for length in photo.shape[-2:]]
        for _ in range(each if min(room) >= 0 else 0):
            found += 1
            top, left = (int(rng.integers(more, endpoint=True)) for more in room)
            yield path.name, enlarge(photo[..., top : top + side, left : left + side], (side_px, side_px))
    if not found:
        raise ConfigError(
            f"no photograph has the {side} px on each side that a tile of {side_px} px is made of; name larger ones, "
            "or a smaller --tile-px"
        )


class Blind(MmleEstimator):
    """Tells gain, and no difficulty, so that a budget is the same schedule for all."""

    def quality(self, denoised: Tensor, lq_latent: Tensor, sigma: Tensor) -> Tensor:
        """See `GainEstimator.quality`."""
        return super().quality(denoised, lq_latent, sigma)[:, :2]


def methods(config: SamplingConfig, *, courses_only: bool = False) -> dict[str, SamplingConfig]:
    """What is compared, by name."""
    rule = config.dtss
    bounded = replace(rule, rule="bounded")
    counts = (courses(config.steps).remaining[:-1, 0] + 1).tolist()
    same = {f"course {n}": replace(bounded, budget=float(n)) for n in counts}
    if courses_only:
        return {name: replace(config, dtss=dtss) for name, dtss in same.items()}
    fixed = {f"intervals {k}": config.uniform(k).dtss for k in (2, 3, 4)}
    dials = {f"bounded {dial:g} dB": replace(bounded, likeness=dial, budget=0.0) for dial in DIALS}
    chosen = {**fixed, "paper": replace(rule, rule="paper"), **same, **dials}
    return {name: replace(config, dtss=dtss) for name, dtss in chosen.items()}


@torch.inference_mode()
def measure(
    model: Model, paths: list[Path], config: SamplingConfig, args: argparse.Namespace
) -> dict[str, dict[str, list[float]]]:
    """Evaluations, squared error and that of blocks, of every tile, by method."""
    chosen = methods(config, courses_only=args.courses)
    rows: dict[str, dict[str, list[float]]] = {name: {"nfe": [], "error": [], "blocks": []} for name in chosen}
    blind = model if model.mmle is None else replace(model, estimator=Blind(model.mmle))
    for place, (name, tile) in enumerate(tiles(paths, args.tile_px, args.scale, args.seed, args.tiles)):
        lq_latent = model.encode(tile)
        whole = replace(config.every_step(), seed=place)
        truth = model.decode(sample_latent(model, lq_latent, whole).latent).clamp(0, 1)
        for method, settings in chosen.items():
            who = blind if method.startswith("course") else model
            sampled = sample_latent(who, lq_latent, replace(settings, seed=place))
            error = (model.decode(sampled.latent).clamp(0, 1) - truth).square().mean(dim=1, keepdim=True)
            row = rows[method]
            row["nfe"].append(sampled.report.mean_nfe)
            row["error"].append(float(error.mean()))
            row["blocks"] += F.avg_pool2d(error, min(BLOCK_PX, args.tile_px)).flatten().tolist()
        print(f"{place + 1} {name}", flush=True)
    return rows


def summarise(rows: dict[str, dict[str, list[float]]]) -> str:
    """A Markdown table."""
    lines = [
        "| schedule | evaluations | likeness, mean | worst 5 % of tiles | worst tile | worst 5 % of blocks | kept |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        tile, block = (-10 * np.log10(np.maximum(row[key], 1e-12)) for key in ("error", "blocks"))
        kept = f"{100 * (tile >= float(name.split()[1])).mean():.0f} %" if name.startswith("bounded") else ""
        values = [tile.mean(), np.quantile(tile, 0.05), tile.min(), np.quantile(block, 0.05)]
        figures = " | ".join(f"{value:.1f}" for value in values)
        lines.append(f"| {name} | {np.mean(row['nfe']):.2f} | {figures} | {kept} |")
    return "\n".join(lines)


def law(rows: dict[str, dict[str, list[float]]]) -> str:
    """Deviation of courses, log10 of squared error against `UNIT` evaluations, by their evaluations."""
    named = {int(name.split()[1]): row for name, row in rows.items() if name.startswith("course")}
    errors = {n: np.log10(np.maximum(row["error"], 1e-12)) for n, row in named.items()}
    if UNIT not in errors:
        return "too few base steps for the law"
    unit = errors[UNIT] - IN_FORCE
    parts = [f"{n}: {(error - unit).mean():+.2f} ± {(error - unit).std():.2f}" for n, error in errors.items()]
    tiles = f"{unit.mean():.2f} ± {unit.std():.2f}, of one in ten above {np.quantile(unit, 0.9):.2f}"
    return f"law ({tiles}): {', '.join(parts)}"


def read_rows(paths: list[Path]) -> dict[str, dict[str, list[float]]]:
    """What several runs wrote by `--out`, as one."""
    rows: dict[str, dict[str, list[float]]] = {}
    for path in paths:
        for name, row in json.loads(path.read_text(encoding="utf-8")).items():
            for key, values in row.items():
                rows.setdefault(name, {}).setdefault(key, []).extend(values)
    return rows


def draw_chart(rows: dict[str, dict[str, list[float]]], path: Path) -> None:
    """A PNG of how near the worst twentieth of tiles is, by evaluations; a line for each kind of schedule."""
    figure = new_figure(6.4, 4.2)
    axes = figure.add_subplot(1, 1, 1)
    for kind, label in LINES.items():
        named = [row for name, row in rows.items() if name.split()[0] == kind]
        points = sorted(
            (float(np.mean(row["nfe"])), -10 * np.log10(max(np.quantile(row["error"], 0.95), 1e-12))) for row in named
        )
        axes.plot(*zip(*points, strict=True), label=label, marker="o", markersize=4, linewidth=1)
    axes.set(xlabel="evaluations per tile", ylabel="PSNR to all steps, worst twentieth of tiles, dB")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=110, format="png")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path, metavar="PHOTOS", help="files or folders")
    parser.add_argument("--read", nargs="+", type=Path, default=[], metavar="JSON", help="of earlier runs")
    parser.add_argument("--chart", type=Path, metavar="PNG", help="needs matplotlib")
    parser.add_argument("--tile-px", type=int, default=512)
    parser.add_argument("--tiles", type=int, default=1, help="of each photograph")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--every", type=int, default=1, help="only every so many-th photograph")
    parser.add_argument("--from", dest="first", type=int, default=0, help="beginning with this one")
    parser.add_argument("--steps", type=int, default=PRESETS["everyday"].steps)
    parser.add_argument("--denoise", type=float, default=1.0, help="as an ordinary checkpoint wants it: 0.2 to 0.5")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--courses", action="store_true", help="only courses, for the law")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if not (args.photos or args.read):
        parser.error("name photographs to measure, or earlier runs by --read")
    torch.set_num_threads(args.threads)
    given = {"steps": args.steps, "denoise": args.denoise, "tile_size": args.tile_px}
    config = replace(PRESETS["everyday"], **given, tile_fit=False, overlap=0)
    try:
        rows = read_rows(args.read) if args.read else measure(load_model(args.model), list_photos(args), config, args)
    except AdaDiffSRError as error:
        parser.error(str(error))
    print(summarise(rows))
    print(law(rows))
    if args.chart:
        draw_chart(rows, args.chart)
    if args.out:
        args.out.write_text(json.dumps(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
