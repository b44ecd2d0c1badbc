"""Says what of the working tree would travel to a lent machine, and makes large files stay at home for the time.

    python -m scripts.device.travel [CARRIED ...]           sizes; CARRIED are ignored folders that travel too
    python -m scripts.device.travel --set-aside FILE ...    tracked files give way to a line of text
    python -m scripts.device.travel --restore               and are back

Only what git holds unchanged is set aside, and git is told to look away meanwhile: it brings the file back in any case,
and no commit takes the line for it.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from adadiffsr_core.errors import AdaDiffSRError, ConfigError

LIMIT_MIB = 60.0
_STUB = "Set aside for a journey; back with: python -m scripts.device.travel --restore\n"


def list_travellers(root: Path, carried: list[Path]) -> dict[str, int]:
    """Bytes of each file that travels: tracked ones, new ones that git does not ignore, and `carried`."""
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    inside = {root / name for name in listed if name}
    for folder in (*carried, root / "shared"):
        inside |= set(folder.rglob("*")) if folder.is_dir() else {folder}
    files = (path for path in inside if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(root) if path.is_relative_to(root) else path): path.stat().st_size for path in files}


def set_aside(root: Path, files: list[str]) -> None:
    """Put a line of text in the place of tracked files; they must not be missing, or the tree could not be copied.

    Raises:
        ConfigError: one is not tracked, or differs from what git holds; then nothing is changed.
    """
    for name in files:
        if not _git(root, "ls-files", "--", name).strip():
            raise ConfigError(f"{name} is not tracked by git, which could not bring it back")
        if _git(root, "diff", "--name-only", "HEAD", "--", name).strip():
            raise ConfigError(f"{name} was changed; commit it first, or git could not bring it back")
    note = _note(root)
    known = note.read_text(encoding="utf-8").splitlines() if note.is_file() else []
    note.write_text("".join(f"{name}\n" for name in dict.fromkeys(known + files)), encoding="utf-8")
    _git(root, "update-index", "--skip-worktree", "--", *files)
    for name in files:
        (root / name).write_text(_STUB, encoding="utf-8")


def restore(root: Path) -> list[str]:
    """Bring back what was set aside.

    Returns:
        The files.

    Raises:
        ConfigError: one was written to meanwhile; it is left, and git's copy with it.
    """
    note = _note(root)
    names = note.read_text(encoding="utf-8").splitlines() if note.is_file() else []
    for name in names:
        path = root / name
        if path.is_file() and path.stat().st_size > len(_STUB) and not _is_as_git_has_it(root, name):
            raise ConfigError(f"{name} has been written anew; move it away, then restore")
    if names:
        _git(root, "update-index", "--no-skip-worktree", "--", *names)
        _git(root, "checkout-index", "--force", "--", *names)
        _git(root, "update-index", "--refresh", "-q", "--", *names)
    note.unlink(missing_ok=True)
    return names


def _is_as_git_has_it(root: Path, name: str) -> bool:
    return _git(root, "hash-object", "--", name).strip() == _git(root, "rev-parse", f":{name}").strip()


def _note(root: Path) -> Path:
    return root / _git(root, "rev-parse", "--git-path", "adadiffsr-set-aside").strip()


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"git {words[0]}: {done.stderr.strip()}")
    return done.stdout


def describe(sizes: dict[str, int]) -> str:
    """A table: the largest, and all together."""
    total = sum(sizes.values()) / 2**20
    folders: dict[str, int] = {}
    for name, size in sizes.items():
        folders["/".join(name.split("/")[:2])] = folders.get("/".join(name.split("/")[:2]), 0) + size
    largest = sorted(folders.items(), key=lambda item: -item[1])[:12]
    lines = [f"{size / 2**20:8.2f} MiB  {name}" for name, size in largest]
    verdict = "fits" if total <= LIMIT_MIB else f"is too much: {total - LIMIT_MIB:.1f} MiB must stay"
    return "\n".join([*lines, f"{total:8.2f} MiB  in {len(sizes)} files, of {LIMIT_MIB:.0f} MiB: {verdict}"])


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("carried", nargs="*", type=Path, metavar="CARRIED")
    parser.add_argument("--set-aside", nargs="+", metavar="FILE")
    parser.add_argument("--restore", action="store_true")
    args = parser.parse_args()
    try:
        root = Path(_git(Path.cwd(), "rev-parse", "--show-toplevel").strip())
        if args.set_aside:
            set_aside(root, [str(Path(name).resolve().relative_to(root)) for name in args.set_aside])
        if args.restore:
            sys.stdout.write("".join(f"{name} is back\n" for name in restore(root)))
        sizes = list_travellers(root, [path.resolve() for path in args.carried])
    except (AdaDiffSRError, OSError, ValueError) as error:
        sys.stderr.write(f"travel: {error}\n")
        return 2
    sys.stdout.write(describe(sizes) + "\n")
    return 0 if sum(sizes.values()) <= LIMIT_MIB * 2**20 else 1


if __name__ == "__main__":
    sys.exit(main())
