"""TIFF as a tree of directories, read and changed: what EXIF is written in, and what pages are told apart by.

Source: TIFF 6.0, section 2; BigTIFF for what is beyond 4 GB.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from ..errors import ImageError

# Bytes of one value, and of what is turned round in another byte order, by type.
VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WORD_BYTES = {**VALUE_BYTES, 5: 4, 10: 4}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_DIRECTORIES = (0x8769, 0x8825, 0xA005)  # EXIF, GPS, interoperability
_DATA = {0x0111: 0x0117, 0x0144: 0x0145}  # offsets of strips and tiles, and the tags of their lengths
# Of one directory, and of a whole file: ten thousand pages have so many.
_MOST_TAGS, _MOST_TAGS_IN_ALL = 4096, 2**18
_MOST_DEPTH = 4
_LONGEST_BLOCK = 2**20  # of EXIF: 65,535 tags
_SPARE_BYTES = 2**16  # by which values may be longer than the file, since two tags may share one
# Strips and tiles, XMP, IPTC, Photoshop's and the profile: long, shared by pages at times, and read by libvips.
_READ_ELSEWHERE = (0x0111, 0x0117, 0x0144, 0x0145, 0x02BC, 0x83BB, 0x8649, 0x8773)
_DAMAGE = (struct.error, IndexError, KeyError, ValueError, OverflowError)


class _TooMuchError(Exception):
    """More tags or bytes than a sound file has."""


@dataclass
class Directory:
    """One directory of a TIFF.

    Attributes:
        tags: type and bytes of each value, little-endian, by tag; without those that are offsets.
        below: directories that a tag leads to.
        data: strips or tiles, by the tag of their offsets.
        place: where it begins in the file that it was read from, and where there the offset of the next is.
    """

    tags: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    below: dict[int, "Directory"] = field(default_factory=dict)
    data: dict[int, list[bytes]] = field(default_factory=dict)
    place: tuple[int, int] = field(default=(0, 0), compare=False)

    def number(self, tag: int) -> int:
        """The first whole number that a tag holds; -1 if there is none."""
        try:
            return to_numbers(*self.tags[tag])[0]
        except (KeyError, IndexError):
            return -1

    def put(self, tag: int, kind: Literal["H", "I", "II"], *values: int) -> None:
        """Set a tag to 16-bit or 32-bit numbers, or to one fraction ("II")."""
        self.tags[tag] = ({"H": 3, "I": 4, "II": 5}[kind], struct.pack(f"<{len(values)}{kind[0]}", *values))


def read_directories(encoded: bytes, *, with_data: bool = False) -> Iterator[Directory]:
    """The pages of a TIFF, or the directories of an EXIF block, one after another.

    Directories may point anywhere, at themselves too: each is read once for a page, and all of them within a number of
    tags and bytes that no sound file reaches, so that time and memory grow with the file and no faster.

    Args:
        encoded: the file.
        with_data: strips and tiles too, and all values of a page; else those alone that say something about it.

    Raises:
        ImageError: it is no TIFF, or is damaged; what lies below a page and is damaged is left out instead.
    """
    try:
        reader = _Reader(encoded, with_data)
        offset, seen = reader.first, set[int]()
        while offset and offset not in seen:
            seen.add(offset)
            reader.below = {offset}
            directory = reader.read(offset, _MOST_DEPTH)
            yield directory
            offset = reader.follow(directory.place[1])
    except (*_DAMAGE, _TooMuchError):
        raise ImageError("the TIFF structure is damaged") from None


def find_directory(encoded: bytes, page: Directory) -> int:
    """The number of one of a TIFF's pages among all of its directories.

    Args:
        encoded: the file.
        page: out of `read_directories` of the same file; of another it is the first.

    Raises:
        ImageError: it is damaged.
    """
    if not page.place[0]:
        return 0
    directories = enumerate(read_directories(encoded))
    return next((number for number, found in directories if found.place == page.place), 0)


def find_circles(encoded: bytes) -> list[int]:
    """Where in a file there are EXIF blocks whose directories point at each other, which no sound one's do.

    Raises:
        ImageError: there are more blocks than it takes to tell.
    """
    found, tags_left, view = [], _MOST_TAGS_IN_ALL, memoryview(encoded)
    for magic, order in ((b"II*\0", "<"), (b"MM\0*", ">")):
        start = encoded.find(magic, 1)  # a TIFF itself begins with it
        while start >= 0:
            is_circular, tags = _follow_pointers(view[start : start + _LONGEST_BLOCK], order)
            found += [start] if is_circular else []
            tags_left -= 1 + tags
            if tags_left < 0:
                raise ImageError("the EXIF structure is damaged")
            start = encoded.find(magic, start + 1)
    return found


def _follow_pointers(block: memoryview, order: str) -> tuple[bool, int]:
    """Whether directories of a block point at each other, or have far too many tags together; and tags looked at.

    Pointers are followed as libexif does it, whatever their type and number are.
    """
    seen: list[int] = [*struct.unpack_from(f"{order}I", block, 4)] if len(block) >= 8 else []
    tags = 0
    for offset in seen:
        if offset + 2 > len(block):
            continue
        count = min(struct.unpack_from(f"{order}H", block, offset)[0], (len(block) - offset - 2) // 12)
        tags += count
        for place in range(offset + 2, offset + 2 + 12 * count, 12):
            if struct.unpack_from(f"{order}H", block, place)[0] in _DIRECTORIES:
                seen += struct.unpack_from(f"{order}I", block, place + 8)
        if len(set(seen)) < len(seen) or (len(seen) > 1 and tags > _MOST_TAGS):
            return True, tags
    return False, tags


def cut_page(encoded: bytearray, page: Directory) -> None:
    """Make one of its pages the only one of a TIFF, in place; nothing is moved, so another can be made it afterwards.

    Args:
        encoded: the file.
        page: out of `read_directories` of the same file.
    """
    reader = _Reader(encoded, with_data=False)
    word = f"{reader.order}{reader.pointer}"
    struct.pack_into(word, encoded, struct.calcsize(word), page.place[0])
    struct.pack_into(word, encoded, page.place[1], 0)


def put_number(encoded: bytearray, page: Directory, tag: int, value: int) -> None:
    """Set a tag of a page that holds one number of 16 or 32 bits to another, in place.

    Args:
        encoded: the file.
        page: out of `read_directories` of the same file.
        tag: which; nothing is done if the page has no such number.
        value: the number, of 16 bits.
    """
    reader = _Reader(encoded, with_data=False)
    head, entry = (8, 20) if reader.is_big else (2, 12)
    for place in range(page.place[0] + head, page.place[1], entry):
        found, kind = reader.unpack("HH", place)
        if found == tag and kind in (3, 4):
            struct.pack_into(f"{reader.order}{_INTEGERS[kind]}", encoded, place + (12 if reader.is_big else 8), value)


class _Reader:
    def __init__(self, encoded: bytes | bytearray, with_data: bool) -> None:
        self.encoded, self.with_data = encoded, with_data
        self.order = {b"II": "<", b"MM": ">"}[bytes(encoded[:2])]
        self.is_big = self.unpack("H", 2)[0] == 43
        self.pointer = "Q" if self.is_big else "I"
        self.first = self.follow(struct.calcsize(f"={self.pointer}"))
        self.below = set[int]()  # where the directories of a page are that were read
        self.tags_left, self.bytes_left = _MOST_TAGS_IN_ALL, len(encoded) + _SPARE_BYTES

    def unpack(self, form: str, offset: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + form, self.encoded, offset)

    def follow(self, offset: int) -> int:
        """The offset that is held at this one."""
        return self.unpack(self.pointer, offset)[0]

    def read(self, offset: int, depth: int) -> Directory:
        """The directory at `offset`, with what is sound of those below it."""
        head, entry = ("Q", 20) if self.is_big else ("H", 12)
        (count,) = self.unpack(head, offset)
        if count > _MOST_TAGS:
            raise ValueError(count)
        start = offset + struct.calcsize(head)
        directory = Directory(place=(offset, start + count * entry))
        self._spend(1 + count, 0)
        for place in range(start, start + count * entry, entry):
            self._read_entry(directory, place, depth)
        if self.with_data:
            self._read_data(directory)
        self.follow(directory.place[1])  # which may be beyond the end
        return directory

    def _spend(self, tags: int, size: int) -> None:
        self.tags_left -= tags
        self.bytes_left -= size
        if min(self.tags_left, self.bytes_left) < 0:
            raise _TooMuchError

    def _read_entry(self, directory: Directory, place: int, depth: int) -> None:
        tag, kind = self.unpack("HH", place)
        (count,) = self.unpack(self.pointer, place + 4)
        if kind not in VALUE_BYTES or (tag in _READ_ELSEWHERE and not self.with_data):
            return
        size, room, at = count * VALUE_BYTES[kind], 8 if self.is_big else 4, place + (12 if self.is_big else 8)
        if size > room:
            at = self.follow(at)
        if at + size > len(self.encoded):
            if self.with_data:
                raise ValueError(size)
            return  # common in EXIF that was edited by programs that did not know all of it
        self._spend(0, size)
        value = bytes(self.encoded[at : at + size])
        if self.order == ">":
            value = _turn_round(value, _WORD_BYTES[kind])
        if tag in _DIRECTORIES:
            self._read_below(directory, tag, (kind, value), depth)
        else:
            directory.tags[tag] = (kind, value)

    def _read_below(self, directory: Directory, tag: int, pointer: tuple[int, bytes], depth: int) -> None:
        try:
            offset = to_numbers(*pointer)[0]
            if depth and offset not in self.below:
                self.below.add(offset)
                directory.below[tag] = self.read(offset, depth - 1)
        except _DAMAGE:
            return  # nobody is to lose a page for what was said about it

    def _read_data(self, directory: Directory) -> None:
        for tag, lengths in _DATA.items():
            if tag in directory.tags:
                places = zip(to_numbers(*directory.tags.pop(tag)), to_numbers(*directory.tags[lengths]), strict=True)
                directory.data[tag] = [bytes(self.encoded[start : start + length]) for start, length in places]


def to_numbers(kind: int, value: bytes) -> tuple[int, ...]:
    """The whole numbers that a tag holds.

    Raises:
        KeyError: it holds something else.
    """
    return struct.unpack(f"<{len(value) // VALUE_BYTES[kind]}{_INTEGERS[kind]}", value)


def _turn_round(value: bytes, width: int) -> bytes:
    return (
        value if width == 1 else b"".join(value[start : start + width][::-1] for start in range(0, len(value), width))
    )
