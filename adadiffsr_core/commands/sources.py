"""Which photographs the user named: files, folders and patterns."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import ImageError
from ..files import follow_links
from ..photo.admission import is_picture
from ..photo.reading import READABLE
from .naming import Source, sub_folders

# Pictures of kinds that are not read: they are spoken of where they lie in a folder among others.
_OTHER_PICTURES = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dds", ".dng", ".emf", ".eps", ".erf", ".exr", ".fff",
    ".fits", ".hdr", ".icns", ".ico", ".iiq", ".j2k", ".jp2", ".jpf", ".jpx", ".jxl", ".jxr", ".k25", ".kdc",
    ".mef", ".mng", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pam", ".pbm", ".pcx", ".pef", ".pfm", ".pgm",
    ".pnm", ".ppm", ".psb", ".psd", ".qoi", ".raf", ".raw", ".rw2", ".rwl", ".sgi", ".sr2", ".srf", ".srw",
    ".svg", ".tga", ".wdp", ".wmf", ".x3f", ".xbm", ".xcf", ".xpm",
)  # fmt: skip
_MOST_NAMES = 20


def find_photos(
    names: Iterable[str],
    on_error: Callable[[BaseException, object], None],
    *,
    is_recursive: bool = False,
    left_out: Sequence[Path] = (),
) -> list[Source]:
    """Files that the user named, by themselves, by their folder or by a pattern; each once, in order.

    Of a folder, its pictures, without those in sub-folders unless it `is_recursive`; folders that are `left_out`, such
    as those that results go to, and hidden ones are not entered, and links to folders not followed. Files that are
    `left_out`, such as results, are only taken where they are named by themselves. What cannot be found, and pictures
    that are passed over because they are of kinds that are not read, are told to `on_error`.
    """
    found: dict[Path, Source] = {}
    walk = _Walk(is_recursive, {follow_links(path) for path in left_out})
    for name in names:
        try:
            for source in _expand(name, on_error, walk):
                found.setdefault(_identify(source.path), source)
        except (ImageError, OSError) as error:
            on_error(error, name)
    return list(found.values())


class _Walk(NamedTuple):
    """How folders are gone through: see `find_photos`."""

    is_recursive: bool
    left_out: set[Path]

    def below(self, root: Path) -> Iterator[Path]:
        """A folder, and those below it that are to be entered, in order."""
        yield root
        if self.is_recursive:
            for folder in sorted(root.iterdir()):
                is_own = not folder.name.startswith(".") and folder.is_dir() and not folder.is_symlink()
                if is_own and follow_links(folder) not in self.left_out:
                    yield from self.below(folder)

    def spare(self, sources: Sequence[Source], name: str) -> list[Source]:
        """Those of a folder or a pattern that are not left out.

        Raises:
            ImageError: none is left.
        """
        if not (found := [source for source in sources if follow_links(source.path) not in self.left_out]):
            raise ImageError(f"{name} holds only results of earlier runs; name one by itself to enlarge it once more")
        return found


def _expand(name: str, on_error: Callable[[BaseException, object], None], walk: _Walk) -> list[Source]:
    path = Path(name)
    if path.is_dir():
        return walk.spare(_list_folders(path, name, on_error, walk), name)
    if glob.has_magic(name) and not path.exists():
        matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207 (takes any root)
        if not (files := [match for match in matches if _is_listed(match)]):
            raise ImageError(f"no file matches {name}")
        root = _fixed_part(path)
        return walk.spare([Source(file, sub_folders(file.parent, root)) for file in files], name)
    return [Source(path)]


def _fixed_part(pattern: Path) -> Path:
    """The folder that every match of a pattern lies in."""
    fixed = Path()
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


def _list_folders(
    path: Path, name: str, on_error: Callable[[BaseException, object], None], walk: _Walk
) -> list[Source]:
    found: list[Source] = []
    passed_over: dict[Path, str] = {}
    for folder in walk.below(path):
        pictures, others = _list_folder(folder)
        found += [Source(file, sub_folders(folder, path)) for file in pictures]
        if others:
            kinds = f"not a name or a kind that is read ({', '.join(READABLE)})"
            passed_over[folder] = f"passed over {_join(others)}: {kinds}"
    if not found:
        rest = "".join(f"; {told}" for told in passed_over.values()) or f" ({', '.join(READABLE)})"
        raise ImageError(f"{name} holds no picture that can be read{rest}")
    for folder, told in passed_over.items():
        on_error(ImageError(f"{name if folder == path else folder}: {told}"), name)
    return found


def _list_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """Pictures of kinds that are read, and the names of those of others."""
    files = [file for file in sorted(folder.iterdir()) if _is_listed(file) and not file.name.startswith(".")]
    pictures = [file for file in files if file.suffix.lower() in READABLE]
    others = [file for file in files if file.suffix.lower() not in READABLE]
    return pictures, [file.name for file in others if file.suffix.lower() in _OTHER_PICTURES or is_picture(file)]


def _identify(path: Path) -> Path:
    """One for all paths that lead to a file; links that lead nowhere are faults of their own."""
    file = follow_links(path)
    is_there = os.path.exists(file)  # noqa: PTH110 (of no name an error)
    return file if is_there else follow_links(path.parent) / path.name


def _is_listed(path: Path) -> bool:
    """Whether it is a file, or nothing that can be read under a photograph's name, which is refused as a file would be.

    Such are links that lead nowhere or in a circle, pipes and devices.
    """
    # Followed, since a pattern goes through a folder that links to itself until the system has had enough of links.
    return path.is_file() or (path.suffix.lower() in READABLE and not follow_links(path).is_dir())


def _join(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
