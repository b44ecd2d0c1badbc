"""How a cluster's speed grows with its workers, what the loss of one costs, and how much travels.

    python -m benchmarks.cluster_scaling [--workers 0,1,2,4,8,16] [--seconds 0.2] [--lost 8] [--wide 16384]
        [--photos 112] [--rows 160] [--skip-scaling] [--skip-travel]

The cluster is simulated: nodes of one processor each on this machine. Pool, units and driver are the real ones, and
photographs are read, travel and are written. Only the networks are none: each evaluation of a tile sleeps as long as a
GPU would take, and what encoder and decoder would take of that is slept too. Sleepers share a processor; what is not
slept, Ray's own work too, 16 workers here share among so many processors as there are, of which a table's last column
tells how many were busy.

A tile is of 64 latent px, as the embedded model's, but a latent px is one px, not 8 x 8, and has 4 channels, so that
little is computed. It has two evaluations, and each stands for a batch's: 0.2 s are 8 tiles of 25 ms. `none`
workers are this process alone. What travels is measured apart, in this process, with latents and tiles of the embedded
model's sizes; per evaluation means eight for each tile, as the everyday preset spends in the mean.
"""

import argparse
import contextlib
import io
import logging
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from adadiffsr_core.cluster.joining import _environment, _import_ray, find_cluster
from adadiffsr_core.commands.banded import Filling, Tray, fill_here, make_in_bands
from adadiffsr_core.commands.cluster import BandTask, Bench, Equipment, PhotoTask, PhotoUnit, Workers, fingerprint_code
from adadiffsr_core.commands.drafts import draft_photo
from adadiffsr_core.commands.making import Order, count_tiles, finish_photo, make_photo
from adadiffsr_core.commands.naming import Source
from adadiffsr_core.commands.options import set_threads
from adadiffsr_core.commands.outputs import Outputs
from adadiffsr_core.commands.plan import PhotoJob, Targets
from adadiffsr_core.commands.terminal import ProgressBar
from adadiffsr_core.models.model import Model, embedded_weights
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.unet import UNet, UNetConfig
from adadiffsr_core.photo.reading import open_photo
from adadiffsr_core.photo.spool import Spool
from adadiffsr_core.photo.value import LevelKind
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.settings import SamplingConfig
from adadiffsr_core.streaming.pieces import Picture, Work
from adadiffsr_core.streaming.spread import Spread

ROOT = Path(__file__).resolve().parents[1]
TILE = 64  # latent px
STEPS = 2  # evaluations of a tile
SPENT = 8  # on a tile by the everyday preset, in the mean
COLUMNS = 4  # tiles across the large picture
ENCODE, DECODE = STEPS / 16, STEPS / 8  # of a tile, in evaluations


@dataclass(frozen=True)
class Pace:
    """What the networks are like that sleep.

    Attributes:
        seconds: of one evaluation of a tile.
        factor: px per latent px.
        channels: of latents.
        log: has a byte for each evaluation that was made.
    """

    seconds: float
    factor: int = 1
    channels: int = 4
    log: Path | None = None

    def nap(self, evaluations: float) -> None:
        """Take the time of so many evaluations."""
        time.sleep(self.seconds * evaluations)

    def count(self, evaluations: int) -> None:
        """Write down that they were made."""
        if self.log is not None:
            with self.log.open("ab") as file:
                file.write(b"." * evaluations)

    def config(self, **changes: Any) -> SamplingConfig:
        """How pictures are sampled."""
        overlap, batch = TILE // 8 * self.factor, 1
        plain = SamplingConfig(steps=STEPS, solver="dpmpp_2m", overlap=overlap, tile_batch=batch, tile_fit=False)
        return replace(plain.uniform(1), **changes)

    def model(self) -> Model:
        """Networks that sleep."""
        autoencoder = Autoencoder(
            AutoencoderConfig(
                z_channels=self.channels, patch=self.factor, channels=(8,), encoder_blocks=(1,), decoder_blocks=(1,)
            )
        )
        modules: dict[str, nn.Module] = {"encoder": _Encoder(self), "decoder": _Decoder(self)}
        for name, module in modules.items():
            autoencoder.register_module(name, module)
        config = UNetConfig(
            in_channels=2 * self.channels,
            out_channels=self.channels,
            model_channels=32,
            channel_mult=(1,),
            num_res_blocks=1,
        )
        unet = _Sleeper(config)
        unet.pace = self
        return Model(unet, autoencoder, Schedule())


class _Sleeper(UNet):
    pace: Pace

    def forward(self, x: Tensor, timesteps: Tensor, residuals: Any = None, context: Tensor | None = None) -> Tensor:
        self.pace.nap(len(x))
        self.pace.count(len(x))
        return x.new_zeros(len(x), self.pace.channels, *x.shape[-2:])


