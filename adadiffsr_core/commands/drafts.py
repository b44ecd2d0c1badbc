"""What a photograph is before anything is made of it: its frames and pages, read once."""

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import ImageError
from ..files import FileState, look_at
from ..photo.containers import Motion
from ..photo.reading import PhotoFile, open_photo
from ..photo.scales import Size, target_size
from .doubts import tell_left_out
from .interrupts import stop_if_asked
from .naming import Source


@dataclass(frozen=True, kw_only=True)
class Page:
    """A frame or page: its size and the result's (height, width), what its pixels are, and whether some are lost."""

    source_size: Size
    size: Size
    is_opaque: bool
    bit_depth: int
    channels: int
    has_damage: bool = False


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A photograph that could be read.

    Attributes:
        source: its file.
        pages: all of its frames or pages.
        motion: of frames.
        parts: what there are several of, in words.
        state: of its file before it was read, see `look_at`.
        in_bands: whether it does not fit into memory, and is made in bands.
    """

    source: Source
    pages: tuple[Page, ...]
    motion: Motion | None
    parts: str
    state: FileState | None
    in_bands: bool = False


def draft_photo(
    source: Source,
    scale: float,
    size: Size | int | None,
    is_for_bands: Callable[[Size, Size], bool] = lambda source, size: False,
) -> Draft:
    """Read every frame or page once, so that a damaged one is found before the work.

    Args:
        source: the photograph.
        scale: see `target_size`.
        size: see `target_size`.
        is_for_bands: whether a picture of one size, enlarged to another, is to be made in bands.

    Raises:
        ImageError: it cannot be read.
        ConfigError: a result would be too small or too large.
    """
    state = look_at(source.path)
    file = open_photo(source.path)
    if (page := _draft_bands(source, file, scale, size, is_for_bands)) is not None:
        return Draft(source=source, pages=(page,), motion=None, parts=file.parts, state=state, in_bands=True)
    pages, left_out = [], 0
    for photo in file.read_pages():
        stop_if_asked()
        height, width = photo.pixels.shape[1:]
        left_out += photo.left_out
        pages.append(
            Page(
                source_size=(height, width),
                size=target_size((height, width), scale, size),
                is_opaque=photo.is_opaque,
                bit_depth=photo.bit_depth,
                channels=(1 if photo.is_grey else 3) + (photo.alpha is not None),
                has_damage=photo.has_damage,
            )
        )
    tell_left_out(source.path, left_out)
    return Draft(source=source, pages=tuple(pages), motion=file.motion, parts=file.parts, state=state)


def _draft_bands(
    source: Source,
    file: PhotoFile,
    scale: float,
    size: Size | int | None,
    is_for_bands: Callable[[Size, Size], bool],
) -> Page | None:
    """What is made in bands of a picture, of which no pixel is held; None of any other."""
    picture = file.open_rows()
    if picture is None:
        return None
    before = (picture.height, picture.width)
    after = target_size(before, scale, size, most=None)
    if not is_for_bands(before, after):
        return None
    if not picture.is_opaque():
        raise ImageError(f"{source.path} is transparent in places, which bands cannot be; save it without transparency")
    # Damage is found before the hours of work.
    has_damage = picture.look_through()
    stop_if_asked()
    tell_left_out(source.path, picture.photo.left_out)
    return Page(
        source_size=before,
        size=after,
        is_opaque=True,
        bit_depth=picture.photo.bit_depth,
        channels=picture.channels,
        has_damage=has_damage,
    )
