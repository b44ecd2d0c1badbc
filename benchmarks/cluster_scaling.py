"""How a cluster's speed grows with its workers, what the loss of one costs, and how much travels.

    python -m benchmarks.cluster_scaling [--workers 1,2,4,8,16] [--seconds 0.02] [--rounds 1] [--lost 4] [--wide 16384]
        [--photos 160] [--rows 160] [--skip-scaling] [--skip-travel]

The cluster is simulated: nodes of one processor each on this machine. Pool, units and driver are the real ones, and
photographs are read, travel and are written. Only the networks are none: each evaluation of a tile sleeps as long as a
GPU would take, and what encoder and decoder would take of that is slept too. Sleepers share a processor; what is not
slept, Ray's own work too, 16 workers here share among so many processors as there are, of which a table's last column
tells how many were busy.

A tile is of 64 latent px, as the embedded model's, but a latent px is one of 2 px, not of 8, so that little is computed.
`travel` is measured apart, in this process, with latents and tiles of the embedded model's size.
"""

import argparse
import contextlib
import functools
import io
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from adadiffsr_core.cluster.joining import find_cluster
from adadiffsr_core.commands.banded import Tray, make_in_bands
from adadiffsr_core.commands.cluster import BandTask, Bench, Equipment, PhotoTask, PhotoUnit, Workers, fingerprint_code
from adadiffsr_core.commands.making import Order, count_tiles, finish_photo
from adadiffsr_core.commands.naming import Source
from adadiffsr_core.commands.options import set_threads
from adadiffsr_core.commands.outputs import Outputs
from adadiffsr_core.commands.plan import PhotoJob, Targets, draft_photo
from adadiffsr_core.commands.terminal import ProgressBar
from adadiffsr_core.models.model import Model, embedded_weights
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.unet import UNet, UNetConfig
from adadiffsr_core.photo.reading import open_photo
from adadiffsr_core.photo.spool import Spool
from adadiffsr_core.photo.value import LevelKind
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.settings import SamplingConfig
from adadiffsr_core.streaming.spread import Picture, Spread

ROOT = Path(__file__).resolve().parents[1]
TILE = 64  # latent px
STEPS = 2  # evaluations of a tile
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
    factor: int = 2
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
        shape = {"in_channels": 2 * self.channels, "out_channels": self.channels, "model_channels": 32}
        sizes = {"z_channels": self.channels, "patch": self.factor, "channels": (8,)}
        autoencoder = Autoencoder(AutoencoderConfig(**sizes, encoder_blocks=(1,), decoder_blocks=(1,)))
        autoencoder.encoder, autoencoder.decoder = _Encoder(self), _Decoder(self)
        unet = _Sleeper(UNetConfig(**shape, channel_mult=(1,), num_res_blocks=1))
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


