"""The command line: `adadiffsr upscale`, `adadiffsr train` and `adadiffsr eval`."""

import sys

# Nothing else here: whatever takes time is imported where Ctrl-C is looked after.
from .commands.interrupts import STOPPED, STOPPED_CODE, Watch, ignore_more, stop_if_asked, watch_start
from .commands.streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .commands.terminal import Parser


def build_parser() -> "Parser":
    """The parser of every subcommand; what it parses has a `run`."""
    from .commands import eval as evaluate
    from .commands import train, upscale
    from .commands.terminal import Parser

    parser = Parser(prog="adadiffsr", description="Super-resolution that gives each region only the steps it needs.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    upscale.add_parser(subparsers)
    train.add_parser(subparsers)
    evaluate.add_parser(subparsers)
    return parser


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run one command.

    Args:
        argv: its words; None takes those of the process.

    Returns:
        The exit code: 0, 2 if anything was refused (said in one sentence on stderr), or 130 after Ctrl-C.
    """
    is_process = argv is None
    with Streams(is_process=is_process):
        if is_process:
            watch_start()
        try:
            parser = build_parser()
        except MemoryError:
            sys.stderr.write("adadiffsr: there is not enough memory to start; close something else\n")
            return 2
        with Watch(is_process=is_process):
            return _run(parser, argv)


def _run(parser: "Parser", argv: "Sequence[str] | None") -> int:
    from .commands.terminal import REFUSALS, complain, say
    from .memory import name_out_of_memory

    try:
        with name_out_of_memory():
            args = parser.parse_args(argv)
            code = int(args.run(args))
        stop_if_asked()
        return code
    except KeyboardInterrupt:
        ignore_more()
        say(STOPPED, sys.stderr)
        return STOPPED_CODE
    except REFUSALS as error:
        complain(error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
