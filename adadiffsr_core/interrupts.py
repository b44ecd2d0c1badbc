"""Ctrl-C that is never lost, and never a traceback; imports nothing that takes time."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = "adadiffsr: stopped; what was finished is kept, and no file is half written"
STOPPED_CODE = 130
# Frames that C code called: what is raised there is written to the screen and forgotten.
_DEAF_PACKAGES = ("pyvips",)

_asked = threading.Event()


def leave_at_once() -> None:
    """Say so and end the process: for times when nothing is there to be cleaned up, and much that swallows errors."""
    os.write(2, f"{STOPPED}\n".encode())
    os._exit(STOPPED_CODE)


def stop_if_asked() -> None:
    """Raise what Ctrl-C could not where it came.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    if _asked.is_set():
        raise KeyboardInterrupt


def watch_start() -> None:
    """From now on Ctrl-C ends the process at once; for imports, which come before anything is begun."""
    if _is_main_thread():
        signal.signal(signal.SIGINT, lambda number, frame: leave_at_once())


@contextmanager
def watch_run(*, is_process: bool) -> Iterator[None]:
    """Within the block Ctrl-C raises KeyboardInterrupt, at the latest from `stop_if_asked`.

    Args:
        is_process: nothing comes after the block but the end of the process, which Ctrl-C cannot hasten; otherwise the
            caller's handler comes back.
    """
    if not _is_main_thread():
        yield
        return
    _asked.clear()
    before = signal.signal(signal.SIGINT, _ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN if is_process else before)
        _asked.clear()


def ignore_more() -> None:
    """Ctrl-C was heard; until the end of `watch_run` more of it changes nothing."""
    if _is_main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _ask(number: int, frame: FrameType | None) -> None:
    _asked.set()
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in _DEAF_PACKAGES:
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
