"""Names for what photographs become in a folder: as short as can be, and no two the same."""

import os
import sys
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import fit_name

_DIGITS = 9  # more than numbers that are given have


@dataclass(frozen=True)
class Source:
    """A photograph's file, and the sub-folders that a pattern found it in, which its results keep: never ".."."""

    path: Path
    folder: Path = Path()


@dataclass(frozen=True)
class Wish:
    """A file that a photograph wants to become.

    Attributes:
        names: relative to the folder it goes to, the one that is wanted most first.
        is_own: the first name is the photograph's own.
        folder: that it goes to.
    """

    names: tuple[Path, ...]
    is_own: bool
    folder: Path

    def take(self, rank: int) -> Path:
        """The path of that rank; beyond the list, the last name with a number."""
        if rank < len(self.names):
            return self.folder / self.names[rank]
        last = self.names[-1]
        return self.folder / last.with_name(fit_name(last.stem, f"-{rank - len(self.names) + 2}{last.suffix}"))

    def rank_of(self, path: Path) -> int | None:
        """What `take` gives that path for; None if nothing."""
        last = self.names[-1]
        number = path.stem.removeprefix(f"{last.stem}-")
        ranks = [rank for rank, name in enumerate(self.names) if name.name == path.name]
        if number.isdecimal() and len(number) < _DIGITS and int(number) >= 2:
            ranks.append(len(self.names) + int(number) - 2)
        return next((rank for rank in ranks if _key(self.take(rank)) == _key(path)), None)


def make_wish(source: Source, ending: str, folder: Path, common: Path) -> Wish:
    """The names that a file of this photograph may have, none of them longer than a file's name can be.

    Args:
        source: the photograph.
        ending: what follows the name: ".png", "-map.png".
        folder: where the file goes.
        common: a folder that every photograph of the run lies in.
    """
    path = source.path
    whole = path.name if path.suffix == ending else fit_name(path.name, ending)
    below = sub_folders(_folder_of(source), common)
    names = (source.folder / fit_name(path.stem, ending), source.folder / whole, below / whole)
    return Wish(names=tuple(dict.fromkeys(names)), is_own=path.suffix == ending, folder=folder)


def sub_folders(folder: str | Path, root: str | Path) -> Path:
    """The folders from `root` down to `folder`, to be kept below another; none where it is not below.

    Names are taken as they are, without following links: a pattern may hold ".." after a wildcard, and what is kept
    below a folder must never lead out of it.
    """
    try:
        below = Path(os.path.relpath(folder, root))
    except ValueError:  # on several drives of Windows
        return Path()
    return Path() if below.parts[:1] == (os.pardir,) else below


def common_folder(sources: Sequence[Source]) -> Path:
    """The innermost folder that every photograph lies in."""
    folders = [_folder_of(source) for source in sources]
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:  # on several drives of Windows
        return Path(_folder_of(sources[0]))


def grant_wishes(wishes: Sequence[Wish], made: Sequence[Sequence[Path]] = ()) -> list[Path]:
    """A path for each wish.

    What was named in an earlier run keeps its name, whatever has joined it since. Where several others want one path,
    who asks for its own name has it, and the rest take the next of theirs; the order of wishes decides only between
    those that are left with numbers, and between photographs of the same bytes.

    Args:
        wishes: of all files that share folders.
        made: for each wish, the files that earlier runs made of its photograph; empty if nobody knows.

    Source: decisions D46 and D82.
    """
    kept = _find_kept(wishes, made)
    ranks = [kept.get(number, 0) for number in range(len(wishes))]
    while True:
        groups: dict[str, list[int]] = defaultdict(list)
        for number, wish in enumerate(wishes):
            groups[_key(wish.take(ranks[number]))].append(number)
        clashes = [group for group in groups.values() if len(group) > 1]
        if not clashes:
            return [wish.take(rank) for wish, rank in zip(wishes, ranks, strict=True)]
        for group in clashes:
            for number in _losers(group, wishes, ranks, kept):
                ranks[number] += 1


def _folder_of(source: Source) -> str:
    return os.path.abspath(source.path.parent)  # noqa: PTH100 (links are not followed: they are the user's names)


def _find_kept(wishes: Sequence[Wish], made: Sequence[Sequence[Path]]) -> dict[int, int]:
    """The ranks of those that were named before, by their numbers; none has the path of another."""
    kept: dict[int, int] = {}
    taken: set[str] = set()
    for number, files in enumerate(made):
        wish = wishes[number]
        ranks = [rank for path in files if (rank := wish.rank_of(path)) is not None]
        for rank in sorted(ranks):
            if number not in kept and (key := _key(wish.take(rank))) not in taken:
                kept[number] = rank
                taken.add(key)
    return kept


def _losers(group: Sequence[int], wishes: Sequence[Wish], ranks: Sequence[int], kept: Container[int]) -> list[int]:
    owners = [number for number in group if number in kept]  # one at most
    owners = owners or [number for number in group if wishes[number].is_own and ranks[number] == 0]
    if len(owners) == 1:
        return [number for number in group if number != owners[0]]
    movable = [number for number in group if ranks[number] + 1 < len(wishes[number].names)]
    return movable or list(group[1:])


def _key(path: Path) -> str:
    """Two paths of one key are one file where letters' case does not count."""
    text = os.path.normpath(path.absolute())
    return text.casefold() if sys.platform in ("win32", "darwin") else text
