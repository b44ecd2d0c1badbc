"""TIFF as a tree of directories: what EXIF is written in, and pages that were encoded one by one are joined by.

Source: TIFF 6.0, section 2; BigTIFF for what is beyond 4 GB.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..errors import ImageError

# Bytes of one value, and of what is turned round in another byte order, by type.
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WORD_BYTES = {**_VALUE_BYTES, 5: 4, 10: 4}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_DIRECTORIES = (0x8769, 0x8825, 0xA005)  # EXIF, GPS, interoperability
_DATA = {0x0111: 0x0117, 0x0144: 0x0145}  # offsets of strips and tiles, and the tags of their lengths
_MOST_TAGS, _MOST_DEPTH = 4096, 4
_CLASSIC_END = 2**32 - 2**16


@dataclass
class Directory:
    """One directory of a TIFF.

    Attributes:
        tags: type and bytes of each value, little-endian, by tag; without those that are offsets.
        below: directories that a tag leads to.
        data: strips or tiles, by the tag of their offsets.
    """

    tags: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    below: dict[int, "Directory"] = field(default_factory=dict)
    data: dict[int, list[bytes]] = field(default_factory=dict)

    def put(self, tag: int, kind: Literal["H", "I", "II"], *values: int) -> None:
        """Set a tag to 16-bit or 32-bit numbers, or to one fraction ("II")."""
        self.tags[tag] = ({"H": 3, "I": 4, "II": 5}[kind], struct.pack(f"<{len(values)}{kind[0]}", *values))


def read_directories(encoded: bytes, *, with_data: bool = False) -> Iterator[Directory]:
    """The pages of a TIFF, or the directories of an EXIF block, one after another.

    Args:
        encoded: the file.
        with_data: strips and tiles too.

    Raises:
        ImageError: it is no TIFF, or is damaged.
    """
    try:
        reader = _Reader(encoded, with_data)
        offset, seen = reader.first, set[int]()
        while offset and offset not in seen:
            seen.add(offset)
            directory, offset = reader.read(offset, _MOST_DEPTH)
            yield directory
    except (struct.error, IndexError, KeyError, ValueError, OverflowError):
        raise ImageError("the TIFF structure is damaged") from None


class _Reader:
    def __init__(self, encoded: bytes, with_data: bool) -> None:
        self.encoded, self.with_data = encoded, with_data
        self.order = {b"II": "<", b"MM": ">"}[encoded[:2]]
        self.is_big = self.unpack("H", 2)[0] == 43
        self.first: int = self.unpack("Q", 8)[0] if self.is_big else self.unpack("I", 4)[0]

    def unpack(self, form: str, offset: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + form, self.encoded, offset)

    def read(self, offset: int, depth: int) -> tuple[Directory, int]:
        """The directory at `offset`, and the offset of the next."""
        head, entry, pointer = ("Q", 20, "Q") if self.is_big else ("H", 12, "I")
        (count,) = self.unpack(head, offset)
        if count > _MOST_TAGS:
            raise ValueError(count)
        start = offset + struct.calcsize(head)
        directory = Directory()
        for place in range(start, start + count * entry, entry):
            self._read_entry(directory, place, depth)
        if self.with_data:
            self._read_data(directory)
        return directory, self.unpack(pointer, start + count * entry)[0]

    def _read_entry(self, directory: Directory, place: int, depth: int) -> None:
        tag, kind = self.unpack("HH", place)
        (count,) = self.unpack("Q" if self.is_big else "I", place + 4)
        if kind not in _VALUE_BYTES:
            return
        size, room, at = count * _VALUE_BYTES[kind], 8 if self.is_big else 4, place + (12 if self.is_big else 8)
        if size > room:
            (at,) = self.unpack("Q" if self.is_big else "I", at)
        if at + size > len(self.encoded):
            if self.with_data:
                raise ValueError(size)
            return  # common in EXIF that was edited by programs that did not know all of it
        value = self.encoded[at : at + size]
        if self.order == ">":
            value = _turn_round(value, _WORD_BYTES[kind])
        if tag in _DIRECTORIES and depth:
            directory.below[tag] = self.read(to_numbers(kind, value)[0], depth - 1)[0]
        else:
            directory.tags[tag] = (kind, value)

    def _read_data(self, directory: Directory) -> None:
        for tag, lengths in _DATA.items():
            if tag in directory.tags:
                places = zip(to_numbers(*directory.tags.pop(tag)), to_numbers(*directory.tags[lengths]), strict=True)
                directory.data[tag] = [self.encoded[start : start + length] for start, length in places]


def to_numbers(kind: int, value: bytes) -> tuple[int, ...]:
    """The whole numbers that a tag holds.

    Raises:
        KeyError: it holds something else.
    """
    return struct.unpack(f"<{len(value) // _VALUE_BYTES[kind]}{_INTEGERS[kind]}", value)


def _turn_round(value: bytes, width: int) -> bytes:
    return b"".join(value[start : start + width][::-1] for start in range(0, len(value), width))


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
        return struct.pack(f"<HH{self.word}", tag, kind, len(value) // _VALUE_BYTES[kind]) + held
