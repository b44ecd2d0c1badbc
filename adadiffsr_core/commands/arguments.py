"""The arguments of `adadiffsr upscale`."""

import argparse
from typing import get_args

from ..photo.colour import ColourMatch
from ..sampling.codebook import Solver
from ..sampling.config import MergeMode
from ..sampling.rule import Rule
from ..settings import PRESETS
from .options import (
    add_device,
    parse_budget,
    parse_path,
    parse_scale,
    parse_size,
    parse_target,
    parse_word,
    read_intervals,
)

FORMATS = ("png", "jpg", "webp", "tif")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every argument of the subcommand."""
    parser.add_argument(
        "inputs", nargs="+", type=parse_word, metavar="INPUT", help="photographs, folders of them, or patterns"
    )
    parser.add_argument(
        "-o", "--output", required=True, type=parse_target, metavar="OUT", help="a file for one input, else a folder"
    )
    _add_size(parser)
    _add_folders(parser.add_argument_group("folders"))
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


def _add_folders(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--recursive", action="store_true", help="sub-folders of folders too; results keep them")
    group.add_argument(
        "--format",
        choices=FORMATS,
        metavar="KIND",
        help=f"kind of the results in a folder: {', '.join(FORMATS)} (each photograph's own, or png)",
    )
    group.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="pass over what an earlier run of the same settings finished (on for folders)",
    )
    group.add_argument(
        "--overwrite", action="store_true", help="make everything again, over results of earlier runs and other files"
    )


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
        "--budget",
        type=parse_budget,
        metavar="N",
        help="evaluations per tile, on average over the picture, in its place; at least 2, or 1 of one base step",
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
    group.add_argument("--tile-size", type=int, metavar="PX", help="side of a tile; 0 is the model's own (0)")
    group.add_argument("--overlap", type=int, metavar="PX", help="of neighbouring tiles, at least (64)")
    group.add_argument("--merge", choices=get_args(MergeMode), help="join tiles at the end, or at every step")
    group.add_argument(
        "--pfj-strength",
        type=float,
        metavar="X",
        help="strength of feature injection: 0 softer and closer, 1 crisper (0.5; by the preset paper 1)",
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
    group.add_argument(
        "--bands",
        choices=("auto", "always", "never"),
        default="auto",
        help="make a picture in bands, so that it need not fit into memory (auto: if it does not)",
    )
    group.add_argument("--threads", type=int, metavar="N", help="processor threads; of each worker of a cluster (4)")
    group.add_argument(
        "--cluster",
        type=parse_word,
        metavar="WHERE",
        help="share the photographs among workers of Ray (adadiffsr[cluster]): local for this machine's devices, auto "
        "for the cluster that it belongs to, or that cluster's host:port",
    )
