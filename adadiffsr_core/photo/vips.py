"""Libvips, imported when it is used."""

from typing import Any

from ..errors import MissingExtraError


def import_vips() -> Any:
    """Libvips, when a photograph is really read or written: training needs none, and is done where there is none.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyvips
    except ImportError as error:
        raise MissingExtraError("photographs are read and written by libvips: pip install 'pyvips[binary]'") from error
    return pyvips
