"""What travels between a cluster's driver and its workers for a large picture and a photograph, and what that costs.

    python -m benchmarks.cluster_travel [--wide 16384]

In this process, without a network in between: the real pieces of work are packed and unpacked as Ray does it, with
latents and tiles of the embedded model's sizes, and networks that take no time. Per evaluation means eight for each
tile, as the everyday preset spends in the mean.
"""

import argparse
import pickle
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from adadiffsr_core.commands.cluster import BandTask, Bench, PhotoTask
from adadiffsr_core.commands.outputs import Outputs
from adadiffsr_core.photo.reading import open_photo
from adadiffsr_core.photo.spool import Spool
from adadiffsr_core.photo.value import LevelKind
from adadiffsr_core.streaming.pieces import Picture, Work
from adadiffsr_core.streaming.spread import Spread

from .simulated.pace import Pace, order_for, plan_job, side_px

SPENT = 8  # evaluations of a tile by the everyday preset, in the mean


@dataclass
class Travel:
    """What one kind of piece moves.

    Attributes:
        count: of pieces.
        there, back: bytes.
        packing: seconds of the driver's processor to pack what goes there and unpack what comes back.
    """

    count: int = 0
    there: int = 0
    back: int = 0
    packing: float = 0.0


def pack(thing: Any) -> tuple[list[bytes], int, float]:
    """As Ray does: bytes, their count, and seconds of the processor."""
    from ray import cloudpickle

    began, buffers = time.process_time(), list[pickle.PickleBuffer]()
    head: bytes = cloudpickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    parts = [*(bytes(buffer.raw()) for buffer in buffers), head]  # copied, as into the store
    return parts, sum(map(len, parts)), time.process_time() - began


def unpack(parts: list[bytes]) -> tuple[Any, float]:
    """See `pack`."""
    began = time.process_time()
    return pickle.loads(parts[-1], buffers=parts[:-1]), time.process_time() - began  # noqa: S301 (our own)


def send(task: Any, bench: Bench, kind: Travel) -> Any:
    """There and back, without a network in between."""
    there, size, seconds = pack(task)
    back, result_size, _ = pack(unpack(there)[0](bench))
    result, more = unpack(back)
    kind.count += 1
    kind.there += size
    kind.back += result_size
    kind.packing += seconds + more
    return result


def measure_travel(width: int, folder: Path) -> None:
    """What travels of a picture so wide, and of a photograph, and what that costs the driver."""
    pace = Pace(0.0, factor=8, channels=16)
    model, config = pace.model(), pace.config(tile_batch=8)
    order = replace(order_for(pace), config=config)
    bench, kinds = Bench(model, order), defaultdict[str, Travel](Travel)
    size = (3 * 1024, width)
    job = plan_job(folder, "wide", size, in_bands=True)
    rows = open_photo(job.source).open_rows()
    assert rows is not None
    spool, kind = Spool(folder / "rows", rows.photo, size, job.targets.result), LevelKind(8, False)
    picture = Picture(job.pages[0].source_size, size, config, kind, spool.levels)
    spread, waiting, spent = Spread(picture, model, rows.read, 3), list[Work](), 0.0
    while not spread.is_done:
        began = time.process_time()
        waiting += spread.work()
        spent += time.process_time() - began
        work = waiting.pop(0)
        result = send(BandTask(work), bench, kinds[type(work).__name__])
        began = time.process_time()
        for levels in spread.settle(work, result):
            spool.add_levels(levels)
        spent += time.process_time() - began
    tiles, px = spread.bands.grid.count, size[0] * size[1]
    began = time.process_time()
    spool.write(job.targets.result, 95)
    written = time.process_time() - began
    job = plan_job(folder, "one", (side_px(3, 8), side_px(4, 8)))
    outputs: Outputs = send(PhotoTask(job, job.source.read_bytes()), bench, kinds["PhotoTask"])
    print("| pieces | number | kB there | kB back | bytes per evaluation | MB/s packed |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    total = 0
    for name, travel in kinds.items():
        both = travel.there + travel.back
        each = both / (SPENT * (12 if name == "PhotoTask" else tiles))
        total += 0 if name == "PhotoTask" else both
        shown = (
            f"{travel.there / 1e3:,.0f} | {travel.back / 1e3:,.0f} | {each:,.0f} | {both / 1e6 / travel.packing:,.0f}"
        )
        print(f"| {name} | {travel.count} | {shown} |")
    packing = sum(travel.packing for name, travel in kinds.items() if name != "PhotoTask")
    print(
        f"\none picture of {width} x {size[0]} px, {tiles} tiles: {total / px:.2f} bytes a px, "
        f"{total / (SPENT * tiles):,.0f} an evaluation\nseconds of the driver's processor for a gigapixel: "
        f"{packing / px * 1e9:.0f} to pack, {spent / px * 1e9:.0f} to read, draw noise, merge and write rows, "
        f"{written / px * 1e9:.0f} to encode the file"
    )
    assert len(outputs.reports) == 1


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wide", type=int, default=16384, help="px of the large picture")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        measure_travel(args.wide, Path(name))


if __name__ == "__main__":
    main()
