"""Units are all done, the longest first, few at a time; and again where a worker died, but not for ever."""

import os
import signal
import time
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest

from adadiffsr_core.cluster.joining import Seats, find_cluster
from adadiffsr_core.cluster.pool import TRIES, Pool
from adadiffsr_core.errors import ConfigError, ImageError, WorkerError

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'adadiffsr[cluster]'"),
    pytest.mark.skipif(os.name == "nt", reason="signals"),
]


@pytest.fixture(scope="module")
def ray():
    """A Ray of our own, with a place for each processor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with find_cluster("local").join("cpu", 1) as (joined, _):
            yield joined


@dataclass(eq=False)
class Piece:
    cost: float
    task: Any

    def load(self):
        if self.task is None:
            raise ImageError("gone")
        return self.task


def make_pool(ray, equip=lambda: "bench", count=1, **more):
    return Pool(ray, Seats(count, "cpu", 1, {"num_cpus": 0.1}), equip, refusals=(ImageError,), **more)


def test_all_are_done_the_longest_first_and_few_are_loaded_at_once(ray):
    loaded = []

    class Counted(Piece):
        def load(self):
            loaded.append(self.cost)
            return super().load()

    pieces = [Counted(number, eval("lambda bench: (bench, number)", {"number": number})) for number in range(6)]  # noqa: S307
    done = []
    for piece, outcome in make_pool(ray).run(pieces):
        done.append(outcome)
        assert piece.cost == outcome[1]
        assert len(loaded) - len(done) < 2
    assert done == [("bench", number) for number in (5, 4, 3, 2, 1, 0)]


def test_the_last_unit_is_for_whoever_is_free_first(ray, tmp_path):
    last = tmp_path / "last"

    def wait_for_last(bench):
        until = time.monotonic() + 30
        while not last.exists() and time.monotonic() < until:
            time.sleep(0.01)
        return last.exists()

    pieces = [Piece(3, wait_for_last), Piece(2, lambda bench: "short"), Piece(1, lambda bench: last.touch())]
    outcomes = {piece.cost: outcome for piece, outcome in make_pool(ray, count=2).run(pieces)}
    assert outcomes == {3: True, 2: "short", 1: None}


def test_who_kills_workers_is_given_up_and_nobody_else(ray, tmp_path):
    tried = tmp_path / "tried"

    def kill(bench):
        with tried.open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)

    def die_once(bench):
        if not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "second"

    pieces = [
        Piece(5, kill),
        Piece(4, die_once),
        *(Piece(cost, lambda bench: "sound") for cost in (3, 2)),
        Piece(1, None),
    ]
    outcomes = {piece.cost: outcome for piece, outcome in make_pool(ray).run(pieces)}
    assert (outcomes[4], outcomes[3], outcomes[2]) == ("second", "sound", "sound")
    assert isinstance(outcomes[5], WorkerError)
    assert isinstance(outcomes[1], ImageError)
    assert len(tried.read_text()) == TRIES == 3


def test_a_worker_that_died_while_it_had_nothing_to_do_is_made_ready_again(ray, tmp_path):
    def equip():
        (tmp_path / "pid").write_text(str(os.getpid()))
        return "bench"

    pool = make_pool(ray, equip)
    assert [outcome for _, outcome in pool.run([Piece(1, lambda bench: bench)])] == ["bench"]
    died = (tmp_path / "pid").read_text()
    os.kill(int(died), signal.SIGKILL)
    until = time.monotonic() + 30
    while os.path.exists(f"/proc/{died}") and time.monotonic() < until:  # noqa: PTH110
        time.sleep(0.05)
    pieces = [Piece(cost, lambda bench: bench) for cost in (3, 2, 1)]
    assert [outcome for _, outcome in pool.run(pieces)] == ["bench"] * 3
    assert (tmp_path / "pid").read_text() != died


def test_mistakes_are_not_made_again_and_nobody_waits_for_workers_that_cannot_be_used(ray):
    def slip(bench):
        raise ZeroDivisionError

    def find_fault(bench):
        from adadiffsr_core.errors import ImageError

        return ImageError("a.png is damaged")

    ((_, outcome),) = make_pool(ray).run([Piece(1, find_fault)])
    assert type(outcome) is ImageError
    assert str(outcome) == "a.png is damaged"

    with pytest.raises(ZeroDivisionError):
        list(make_pool(ray).run([Piece(1, slip)]))

    def refuse():
        from adadiffsr_core.errors import ConfigError

        raise ConfigError("no such device")

    with pytest.raises(ConfigError, match="no such device"):
        list(make_pool(ray, refuse).run([Piece(1, lambda bench: 0)]))
