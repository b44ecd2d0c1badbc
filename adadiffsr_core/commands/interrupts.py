"""Ctrl-C that is never lost, and never a traceback.

Imports next to nothing: until this module is there, Ctrl-C is Python's own.
"""

import contextlib
import os
import signal

TYPE_CHECKING = False  # typing itself takes longer than all of this
if TYPE_CHECKING:
    from types import FrameType

STOPPED = "adadiffsr: stopped; what was finished is kept, and no file is half written"
STOPPED_CODE = 130
# Frames that C code called: what is raised there is written to the screen and forgotten.
_DEAF_PACKAGES = ("pyvips",)


def watch_start() -> None:
    """From now on Ctrl-C says so and ends the process at once; for imports.

    Nothing is there yet that would have to be cleaned up, and much that swallows errors.
    """
    _listen(_leave)


class Watch:
    """Within the block Ctrl-C raises KeyboardInterrupt, at the latest from `stop_if_asked`.

    Args:
        is_process: nothing comes after the block but the end of the process, which Ctrl-C cannot hasten; otherwise the
            caller's handler comes back.
    """

    def __init__(self, *, is_process: bool) -> None:
        self.is_process = is_process

    def __enter__(self) -> None:
        _Asked.is_set = False
        self.before = _listen(_ask)

    def __exit__(self, *error: object) -> None:
        _listen(signal.SIG_IGN if self.is_process else self.before)
        _Asked.is_set = False


def ignore_more() -> None:
    """Ctrl-C was heard; until the end of the watch more of it changes nothing."""
    _listen(signal.SIG_IGN)


def obey_parent() -> None:
    """For a process that helps another: Ctrl-C is the other's to hear, and its request to end is heard as Ctrl-C is."""
    _listen(signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _ask)


def stop_if_asked() -> None:
    """Raise what Ctrl-C could not where it came.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    if _Asked.is_set:
        raise KeyboardInterrupt


class _Asked:
    """Whether Ctrl-C was pressed; of the process, as signals are."""

    is_set = False


def _listen(handler: object) -> object:
    """The handler before; in other threads than the main one, which have no signals, nothing is done."""
    try:
        return signal.signal(signal.SIGINT, handler)  # type: ignore[arg-type]
    except (ValueError, TypeError):  # TypeError: the one before was not Python's
        return signal.SIG_DFL


def _leave(number: int, frame: "FrameType | None") -> None:
    with contextlib.suppress(OSError):  # stderr may be closed or full
        os.write(2, f"{STOPPED}\n".encode())
    os._exit(STOPPED_CODE)


def _ask(number: int, frame: "FrameType | None") -> None:
    _Asked.is_set = True
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _DEAF_PACKAGES:
            return
        frame = frame.f_back
    raise KeyboardInterrupt
