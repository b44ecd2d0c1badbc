"""Whoever makes pictures: this process, or workers of a simulated cluster; and what a run takes."""

import contextlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adadiffsr_core.cluster.joining import _environment, _import_ray, find_cluster
from adadiffsr_core.commands.banded import Filling, Tray, fill_here, make_in_bands
from adadiffsr_core.commands.cluster import PhotoUnit, Workers, fingerprint_code
from adadiffsr_core.commands.making import count_tiles, finish_photo, make_photo
from adadiffsr_core.commands.plan import PhotoJob
from adadiffsr_core.commands.terminal import ProgressBar
from adadiffsr_core.models.model import embedded_weights
from adadiffsr_core.photo.reading import open_photo

from .pace import STEPS, Pace, SleepingEquipment, order_for, plan_job, side_px

ROOT = Path(__file__).resolve().parents[2]


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
