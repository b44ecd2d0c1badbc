"""`adadiffsr upscale --cluster`: workers make, and this process reads, names, writes and tells.

So workers need nothing but the package: bytes of photographs and weights travel to them, and encoded files come back.

Source: decision D76.
"""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ..cluster.joining import Seats
from ..cluster.pool import Pool
from ..errors import ConfigError
from ..memory import name_out_of_memory
from ..models.model import Model, load_model
from ..photo.admission import read_file
from ..photo.reading import open_photo
from ..text import quoted
from .interrupts import stop_if_asked
from .journal import Record
from .making import Order, make_photo
from .options import choose_device, choose_dtype, set_threads
from .outputs import Outputs
from .plan import PhotoJob
from .resources import check_memory
from .terminal import REFUSALS

DEVICES = (None, "cpu", "cuda")


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
            ImageError: the file cannot be read.
        """
        return PhotoTask(replace(self.job, record=Record()), read_file(self.job.source))


def check_device(name: str | None) -> None:
    """Refuse a device that means nothing where each worker has one of its own.

    Raises:
        ConfigError: it is none of `DEVICES`.
    """
    if name not in DEVICES:
        raise ConfigError(f"workers of a cluster have one device each: --device is cpu or cuda, got {quoted(name, 80)}")


def share_out(
    units: Sequence[PhotoUnit],
    ray: Any,
    seats: Seats,
    equipment: Equipment,
    settle: Callable[[PhotoUnit, Outputs | Exception], None],
    tell: Callable[[str], None],
) -> None:
    """Have every photograph made by the workers of a cluster.

    Args:
        units: the photographs.
        ray: which this process has joined.
        seats: workers that there is room for.
        equipment: of each.
        settle: told of each photograph as it comes back: its files, or what refused it.
        tell: told of workers that cannot be used.

    Raises:
        AdaDiffSRError: no worker can be used.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    seats = replace(seats, count=min(seats.count, len(units)))
    pool = Pool[PhotoUnit](ray, seats, equipment, refusals=REFUSALS, look=stop_if_asked, tell=tell)
    for unit, outcome in pool.run(units):
        if isinstance(outcome, Outputs):
            outcome.job = unit.job
        settle(unit, outcome)


@cache
def fingerprint_code() -> str:
    """A hash of the package's source: pictures are the same only where it is."""
    digest = hashlib.blake2b(digest_size=16)
    root = Path(__file__).resolve().parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()
