"""Pictures made by several ComfyUI servers: who makes which, and what becomes of it."""

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adadiffsr_core.commands.journal import Record
from adadiffsr_core.errors import AdaDiffSRError, ConfigError
from adadiffsr_core.files import fingerprint_content, whole_file
from adadiffsr_core.text import one_line, sentence

from .comfy_server import ComfyServer
from .picture_header import find_fault, find_losses, is_whole_png, measure
from .server_answer import Answer, FailedError, LostError, RefusedError
from .upscale_prompt import UPSCALER, build_prompt

TRIES = 3


@dataclass
class Job:
    """A picture to make.

    Attributes:
        source: its file.
        record: where the result goes, and what the journal is told.
        tried: servers that did not make it.
    """

    source: Path
    record: Record
    tried: list[ComfyServer] = field(default_factory=list)


def check_all(servers: Sequence[ComfyServer]) -> None:
    """Ask every server whether it can do the work; those that cannot are left out.

    Raises:
        ConfigError: none can.
    """

    def check(server: ComfyServer) -> None:
        try:
            server.check(UPSCALER)
        except (LostError, FailedError) as error:
            server.is_lost = True
            say(sentence(f"spread_over_servers: {error}"))

    with ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(check, servers))
    if all(server.is_lost for server in servers):
        raise ConfigError("no server can do the work; start ComfyUI with this pack, and give its address")


def choose_server(servers: Sequence[ComfyServer], most: int, tried: Sequence[ComfyServer] = ()) -> ComfyServer | None:
    """The server with the shortest queue that has room for a picture; None where it has to wait for one.

    While there are servers that have not failed it, it waits for one of them: who answers nonsense is done at once, and
    would use up all tries while the others are busy.

    Args:
        servers: all.
        most: pictures that one may hold.
        tried: those that did not make it.
    """
    alive = [server for server in servers if not server.is_lost]
    rest = [server for server in alive if server not in tried] or alive
    fit = [server for server in rest if server.held < most]
    return min(fit, key=lambda server: server.held + server.others, default=None)


def spread(
    jobs: Sequence[Job],
    servers: Sequence[ComfyServer],
    in_flight: int,
    node: Mapping[str, Any],
    refuse: Callable[[object, object], None],
) -> None:
    """Make pictures, each at most `TRIES` times, and write them as they come.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; what the servers still had is taken back.
    """
    work = _Work(deque(jobs), _Line(len(jobs)), refuse)
    running: dict[Future[tuple[bytes, str]], tuple[Job, ComfyServer]] = {}
    with ThreadPoolExecutor(len(servers) * in_flight) as pool:
        try:
            while True:
                while (pair := work.next(servers, in_flight)) is not None:
                    running[pool.submit(make, pair[1], pair[0], node)] = pair
                if not running:
                    break
                work.line.show(len(running), sum(not server.is_lost for server in servers))
                # Not without end, which on Windows no Ctrl-C would interrupt.
                for ended in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                    work.settle(*running.pop(ended), ended)
        except KeyboardInterrupt:
            work.line.clear()
            servers[0].stop.set()
            raise
    for job in work.waiting:
        work.give_up(job, "no server is left; start them again, and then this command, which goes on")
    work.line.clear()


@dataclass
class _Work:
    """What is still to be done, and what becomes of it."""

    waiting: deque[Job]
    line: "_Line"
    refuse: Callable[[object, object], None]

    def next(self, servers: Sequence[ComfyServer], most: int) -> tuple[Job, ComfyServer] | None:
        """A picture and who makes it; None where none waits, or no server has room."""
        if choose_server(servers, most) is None:
            return None
        for place, job in enumerate(self.waiting):
            server = choose_server(servers, most, job.tried)
            if server is not None:
                del self.waiting[place]
                server.held += 1
                return job, server
        return None

    def settle(self, job: Job, server: ComfyServer, ended: Future[tuple[bytes, str]]) -> None:
        """Write a picture, or see what went wrong with it."""
        server.held -= 1
        try:
            picture, said = ended.result()
            write(job.record, picture)
        except (LostError, FailedError) as error:
            if isinstance(error, LostError) and not server.is_lost:
                server.is_lost = True
                self.line.clear()
                say(sentence(f"spread_over_servers: {error}; the others do what it had"))
            job.tried.append(server)
            if len(job.tried) < TRIES:
                self.waiting.appendleft(job)
            else:
                self.give_up(job, f"given up after {TRIES} tries: {error}")
        except (RefusedError, AdaDiffSRError, OSError) as error:
            self.give_up(job, error)
        except Exception as error:  # whatever it is, the others are in work and are not to be lost by it
            self.give_up(job, f"something unforeseen, {type(error).__name__}: {error}; please report it")
        else:
            self.line.clear()
            say(f"{job.source}: {said}", sys.stdout)
            self.line.done += 1

    def give_up(self, job: Job, reason: object) -> None:
        """Say that a picture was not made, and why."""
        self.line.clear()
        self.refuse(job.source, reason)
        self.line.failed += 1


