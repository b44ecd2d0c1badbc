"""What the words after an option mean, for every subcommand."""

import argparse
import math
import os
import re
from pathlib import Path

import torch

from ..errors import ConfigError
from ..files import check_file_name
from ..models.model import find_device
from ..photo.scales import Size
from ..sampling.config import parse_intervals
from ..text import quoted, shown

MAX_SCALE = 16384.0
_MOST_THREADS = 1024
PROCESSES_EACH = 4  # for each of the machine's processors
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def add_device(group: argparse._ArgumentGroup) -> None:
    """Add where networks run, and in which precision."""
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps (cuda if there is one, else cpu)")
    group.add_argument("--dtype", choices=("auto", *DTYPES), default="auto", help="float16 on cuda, float32 elsewhere")


def parse_word(text: str) -> str:
    """A path or pattern as it was typed.

    Raises:
        argparse.ArgumentTypeError: it is empty, or no file can have such a name.
    """
    try:
        is_name = b"\0" not in os.fsencode(_not_empty(text))
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        is_name = False
    if not is_name:
        raise argparse.ArgumentTypeError(f"{quoted(text, 80)} is a name that no file can have")
    return text


def _not_empty(text: str) -> str:
    """Empty is what an unset variable of a shell becomes, and would mean the folder that one happens to be in."""
    if not text:
        raise argparse.ArgumentTypeError("a path is empty; name a file or folder, or leave it out")
    return text


def parse_path(text: str) -> Path:
    """A file or folder to be read; see `parse_word`.

    Raises:
        argparse.ArgumentTypeError: it is empty.
    """
    return Path(parse_word(text))


def parse_source(text: str) -> Path:
    """A folder to be read from, which is there.

    Raises:
        argparse.ArgumentTypeError: it is not.
    """
    if not os.path.isdir(parse_word(text)):  # noqa: PTH112 (pathlib's raises for names that are too long)
        raise argparse.ArgumentTypeError(f"{quoted(text, 80)} is not a folder")
    return Path(text)


def parse_target(text: str) -> str:
    """A file or folder to be written, as the user gave it; folders that exist may have any name.

    Raises:
        argparse.ArgumentTypeError: it is empty, or no file should get such a name.
    """
    _not_empty(text)
    try:
        if not os.path.isdir(text):  # noqa: PTH112 (pathlib's raises for some of these names)
            check_file_name(Path(text).name)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def parse_folder(text: str) -> Path:
    """A folder to be written to; see `parse_target`.

    Raises:
        argparse.ArgumentTypeError: no folder should get such a name, or it is a file, or within one.
    """
    path = Path(parse_target(text))
    there = next((place for place in (path, *path.parents) if os.path.lexists(place)), path.parent)
    if os.path.lexists(there) and not os.path.isdir(there):  # noqa: PTH112 (as above)
        raise argparse.ArgumentTypeError(f"{quoted(str(there), 80)} is a file, and a folder is needed; name another")
    return path


def parse_scale(text: str) -> float:
    """A factor above 0.

    Raises:
        argparse.ArgumentTypeError: it is none, or absurdly large.
    """
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not 0 < scale <= MAX_SCALE:
        raise argparse.ArgumentTypeError(
            f"{quoted(text, 80)} is no factor above 0 and up to {MAX_SCALE:.0f}, such as 4"
        )
    return scale


def parse_budget(text: str) -> float:
    """Evaluations per tile; settings know 0 as none, and whoever types it means something else.

    Raises:
        argparse.ArgumentTypeError: it is no number, or 0.
    """
    try:
        budget = float(text)
    except ValueError:
        budget = 0.0
    if budget == 0:
        raise argparse.ArgumentTypeError(
            f"{quoted(text, 80)} is no number of evaluations that a tile can take; give 2 or more, 1 with --steps 1"
        )
    return budget


def parse_size(text: str) -> Size | int:
    """`WxH` to (height, width), `N` to the long side.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    match = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", text.strip().lower(), re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{quoted(text, 80)} is neither a size in px such as 1920x1080 nor a long side such as 2048"
        )
    first, second = match.groups()
    return int(first) if second is None else (int(second), int(first))


def read_intervals(text: str) -> tuple[int, ...]:
    """See `parse_intervals`.

    Raises:
        argparse.ArgumentTypeError: it is no such list.
    """
    try:
        return parse_intervals(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_workers(text: str) -> int:
    """A number of further processes, from 0 to `PROCESSES_EACH` for each of the machine's processors.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    most = PROCESSES_EACH * (os.cpu_count() or 1)
    if not re.fullmatch(r"\d{1,9}", text.strip(), re.ASCII) or int(text) > most:
        raise argparse.ArgumentTypeError(f"{quoted(text, 80)} is no number of processes from 0 to {most}")
    return int(text)


def parse_names(text: str) -> tuple[str, ...]:
    """`psnr,niqe` to names.

    Raises:
        argparse.ArgumentTypeError: there is none.
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise argparse.ArgumentTypeError(f"{quoted(text, 80)} names nothing; give one or more, with commas between")
    return names


def choose_device(name: str | None) -> torch.device:
    """The device of that name; None takes CUDA if there is any, else the processor.

    Raises:
        ConfigError: there is no such device, or it cannot be used.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return find_device(name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of that name; `auto` is float16 on CUDA and float32 elsewhere."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return DTYPES[name]


def set_threads(count: int | None) -> None:
    """Let torch use `count` threads; None leaves it to torch.

    Raises:
        ConfigError: the count is not from 1 to 1,024.
    """
    if count is None:
        return
    if not 1 <= count <= _MOST_THREADS:
        raise ConfigError(f"--threads must be from 1 to {_MOST_THREADS}, got {shown(count)}")
    torch.set_num_threads(count)
