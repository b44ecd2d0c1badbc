"""Upscales a folder of pictures by several ComfyUI servers that have this pack; the standard library is all it needs.

    python -m scripts.spread_over_servers PHOTOS -o OUT http://gpu-1:8188 http://gpu-2:8188 --scale 4

Every picture goes to the server with the shortest queue and becomes a PNG as by `adadiffsr upscale --format png`. What
a server that stops answering had is done by the others; the same command again goes on where it was stopped. Exit code
2 if a picture could not be made. See docs/scale.md.
"""

import argparse
import json
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adadiffsr_core.commands.interrupts import STOPPED, STOPPED_CODE
from adadiffsr_core.commands.journal import History, Journal, Record, fingerprint_run
from adadiffsr_core.commands.naming import Source, common_folder, grant_wishes, make_wish, sub_folders
from adadiffsr_core.errors import AdaDiffSRError, ConfigError
from adadiffsr_core.files import check_writable, fingerprint_content, follow_links, whole_file
from adadiffsr_core.text import one_line, sentence

from .comfy_server import ComfyServer, FailedError, LostError, Prompt, RefusedError
from .picture_header import find_losses, is_cut_short

WORKFLOW = Path(__file__).parents[1] / "workflows" / "api" / "adadiffsr_upscale.json"
UPSCALER = "AdaDiffSR_UpscaleByRegions"
KINDS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
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


def main(words: Sequence[str] | None = None) -> int:
    """Spread a folder over servers; returns 0, 2 if something was refused, or 130 after Ctrl-C."""
    try:
        return run(_parse(words))
    except (AdaDiffSRError, OSError) as error:
        say(f"spread_over_servers: {error}")
        return 2


def run(args: argparse.Namespace) -> int:
    """Find the pictures, ask the servers, and make what is not there yet.

    Raises:
        ConfigError: an option is wrong, the folder holds no picture, or no server answers.
        OSError: the folder cannot be read, or the one for results not be written to.
    """
    if args.in_flight < 1:
        raise ConfigError(f"--in-flight must be 1 or more, got {args.in_flight}")
    node = read_node(WORKFLOW, {name: getattr(args, name) for name in ("scale", "preset", "seed", "likeness")})
    refused: list[str] = []

    def refuse(about: object, reason: object) -> None:
        refused.append(str(about))
        say(sentence(f"spread_over_servers: {about}: {reason}"))

    jobs = plan(find_pictures(args.folder, args.output, args.recursive), args, node, refuse)
    stop = threading.Event()
    servers = [ComfyServer(address, stop) for address in dict.fromkeys(word.rstrip("/") for word in args.servers)]
    if jobs:
        check_all(servers)
        try:
            spread(jobs, servers, args.in_flight, node, refuse)
        except KeyboardInterrupt:
            say(STOPPED)
            return STOPPED_CODE
    return 2 if refused else 0


