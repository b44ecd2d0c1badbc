"""Photographs on disk: read to tensors, and written back whole, with the precision and the profile they came with."""

from pathlib import Path
from typing import Any

from .errors import ConfigError, ImageError, MissingExtraError
from .files import whole_file
from .photo import Photo, levels_to_photo, photo_to_levels

__all__ = [
    "MAX_PIXELS",
    "READABLE",
    "WRITABLE",
    "Photo",
    "check_output_fits",
    "check_output_path",
    "read_photo",
    "write_photo",
]

MAX_PIXELS = 2**28  # 16384 x 16384, 3 GB as float32 RGB; a few kilobytes of file can claim far more
WRITABLE = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff"}
READABLE = (*WRITABLE, ".gif")
_LOADERS = ("png", "jpeg", "webp", "tiff", "gif")
_MAX_SIDE = {"jpeg": 65535, "webp": 16383}
_PIXELS_PER_MM = 72 / 25.4  # unset, libvips declares 25 dpi, and layout programs place huge pictures


def read_photo(path: str | Path) -> Photo:
    """Read a PNG, JPEG, WebP, TIFF or GIF file; of several frames or pages, the first.

    Palettes and 1-bit pictures are expanded, CMYK and Lab become sRGB, the EXIF orientation is applied, and other EXIF
    is dropped. RGB and grey pixels stay in the space of their profile, which is kept.

    Raises:
        ImageError: the file is missing, damaged, cut short, no picture, too large, or of an unsupported pixel type.
    """
    path, pyvips = Path(path), _import_vips()
    image = _open(path)
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"{path} has {image.width} x {image.height} px; at most {MAX_PIXELS // 10**6} megapixels fit")
    if image.format not in ("uchar", "ushort"):
        raise ImageError(f"{path} holds {image.format} values; save it with 8 or 16 bits per channel")
    try:
        image = _to_rgb_or_grey(image.copy_memory().autorot())
        levels = image.numpy().reshape(image.height, image.width, image.bands)
    except pyvips.Error:
        raise ImageError(f"{path} is damaged or cut short; get a whole copy of it") from None
    has_alpha = bool(image.hasalpha())
    if image.bands - has_alpha not in (1, 3):
        raise ImageError(f"{path} has {image.bands} channels; save it as grey or RGB, with or without transparency")
    return levels_to_photo(levels, has_alpha=has_alpha, icc_profile=_profile(image), path=path)


def write_photo(photo: Photo, path: str | Path, quality: int = 95) -> None:
    """Write a photo in the format of the suffix; the file appears whole or not at all.

    PNG and TIFF keep 16 bits; JPEG and WebP have 8. The profile is embedded unless it is of another kind than the
    file's pixels, such as a grey profile in WebP, which has no grey.

    Args:
        photo: values outside [0, 1] are clamped.
        path: ends in .png, .jpg, .jpeg, .webp, .tif or .tiff; an existing file is replaced.
        quality: 1 to 100, of JPEG and WebP.

    Raises:
        ImageError: the format is unknown or cannot hold the transparency or the size, the picture has NaN, or the file
            cannot be written.
        ConfigError: `quality` is out of its range.
    """
    path, pyvips = Path(path), _import_vips()
    check_output_path(path)
    if not 1 <= quality <= 100:
        raise ConfigError(f"quality goes from 1 to 100, got {quality}")
    file_format = WRITABLE[path.suffix.lower()]
    check_output_fits(path, *photo.pixels.shape[1:], is_opaque=photo.is_opaque)
    if not bool(photo.pixels.isfinite().all()) or (photo.alpha is not None and not bool(photo.alpha.isfinite().all())):
        raise ImageError(f"{path} was not written: the picture holds values that are not numbers")
    try:
        encoded = _encode(photo, file_format, quality)
    except pyvips.Error:
        raise ImageError(f"{path} was not written: the picture cannot be encoded as {file_format}") from None
    _write_whole(path, encoded)


def check_output_path(path: str | Path) -> None:
    """Refuse a path that `write_photo` cannot write, before the work is done.

    Raises:
        ImageError: the suffix names no supported format, the path is a folder, or its folder does not exist.
    """
    path = Path(path)
    if path.is_dir():
        raise ImageError(f"{path} is a folder; name a file")
    if path.suffix.lower() not in WRITABLE:
        raise ImageError(f"{path} names no format that can be written; end it in {', '.join(WRITABLE)}")
    if not path.parent.is_dir():
        raise ImageError(f"the folder {path.parent} does not exist; create it first")


