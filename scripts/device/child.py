"""One command under a deadline: asked to stop in time, made to stop if it does not, and listened to all the while."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, NamedTuple

_TICK_SECONDS = 0.5


class Ended(NamedTuple):
    """How a command ended: its exit code, and whether it was made to stop at the deadline."""

    code: int
    stopped: bool


def run_until(
    words: Sequence[str],
    environment: Mapping[str, str],
    deadline: float,
    hear: Callable[[str], None],
    tick: Callable[[], None],
    grace: float = 12.0,
) -> Ended:
    """Run a command up to a deadline.

    Args:
        words: of the command.
        environment: of the process.
        deadline: by `time.monotonic`; then Ctrl-C is sent, on which training saves and ends.
        hear: gets what the command writes, out and err as they come.
        tick: called about twice a second.
        grace: seconds after that until the process is killed.

    Returns:
        How it ended.
    """
    process = subprocess.Popen(
        list(words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        start_new_session=True,  # a process group of its own, so that its workers can be ended with it
    )
    assert process.stdout is not None
    listener = threading.Thread(target=_listen, args=(process.stdout, hear), daemon=True)
    listener.start()
    try:
        _wait(process, deadline, tick)
    finally:
        stopped = process.poll() is None
        _stop(process, grace)
        _end_workers(process.pid)
        listener.join(timeout=5)
        process.stdout.close()
    return Ended(process.returncode, stopped)


def _listen(pipe: IO[bytes], hear: Callable[[str], None]) -> None:
    while piece := os.read(pipe.fileno(), 65536):
        hear(piece.decode("utf-8", "replace"))


def _wait(process: subprocess.Popen[bytes], deadline: float, tick: Callable[[], None]) -> None:
    while time.monotonic() < deadline:
        try:
            process.wait(_TICK_SECONDS)
        except subprocess.TimeoutExpired:
            tick()
        else:
            return


def _stop(process: subprocess.Popen[bytes], grace: float) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_workers(group: int) -> None:
    """What a killed command left running would hold memory, and its output open."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
