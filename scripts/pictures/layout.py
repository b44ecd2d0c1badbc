"""Parts of pictures: cut out, laid side by side, and written as JPEG files that are small enough."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from adadiffsr_core.drawing.primitives import INK, PAPER, tensor_to_image
from adadiffsr_core.errors import ConfigError
from adadiffsr_core.files import whole_file

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, right, bottom, px
THUMBNAIL = 512, 384
QUALITIES = range(92, 28, -2)
GAP_PX, LINE_PX = 8, 2


def crop(image: Tensor, box: Box, size: tuple[int, int]) -> Tensor:
    """A part of a picture.

    Args:
        image: [3, H, W] in [0, 1].
        box: the part.
        size: (width, height) that it gets, px.

    Returns:
        [3, height, width] in [0, 1]; the pixels as they are where the part has that size.
    """
    left, top, right, bottom = box
    part = image[:, top:bottom, left:right]
    if size == (right - left, bottom - top):
        return part
    return F.interpolate(part[None], size[::-1], mode="bicubic", antialias=True).clamp(0, 1)[0]


def resize(picture: Pixels | Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture at another (width, height), px."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def set_on_paper(picture: Pixels, size: tuple[int, int]) -> Image.Image:
    """The picture as it is, in the middle of paper of this (width, height), px."""
    page, image = Image.new("RGB", size, PAPER), Image.fromarray(picture)
    page.paste(image, ((page.width - image.width) // 2, (page.height - image.height) // 2))
    return page


def lay_beside(pictures: Sequence[Image.Image], height: int) -> Image.Image:
    """Pictures at one height, px, with a gap of paper between them."""
    fitted = [resize(each, (round(each.width * height / each.height), height)) for each in pictures]
    page = Image.new("RGB", (sum(each.width for each in fitted) + GAP_PX * (len(fitted) - 1), height), PAPER)
    left = 0
    for each in fitted:
        page.paste(each, (left, 0))
        left += each.width + GAP_PX
    return page


def fill_thumbnail(picture: Pixels | Tensor, photo_size: tuple[int, int]) -> Image.Image:
    """The middle of a picture that fills a thumbnail from top to bottom.

    Args:
        picture: [height, width, 3] uint8, or [3, height, width] in [0, 1]; what is below and beside the photo, such as
            a map's legend, is left out.
        photo_size: (width, height) of the photo in it, px.
    """
    image = tensor_to_image(picture) if isinstance(picture, Tensor) else Image.fromarray(picture)
    width, height = photo_size
    whole = resize(image.crop((0, 0, width, height)), (round(width * THUMBNAIL[1] / height), THUMBNAIL[1]))
    left = (whole.width - THUMBNAIL[0]) // 2
    return whole.crop((left, 0, left + THUMBNAIL[0], THUMBNAIL[1]))


def join_strips(pictures: Sequence[Image.Image]) -> Image.Image:
    """Equal shares of one thumbnail, each the same place of its picture's, with a line between them."""
    page = pictures[0].copy()
    edges = [round(number * page.width / len(pictures)) for number in range(len(pictures) + 1)]
    for picture, left, right in zip(pictures, edges, edges[1:], strict=False):
        page.paste(picture.crop((left, 0, right, page.height)), (left, 0))
    return _draw_lines(page, edges[1:-1])


def join_parts(parts: Sequence[Tensor]) -> Image.Image:
    """Parts of pictures beside each other in one thumbnail, with a line between them.

    Args:
        parts: [3, height, width] each, a thumbnail high and together at least as wide; the last is cut off.
    """
    page = Image.new("RGB", THUMBNAIL, PAPER)
    edges = []
    left = 0
    for part in parts:
        page.paste(tensor_to_image(part), (left, 0))
        edges.append(left)
        left += part.shape[-1]
    return _draw_lines(page, edges[1:])


def _draw_lines(page: Image.Image, edges: Sequence[int]) -> Image.Image:
    for edge in edges:
        page.paste(INK, (edge - LINE_PX // 2, 0, edge + LINE_PX // 2, page.height))
    return page


def encode_jpeg(picture: Image.Image, limit: int) -> bytes:
    """The picture as a JPEG file of the highest quality that is small enough.

    Args:
        picture: RGB.
        limit: bytes that the file must stay below.

    Raises:
        ConfigError: even the lowest of `QUALITIES` is too large.
    """
    for quality in QUALITIES:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True, progressive=True)
        if file.tell() < limit:
            return file.getvalue()
    width, height = picture.size
    raise ConfigError(
        f"a picture of {width} x {height} px takes {file.tell()} bytes, but at most {limit - 1} are allowed"
    )


def save_jpeg(picture: Image.Image, path: Path, limit: int) -> None:
    """Write `encode_jpeg`, whole or not at all."""
    content = encode_jpeg(picture, limit)
    with whole_file(path) as partial:
        partial.write_bytes(content)
