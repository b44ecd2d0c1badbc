"""Photographs, damaged: small sound ones of every kind that is read, and what is made of their bytes."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from tests.fuzz.mutations import cut, flip_bits, lengthen, pick

EXTREMES = [0, 1, 2, 7, 255, 256, 4095, 30_000, 60_000, 65_535, 2**24, 2**28, 2**31 - 1, 2**31, 2**32 - 1]
CHUNKS = [b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"zTXt", b"iTXt", b"acTL", b"fcTL", b"fdAT"]


def draw(seed, side=48):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return small.resize((side, side + 8), Image.Resampling.BICUBIC)


def encode_pictures():
    """Sound files by a name."""
    image, exif = draw(0), Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    roomy = Image.Exif()
    roomy[0x010E] = "a" * 60_000  # in whose place there may be many tags
    frames = {"save_all": True, "append_images": [draw(1), draw(2)], "duration": 40}
    kinds = {
        "png": ("PNG", {"exif": exif}),
        "palette": ("PNG", {}),
        "apng": ("PNG", frames),
        "jpeg": ("JPEG", {"exif": exif}),
        "roomy jpeg": ("JPEG", {"exif": roomy}),
        "roomy webp": ("WEBP", {"exif": roomy}),
        "progressive": ("JPEG", {"progressive": True, "quality": 80}),
        "webp": ("WEBP", {"exif": exif}),
        "lossless": ("WEBP", {"lossless": True}),
        "animated": ("WEBP", frames),
        "gif": ("GIF", frames),
        "tiff": ("TIFF", {"exif": exif}),
        "deflate": ("TIFF", {"compression": "tiff_deflate"}),
        "lzw": ("TIFF", {"compression": "tiff_lzw"}),
        "jpeg in tiff": ("TIFF", {"compression": "jpeg"}),
        "pages": ("TIFF", {"save_all": True, "append_images": [draw(1)]}),
        "avif": ("AVIF", {}),
        "avis": ("AVIF", frames),
        "bmp": ("BMP", {}),
    }
    files = {}
    for name, (form, options) in kinds.items():
        stream = io.BytesIO()
        (image.quantize(16) if name == "palette" else image).save(stream, form, **options)
        files[name] = stream.getvalue()
    return files | {"many pages": repeat_page(files["tiff"], 100)}


def repeat_page(data, count):
    """A TIFF of so many pages, all of them of the same pixels, each directory leading to a copy of itself."""
    order = "<" if data[:2] == b"II" else ">"
    first = struct.unpack_from(f"{order}I", data, 4)[0]
    length = 2 + 12 * struct.unpack_from(f"{order}H", data, first)[0]
    for number in range(1, count):
        data += bytes(len(data) % 2)
        link = (first if number == 1 else len(data) - length - 4) + length
        start = len(data)
        data = data[:link] + struct.pack(f"{order}I", start) + data[link + 4 :]
        data += data[first : first + length] + bytes(4)
    return data


def put_number(data, rng):
    """A number among the first bytes, or anywhere, that is far from what it was."""
    form, width = pick(rng, [("H", 2), ("I", 4)])
    end = min(len(data), int(pick(rng, [64, 512, 10**9]))) - width
    place = int(rng.integers(max(1, end)))
    value = struct.pack(pick(rng, "<>") + form, pick(rng, EXTREMES) % 256**width)
    return data[:place] + value + data[place + width :]


def blank_block(data, rng):
    """A block of zeros, as a disk leaves it."""
    place, length = int(rng.integers(len(data))), int(rng.integers(1, 600))
    return data[:place] + bytes(min(length, len(data) - place)) + data[place + length :]


def repeat_block(data, rng):
    start, place = (int(rng.integers(len(data))) for _ in range(2))
    return data[:place] + data[start : start + int(rng.integers(1, 400))] * int(rng.integers(1, 20)) + data[place:]


def lose_block(data, rng):
    place = int(rng.integers(len(data)))
    return data[:place] + data[place + int(rng.integers(1, 200)) :]


def edit_chunks(data, rng):
    """A PNG whose chunks are odd and whose checksums are right, so that their content is looked at."""
    if not data.startswith(b"\x89PNG"):
        return put_number(data, rng)
    chunks, place = [], 8
    while place + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        chunks.append((name, data[place + 8 : place + 8 + length]))
        place += length + 12
    if not chunks:  # an earlier damage left nothing of it
        return put_number(data, rng)
    index, how = int(rng.integers(len(chunks))), int(rng.integers(6))
    name, content = chunks[index]
    if how == 0:
        del chunks[index]
    elif how == 1:
        chunks[index] = pick(rng, CHUNKS), content
    elif how == 2 and content:
        chunks[index] = name, put_number(content.ljust(8, b"\0"), rng)
    elif how == 3:
        chunks.insert(index, (pick(rng, CHUNKS), b"a\0\0" + zlib.compress(bytes(int(pick(rng, [10, 10**5, 10**7]))))))
    elif how == 4:
        chunks.insert(index, pick(rng, chunks))
    else:
        chunks[0] = b"IHDR", put_number(chunks[0][1], rng)
    return data[:8] + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def edit_tags(data, rng):
    """A TIFF, or the EXIF of another file, with one entry of a directory changed."""
    start = max(data.find(b"II*\0"), data.find(b"MM\0*"))
    if start < 0 or start + 8 > len(data):
        return put_number(data, rng)
    order = "<" if data[start : start + 2] == b"II" else ">"
    first = start + struct.unpack_from(f"{order}I", data, start + 4)[0]
    if first + 2 > len(data):
        return put_number(data, rng)
    (count,) = struct.unpack_from(f"{order}H", data, first)
    entry = first + 2 + 12 * int(rng.integers(max(1, count)))
    offset, form = pick(rng, [(0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "I"), (8, "H")])
    value = pick(rng, [*EXTREMES, 3, 4, 5, 250, 277, 32773, 50_000]) % 256 ** struct.calcsize(form)
    place = entry + offset
    return data[:place] + struct.pack(order + form, value) + data[place + struct.calcsize(form) :]


def lead_in_circles(data, rng):
    """A TIFF, or the EXIF of another file, with entries of a directory that lead to itself, or to where another is."""
    start = max(data.find(b"II*\0"), data.find(b"MM\0*"))
    if start < 0 or start + 8 > len(data):
        return put_number(data, rng)
    order = "<" if data[start : start + 2] == b"II" else ">"
    (offset,) = struct.unpack_from(f"{order}I", data, start + 4)
    count = int(pick(rng, [1, 2, 5, 30, 4000]))
    targets = [pick(rng, [offset, offset, 8, 0, int(rng.integers(len(data)))]) for _ in range(min(count, 30))]
    tags = [pick(rng, [0x8769, 0x8769, 0x8825, 0xA005]) for _ in targets]
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, at) for tag, at in zip(tags, targets, strict=True))
    block = struct.pack(f"{order}H", count) + (entries * (count // 30 + 1))[: 12 * count] + bytes(4)
    return data[: start + offset] + block + data[start + offset + len(block) :]


def flip_head(data, rng):
    return flip_bits(data, rng, 0, min(len(data), 64))


DAMAGES = [
    flip_bits, flip_head, cut, lengthen, put_number, put_number, blank_block, repeat_block, lose_block, edit_chunks,
    edit_tags, lead_in_circles,
]  # fmt: skip


def mutate_picture(files, rng):
    """Damage one of the files in one way, or in several after each other."""
    name = pick(rng, sorted(files))
    data, done = files[name], []
    for _ in range(int(pick(rng, [1, 1, 1, 2, 3]))):
        damage = pick(rng, DAMAGES)
        if data:
            data = damage(data, rng)
            done.append(damage.__name__)
    return f"{name} {'+'.join(done)}", data
