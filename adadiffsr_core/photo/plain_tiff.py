"""The beginning of an uncompressed BigTIFF whose rows follow one another: what libvips reads without mapping it.

Source: TIFF 6.0; BigTIFF (AWare Systems, 2004).
"""

import struct
import sys

from .value import LevelKind

_STRIP_ROWS = 64
_SHORT, _LONG, _LONG8 = 3, 4, 16
_ENTRY, _FIRST = 20, 16  # bytes of a tag; where the directory begins


def plain_tiff_head(height: int, width: int, kind: LevelKind) -> bytes:
    """What comes before rows of levels in this machine's byte order.

    Args:
        height, width: of the picture, px.
        kind: of its levels.
    """
    order = "<" if sys.byteorder == "little" else ">"
    row = width * kind.channels * kind.bit_depth // 8
    tops = range(0, height, _STRIP_ROWS)
    tags = 10
    lists = _FIRST + 8 + tags * _ENTRY + 8
    data = lists + 16 * len(tops)
    offsets = [data + top * row for top in tops]
    counts = [(min(top + _STRIP_ROWS, height) - top) * row for top in tops]

    def entry(tag: int, kind_of: int, *values: int) -> bytes:
        code = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}[kind_of]
        packed = struct.pack(f"{order}{len(values)}{code}", *values)
        return struct.pack(f"{order}HHQ", tag, kind_of, len(values)) + packed.ljust(8, b"\0")

    def entry_elsewhere(tag: int, values: list[int], place: int) -> bytes:
        value = values[0] if len(values) == 1 else place
        return struct.pack(f"{order}HHQQ", tag, _LONG8, len(values), value)

    directory = b"".join(
        (
            entry(256, _LONG, width),
            entry(257, _LONG, height),
            entry(258, _SHORT, *[kind.bit_depth] * kind.channels),
            entry(259, _SHORT, 1),  # not compressed
            entry(262, _SHORT, 1 if kind.is_grey else 2),
            entry_elsewhere(273, offsets, lists),
            entry(277, _SHORT, kind.channels),
            entry(278, _LONG, _STRIP_ROWS),
            entry_elsewhere(279, counts, lists + 8 * len(tops)),
            entry(284, _SHORT, 1),  # channels beside each other
        )
    )
    magic = b"II" if order == "<" else b"MM"
    head = magic + struct.pack(f"{order}HHHQQ", 43, 8, 0, _FIRST, tags) + directory + struct.pack(f"{order}Q", 0)
    return head + struct.pack(f"{order}{2 * len(tops)}Q", *offsets, *counts)
