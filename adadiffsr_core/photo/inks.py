"""Inks, Lab and XYZ, to what screens show; and those of them that are not read.

Source: TIFF 6.0, sections 16 and 23; TIFF Technical Note 4 (ICCLab).
"""

from pathlib import Path
from typing import Any

from ..errors import ImageError
from .tiff_tree import Directory, read_directories, to_numbers

_LABS = ("lab", "labs", "labq", "xyz")
_PHOTOMETRIC, _CIELAB, _OTHER_LABS = 0x0106, 8, (9, 10)


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
    if _read_photometric(page) in _OTHER_LABS:
        raise ImageError(f"{path} holds ICC's or fax machines' Lab colours; save it as RGB")


def check_plain_lab(path: Path, encoded: bytes) -> None:
    """Refuse with the reason a TIFF that libvips does not open though it is sound: Lab of 8 bits.

    Raises:
        ImageError: it is one.
    """
    try:
        is_lab = any(_read_photometric(page) == _CIELAB for page in read_directories(encoded))
    except ImageError:
        return
    if is_lab:
        raise ImageError(f"{path} holds Lab colours of 8 bits, which libvips does not read; save it as RGB")


def _read_photometric(page: Directory) -> int:
    try:
        return to_numbers(*page.tags[_PHOTOMETRIC])[0]
    except (KeyError, IndexError):
        return -1
