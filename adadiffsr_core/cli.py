"""The command line: `adadiffsr upscale`, `adadiffsr train` and `adadiffsr eval`."""

import sys
from collections.abc import Sequence

from .commands import eval as evaluate
from .commands import train, upscale
from .commands.terminal import REFUSALS, Parser, complain, say


def build_parser() -> Parser:
    """The parser of every subcommand; what it parses has a `run`."""
    parser = Parser(prog="adadiffsr", description="Super-resolution that gives each region only the steps it needs.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    upscale.add_parser(subparsers)
    train.add_parser(subparsers)
    evaluate.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: its words; None takes those of the process.

    Returns:
        The exit code: 0, 2 if anything was refused (said in one sentence on stderr), or 130 after Ctrl-C.
    """
    try:
        args = build_parser().parse_args(argv)
        return int(args.run(args))
    except KeyboardInterrupt:
        say("adadiffsr: stopped; what was finished is kept, and no file is half written", sys.stderr)
        return 130
    except REFUSALS as error:
        complain(error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
