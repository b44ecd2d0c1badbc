"""Inks, Lab and XYZ, to what screens show; and those of them that are not read.

Source: TIFF 6.0, sections 16 and 23; TIFF Technical Note 4 (ICCLab).
"""

from pathlib import Path
from typing import Any

from ..errors import ImageError
from .tiff_tree import Directory, put_number, read_directories, to_numbers

_LABS = ("lab", "labs", "labq", "xyz")
_BITS, _PHOTOMETRIC = 0x0102, 0x0106
_CIELAB, _OTHER_LABS = 8, (9, 10)
_RENAMED = 65_008  # which nobody uses, and of which libvips gives the pixels as they are


def kind_of_values(image: Any) -> str:
    """Libvips' name of the type of an image's values; Lab of 16 bits has signed ones, which is no other precision."""
    return "ushort" if image.interpretation == "labs" else str(image.format)


def to_rgb_or_grey(image: Any) -> Any:
    """An image in memory as screens show it, in its own precision; transparency has no colour and stays as it was."""
    bit_depth = 16 if kind_of_values(image) == "ushort" else 8
    if image.interpretation != "cmyk" and image.interpretation not in _LABS:
        return image
    alpha = image[image.bands - 1] if image.hasalpha() else None
    colours = image if alpha is None else image.extract_band(0, n=image.bands - 1)
    if image.interpretation == "cmyk":
        shown = colours.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=bit_depth)
    else:
        shown = colours.colourspace("rgb16" if bit_depth == 16 else "srgb")
    if alpha is not None:
        # With Lab, libvips has it as a signed number, the upper half of which are negative.
        levels = alpha.cast("int") & 0xFFFF
        shown = shown.bandjoin(levels.cast(shown.format)).copy(interpretation=shown.interpretation)
    shown = shown.copy()
    shown.remove("icc-profile-data")  # it described inks or Lab
    return shown


def check_lab(path: Path, page: Directory) -> None:
    """Refuse a page of a TIFF in a kind of Lab that libvips takes for red, green and blue.

    Raises:
        ImageError: it is one.
    """
    if page.number(_PHOTOMETRIC) in _OTHER_LABS:
        raise ImageError(f"{path} holds ICC's or fax machines' Lab colours; save it as RGB")


def rename_plain_lab(encoded: bytes) -> bytes:
    """A TIFF whose pages in Lab of 8 bits, which libvips cannot open, are named as what it takes as it is.

    The pixels are the same; `to_rgb_or_grey` knows them by `is_plain_lab`. Any other file is given back itself.
    """
    try:
        pages = [page for page in read_directories(encoded) if _is_plain_lab(page)]
    except ImageError:
        return encoded
    renamed = bytearray(encoded)
    for page in pages:
        put_number(renamed, page, _PHOTOMETRIC, _RENAMED)
    return bytes(renamed) if pages else encoded


def _is_plain_lab(page: Directory) -> bool:
    try:
        bits = to_numbers(*page.tags[_BITS])
    except KeyError:
        return False
    return page.number(_PHOTOMETRIC) == _CIELAB and bits == (8, 8, 8)


def is_plain_lab(page: Directory) -> bool:
    """Whether a page is one that `rename_plain_lab` has renamed."""
    return page.number(_PHOTOMETRIC) == _RENAMED


def plain_to_lab(image: Any) -> Any:
    """Lab of 8 bits as TIFF has it, L* in 0 to 255 and a* and b* signed, to libvips' own."""
    signed = (image.extract_band(1, n=2) ^ 128).cast("short") - 128
    lab = (image[0] * (100 / 255)).bandjoin(signed).cast("float")
    return lab.copy(interpretation="lab")
