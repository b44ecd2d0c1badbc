"""The arguments of `adadiffsr upscale`, and what their values mean."""

import argparse
import math
import os
import re
from pathlib import Path
from typing import get_args

import torch

from ..errors import ConfigError
from ..files import check_file_name
from ..photo.colour import ColourMatch
from ..photo.scales import Size
from ..sampling.codebook import Solver
from ..sampling.config import MergeMode, parse_intervals
from ..sampling.rule import Rule
from ..settings import PRESETS
from ..text import quoted, shown

MAX_SCALE = 16384.0
_MOST_THREADS = 1024
PROCESSES_EACH = 4  # for each of the machine's processors
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every argument of the subcommand."""
    parser.add_argument(
        "inputs", nargs="+", type=parse_word, metavar="INPUT", help="photographs, folders of them, or patterns"
    )
    parser.add_argument(
        "-o", "--output", required=True, type=parse_target, metavar="OUT", help="a file for one input, else a folder"
    )
    _add_size(parser)
    _add_sampling(parser.add_argument_group("sampling"))
    _add_outputs(parser.add_argument_group("more outputs (a file for one input, else a folder)"))
    _add_machine(parser.add_argument_group("machine"))


def _add_size(parser: argparse.ArgumentParser) -> None:
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--scale",
        type=parse_scale,
        default=4.0,
        metavar="X",
        help="times larger (4); below what the model knows, worked at 4 and reduced",
    )
    size.add_argument("--size", type=parse_size, metavar="WxH|N", help="width and height, or the long side, px")


def _add_sampling(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--preset", choices=PRESETS, default="everyday", help="what the rest starts from (everyday)")
    group.add_argument("--steps", type=int, metavar="N", help="base steps, 1 to 1000")
    group.add_argument("--solver", choices=get_args(Solver), help="how a step is taken")
    dials = group.add_mutually_exclusive_group()
    dials.add_argument(
        "--likeness",
        type=float,
        metavar="DB",
        help="no tile farther than this from what all steps would give, PSNR in dB (the preset's)",
    )
    dials.add_argument(
        "--budget", type=float, metavar="N", help="evaluations per tile, on average over the picture, in its place"
    )
    group.add_argument(
        "--rule",
        choices=get_args(Rule),
        help="how steps are chosen: bounded by likeness or budget; the paper's, by classes of gain",
    )
    intervals = group.add_mutually_exclusive_group()
    intervals.add_argument(
        "--intervals", type=read_intervals, metavar="A,B,..", help="base steps a jump may cover, smallest first"
    )
    intervals.add_argument("--uniform", type=int, metavar="K", help="no adaptivity: every jump covers K base steps")
    group.add_argument(
        "--gain-threshold",
        type=float,
        metavar="X",
        help="gain per twentieth of the denoising that matters (the preset's)",
    )
    group.add_argument(
        "--visit-last", action=argparse.BooleanOptionalAction, help="whether the paper's rule ends on the last step"
    )
    group.add_argument(
        "--early-exit", action=argparse.BooleanOptionalAction, help="whether saturated tiles stop before the end"
    )
    group.add_argument("--merge", choices=get_args(MergeMode), help="join tiles at the end, or at every step")
    group.add_argument(
        "--pfj-strength",
        type=float,
        metavar="X",
        help="strength of feature injection: 0 softer and closer, 1 crisper (1)",
    )
    group.add_argument("--denoise", type=float, metavar="X", help="above 0, to 1: how much is drawn anew (1)")
    group.add_argument(
        "--mask",
        type=parse_path,
        metavar="MASK",
        help="black: leave; grey or transparent: automatic; white: every step",
    )
    group.add_argument("--seed", type=int, metavar="N", help="seed of all noise (0)")
    group.add_argument("--colour", choices=get_args(ColourMatch), help="how colours are matched to the input")


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--map", type=parse_target, metavar="PNG", help="a picture of where the evaluations went")
    group.add_argument(
        "--compare", type=parse_target, metavar="PNG", help="the input enlarged by bicubic, and the result"
    )
    group.add_argument("--report", type=parse_target, metavar="JSON", help="every tile's steps, classes and gains")
    group.add_argument("--check", action="store_true", help="take all steps too, and say how near tiles come to them")
    group.add_argument("--quality", type=int, default=95, metavar="N", help="quality of JPEG and WebP, 1 to 100 (95)")
    group.add_argument("--strip", action="store_true", help="leave out EXIF, XMP, IPTC, text and resolution")


def _add_machine(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", type=parse_path, metavar="FILE", help="weights; the embedded model if not given")
    add_device(group)
    group.add_argument("--tile-batch", type=int, metavar="N", help="tiles in one call of the network (8)")
    group.add_argument("--threads", type=int, metavar="N", help="processor threads")


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
        argparse.ArgumentTypeError: no folder should get such a name.
    """
    return Path(parse_target(text))


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
    try:
        device = torch.zeros(1, device=name).device
    except Exception:  # torch has no one way to say so, and of some kinds it misses a package
        device = torch.device("meta")
    if device.type == "meta":
        raise ConfigError(f"device {quoted(name, 80)} cannot be used on this machine; try --device cpu")
    return device


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
