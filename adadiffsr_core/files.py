"""Files that appear whole or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, moved onto it only if the block ends well.

    The folder is created if need be. Whatever stops the block, Ctrl-C included, an old file stays as it was
    and nothing else stays behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not of the path's own name, which may be as long as names can be.
    partial = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
