"""What the sampling nodes refuse before anything runs, in the sentences that a run would say later."""

from collections.abc import Callable
from functools import partial
from typing import Any

from ..adadiffsr_core.config import check_multiple
from ..adadiffsr_core.errors import ConfigError
from ..adadiffsr_core.sampling.config import LatentSizes, RegionConfig, parse_intervals
from ..adadiffsr_core.sampling.rule import DtssConfig
from .host.geometry import MULTIPLE
from .schema import Node, check_range

# Whatever the model: its own sizes are not known at the door. Tiles of the model's own size may be large.
_ANY_MODEL = LatentSizes(factor=1, multiple=MULTIPLE, trained=2**16)
_ADVISED = 64  # px, of which nearly every model takes multiples, the embedded one among them


class CheckedNode(Node):
    """A node with `intervals`, `tile_size` and `overlap`, which the host lets it look at before a prompt runs."""

    @classmethod
    def validate_inputs(cls, intervals: Any = None, tile_size: Any = None, overlap: Any = None) -> bool | str:
        """Whether these can be right for any model; the host checks the rest by the table.

        The host calls it with what was typed, and None for what is linked. It checks no range of an input that is
        named here, so that this does; and it shows the answer once for each of them, so that they are few.

        Returns:
            True, or what is wrong, a sentence for each wrong value.
        """
        checks: list[Callable[[], object]] = []
        if intervals is not None:
            checks.append(lambda: DtssConfig(intervals=parse_intervals(intervals)))
        sizes = {name: size for name, size in (("tile_size", tile_size), ("overlap", overlap)) if size is not None}
        checks += [partial(cls._check_size, name, size) for name, size in sizes.items()]
        wrong = [sentence for sentence in map(ask, checks) if sentence]
        if len(sizes) == 2 and not any(sentence.startswith(tuple(sizes)) for sentence in wrong):
            wrong += filter(None, [ask(lambda: RegionConfig(**sizes).plan_tiles(1, 1, _ANY_MODEL))])
        return ". ".join(wrong) or True

    @classmethod
    def _check_size(cls, name: str, size: Any) -> None:
        check_range(cls.table, name, size)
        RegionConfig(**{name: size})
        if name == "tile_size" and size % MULTIPLE:
            check_multiple(name, size, _ADVISED)


def ask(check: Callable[[], object]) -> str:
    """What a check of the core says, or nothing."""
    try:
        check()
    except ConfigError as error:
        return str(error)
    return ""
