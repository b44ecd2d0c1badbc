"""A TIFF written from directories: how pages that were encoded one by one are joined.

Source: TIFF 6.0, section 2; BigTIFF for what is beyond 4 GB.
"""

import struct
from collections.abc import Sequence

from .tiff_tree import VALUE_BYTES, Directory

_CLASSIC_END = 2**32 - 2**16


def write_directories(directories: Sequence[Directory]) -> bytes:
    """A little-endian TIFF of these pages; a BigTIFF if it would be too long for a plain one."""
    is_big = sum(_count_bytes(directory) for directory in directories) > _CLASSIC_END
    writer = _Writer(is_big)
    for directory in directories:
        writer.link(writer.write(directory))
    return b"".join(writer.parts)


def _count_bytes(directory: Directory) -> int:
    data = sum(len(part) for parts in directory.data.values() for part in parts)
    values = sum(64 + len(value) for _, value in directory.tags.values())
    return data + values + sum(_count_bytes(below) for below in directory.below.values())


class _Writer:
    def __init__(self, is_big: bool) -> None:
        self.is_big, self.word = is_big, "Q" if is_big else "I"
        self.parts: list[bytes] = [struct.pack("<2sHHH", b"II", 43, 8, 0) if is_big else struct.pack("<2sH", b"II", 42)]
        self.length = len(self.parts[0])
        self.pointer = len(self.parts)
        self._append(struct.pack(f"<{self.word}", 0))

    def _append(self, part: bytes) -> int:
        """Where the part came to lie; always on an even byte."""
        offset = self.length
        self.parts.append(part + b"\0" * (len(part) % 2))
        self.length += len(self.parts[-1])
        return offset

    def link(self, offset: int) -> None:
        """Let the directory before lead to the one at `offset`, which was written last."""
        self.parts[self.pointer] = struct.pack(f"<{self.word}", offset)
        self.pointer = len(self.parts) - 1

    def write(self, directory: Directory) -> int:
        """The offset of the directory, after all that it leads to; its own link is the last part."""
        kind = 16 if self.is_big else 4
        entries = dict(directory.tags)
        for tag, below in directory.below.items():
            entries[tag] = (kind, struct.pack(f"<{self.word}", self.write(below)))
        for tag, parts in directory.data.items():
            offsets = [self._append(part) for part in parts]
            entries[tag] = (kind, struct.pack(f"<{len(offsets)}{self.word}", *offsets))
        packed = b"".join(self._pack(tag, *entries[tag]) for tag in sorted(entries))
        offset = self._append(struct.pack("<Q" if self.is_big else "<H", len(entries)) + packed)
        self._append(struct.pack(f"<{self.word}", 0))
        return offset

    def _pack(self, tag: int, kind: int, value: bytes) -> bytes:
        room = 8 if self.is_big else 4
        held = value.ljust(room, b"\0") if len(value) <= room else struct.pack(f"<{self.word}", self._append(value))
        return struct.pack(f"<HH{self.word}", tag, kind, len(value) // VALUE_BYTES[kind]) + held