def check_output_fits(path: str | Path, height: int, width: int, *, is_opaque: bool) -> None:
    """Refuse a format that cannot hold such a picture, before the work is done.

    Args:
        path: ends in a suffix of `WRITABLE`.
        height: of the picture, px.
        width: of the picture, px.
        is_opaque: whether nothing is lost by leaving alpha out.

    Raises:
        ImageError: the format has no transparency, or no pictures of that size.
    """
    path = Path(path)
    file_format = WRITABLE[path.suffix.lower()]
    if file_format == "jpeg" and not is_opaque:
        raise ImageError(f"{path} cannot hold this photo's transparency; write {path.with_suffix('.png').name} instead")
    if max(height, width) > _MAX_SIDE.get(file_format, height + width):
        raise ImageError(f"{path} cannot hold {width} x {height} px; write {path.with_suffix('.png').name} instead")


def _import_vips() -> Any:
    """Libvips, when a photograph is really read or written: training needs none, and is done where there is none.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyvips
    except ImportError as error:
        raise MissingExtraError("photographs are read and written by libvips: pip install 'pyvips[binary]'") from error
    return pyvips


def _open(path: Path) -> Any:
    """The picture's header; its pixels are decoded when its size is known to be sane."""
    if path.exists() and not path.is_file():
        raise ImageError(f"{path} is not a file")
    try:
        # Not new_from_file: libvips reads options out of names such as "photo[1].png".
        encoded = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from None
    if not encoded:
        raise ImageError(f"{path} is empty")
    pyvips = _import_vips()
    unknown = ImageError(f"{path} is damaged, or is no PNG, JPEG, WebP, TIFF or GIF picture")
    try:
        image = pyvips.Image.new_from_buffer(encoded, "", access="sequential", fail_on="error")
    except pyvips.Error:
        raise unknown from None
    if not image.get("vips-loader").startswith(_LOADERS):
        raise unknown
    return image


def _to_rgb_or_grey(image: Any) -> Any:
    bit_depth = 16 if image.format == "ushort" else 8
    if image.interpretation == "cmyk":
        image = image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=bit_depth)
    elif image.interpretation in ("lab", "labs", "labq", "xyz"):
        image = image.colourspace("rgb16" if bit_depth == 16 else "srgb")
    else:
        return image
    image = image.copy()
    image.remove("icc-profile-data")  # it described inks or Lab
    return image


def _profile(image: Any) -> bytes | None:
    if not image.get_typeof("icc-profile-data"):
        return None
    profile = bytes(image.get("icc-profile-data"))
    return profile if profile[36:40] == b"acsp" else None


def _encode(photo: Photo, file_format: str, quality: int) -> bytes:
    pyvips = _import_vips()
    bit_depth = photo.bit_depth if file_format in ("png", "tiff") else 8
    levels = photo_to_levels(photo, bit_depth=bit_depth, with_alpha=file_format != "jpeg")
    grey, rgb = ("b-w", "srgb") if bit_depth == 8 else ("grey16", "rgb16")
    image = pyvips.Image.new_from_array(levels).copy(
        interpretation=grey if photo.is_grey else rgb, xres=_PIXELS_PER_MM, yres=_PIXELS_PER_MM
    )
    kind = b"GRAY" if photo.is_grey and file_format != "webp" else b"RGB "
    if photo.icc_profile is not None and photo.icc_profile[16:20] == kind:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", photo.icc_profile)
    options: dict[str, dict[str, Any]] = {
        "png": {"filter": "all"},  # half the size of libvips' default on photographs
        "jpeg": {"Q": quality, "optimize_coding": True},
        "webp": {"Q": quality, "smart_subsample": True},
        "tiff": {"compression": "deflate", "predictor": "horizontal", "bigtiff": levels.nbytes > 2**31},
    }
    return bytes(getattr(image, f"{file_format}save_buffer")(keep="icc", **options[file_format]))


def _write_whole(path: Path, encoded: bytes) -> None:
    try:
        with whole_file(path) as partial:
            partial.write_bytes(encoded)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror}") from None