def read_node(workflow: Path, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The upscaler of a workflow in API form: its numbers, and those that were chosen instead; nothing connected to it.

    Regions have the size that the model was trained on, as on the command line; those of the template are smaller.

    Args:
        workflow: the file.
        chosen: inputs by name; None leaves the workflow's.
    """
    nodes = json.loads(workflow.read_text(encoding="utf-8")).values()
    (found,) = [node for node in nodes if node["class_type"] == UPSCALER]
    inputs = {name: value for name, value in found["inputs"].items() if not isinstance(value, list)}
    return {**inputs, "tile_size": 0, **{name: value for name, value in chosen.items() if value is not None}}


def build_prompt(picture: str, node: Mapping[str, Any]) -> Prompt:
    """The picture as Load Image names it, through the upscaler, to a temporary file on the server.

    Half a level is added at the end, by nodes of the host: what it saves is cut to 8 bits, the command line rounds.
    """
    blend = {"image1": ["inverted", 0], "image2": ["level", 0], "blend_factor": 0.5, "blend_mode": "difference"}
    level = {"width": 8, "height": 8, "batch_size": 1, "color": 0x010101}
    return {
        "photo": {"class_type": "LoadImage", "inputs": {"image": picture}},
        "upscaled": {"class_type": UPSCALER, "inputs": {**node, "image": ["photo", 0]}},
        "level": {"class_type": "EmptyImage", "inputs": level},
        "inverted": {"class_type": "ImageInvert", "inputs": {"image": ["upscaled", 0]}},
        "lowered": {"class_type": "ImageBlend", "inputs": blend},
        "raised": {"class_type": "ImageInvert", "inputs": {"image": ["lowered", 0]}},
        "saved": {"class_type": "PreviewImage", "inputs": {"images": ["raised", 0]}},
    }


def find_pictures(folder: Path, output: Path, is_recursive: bool) -> list[Source]:
    """Pictures in a folder, without hidden ones and those in the folder of results, in order.

    Raises:
        ConfigError: there is none, or no folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; name one that holds pictures")
    results, found, others = follow_links(output), [], 0
    for path in sorted(folder.rglob("*") if is_recursive else folder.iterdir()):
        below = path.relative_to(folder)
        is_own = follow_links(folder) != results and results in follow_links(path).parents
        if not path.is_file() or is_own or any(part.startswith(".") for part in below.parts):
            continue
        if path.suffix.lower() in KINDS:
            found.append(Source(path, sub_folders(path.parent, folder)))
        else:
            others += 1
    if not found:
        raise ConfigError(f"{folder} holds no picture ({', '.join(KINDS)})")
    if others:
        say(f"note: {others} other files in {folder} are passed over; {', '.join(KINDS)} are sent")
    return found


def _is_whole(path: Path) -> bool:
    content = path.read_bytes()
    return bool(content) and not is_cut_short(content)


def plan(
    sources: Sequence[Source],
    args: argparse.Namespace,
    node: Mapping[str, Any],
    refuse: Callable[[object, object], None],
) -> list[Job]:
    """What is to be made: under the names that the command line gives, and without what its journal says is done.

    Raises:
        OSError: the folder of results cannot be written to.
    """
    out: Path = args.output
    out.mkdir(parents=True, exist_ok=True)
    check_writable(out / "probe.png")
    common = common_folder(sources)
    targets = grant_wishes([make_wish(source, ".png", out, common) for source in sources])
    journal = Journal(out, fingerprint_run({"node": UPSCALER, "inputs": dict(node)}, {}))
    history = History(journal, keeps_others=not args.overwrite, makes_again=args.overwrite, is_whole=_is_whole)
    inputs = {follow_links(source.path) for source in sources}
    jobs = []
    for source, target in zip(sources, targets, strict=True):
        try:
            if follow_links(target) in inputs:
                raise ConfigError(f"{target} would be written over a picture of the folder; choose another output")
            record = history.look(source.path, [target])
            if record is None:
                say(f"{source.path}: done before", sys.stdout)
            else:
                jobs.append(Job(source.path, record))
        except (AdaDiffSRError, OSError) as error:
            refuse(source.path, error)
    return jobs


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
    """The server with the shortest queue that has room for a picture, one that has not failed it if there is any.

    Args:
        servers: all.
        most: pictures that one may hold.
        tried: those that did not make it.
    """
    fit = [server for server in servers if not server.is_lost and server.held < most]
    return min(fit, key=lambda server: (server in tried, server.held + server.others), default=None)


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
                    running[pool.submit(make, pair[1], pair[0].source, node)] = pair
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
        server = choose_server(servers, most, self.waiting[0].tried) if self.waiting else None
        if server is None:
            return None
        server.held += 1
        return self.waiting.popleft(), server

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
        else:
            self.line.clear()
            say(f"{job.source}: {said}", sys.stdout)
            self.line.done += 1

    def give_up(self, job: Job, reason: object) -> None:
        """Say that a picture was not made, and why."""
        self.line.clear()
        self.refuse(job.source, reason)
        self.line.failed += 1


def make(server: ComfyServer, source: Path, node: Mapping[str, Any]) -> tuple[bytes, str]:
    """Have one picture made; returns a PNG and what the node says of it.

    Raises:
        LostError, FailedError, RefusedError, StoppedError: see the classes.
        OSError: the picture cannot be read.
        ConfigError: it is cut short, or the server found several pictures in it.
    """
    content = source.read_bytes()
    if is_cut_short(content):
        raise ConfigError("the file is cut short; get it again")
    if losses := find_losses(content):
        say(f"note: {source}: ComfyUI's Load Image leaves out its {' and '.join(losses)}; the command line does not")
    # By its content: names may hold what a server's disk does not take, and may come from several folders.
    name = server.upload(f"{fingerprint_content(source)[:32]}{source.suffix.lower()}", content)
    shown = server.run(build_prompt(name, node))
    pictures = shown["saved"]["images"]
    if len(pictures) != 1:
        raise ConfigError(f"it holds {len(pictures)} pictures, which become one by the command line only")
    return server.download(pictures[0]), " ".join("; ".join(shown["upscaled"].get("text", ["done"])).split())


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


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="spread_over_servers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of pictures")
    parser.add_argument("servers", nargs="+", metavar="http://HOST:PORT", help="running ComfyUI with this pack")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="folder of results, made if need be"
    )
    parser.add_argument("--recursive", action="store_true", help="sub-folders too; results keep them")
    parser.add_argument("--overwrite", action="store_true", help="make everything again, over files of others too")
    parser.add_argument("--scale", type=float, default=4.0, metavar="X", help="times larger (4)")
    parser.add_argument("--preset", help="everyday or paper (everyday)")
    parser.add_argument("--seed", type=int, metavar="N", help="of all noise (0)")
    parser.add_argument("--likeness", type=float, metavar="DB", help="to all steps that every region must come to (40)")
    parser.add_argument(
        "--in-flight", type=int, default=2, metavar="N", help="pictures that a server has at a time (2)"
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
