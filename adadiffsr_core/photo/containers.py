"""The boxes that encoded pictures come in: stills joined to animations and pages, and what is said about them put in.

Pictures are encoded one by one by the same encoder, and joined without decoding, so that no more than one is in memory
as pixels, and a frame is what a still would be.

Source: PNG, third edition (acTL, fcTL, fdAT, eXIf); WebP container specification; EXIF 3.0, section 4.5.4.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .comments import Chunk
from .tiff_tree import Directory, read_directories
from .tiff_writing import write_directories

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEAD = len(_PNG) + 12 + 13  # with the chunk that says sizes and kind
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_COLOURS = (b"cICP", b"mDCV", b"cLLI", b"gAMA", b"cHRM", b"sRGB")
_XMP_KEY = b"XML:com.adobe.xmp\0"
_WEBP_ALPHA, _WEBP_ANIMATED, _WEBP_FLAGS = 0x10, 0x02, {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}
_LONGEST_DELAY_MS = 65535  # of PNG; no viewer waits longer


@dataclass(frozen=True, kw_only=True)
class Motion:
    """How frames follow each other.

    Attributes:
        delays_ms: how long each frame is shown.
        plays: times the whole is shown; 0 is for ever.
    """

    delays_ms: tuple[int, ...]
    plays: int = 0


def read_png_chunks(encoded: bytes) -> Iterator[Chunk]:
    """Names and contents of a PNG's chunks, as far as it is whole; nothing of another file."""
    place = len(_PNG) if encoded.startswith(_PNG) else len(encoded)
    while place + 12 <= len(encoded):
        length, name = struct.unpack_from(">I4s", encoded, place)
        yield name, encoded[place + 8 : place + 8 + length]
        place += length + 12


def read_png_texts(encoded: bytes) -> tuple[Chunk, ...]:
    """A PNG's chunks of text, but for XMP."""
    return tuple(
        chunk for chunk in read_png_chunks(encoded) if chunk[0] in _PNG_TEXTS and not chunk[1].startswith(_XMP_KEY)
    )


def read_png_colours(encoded: bytes) -> tuple[Chunk, ...]:
    """A PNG's chunks that say what its levels mean, but for the profile; each once, as it may be there."""
    return tuple({name: (name, data) for name, data in read_png_chunks(encoded) if name in _PNG_COLOURS}.values())


def is_animated_png(encoded: bytes) -> bool:
    """Whether a PNG has frames."""
    for name, _ in read_png_chunks(encoded):
        if name in (b"acTL", b"IDAT"):
            return name == b"acTL"
    return False


def write_png(chunks: Iterable[Chunk]) -> bytes:
    """A PNG of these chunks."""
    return _PNG + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


@dataclass(frozen=True)
class Insertion:
    """What is put into an encoded picture near its beginning.

    Attributes:
        place: where.
        resume: from where the encoded picture goes on; what is between is replaced.
        data: what is put there.
    """

    place: int
    resume: int
    data: bytes

    def insert(self, encoded: bytes) -> bytes:
        """The whole."""
        return encoded[: self.place] + self.data + encoded[self.resume :] if self.data else encoded


def png_insertion(exif: Directory | None, texts: Sequence[Chunk] = (), colours: Sequence[Chunk] = ()) -> Insertion:
    """EXIF, chunks of text, and those that say what a PNG's levels mean, behind its header."""
    said = [] if exif is None else [(b"eXIf", write_directories([exif]))]
    return Insertion(_PNG_HEAD, _PNG_HEAD, write_png([*colours, *said, *texts])[len(_PNG) :])


def join_png(stills: Sequence[bytes], motion: Motion) -> bytes:
    """An animated PNG of PNGs of one size and kind."""
    first = list(read_png_chunks(stills[0]))
    place = next(place for place, (name, _) in enumerate(first) if name == b"IDAT")
    control = (b"acTL", struct.pack(">II", len(stills), motion.plays))
    width_and_height = first[0][1][:8]
    frames: list[Chunk] = []
    count = 0
    for number, (still, delay) in enumerate(zip(stills, motion.delays_ms, strict=True)):
        timing = struct.pack(">IIHHBB", 0, 0, min(delay, _LONGEST_DELAY_MS), 1000, 0, 0)
        frames.append((b"fcTL", struct.pack(">I", count) + width_and_height + timing))
        count += 1
        for data in (data for name, data in read_png_chunks(still) if name == b"IDAT"):
            frames.append((b"IDAT", data) if number == 0 else (b"fdAT", struct.pack(">I", count) + data))
            count += number > 0
    return write_png([first[0], control, *first[1:place], *frames, (b"IEND", b"")])


def _read_riff(data: bytes) -> Iterator[Chunk]:
    place = 0
    while place + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, place)
        yield name, data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


def _write_riff(chunks: Iterable[Chunk]) -> bytes:
    return b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)


