"""What a picture's file says of itself, read without a decoder."""

from adadiffsr_core.photo.containers import read_png_chunks, write_png

_JPEG, _PNG, _FIRST = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", 2**16
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # marks of a JPEG that sizes follow
_PIXELS = (0xDA, 0xD9)  # and those behind which none is sought
_WEBP_ALPHA, _WEBP_PROFILE = 0x10, 0x20


def find_losses(content: bytes) -> list[str]:
    """What of a PNG, JPEG or WebP is lost where only 8 bits of red, green and blue are read; in words.

    Args:
        content: of the file.
    """
    first = content[:_FIRST]
    if first.startswith(_PNG) and len(first) > 25:
        head, bits, colours = first.partition(b"IDAT")[0], first[24], first[25]
        found = {
            "transparency": colours in (4, 6) or b"tRNS" in head,
            "colour profile": b"iCCP" in head,
            "16 bits": bits == 16,
        }
    elif first[8:16] == b"WEBPVP8X" and len(first) > 20:
        found = {"transparency": bool(first[20] & _WEBP_ALPHA), "colour profile": bool(first[20] & _WEBP_PROFILE)}
    else:
        found = {"colour profile": first.startswith(_JPEG) and b"ICC_PROFILE\0" in first}
    return [name for name, is_there in found.items() if is_there]


def is_cut_short(content: bytes) -> bool:
    """Whether the end of a PNG, JPEG, WebP or BMP is missing, which ComfyUI's decoder fills with what it likes.

    Args:
        content: of the file.
    """
    if content.startswith(_PNG):
        return b"IEND" not in content
    if content.startswith(_JPEG):
        return b"\xff\xd9" not in content
    if content.startswith(b"RIFF") and len(content) >= 8:
        return len(content) < 8 + int.from_bytes(content[4:8], "little")
    return content.startswith(b"BM") and len(content) < int.from_bytes(content[2:6].ljust(4, b"\xff"), "little")


def find_fault(content: bytes) -> str:
    """Why a file is not worth sending, and what to do, in words; empty where nothing is seen.

    Args:
        content: of the file.
    """
    if not content:
        return "the file is empty; get it again"
    if not content.startswith((_PNG, _JPEG, b"BM")) and (content[:4], content[8:12]) != (b"RIFF", b"WEBP"):
        return "the file is no PNG, JPEG, WebP or BMP, whatever its name says; save it as one"
    return "the file is cut short; get it again" if is_cut_short(content) else ""


def is_whole_png(content: bytes) -> bool:
    """Whether a PNG is there from its first byte to its last, each part with the sum that it was written with.

    Args:
        content: of the file.
    """
    chunks = list(read_png_chunks(content))
    names = [name for name, _ in chunks]
    is_complete = names[:1] == [b"IHDR"] and b"IDAT" in names and names[-1:] == [b"IEND"]
    return is_complete and write_png(chunks) == content


def measure(content: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG or JPEG as it is stored, px; None where they are not found, and of all else.

    Args:
        content: of the file.
    """
    if content.startswith(_PNG) and len(content) >= 24:
        return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    at = len(_JPEG)
    while content.startswith(_JPEG) and at + 9 <= len(content) and content[at] == 0xFF:
        mark = content[at + 1]
        if mark in _FRAMES:
            height, width = (int.from_bytes(content[place : place + 2], "big") for place in (at + 5, at + 7))
            return (width, height) if height else None
        if mark in _PIXELS:
            return None
        # 0xFF may be repeated before a mark.
        at += 1 if mark == 0xFF else 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return None