class _Encoder(nn.Module):
    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self.pace = pace

    def forward(self, image: Tensor) -> Tensor:
        height, width = (side // self.pace.factor for side in image.shape[-2:])
        self.pace.nap(ENCODE * height * width / TILE**2)
        return image.new_zeros(len(image), self.pace.channels, height, width)


class _Decoder(nn.Module):
    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self.pace = pace

    def forward(self, latent: Tensor) -> Tensor:
        self.pace.nap(DECODE * latent.shape[-2] * latent.shape[-1] / TILE**2)
        return F.interpolate(latent[:, :3], scale_factor=float(self.pace.factor))


@dataclass(frozen=True, kw_only=True)
class SleepingEquipment(Equipment):
    """A worker's, which has networks that sleep, and tells which process it is.

    Attributes:
        pace: of the networks.
        pids: a folder with a file for each process.
    """

    pace: Pace
    pids: Path

    def __call__(self) -> Bench:
        """In the worker's process."""
        set_threads(self.seats.threads)
        bench = Bench(self.pace.model(), self.order)
        (self.pids / str(os.getpid())).touch()
        return bench


def side_px(tiles: int, factor: int) -> int:
    """Of so many tiles in a row that overlap by an eighth, at the size that is worked at."""
    return (TILE + (tiles - 1) * TILE * 7 // 8) * factor


def plan_job(out: Path, name: str, size: tuple[int, int], *, in_bands: bool = False) -> PhotoJob:
    """A photograph that becomes one of (height, width) px, four times larger than it is."""
    source, rng = out / f"{name}.png", np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (size[0] // 4, size[1] // 4, 3), np.uint8)).save(source)
    draft = draft_photo(Source(source), 4.0, None, lambda before, after: in_bands)
    targets = Targets(result=out / f"{name}-large.png")
    return PhotoJob(source=source, pages=draft.pages, motion=None, targets=targets, in_bands=draft.in_bands)


@dataclass(frozen=True)
class Lap:
    """One run.

    Attributes:
        seconds: that it took.
        file: of these, seconds in which the file of a picture was encoded whose rows were there.
        own: seconds of this process's processor.
        busy: processors of the machine, in the mean, whoever used them.
        made: evaluations.
    """

    seconds: float
    file: float
    own: float
    busy: float
    made: int


class Clock:
    """Begins a lap."""

    def __init__(self, log: Path | None) -> None:
        self.log, self.file = log, 0.0
        if log is not None:
            log.unlink(missing_ok=True)
        self.began, self.own, self.machine = time.perf_counter(), time.process_time(), _machine()

    def stop(self) -> Lap:
        """Ends it."""
        seconds = time.perf_counter() - self.began
        made = self.log.stat().st_size if self.log is not None and self.log.exists() else 0
        busy = (_machine() - self.machine) / seconds
        return Lap(seconds, self.file, time.process_time() - self.own, busy, made)


def _machine() -> float:
    """Seconds in which processors of this machine were not idle; not a number where nobody tells."""
    try:
        words = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    except OSError:
        return float("nan")
    ticks = [int(word) for word in words]
    return (sum(ticks[:8]) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def order_for(pace: Pace) -> Order:
    """What is asked for of every picture."""
    return Order(config=pace.config(), mask=None, quality=95, check=False, strip=False)


class Room:
    """Whoever makes pictures: this process alone.

    Attributes:
        count: of workers.
    """

    count = 0

    def __init__(self, pace: Pace) -> None:
        self.pace, self.order, self.model = pace, order_for(pace), pace.model()

    def tiles(self, job: PhotoJob) -> int:
        """Of a picture."""
        return count_tiles(job, self.model.scales, self.model.sizes, self.order.config)

    def make_folder(self, jobs: Sequence[PhotoJob]) -> Lap:
        """A folder's photographs."""
        clock = Clock(self.pace.log)
        self._make(jobs)
        return clock.stop()

    def make_picture(self, job: PhotoJob) -> Lap:
        """One large picture."""
        clock, bar = Clock(self.pace.log), ProgressBar([self.tiles(job)], STEPS)
        try:
            outputs = make_in_bands(job, self.model, self.order, Tray(embedded_weights(), True), bar, self._fill)
            began = time.perf_counter()
            finish_photo(outputs)
            clock.file = time.perf_counter() - began
        finally:
            bar.close()
        return clock.stop()

    def _make(self, jobs: Sequence[PhotoJob]) -> None:
        for job in jobs:
            finish_photo(make_photo(job, open_photo(job.source), self.model, self.order))

    def _fill(self, filling: Filling) -> None:
        fill_here(filling)


class Cluster(Room):
    """Workers of a simulated cluster, all of which are ready.

    Args:
        joined: what `simulate` gives.
        count: workers.
        pace: of their networks.
        folder: where it may write.
    """

    def __init__(self, joined: tuple[Any, Any], count: int, pace: Pace, folder: Path) -> None:
        super().__init__(pace)
        (self.ray, seats), self.count, self.pids = joined, count, folder / f"pids-{count}"
        self.pids.mkdir()
        words = {"order": self.order, "seats": seats, "dtype": "float32", "weights": None, "code": fingerprint_code()}
        self.workers = Workers(self.ray, seats, SleepingEquipment(**words, pace=pace, pids=self.pids), count, print)
        first = plan_job(folder, "first", (side_px(1, pace.factor),) * 2)
        while self.workers._pool._starting:
            self.make_folder([first])

    def _make(self, jobs: Sequence[PhotoJob]) -> None:
        for _, outcome in self.workers.make_photos([PhotoUnit(job, self.tiles(job)) for job in jobs]):
            finish_photo(outcome())

    def _fill(self, filling: Filling) -> None:
        self.workers.fill(filling)

    def kill_one(self) -> None:
        """As the machine might that has no memory left."""
        pid = next(path.name for path in self.pids.iterdir() if Path("/proc", path.name).exists())
        os.kill(int(pid), signal.SIGKILL)

    def close(self) -> None:
        """Make room for other workers."""
        for seat in self.workers._pool._seats:
            self.ray.kill(seat.actor)
        shutil.rmtree(self.pids)


@contextlib.contextmanager
def simulate(nodes: int) -> Iterator[tuple[Any, Any]]:
    """A cluster of nodes of one processor each, joined; gives `ray` and its seats."""
    _import_ray()
    from ray import cluster_utils

    logging.getLogger("ray").setLevel(logging.ERROR)

    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 2**28}
    with _environment(PYTHONPATH=path, RAY_worker_niceness="0"):
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(nodes - 1):
                cluster.add_node(num_cpus=1, object_store_memory=2**27)
            with find_cluster(cluster.address).join("cpu", 1) as joined:
                yield joined
        finally:
            cluster.shutdown()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the command would tell."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def measure_scaling(args: argparse.Namespace, pace: Pace, folder: Path) -> None:
    """A folder and one picture by so many workers, and the loss of one."""
    jobs = plan_folder(folder, args.photos, pace.factor)
    large = plan_job(folder, "huge", (side_px(args.rows, pace.factor), side_px(COLUMNS, pace.factor)), in_bands=True)
    laps: dict[tuple[str, int], Lap] = {}
    lost: dict[str, Lap] = {}
    began = time.perf_counter()
    with simulate(max(args.workers)) as joined:
        print(f"{max(args.workers)} nodes after {time.perf_counter() - began:.0f} s", file=sys.stderr)
        for count in args.workers:
            with quiet():
                room = Cluster(joined, count, pace, folder) if count else Room(pace)
            makers = {"folder": partial(room.make_folder, jobs), "picture": partial(room.make_picture, large)}
            for what, make in makers.items():
                with quiet():
                    laps[what, count] = make()
                print(what, count, laps[what, count], file=sys.stderr)
                if isinstance(room, Cluster) and count == args.lost:
                    timer = threading.Timer(laps[what, count].seconds / 2, room.kill_one)
                    timer.start()
                    with quiet():
                        lost[what] = make()
                    timer.join()
                    print(what, "lost", lost[what], file=sys.stderr)
            if isinstance(room, Cluster):
                room.close()
    print_laps(laps)
    for what, lap in lost.items():
        whole = laps[what, args.lost]
        print(
            f"\n{what}, one of {args.lost} workers killed halfway: {lap.seconds - whole.seconds:+.1f} s, "
            f"{lap.made - whole.made:+d} evaluations of {whole.made}"
        )


def print_laps(laps: Mapping[tuple[str, int], Lap]) -> None:
    """Efficiency is T1 / (N TN); of rows, it is that without the seconds in which the file was encoded."""
    print("| what | workers | s | efficiency | of rows | file, s | driver's processor, s | processors busy |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for (what, count), lap in sorted(laps.items()):
        one, rows, each = laps.get((what, 1)), lap.seconds - lap.file, max(1, count)
        shares = (
            ("", "")
            if one is None
            else (f"{one.seconds / (each * lap.seconds):.3f}", f"{(one.seconds - one.file) / (each * rows):.3f}")
        )
        numbers = f"{lap.seconds:.1f} | {shares[0]} | {shares[1]} | {lap.file:.1f} | {lap.own:.1f} | {lap.busy:.2f}"
        print(f"| {what} | {count or 'none'} | {numbers} |")


def plan_folder(folder: Path, count: int, factor: int) -> list[PhotoJob]:
    """Photographs of 2, 4 or 6 tiles."""
    sides = [(side_px(rows, factor), side_px(2, factor)) for rows in (1, 2, 3)]
    return [plan_job(folder, str(number), sides[number % 3]) for number in range(count)]


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
    print("\n| pieces | number | kB there | kB back | bytes per evaluation | MB/s packed |")
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
    parser.add_argument(
        "--workers", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2, 4, 8, 16]
    )
    parser.add_argument("--seconds", type=float, default=0.2, help="of one evaluation of a tile")
    parser.add_argument("--photos", type=int, default=112)
    parser.add_argument("--rows", type=int, default=160, help="of tiles, of the large picture")
    parser.add_argument("--lost", type=int, default=8, help="of how many workers one is lost")
    parser.add_argument(
        "--wide", type=int, default=16384, help="px of the picture of which it is measured what travels"
    )
    parser.add_argument("--skip-scaling", action="store_true")
    parser.add_argument("--skip-travel", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not args.skip_scaling:
            measure_scaling(args, Pace(args.seconds, log=folder / "evaluations"), folder)
        if not args.skip_travel:
            measure_travel(args.wide, folder)


if __name__ == "__main__":
    main()