class Busy:
    """Processor time between two moments, this process's and the machine's."""

    def __init__(self) -> None:
        self.began, self.own, self.machine = time.perf_counter(), time.process_time(), self._machine()

    def _machine(self) -> float:
        try:
            words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        except OSError:
            return float("nan")
        ticks = [int(word) for word in words]
        return (sum(ticks[:8]) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> "Lap":
        """What it was since then."""
        seconds = time.perf_counter() - self.began
        return Lap(seconds, time.process_time() - self.own, (self._machine() - self.machine) / seconds)


@dataclass(frozen=True)
class Lap:
    """One run.

    Attributes:
        seconds: that it took.
        own: of this process's processor.
        busy: processors of the machine, in the mean, whoever used them.
    """

    seconds: float
    own: float
    busy: float


class Room:
    """Workers of a simulated cluster, and what is made by them."""

    def __init__(self, ray: Any, seats: Any, count: int, pace: Pace, folder: Path) -> None:
        self.pace, self.folder, self.pids = pace, folder, folder / f"pids-{count}-{time.monotonic_ns()}"
        self.pids.mkdir()
        self.order = Order(config=pace.config(), mask=None, quality=95, check=False, strip=False)
        facts = {"order": self.order, "seats": seats, "dtype": "float32", "weights": None, "code": fingerprint_code()}
        equipment = SleepingEquipment(**facts, pace=pace, pids=self.pids)
        self.model, self.workers = pace.model(), Workers(ray, seats, equipment, count, print)
        first = plan_job(folder, "first", (side_px(1, pace.factor),) * 2)
        while self.workers._pool._starting:
            self.make_folder([first])

    def make_folder(self, jobs: list[PhotoJob]) -> Lap:
        """A folder's photographs."""
        busy = Busy()
        for unit, outcome in self.workers.make_photos([self._unit(job) for job in jobs]):
            outputs = outcome()
            finish_photo(outputs)
            assert outputs.job is unit.job
        return busy.stop()

    def _unit(self, job: PhotoJob) -> PhotoUnit:
        return PhotoUnit(job, count_tiles(job, self.model.scales, self.model.sizes, self.order.config))

    def make_picture(self, job: PhotoJob) -> Lap:
        """One large picture."""
        busy = Busy()
        bar = ProgressBar([count_tiles(job, self.model.scales, self.model.sizes, self.order.config)], STEPS)
        try:
            tray = Tray(embedded_weights(), is_new=True)
            finish_photo(make_in_bands(job, self.model, self.order, tray, bar, self.workers.fill))
        finally:
            bar.close()
        return busy.stop()

    def made(self) -> int:
        """Evaluations since this was asked before."""
        assert self.pace.log is not None
        size = self.pace.log.stat().st_size if self.pace.log.exists() else 0
        self.pace.log.unlink(missing_ok=True)
        return size

    def lose_one(self, after: float) -> threading.Timer:
        """Have a worker killed after so many seconds."""
        pid = next(pid for pid in map(int, os.listdir(self.pids)) if Path(f"/proc/{pid}").exists())
        timer = threading.Timer(after, os.kill, (pid, signal.SIGKILL))
        timer.start()
        return timer


@contextlib.contextmanager
def simulate(nodes: int) -> Iterator[tuple[Any, Any]]:
    """A cluster of nodes of one processor each, joined; gives `ray` and its seats."""
    from adadiffsr_core.cluster.joining import _environment, _import_ray

    _import_ray()
    from ray.cluster_utils import Cluster

    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 2**28}
    with _environment(PYTHONPATH=path, RAY_worker_niceness="0"):
        cluster = Cluster(initialize_head=True, head_node_args=head)
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
    makers: dict[str, Callable[[Room], Lap]] = {
        "a folder": lambda room: room.make_folder(jobs),
        "one picture": lambda room: room.make_picture(large),
    }
    alone: dict[str, float] = {}
    with quiet_start(max(args.workers)) as (ray, seats):
        print("| what | workers | s | efficiency | evaluations | driver, s of processor | processors busy |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for count in args.workers:
            with quiet():
                room = Room(ray, seats, count, pace, folder)
            room.made()
            for what, make in makers.items():
                laps = []
                for _ in range(args.rounds):
                    with quiet():
                        laps.append(make(room))
                lap, made = min(laps, key=lambda lap: lap.seconds), room.made() // args.rounds
                alone.setdefault(what, lap.seconds * count)
                shown = f"{alone[what] / (count * lap.seconds):.3f} | {made} | {lap.own:.1f} | {lap.busy:.2f}"
                print(f"| {what} | {count} | {lap.seconds:.1f} | {shown} |", flush=True)
                if count == args.lost:
                    measure_loss(what, functools.partial(make, room), room, lap.seconds, made)
            with quiet():
                close(ray, room)


@contextlib.contextmanager
def quiet_start(nodes: int) -> Iterator[tuple[Any, Any]]:
    """See `simulate`; says how long it took."""
    began = time.perf_counter()
    with simulate(nodes) as joined:
        print(f"{nodes} nodes after {time.perf_counter() - began:.0f} s\n", flush=True)
        yield joined


def close(ray: Any, room: Room) -> None:
    """End a room's workers, so that there is room for others."""
    for seat in room.workers._pool._seats:
        ray.kill(seat.actor)
    shutil.rmtree(room.pids)


def measure_loss(what: str, make: Callable[[], Lap], room: Room, seconds: float, made: int) -> None:
    """The same again, in the midst of which a worker is killed."""
    timer = room.lose_one(seconds / 2)
    try:
        with quiet():
            lap = make()
    finally:
        timer.cancel()
    again = room.made() - made
    print(f"| {what}, one lost | {args_count(room)} | {lap.seconds:.1f} | {lap.seconds - seconds:+.1f} s | {again:+d} | | |")


def args_count(room: Room) -> int:
    """Workers of a room."""
    return room.workers.count


def plan_folder(folder: Path, count: int, factor: int) -> list[PhotoJob]:
    """Photographs of 6, 9 or 12 tiles."""
    sides = [(side_px(rows, factor), side_px(3, factor)) for rows in (2, 3, 4)]
    return [plan_job(folder, str(number), sides[number % 3]) for number in range(count)]


@dataclass
class Travel:
    """What one kind of piece moves.

    Attributes:
        count: of pieces.
        there, back: bytes.
        packing: seconds of the driver to pack what goes there and unpack what comes back.
    """

    count: int = 0
    there: int = 0
    back: int = 0
    packing: float = 0.0


def pack(thing: Any) -> tuple[list[Any], int, float]:
    """As Ray does: bytes, their count, and seconds."""
    from ray import cloudpickle

    began, parts = time.perf_counter(), []
    parts.append(cloudpickle.dumps(thing, protocol=5, buffer_callback=lambda part: parts.append(part.raw()) and None))
    parts = [bytes(part) for part in parts]  # into the store
    return parts, sum(map(len, parts)), time.perf_counter() - began


def unpack(parts: list[Any]) -> tuple[Any, float]:
    """See `pack`."""
    import pickle

    began = time.perf_counter()
    return pickle.loads(parts[-1], buffers=parts[:-1]), time.perf_counter() - began


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
    order = Order(config=config, mask=None, quality=95, check=False, strip=False)
    bench, kinds = Bench(model, order), defaultdict[str, Travel](Travel)
    size = (3 * 1024, width)
    job = plan_job(folder, "wide", size, in_bands=True)
    rows = open_photo(job.source).open_rows()
    assert rows is not None
    spool, kind = Spool(folder / "rows", rows.photo, width, job.targets.result), LevelKind(8, False)
    picture = Picture(job.pages[0].source_size, size, config, kind, spool.levels)
    spread, waiting, spent = Spread(picture, model, rows.read, 3), [], 0.0
    while not spread.is_done:
        began = time.perf_counter()
        waiting += spread.work()
        spent += time.perf_counter() - began
        work = waiting.pop(0)
        result = send(BandTask(work), bench, kinds[type(work).__name__])
        began = time.perf_counter()
        for levels in spread.settle(work, result):
            spool.add_levels(levels)
        spent += time.perf_counter() - began
    tiles, px = spread.bands.grid.count, size[0] * size[1]
    began = time.perf_counter()
    spool.write(job.targets.result, size[0], 95)
    written = time.perf_counter() - began
    job = plan_job(folder, "one", (side_px(3, 8), side_px(4, 8)))
    outputs: Outputs = send(PhotoTask(job, job.source.read_bytes()), bench, kinds["PhotoTask"])
    print("\n| pieces | number | kB there | kB back | bytes per evaluation | MB/s packed |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    total = 0
    for name, travel in kinds.items():
        both = travel.there + travel.back
        each = both / (STEPS * (12 if name == "PhotoTask" else tiles))
        total += 0 if name == "PhotoTask" else both
        shown = f"{travel.there / 1e3:,.0f} | {travel.back / 1e3:,.0f} | {each:,.0f} | {both / 1e6 / travel.packing:,.0f}"
        print(f"| {name} | {travel.count} | {shown} |")
    packing = sum(travel.packing for name, travel in kinds.items() if name != "PhotoTask")
    print(
        f"\none picture of {width} x {size[0]} px, {tiles} tiles: {total / px:.2f} bytes a px, "
        f"{total / (STEPS * tiles):,.0f} an evaluation; the driver packs for {packing / px * 1e9:.1f} s a gigapixel, "
        f"reads, draws noise, merges and writes rows for {spent / px * 1e9:.1f} s, and encodes the file for "
        f"{written / px * 1e9:.1f} s"
    )
    assert len(outputs.reports) == 1


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 4, 8, 16])
    parser.add_argument("--seconds", type=float, default=0.2, help="of one evaluation of a tile")
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--rows", type=int, default=120, help="of tiles, of the large picture")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--lost", type=int, default=4, help="of how many workers one is lost")
    parser.add_argument("--wide", type=int, default=16384, help="px of the picture of which it is measured what travels")
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