def make(server: ComfyServer, job: Job, node: Mapping[str, Any]) -> tuple[bytes, str]:
    """Have one picture made; returns a PNG and what the node says of it.

    Raises:
        LostError, FailedError, RefusedError, StoppedError: see the classes.
        OSError: the picture cannot be read.
        ConfigError: it is not what was planned, or none that can be sent, or the server found several pictures in it.
    """
    content = _read(job)
    # By its content: names may hold what a server's disk does not take, and may come from several folders.
    name = server.upload(f"{fingerprint_content(content)[:32]}{job.source.suffix.lower()}", content)
    answer = server.run(build_prompt(name, node))
    count = len(answer.at(list, "saved", "images"))
    if count > 1:
        raise ConfigError(f"it holds {count} pictures, which become one by the command line only")
    picture = server.download(answer.at(dict, "saved", "images", 0))
    _check_result(picture, _expect_size(content, node), server.address)
    return picture, _read_remark(answer)


def _read(job: Job) -> bytes:
    """The bytes of a picture, which are sent as they are looked at here.

    Raises:
        OSError: it cannot be read.
        ConfigError: it is another than was planned, or none.
    """
    content = job.source.read_bytes()
    # The journal would have the result under the bytes that were there before.
    if not job.record.is_of(content):
        raise ConfigError("was changed while the folder was worked on; start again")
    if fault := find_fault(content):
        raise ConfigError(fault)
    if losses := find_losses(content):
        say(
            f"note: {job.source}: ComfyUI's Load Image leaves out its {' and '.join(losses)}; the command line does not"
        )
    return content


def _expect_size(content: bytes, node: Mapping[str, Any]) -> list[int] | None:
    """The sides of the result in px, the shorter first, as EXIF may turn it; None where they are not known."""
    size = measure(content)
    return None if size is None or node.get("megapixels") else sorted(round(side * node["scale"]) for side in size)


def _check_result(picture: bytes, sides: list[int] | None, address: str) -> None:
    """See that what a server sent as the result can be it: a message, or half a file, may come as a picture does.

    Args:
        picture: what it sent.
        sides: in px, the shorter first, or None.
        address: of the server.

    Raises:
        FailedError: it is no whole PNG, or one of another size.
    """
    if not is_whole_png(picture):
        raise FailedError(f"{address} sent something else than a whole PNG as the result")
    found = measure(picture)
    if found is not None and sides not in (None, sorted(found)):
        raise FailedError(
            f"{address} sent a picture of {found[0]} x {found[1]} px, which is not the size of the result"
        )


def _read_remark(answer: Answer) -> str:
    """What the node says of its work; a picture without a word on it is as good."""
    try:
        texts = answer.at(list, "upscaled", "text")
    except FailedError:
        texts = ["done"]
    return " ".join("; ".join(map(str, texts)).split())


def write(record: Record, picture: bytes) -> None:
    """Write a result, whole or not at all, and tell the journal.

    Raises:
        OSError: it cannot be written.
    """
    with record.told(), whole_file(record.targets[0]) as partial:
        partial.write_bytes(picture)


def say(text: str, stream: Any = None) -> None:
    """One line, to stderr if not told otherwise; a terminal that lacks a letter shows a mark."""
    stream = stream or sys.stderr
    encoding = stream.encoding or "utf-8"
    stream.write(one_line(text).encode(encoding, "replace").decode(encoding) + "\n")
    stream.flush()


class _Line:
    """The line that tells how far all is, on a terminal only."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.failed, self._is_shown = total, 0, 0, False

    def show(self, running: int, servers: int) -> None:
        """Write it anew."""
        if sys.stderr.isatty():
            failed = f", {self.failed} failed" if self.failed else ""
            sys.stderr.write(
                f"\r\x1b[K{self.done} of {self.total} pictures done{failed}; {running} in work on {servers} servers"
            )
            sys.stderr.flush()
            self._is_shown = True

    def clear(self) -> None:
        """Take it away, for another line."""
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            self._is_shown = False
