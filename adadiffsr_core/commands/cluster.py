"""`adadiffsr upscale --cluster`: workers make, and this process reads, names, writes and tells.

So workers need nothing but the package: bytes of photographs and weights travel to them, and encoded files come back.

Source: decision D76.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from ..cluster.joining import Seats
from ..cluster.pool import Pool
from ..errors import ConfigError
from ..memory import name_out_of_memory
from ..models.model import Model, load_model
from ..photo.reading import open_photo
from ..photo.value import LevelKind
from ..streaming.pieces import Picture, SampleWork, Work
from ..streaming.spread import Spread
from ..text import quoted
from .banded import Filling
from .interrupts import stop_if_asked
from .journal import Record
from .making import Order, make_photo
from .options import choose_device, choose_dtype, set_threads
from .outputs import Outputs
from .plan import PhotoJob
from .resources import check_memory
from .terminal import REFUSALS

DEVICES = (None, "cpu", "cuda")
_AHEAD = 2  # pieces of each kind of a large picture, for each worker, that are under way or wait for those before them


@dataclass(frozen=True)
class Bench:
    """What a worker has when it is ready: the networks, and what is asked for."""

    model: Model
    order: Order


@dataclass(frozen=True, kw_only=True)
class Equipment:
    """What a worker is made ready by.

    Attributes:
        order: what is asked for.
        seats: has its device and threads.
        dtype: as it was asked for.
        weights: a file's bytes; None is the embedded model, which comes with the package.
        code: see `fingerprint_code`.
    """

    order: Order
    seats: Seats
    dtype: str
    weights: bytes | None
    code: str

    def __call__(self) -> Bench:
        """In the worker's process.

        Raises:
            ConfigError: its machine has another version of the package, or its device cannot be used.
            CheckpointError: the weights cannot be used.
        """
        if self.code != fingerprint_code():
            raise ConfigError("a machine of the cluster has another version of adadiffsr; install the same on all")
        set_threads(self.seats.threads)
        device = choose_device(self.seats.device)
        dtype = choose_dtype(self.dtype, device)
        if self.weights is None:
            return Bench(load_model(None, device, dtype), self.order)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "weights.safetensors"
            path.write_bytes(self.weights)
            return Bench(load_model(path, device, dtype), self.order)


@dataclass(frozen=True)
class PhotoTask:
    """What travels: a photograph's bytes, and what is made of them; comes back as `Outputs`, or as what refused it."""

    job: PhotoJob
    encoded: bytes

    def __call__(self, bench: Bench) -> Outputs | Exception:
        """In the worker's process."""
        try:
            with name_out_of_memory():
                for page in self.job.pages:
                    check_memory(page.source_size, page.size, bench.model.device)
                return make_photo(self.job, open_photo(self.job.source, self.encoded), bench.model, bench.order)
        except REFUSALS as error:
            return error


@dataclass(frozen=True)
class PhotoUnit:
    """A photograph as a unit of the pool's.

    Attributes:
        job: what is made of it.
        tiles: that it takes.
    """

    job: PhotoJob
    tiles: int

    @property
    def cost(self) -> float:
        """See `Unit`."""
        return self.tiles

    def load(self) -> PhotoTask:
        """See `Unit`; the journal stays here.

        Raises:
            ImageError: see `PhotoJob.read`.
        """
        return PhotoTask(replace(self.job, record=Record()), bytes(self.job.read()))


def check_device(name: str | None) -> None:
    """Refuse a device that means nothing where each worker has one of its own.

    Raises:
        ConfigError: it is none of `DEVICES`.
    """
    if name not in DEVICES:
        raise ConfigError(f"workers of a cluster have one device each: --device is cpu or cuda, got {quoted(name, 80)}")


@dataclass(frozen=True)
class BandTask:
    """What travels: a piece of a large picture, with all that it needs; comes back done, or as what refused it."""

    work: Work

    def __call__(self, bench: Bench) -> Any:
        """In the worker's process."""
        try:
            with name_out_of_memory():
                return self.work(bench.model)
        except REFUSALS as error:
            return error


@dataclass(frozen=True)
class BandUnit:
    """A piece of a large picture as a unit of the pool's; pieces are begun in their order, whatever they cost."""

    work: Work
    cost: float = 0

    def load(self) -> BandTask:
        """See `Unit`."""
        return BandTask(self.work)


class Workers:
    """The workers of a cluster.

    Args:
        ray: which this process has joined.
        seats: workers that there is room for.
        equipment: of each.
        most: workers that have something to do; None is all.
        tell: told of workers that cannot be used.
    """

    def __init__(
        self, ray: Any, seats: Seats, equipment: Equipment, most: int | None, tell: Callable[[str], None]
    ) -> None:
        self.count = seats.count if most is None else min(seats.count, most)
        self._pool = Pool[PhotoUnit | BandUnit](
            ray,
            replace(seats, count=self.count),
            equipment,
            refusals=REFUSALS,
            look=stop_if_asked,
            tell=tell,
        )

    def make_photos(self, units: Sequence[PhotoUnit]) -> Iterator[tuple[PhotoUnit, Callable[[], Outputs]]]:
        """Have photographs made, each by one worker; with each as it comes back what gives its files, or raises.

        Raises:
            AdaDiffSRError: no worker can be used.
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        for unit, outcome in self._pool.run(units):
            if isinstance(unit, PhotoUnit):
                yield unit, partial(_take, unit, outcome)

    def fill(self, filling: Filling) -> None:
        """Have the rows of one large picture made by all workers.

        Raises:
            AdaDiffSRError: a piece was refused or given up; or no worker can be used.
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        bands, bar = filling.bands, filling.bar
        filling.announce()
        photo = filling.picture.photo
        kind = LevelKind(photo.bit_depth, photo.is_grey)
        picture = Picture(bands.source, bands.size, bands.config, kind, filling.spool.levels, bands.is_left)
        top = bands.result_rows[filling.first][0]
        spread = Spread(picture, bands.model, filling.picture.read, _AHEAD * self.count + 1, top, filling.mask)
        bar.skip(spread.first_row * bands.grid.cols)
        fault: Exception | None = None
        for unit, outcome in self._pool.run(list(map(BandUnit, spread.work()))):
            if fault is not None:
                continue  # what is under way is waited for, or the next picture would be given it
            if isinstance(outcome, Exception):
                fault = outcome
                continue
            try:
                self._take(unit, outcome, spread, filling)
                self._pool.add(list(map(BandUnit, spread.work())))
            except REFUSALS as error:
                fault = error
        if fault is not None:
            raise fault

    @staticmethod
    def _take(unit: PhotoUnit | BandUnit, outcome: Any, spread: Spread, filling: Filling) -> None:
        """Take what came back of a piece, and the rows that it completes."""
        assert isinstance(unit, BandUnit)  # of photographs none is under way
        if isinstance(unit.work, SampleWork):
            report, (first, last) = outcome[1], unit.work.part
            filling.kept.keep((first, last), report)
            filling.bar.take((last - first) * filling.bands.grid.cols, report.nfe)
        for levels in spread.settle(unit.work, outcome):
            filling.spool.add_levels(levels)


def _take(unit: PhotoUnit, outcome: Outputs | Exception) -> Outputs:
    if isinstance(outcome, Exception):
        raise outcome
    outcome.job = unit.job
    return outcome


@cache
def fingerprint_code() -> str:
    """A hash of the package's source: pictures are the same only where it is."""
    digest = hashlib.blake2b(digest_size=16)
    root = Path(__file__).resolve().parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()
