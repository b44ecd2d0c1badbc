"""What Ray costs: photographs made by one worker of a cluster, and by the command itself, in turn.

    python -m benchmarks.cluster_overhead [FOLDER] [--count 8] [--side 128] [--rounds 5] [--threads 1] [--model FILE]

Both read, make, write and tell the same photographs: crops of those in FOLDER. The worker has begun and has its model
before the clock starts; what beginning takes is printed by itself. A ratio of 1 would be a cluster that costs nothing.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from adadiffsr_core.cluster.joining import find_cluster
from adadiffsr_core.cluster.pool import Pool
from adadiffsr_core.commands.cluster import Equipment, PhotoUnit, fingerprint_code
from adadiffsr_core.commands.drafts import draft_photo
from adadiffsr_core.commands.making import Order, count_tiles, finish_photo, make_photo
from adadiffsr_core.commands.naming import Source
from adadiffsr_core.commands.plan import PhotoJob, Targets
from adadiffsr_core.commands.terminal import REFUSALS
from adadiffsr_core.models.model import Model, load_model
from adadiffsr_core.photo.reading import open_photo
from adadiffsr_core.settings import PRESETS

PHOTOS = Path(__file__).resolve().parents[1] / "photos"


def plan_jobs(folder: Path, out: Path, count: int, side: int) -> list[PhotoJob]:
    """Crops of the photographs in a folder, four times larger."""
    rng, jobs = np.random.default_rng(0), []
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
    for number in range(count):
        with Image.open(paths[number % len(paths)], formats=("PNG", "JPEG")) as photo:
            left, top = (int(rng.integers(max(1, whole - side + 1))) for whole in photo.size)
            source = out / f"{number}.png"
            photo.convert("RGB").crop((left, top, left + side, top + side)).save(source)
        draft = draft_photo(Source(source), 4.0, None)
        targets = Targets(result=out / f"{number}-large.png")
        jobs.append(PhotoJob(source=source, pages=draft.pages, motion=None, targets=targets, state=draft.state))
    return jobs


def make_here(jobs: list[PhotoJob], model: Model, order: Order) -> float:
    """Seconds."""
    began = time.perf_counter()
    for job in jobs:
        finish_photo(make_photo(job, open_photo(job.source), model, order))
    return time.perf_counter() - began


def make_there(jobs: list[PhotoJob], model: Model, order: Order, pool: Pool[PhotoUnit]) -> float:
    """Seconds."""
    began = time.perf_counter()
    units = [PhotoUnit(job, count_tiles(job, model.scales, model.sizes, order.config)) for job in jobs]
    for _, outcome in pool.run(units):
        if isinstance(outcome, Exception):
            raise outcome
        finish_photo(outcome)
    return time.perf_counter() - began


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=PHOTOS)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load_model(args.model)
    order = Order(config=PRESETS["everyday"], mask=None, quality=95, check=False, strip=False)
    weights = None if args.model is None else args.model.read_bytes()
    rows, quiet, began = [], io.StringIO(), time.perf_counter()
    with tempfile.TemporaryDirectory() as name, find_cluster("local").join("cpu", args.threads) as (ray, seats):
        jobs = plan_jobs(args.folder, Path(name), args.count, args.side)
        equipment = Equipment(order=order, seats=seats, dtype="float32", weights=weights, code=fingerprint_code())
        one = type(seats)(1, seats.device, seats.threads, seats.share)
        pool = Pool[PhotoUnit](ray, one, equipment, refusals=REFUSALS)
        with contextlib.redirect_stdout(quiet):
            make_there(jobs[:1], model, order, pool)
            make_here(jobs[:1], model, order)
        print(f"ready after {time.perf_counter() - began:.1f} s\n")
        print("| here, s | one worker, s | ratio |\n| ---: | ---: | ---: |")
        for turn in range(args.rounds):
            with contextlib.redirect_stdout(quiet):
                there = make_there(jobs, model, order, pool) if turn % 2 else 0.0
                here = make_here(jobs, model, order)
                there = there or make_there(jobs, model, order, pool)
            rows.append(there / here)
            print(f"| {here:.2f} | {there:.2f} | {there / here:.3f} |", flush=True)
    print(f"\nmedian ratio {statistics.median(rows):.3f}")


if __name__ == "__main__":
    main()
