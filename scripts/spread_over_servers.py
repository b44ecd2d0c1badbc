"""Upscales a folder of pictures by several ComfyUI servers that have this pack; the standard library is all it needs.

    python -m scripts.spread_over_servers PHOTOS -o OUT http://gpu-1:8188 http://gpu-2:8188 --scale 4

Every picture goes to the server with the shortest queue and becomes a PNG as by `adadiffsr upscale --format png`. What
a server that stops answering had is done by the others; the same command again goes on where it was stopped. Exit code
2 if a picture could not be made. See docs/scale.md.
"""

import argparse
import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adadiffsr_core.commands.interrupts import STOPPED, STOPPED_CODE
from adadiffsr_core.commands.journal import History, Journal, find_results, fingerprint_run
from adadiffsr_core.commands.naming import Source, common_folder, grant_wishes, make_wish, sub_folders
from adadiffsr_core.errors import AdaDiffSRError, ConfigError
from adadiffsr_core.files import check_folder, follow_links
from adadiffsr_core.text import sentence

from .comfy_server import ComfyServer
from .picture_header import is_cut_short
from .server_work import Job, check_all, say, spread
from .upscale_prompt import UPSCALER, WORKFLOW, read_node

Refuse = Callable[[object, object], None]  # what it is about, and why
KINDS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


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
    if not 0 < args.scale < math.inf:
        raise ConfigError(f"--scale must be a number above 0, such as 4, got {args.scale}")
    node = read_node(WORKFLOW, {name: getattr(args, name) for name in ("scale", "preset", "seed", "likeness")})
    refused: list[str] = []

    def refuse(about: object, reason: object) -> None:
        refused.append(str(about))
        say(sentence(f"spread_over_servers: {about}: {reason}"))

    stop = threading.Event()
    servers = [ComfyServer(address, stop) for address in dict.fromkeys(word.rstrip("/") for word in args.servers)]
    jobs = plan(find_pictures(args.folder, args.output, refuse, is_recursive=args.recursive), args, node, refuse)
    if jobs:
        check_all(servers)
        try:
            spread(jobs, servers, args.in_flight, node, refuse)
        except KeyboardInterrupt:
            say(STOPPED)
            return STOPPED_CODE
    return 2 if refused else 0


def find_pictures(folder: Path, output: Path, refuse: Refuse, *, is_recursive: bool) -> list[Source]:
    """Pictures in a folder, without hidden ones and results of earlier runs, in order.

    What has a picture's name and is no file, such as a pipe or a link that leads nowhere, is told to `refuse`.

    Raises:
        ConfigError: there is none, or no folder.
        OSError: the folder, or the journal of the one for results, cannot be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; name one that holds pictures")
    found, others, again = [], 0, 0
    # Where the folder of results is this one, or above it, only its journal tells them from photographs.
    made = set(map(follow_links, find_results(output))) if output.is_dir() else set()
    for path in _list_files(folder, output, is_recursive):
        if path.suffix.lower() not in KINDS:
            others += 1
        elif not path.is_file():
            refuse(path, "is no file, or a link that leads nowhere; take it away, or put the picture in its place")
        elif follow_links(path) in made:
            again += 1
        else:
            found.append(Source(path, sub_folders(path.parent, folder)))
    if others:
        say(f"note: {others} other files in {folder} are passed over; {', '.join(KINDS)} are sent")
    if again:
        say(f"note: {again} files in {folder} are passed over: earlier runs made them")
    if not found:
        raise ConfigError(f"{folder} holds no picture ({', '.join(KINDS)})")
    return found


def _list_files(folder: Path, output: Path, is_recursive: bool) -> Iterator[Path]:
    """All but folders, hidden ones, and what lies in a folder of results below, in order."""
    results = follow_links(output)
    for path in sorted(folder.rglob("*") if is_recursive else folder.iterdir()):
        is_own = follow_links(folder) != results and results in follow_links(path).parents
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not (path.is_dir() or is_own or is_hidden):
            yield path


def _is_whole(path: Path) -> bool:
    content = path.read_bytes()
    return bool(content) and not is_cut_short(content)


def plan(
    sources: Sequence[Source],
    args: argparse.Namespace,
    node: Mapping[str, Any],
    refuse: Refuse,
) -> list[Job]:
    """What is to be made: under the names that the command line gives, and without what its journal says is done.

    Raises:
        OSError: the folder of results cannot be written to.
    """
    out: Path = args.output
    out.mkdir(parents=True, exist_ok=True)
    check_folder(out)
    common = common_folder(sources)
    journal = Journal(out, fingerprint_run({"node": UPSCALER, "inputs": dict(node)}, {}))
    wishes = [make_wish(source, ".png", out, common) for source in sources]
    targets = grant_wishes(wishes, journal.made_of(source.path for source in sources))
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
    parser.add_argument("--likeness", type=float, metavar="DB", help="to all steps that every region must come to (42)")
    parser.add_argument(
        "--in-flight", type=int, default=2, metavar="N", help="pictures that a server has at a time (2)"
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
