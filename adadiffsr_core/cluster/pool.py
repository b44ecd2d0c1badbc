"""A pool of Ray's actors that works through units: the longest first, few at a time, and again where a worker died.

Ray starts workers, places them, starts them again when they die, and moves what they need; what is here gives each the
next unit, and counts how often one has cost a worker's life. What a unit is, nobody here knows.

Source: decision D76.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ..errors import AdaDiffSRError, WorkerError
from ..text import one_line, shown
from .joining import Seats

TRIES = 3  # of a unit, and of making a worker ready
_AHEAD = 2  # units that a worker has: one that it works on, and one to go on with while the first is written
_LOOK = 0.5  # seconds between two looks at what else may have happened
_PATIENCE = 60  # seconds until it is said that no worker has begun


class Unit(Protocol):
    """A piece of work that a worker does alone."""

    @property
    def cost(self) -> float:
        """What it takes, in any measure; 0 where nobody knows, and more units follow."""
        ...

    def load(self) -> Callable[[Any], Any]:
        """What travels to a worker, when one has room for it: called there with what the worker was equipped with."""
        ...


U = TypeVar("U", bound=Unit)


class NotReady:
    """What a worker gives back that was asked to work and never made ready: the process before it died while idle."""


class Worker:
    """The actor."""

    def __init__(self) -> None:
        self._equipment: Any = NotReady()

    def prepare(self, equip: Callable[[], Any]) -> Exception | None:
        """Get ready, which takes time; returns why it cannot."""
        try:
            self._equipment = equip()
        except (AdaDiffSRError, OSError, MemoryError) as error:
            return error
        return None

    def do(self, task: Callable[[Any], Any]) -> Any:
        """One unit."""
        return self._equipment if isinstance(self._equipment, NotReady) else task(self._equipment)


@dataclass(eq=False)
class _Seat(Generic[U]):
    """A worker's place: after its death, another process is there, maybe on another machine."""

    actor: Any
    is_ready: bool = False
    queue: deque[tuple[Any, U]] = field(default_factory=deque)


class Pool(Generic[U]):
    """Workers that are alike.

    Args:
        ray: which this process has joined.
        seats: how many, and what of the cluster each takes.
        equip: called once in each worker's process; sent once to each machine.
        refusals: errors of `Unit.load` that are an outcome.
        look: called twice a second while there is nothing to do.
        tell: told in a sentence of workers that cannot be used.
    """

    def __init__(
        self,
        ray: Any,
        seats: Seats,
        equip: Callable[[], Any],
        *,
        refusals: tuple[type[Exception], ...] = (),
        look: Callable[[], None] = lambda: None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._ray, self._refusals, self._look, self._tell = ray, refusals, look, tell
        self._equip = ray.put(equip)
        actor = ray.remote(max_restarts=-1, max_task_retries=TRIES - 1, **seats.share)(Worker)
        self._seats: list[_Seat[U]] = [_Seat(actor.remote()) for _ in range(seats.count)]
        self._starting: dict[Any, _Seat[U]] = {}
        self._working: dict[Any, _Seat[U]] = {}
        self._waiting: deque[U] = deque()
        self._deaths: Counter[int] = Counter()
        self._began: float | None = time.monotonic()  # until a worker is ready, or somebody was told that none is
        for seat in self._seats:
            self._prepare(seat)

    def run(self, units: Sequence[U]) -> Iterator[tuple[U, Any]]:
        """Each unit with what its task returned, or an error of `refusals`, or `WorkerError` where it was given up.

        Raises:
            AdaDiffSRError: no worker can be used.
        """
        self._deaths.clear()
        self._waiting.extend(sorted(units, key=lambda unit: unit.cost, reverse=True))
        while self._waiting or self._working:
            yield from self._hand_out()
            if not (awaited := [*self._working, *self._starting]):
                continue
            done, _ = self._ray.wait(awaited, num_returns=1, timeout=_LOOK)
            self._look()
            self._tell_if_full()
            for ref in done:
                if ref in self._starting:
                    self._welcome(ref)
                else:
                    yield from self._collect(ref)

    def add(self, units: Sequence[U]) -> None:
        """More units, for a `run` that is under way, behind those that wait."""
        self._waiting.extend(units)

    def _tell_if_full(self) -> None:
        if self._began is not None and time.monotonic() - self._began > _PATIENCE:
            self._began = None
            self._tell("no worker has begun yet; the cluster may be at other work, whose end is waited for")

    def _prepare(self, seat: _Seat[U]) -> None:
        """Where the process is gone, Ray waits with this for the next one."""
        seat.is_ready = False
        self._starting[seat.actor.prepare.remote(self._equip)] = seat

    def _welcome(self, ref: Any) -> None:
        seat = self._starting.pop(ref)
        try:
            fault = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            fault = WorkerError(f"a worker could not start: {_last_line(error)}")
        seat.is_ready = fault is None
        if fault is None:
            self._began = None
            return
        self._seats.remove(seat)
        if not self._seats:
            raise fault
        self._tell(f"going on with {len(self._seats)} of the workers, since one cannot be used: {fault}")

    def _hand_out(self) -> Iterator[tuple[U, Any]]:
        for depth in range(_AHEAD):
            for seat in self._seats:
                if not self._waiting or not self._has_room(seat, self._waiting[0], depth):
                    continue
                unit = self._waiting.popleft()
                try:
                    task = unit.load()
                except self._refusals as error:
                    yield unit, error
                    continue
                # Not again by Ray, which would do so on the same worker, and for those that only waited there.
                ref = seat.actor.do.options(max_task_retries=0).remote(task)
                seat.queue.append((ref, unit))
                self._working[ref] = seat

    def _has_room(self, seat: _Seat[U], unit: U, depth: int) -> bool:
        """Whether a seat takes one more; what was lost with a worker has its next one for itself.

        Otherwise what had just been done, or only waited, would be lost again with what kills workers. And what is left
        in the end is for whoever is free first, rather than to wait behind a long one.
        """
        if not seat.is_ready or len(seat.queue) > depth:
            return False
        if depth and unit.cost and len(self._waiting) < len(self._seats):
            return False
        return not seat.queue or not any(self._deaths[id(one)] for one in (unit, *(one for _, one in seat.queue)))

    def _collect(self, last: Any) -> Iterator[tuple[U, Any]]:
        """Take what a seat has finished, up to `last`, in its order; if its worker died, all that it had."""
        seat, lost, untouched = self._working[last], list[U](), list[U]()
        while seat.queue and (lost or untouched or last in self._working):
            ref, unit = seat.queue.popleft()
            del self._working[ref]
            try:
                result = self._ray.get(ref)
            except self._ray.exceptions.RayTaskError:
                raise  # a mistake in the task, which it would make everywhere
            except self._ray.exceptions.RayError:
                lost.append(unit)
            else:
                if isinstance(result, NotReady):
                    untouched.append(unit)
                else:
                    yield unit, result
        if lost or untouched:
            self._prepare(seat)
        self._waiting.extendleft(reversed(untouched))
        for unit in reversed(lost):
            self._deaths[id(unit)] += 1
            if self._deaths[id(unit)] < TRIES:
                self._waiting.appendleft(unit)
            else:
                yield (
                    unit,
                    WorkerError(f"{TRIES} workers died while they had it; it may need more memory than they have"),
                )


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shown(one_line(lines[-1]), 200) if lines else type(error).__name__
