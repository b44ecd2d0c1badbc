"""Comments of JPEG and GIF, as the chunk of text that a PNG has for them, and back.

Source: ISO/IEC 10918-1, B.2.4.5; GIF89a, section 24; PNG, third edition, 11.3.3.
"""

import struct
from collections.abc import Iterator, Sequence

_KEY = b"Comment\0"
_PLAIN = b"\0\0\0\0"  # of iTXt: not compressed, and without a language or another key

Chunk = tuple[bytes, bytes]


def read_comments(encoded: bytes) -> tuple[Chunk, ...]:
    """The comments of a JPEG or a GIF, those before its picture; nothing of another file, or of a damaged one."""
    read = {b"\xff\xd8": _read_jpeg, b"GI": _read_gif}.get(encoded[:2])
    if read is None:
        return ()
    comments = []
    try:
        comments += list(read(encoded))
    except (struct.error, IndexError):
        return ()  # the decoder says what there is to say about it
    return tuple(_to_chunk(comment.replace(b"\0", b"")) for comment in comments if comment.strip(b"\0"))


def _to_chunk(comment: bytes) -> Chunk:
    try:
        comment.decode("utf-8")
    except UnicodeDecodeError:
        return b"tEXt", _KEY + comment  # Latin-1, in which everything means something
    return (b"tEXt", _KEY + comment) if comment.isascii() else (b"iTXt", _KEY + _PLAIN + comment)


def texts_to_comments(texts: Sequence[Chunk]) -> list[bytes]:
    """What is a comment among a PNG's chunks of text, unless it is compressed."""
    heads = {b"tEXt": _KEY, b"iTXt": _KEY + _PLAIN}
    return [data.removeprefix(heads[name]) for name, data in texts if name in heads and data.startswith(heads[name])]


def _read_jpeg(encoded: bytes) -> Iterator[bytes]:
    place = 2
    while encoded[place] == 0xFF and encoded[place + 1] != 0xDA:
        marker, length = struct.unpack_from(">BH", encoded, place + 1)
        if marker == 0xFE:
            yield encoded[place + 4 : place + 2 + length]
        place += 2 + length


def _read_gif(encoded: bytes) -> Iterator[bytes]:
    flags = encoded[10]
    place = 13 + (3 * 2 ** (1 + (flags & 7)) if flags & 0x80 else 0)
    while encoded[place] == 0x21:
        label, place, parts = encoded[place + 1], place + 2, []
        while encoded[place]:
            parts.append(encoded[place + 1 : place + 1 + encoded[place]])
            place += 1 + encoded[place]
        place += 1
        if label == 0xFE:
            yield b"".join(parts)
