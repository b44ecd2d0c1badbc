"""Processes that share a command's work: they end when it does, quietly, and what they finished is kept."""

import argparse
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess

from ..errors import ConfigError
from .interrupts import STOPPED_CODE, obey_parent, stop_if_asked
from .streams import Streams
from .terminal import REFUSALS, complain

Work = Callable[[argparse.Namespace, int], None]
_PATIENCE = 10  # seconds: one evaluation of a large network takes some


@contextmanager
def helpers(work: Work, args: argparse.Namespace, count: int) -> Iterator[None]:
    """While the block does the first share of the work, others do theirs.

    Args:
        work: of a module, given the words and the number of a share, from 1.
        args: the words.
        count: of shares.

    Raises:
        ConfigError: a helper refused its share.
    """
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_help, args=(work, args, number), daemon=True) for number in range(1, count)]
    try:
        _start(workers)
        yield
        for worker in workers:
            worker.join()
    finally:
        _end(workers)
    if any(worker.exitcode for worker in workers):
        raise ConfigError("a process of the evaluation failed; its message is above, and what it measured is kept")


def stop_if_alone() -> None:
    """For helpers, between two pieces of work.

    Raises:
        KeyboardInterrupt: the process that they help is gone, or has asked them to end.
    """
    stop_if_asked()
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise KeyboardInterrupt


def _start(workers: Sequence[BaseProcess]) -> None:
    """Start them deaf to Ctrl-C, which a terminal sends to all: a signal that is blocked stays so in a new process.

    A handler of theirs would come too late for what is pressed while they import.
    """
    if not workers or not hasattr(signal, "pthread_sigmask"):  # which Windows lacks
        for worker in workers:
            worker.start()
        return
    resource_tracker.ensure_running()  # now, as it unblocks Ctrl-C in the end
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for worker in workers:
            worker.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(workers: Sequence[BaseProcess]) -> None:
    """Ask those that still work to end, which they do without leaving a file half written."""
    running = [worker for worker in workers if worker.is_alive()]
    for worker in running:
        worker.terminate()
    for worker in running:
        worker.join(_PATIENCE)
        worker.kill()


def _help(work: Work, args: argparse.Namespace, number: int) -> None:
    with Streams(is_process=True):
        obey_parent()
        try:
            work(args, number)
        except KeyboardInterrupt:
            sys.exit(STOPPED_CODE)
        except REFUSALS as error:
            complain(error)
            sys.exit(2)
