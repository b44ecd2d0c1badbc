"""What a picture's file says of itself, read without a decoder."""

_JPEG, _PNG, _FIRST = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", 2**16
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
