"""Ray: found, started or joined, kept quiet, and left again.

Source: decision D76.
"""

import os
import re
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, import_extra
from ..text import one_line, quoted, shown

LOCAL, AUTO = "local", "auto"
THREADS = 4  # of a worker, where nobody says and there are as many
_ADDRESS = re.compile(r"(?:ray://)?(\[[0-9a-f:.]+\]|[\w.-]{1,253}):(\d{1,5})", re.ASCII | re.IGNORECASE)
_PATIENCE = 10  # seconds, for a machine that does not answer
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # It is told of workers that die by exceptions; on stdout it would read as a result.
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "(?s).*",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True)
class Seats:
    """Workers that a cluster has room for.

    Attributes:
        count: of them, at least one.
        device: each one's, "cuda" or "cpu".
        threads: each one's; None leaves it to torch.
        share: what each takes of the cluster, as Ray's options.
    """

    count: int
    device: str
    threads: int | None
    share: dict[str, Any]


@dataclass(frozen=True)
class Cluster:
    """A cluster that could be joined.

    Attributes:
        address: "local" for a Ray of this command's own, "auto" for the cluster of this machine, or host:port.
    """

    address: str

    @property
    def is_own(self) -> bool:
        """Whether its workers are on this machine, and end with this command."""
        return self.address == LOCAL

    @contextmanager
    def join(self, device: str | None, threads: int | None) -> Iterator[tuple[Any, Seats]]:
        """While the block runs, this process belongs to the cluster; gives `ray` and the workers there is room for.

        Args:
            device: of the workers, "cuda" or "cpu"; None takes GPUs if there are any.
            threads: of each worker; None is `THREADS`, or as many as the smallest machine has.

        Raises:
            ConfigError: the cluster cannot be joined, or has no room.
        """
        ray = _import_ray()
        if ray.is_initialized():
            raise ConfigError("this process works with Ray already; run adadiffsr as a process of its own")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if self.is_own:
                    _start(ray, _processors() // _limit(threads, [_processors()]))
                else:
                    _join(ray, self.address)
            yield ray, _find_seats(ray, device, threads, is_own=self.is_own)
        finally:
            ray.shutdown()


def find_cluster(address: str) -> Cluster:
    """See whether there can be such a cluster, before anything is done that would be in vain.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: it is no address, or nothing answers there.
    """
    match = _ADDRESS.fullmatch(address)
    if address not in (LOCAL, AUTO) and (match is None or int(match[2]) > 65535):
        raise ConfigError(f"--cluster is local, auto, or an address such as 10.0.0.1:6379, got {quoted(address, 80)}")
    if address != LOCAL:
        # As it is, Ray waits for minutes.
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
        os.environ.setdefault("RAY_py_gcs_connect_timeout_s", str(_PATIENCE))
    _import_ray()
    if match is not None:
        try:
            socket.create_connection((match[1].strip("[]"), int(match[2])), timeout=_PATIENCE).close()
        except OSError as error:
            raise _unreachable(address, error) from None
    return Cluster(address)


def _import_ray() -> Any:
    os.environ.update(_QUIET)  # which is read when it is imported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_extra("ray", "--cluster needs Ray: pip install 'adadiffsr[cluster]'")


def _processors() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limit(threads: int | None, processors: list[int]) -> int:
    """Threads of a worker, at least one, and no more than a machine has."""
    return max(1, min(threads or THREADS, *processors))


def _start(ray: Any, workers: int) -> None:
    """A Ray of our own, whose processors are places for workers: that many idle processes are started at once."""
    # Workers import what this process has imported, wherever it was found.
    path = os.pathsep.join(filter(None, (str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH"))))
    # As urgent as the work is without a cluster; by itself Ray gives way to all others.
    with _environment(PYTHONPATH=path, RAY_worker_niceness="0"):
        try:
            ray.init(address="local", num_cpus=workers, **_options())
        except Exception as error:
            raise ConfigError(f"Ray cannot be started on this machine: {_first_line(error)}") from error


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """These variables, for processes that are started in the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _join(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, **_options())
    except Exception as error:
        raise _unreachable(address, error) from error


def _options() -> dict[str, Any]:
    return {"include_dashboard": False, "log_to_driver": False, "logging_level": "CRITICAL"}


def _unreachable(address: str, error: Exception) -> ConfigError:
    told = f"no Ray cluster answers at {address} ({_first_line(error)})"
    if address == AUTO:
        told = "this machine belongs to no Ray cluster that answers"
    return ConfigError(f"{told}; start one with ray start --head, or give --cluster local")


def _first_line(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return shown(one_line(said.strip().partition("\n")[0]), 200) or type(error).__name__


def _find_seats(ray: Any, device: str | None, threads: int | None, *, is_own: bool) -> Seats:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if device == "cuda" or (device is None and gpus):
        if not gpus:
            raise ConfigError("no machine of the cluster has a GPU that Ray knows of; try --device cpu")
        return Seats(gpus, "cuda", threads, {"num_gpus": 1, "num_cpus": 0})
    processors = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    if is_own:
        return Seats(sum(processors), "cpu", _limit(threads, [_processors()]), {"num_cpus": 1})
    each = threads or _limit(None, processors or [1])
    if not (count := sum(number // each for number in processors)):
        raise ConfigError(f"no machine of the cluster has {each} processors for a worker; ask for fewer --threads")
    return Seats(count, "cpu", each, {"num_cpus": each})
