"""Channels of a TIFF beyond its colours: one of them may be opacity, others are saved selections or spot colours.

Source: TIFF 6.0, section 8 (ExtraSamples).
"""

from typing import Any

from .tiff_tree import Directory, to_numbers

_SAMPLES, _EXTRA_SAMPLES, _UNSPECIFIED = 0x0115, 0x0152, 0


def read_extras(page: Directory | None) -> tuple[int, ...]:
    """What a page says of each channel beyond its colours; nothing if it does not say, or says it of all channels.

    Args:
        page: of a TIFF; None of any other file.
    """
    try:
        extras = () if page is None else to_numbers(*page.tags[_EXTRA_SAMPLES])
    except KeyError:
        return ()
    return extras if page is not None and len(extras) < page.number(_SAMPLES) else ()


def count_left_out(extras: tuple[int, ...]) -> int:
    """How many channels `keep_picture` leaves out, by what `read_extras` gave."""
    return len(extras) - any(kind != _UNSPECIFIED for kind in extras)


def keep_picture(image: Any, extras: tuple[int, ...]) -> Any:
    """The colours of a decoded page, and its opacity if it has one: libvips takes any further channel for opacity.

    Where a file does not say what its one further channel is, that stays opacity, as libvips and Pillow take it:
    programs that leave out the tag mean RGBA.

    Args:
        image: libvips' one, as it was decoded.
        extras: out of `read_extras`.
    """
    colours = image.bands - len(extras)
    if colours < 1 or not count_left_out(extras):
        return image
    opacity = [colours + place for place, kind in enumerate(extras) if kind != _UNSPECIFIED][:1]
    kept = image.extract_band(0, n=colours)
    joined = kept.bandjoin(image[opacity[0]]) if opacity else kept
    return joined.copy(interpretation=image.interpretation)