def _write_webp(chunks: Iterable[Chunk]) -> bytes:
    body = b"WEBP" + _write_riff(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def is_lossless_webp(encoded: bytes) -> bool:
    """Whether a WebP, or the first frame of one, was encoded without loss."""
    if encoded[:4] != b"RIFF" or encoded[8:12] != b"WEBP":
        return False
    for name, data in _read_riff(encoded[12:]):
        names = [part for part, _ in _read_riff(data[16:])] if name == b"ANMF" else [name]
        if b"VP8L" in names or b"VP8 " in names:
            return b"VP8L" in names
    return False


def _three(number: int) -> bytes:
    return struct.pack("<I", number)[:3]


def _extend_webp(chunks: Sequence[Chunk], size: tuple[int, int], flags: int) -> bytes:
    """A WebP whose parts are told of in front; `chunks` in the order of the specification."""
    for name, _ in chunks:
        flags |= _WEBP_FLAGS.get(name, 0)
    head = struct.pack("<I", flags) + _three(size[1] - 1) + _three(size[0] - 1)
    return _write_webp([(b"VP8X", head), *chunks])


def _has_webp_alpha(chunks: Sequence[Chunk]) -> bool:
    return any(
        name == b"ALPH" or (name == b"VP8L" and bool(data[4] & 0x10)) or (name == b"VP8X" and bool(data[0] & 0x10))
        for name, data in chunks
    )


def embed_in_webp(encoded: bytes, exif: Directory | None, size: tuple[int, int]) -> bytes:
    """A WebP still of (height, width) px with EXIF."""
    if exif is None:
        return encoded
    chunks = list(_read_riff(encoded[12:]))
    flags = _WEBP_ALPHA if _has_webp_alpha(chunks) else 0
    kept = [chunk for chunk in chunks if chunk[0] not in (b"VP8X", b"XMP ")]
    xmp = [chunk for chunk in chunks if chunk[0] == b"XMP "]
    return _extend_webp([*kept, (b"EXIF", write_directories([exif])), *xmp], size, flags)


def join_webp(stills: Sequence[bytes], motion: Motion, size: tuple[int, int]) -> bytes:
    """An animated WebP of stills of (height, width) px; the first says what is said about all."""
    first = list(_read_riff(stills[0][12:]))
    frames, flags = [], _WEBP_ANIMATED
    for still, delay in zip(stills, motion.delays_ms, strict=True):
        chunks = list(_read_riff(still[12:]))
        flags |= _WEBP_ALPHA if _has_webp_alpha(chunks) else 0
        picture = _write_riff(chunk for chunk in chunks if chunk[0] in (b"ALPH", b"VP8 ", b"VP8L"))
        # 2: the frame replaces what was there, and is not laid over it.
        head = _three(0) + _three(0) + _three(size[1] - 1) + _three(size[0] - 1) + _three(delay) + b"\x02"
        frames.append((b"ANMF", head + picture))
    before = [chunk for chunk in first if chunk[0] == b"ICCP"]
    after = [chunk for chunk in first if chunk[0] in (b"EXIF", b"XMP ")]
    plays = (b"ANIM", struct.pack("<IH", 0, min(motion.plays, 65535)))
    return _extend_webp([*before, plays, *frames, *after], size, flags)


def jpeg_insertion(
    head: bytes, exif: Directory | None, dpi: tuple[float, float], comments: Sequence[bytes] = ()
) -> Insertion:
    """A JPEG's resolution and comments, and its EXIF, unless they are longer than a JPEG's segments.

    Args:
        head: the first bytes of the JPEG, some twenty or more.
        exif: what is said about the picture.
        dpi: dots per inch, across and down.
        comments: texts.
    """
    density = (max(1, min(65535, round(dots))) for dots in dpi)
    start = _segment(0xE0, b"JFIF\0" + struct.pack(">BBBHHBB", 1, 1, 1, *density, 0, 0))
    block = b"" if exif is None else b"Exif\0\0" + write_directories([exif])
    said = _segment(0xE1, block) if 0 < len(block) <= 65533 else b""
    said += b"".join(_segment(0xFE, comment) for comment in comments if len(comment) <= 65533)
    is_jfif = head[2:4] == b"\xff\xe0"
    return Insertion(2, 4 + struct.unpack_from(">H", head, 4)[0] if is_jfif else 2, start + said)


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def embed_in_tiff(encoded: bytes, exif: Directory | None) -> bytes:
    """A TIFF of one page with EXIF."""
    if exif is None:
        return encoded
    (page,) = read_directories(encoded, with_data=True)
    page.tags = exif.tags | page.tags  # what the page says already stays
    page.below |= exif.below
    return write_directories([page])


def join_tiff(stills: Sequence[bytes]) -> bytes:
    """A TIFF of many pages, of any sizes and kinds."""
    return write_directories([page for still in stills for page in read_directories(still, with_data=True)])
