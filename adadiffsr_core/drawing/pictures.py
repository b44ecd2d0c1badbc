"""The pictures a user looks at: where the steps went, and results side by side."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from torch import Tensor

from ..errors import ShapeError
from .lettering import fit_text, load_font
from .primitives import (
    FAINT_INK,
    INK,
    PAPER,
    Colour,
    colour_bar,
    flow_rows,
    join_row,
    line_height,
    ramp_colour,
    tensor_to_image,
    text_item,
)
from .regions import Box, Region, colour_end, split_overlaps

__all__ = ["LONG_SIDE_PX", "Region", "comparison_zooms", "draw_comparison", "draw_region_map", "map_zoom"]

LONG_SIDE_PX = (640, 3072)  # photos are drawn within these, so that text is readable and files stay small
MIN_WIDTH_PX = 360  # of the legend, when the photo is narrower
MIN_COLUMN_PX = 256  # a comparison shows pixels as they are, unless they would be too small to see
CLASS_COLOURS: dict[str, Colour] = {
    "growing": (255, 112, 67),
    "stable": (240, 243, 248),
    "saturated": (79, 195, 247),
    "untouched": (120, 124, 132),
}


def draw_region_map(image: Tensor, regions: Sequence[Region]) -> NDArray[np.uint8]:
    """The photograph under its tiles, each coloured by its evaluations, bordered by its class, with a legend below.

    Args:
        image: [3, H, W] in [0, 1].
        regions: tiles of a regular grid over the image, in any order; they may overlap.

    Returns:
        [height, width, 3] uint8; the photo is enlarged or reduced until its long side lies within `LONG_SIDE_PX`.

    Raises:
        ShapeError: the image has another shape, or the regions are no grid over it.
    """
    photo = tensor_to_image(image)
    boxes = split_overlaps(regions, photo.height, photo.width)
    zoom = map_zoom(photo.height, photo.width)
    canvas = _mute(_resize(photo, zoom))
    text_px, end = _text_size(canvas), _colour_end(regions)
    # A word that all would have tells nothing; the legend has it.
    is_labelled = len({region.tile_class for region in regions}) > 1
    for region, box in zip(regions, boxes, strict=True):
        left, top, right, bottom = (round(edge * zoom) for edge in box)
        if right > left and bottom > top:
            _draw_cell(canvas, region, (left, top, right, bottom), region.nfe / end, text_px)
            _write_in_cell(canvas, region, (left, top, right, bottom), text_px, is_labelled)
    legend = _draw_legend(regions, max(canvas.width, MIN_WIDTH_PX) - 2 * text_px, text_px)
    return _stack(canvas, legend, text_px)


def draw_comparison(images: Sequence[tuple[str, Tensor]]) -> NDArray[np.uint8]:
    """Images side by side at one height as far as the width allows, each under its caption.

    Args:
        images: captions and [3, H, W] tensors in [0, 1], of any sizes.

    Returns:
        [height, width, 3] uint8; the row is at most twice `LONG_SIDE_PX` wide.

    Raises:
        ShapeError: there is no image, or one of another shape.
    """
    if not images:
        raise ShapeError("a comparison needs at least one image")
    photos = [tensor_to_image(image) for _, image in images]
    zooms = comparison_zooms([(photo.height, photo.width) for photo in photos])
    columns = [_resize(photo, zoom) for photo, zoom in zip(photos, zooms, strict=True)]
    text_px = max(16, min(_text_size(column) for column in columns))
    gap = text_px // 2
    captioned = [_caption(column, caption, text_px) for (caption, _), column in zip(images, columns, strict=True)]
    return np.array(ImageOps.expand(join_row(captioned, gap), gap, PAPER))


def map_zoom(height: int, width: int) -> float:
    """How many times larger than it is a picture of this size, px, is drawn as a map."""
    shortest, longest = LONG_SIDE_PX
    side = max(height, width)
    return math.ceil(shortest / side) if side < shortest else min(1.0, longest / side)


def comparison_zooms(sizes: Sequence[tuple[int, int]]) -> list[float]:
    """Likewise of pictures side by side, by their sizes (height, width)."""
    tallest = max(MIN_COLUMN_PX, *(height for height, _ in sizes))
    widest = 2 * LONG_SIDE_PX[1] / len(sizes)
    return [min(tallest / height, widest / width) for height, width in sizes]


def _text_size(picture: Image.Image) -> int:
    return min(max(round(math.sqrt(picture.width * picture.height) / 60), 13), 30)


def _resize(photo: Image.Image, zoom: float) -> Image.Image:
    size = (max(1, round(photo.width * zoom)), max(1, round(photo.height * zoom)))
    return photo if size == photo.size else photo.resize(size, Image.Resampling.BICUBIC)


def _mute(photo: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(ImageEnhance.Color(photo).enhance(0.15)).enhance(0.75)


def _colour_end(regions: Sequence[Region]) -> int:
    return colour_end(max(region.nfe for region in regions), max(region.max_nfe for region in regions))


def _draw_cell(canvas: Image.Image, region: Region, box: Box, share: float, text_px: int) -> None:
    left, top, right, bottom = box
    if region.tile_class != "untouched":
        cell = canvas.crop(box)
        canvas.paste(Image.blend(cell, Image.new("RGB", cell.size, ramp_colour(share)), 0.42), box)
    draw = ImageDraw.Draw(canvas)
    side = min(right - left, bottom - top)
    if side >= 8:
        draw.rectangle((left, top, right - 1, bottom - 1), outline=PAPER)
        border = max(1, min(text_px // 6, side // 24))
        draw.rectangle((left + 1, top + 1, right - 2, bottom - 2), None, CLASS_COLOURS[region.tile_class], border)


def _write_in_cell(canvas: Image.Image, region: Region, box: Box, text_px: int, is_labelled: bool) -> None:
    draw, (left, top, right, bottom) = ImageDraw.Draw(canvas), box
    width, height = right - left, bottom - top
    number, label = str(region.nfe), region.tile_class
    number_px = min(int(0.36 * height), int(1.3 * width / (len(number) + 1)), 3 * text_px)
    if number_px < 9:
        return
    middle = ((left + right) / 2, (top + bottom) / 2)
    label_px = max(12, round(0.36 * number_px))
    longest = max(load_font(label_px).getlength(name) for name in CLASS_COLOURS)  # all cells of a size agree
    if is_labelled and longest < 0.85 * width and number_px + 2.2 * label_px < 0.9 * height:
        below = (middle[0], middle[1] + 0.62 * number_px)
        _write(draw, below, label, label_px)
        middle = (middle[0], middle[1] - 0.3 * label_px)
    _write(draw, middle, number, number_px)


def _write(draw: ImageDraw.ImageDraw, middle: tuple[float, float], text: str, size_px: int) -> None:
    draw.text(middle, text, INK, load_font(size_px), anchor="mm", stroke_width=max(1, size_px // 14), stroke_fill=PAPER)


def _draw_legend(regions: Sequence[Region], width: int, text_px: int) -> Image.Image:
    spent, possible = sum(region.nfe for region in regions), sum(region.max_nfe for region in regions)
    counts = {name: sum(region.tile_class == name for region in regions) for name in CLASS_COLOURS}
    saved = f"{1 - spent / possible:.0%} saved" if possible else "nothing to do"
    total = text_item(f"{spent} of {possible} evaluations", text_px)
    items = [
        colour_bar(_colour_end(regions), text_px),
        *(_class_item(name, count, text_px) for name, count in counts.items() if count),
        join_row([total, text_item(saved, text_px, FAINT_INK)], text_px // 2),
    ]
    return flow_rows(items, width, 2 * text_px)


def _class_item(name: str, count: int, text_px: int) -> Image.Image:
    swatch = Image.new("RGB", (text_px, text_px), PAPER)
    ImageDraw.Draw(swatch).rectangle((0, 0, text_px - 1, text_px - 1), None, CLASS_COLOURS[name], max(2, text_px // 5))
    return join_row([swatch, text_item(name, text_px), text_item(str(count), text_px, FAINT_INK)], text_px // 2)


def _caption(photo: Image.Image, caption: str, text_px: int) -> Image.Image:
    width = max(photo.width, 6 * text_px)
    column = Image.new("RGB", (width, photo.height + line_height(text_px)), PAPER)
    column.paste(text_item(fit_text(caption, width, text_px), text_px), (0, 0))
    column.paste(photo, (0, line_height(text_px)))
    return column


def _stack(photo: Image.Image, legend: Image.Image, margin: int) -> NDArray[np.uint8]:
    width = max(photo.width, legend.width + 2 * margin)
    page = Image.new("RGB", (width, photo.height + legend.height + 2 * margin), PAPER)
    page.paste(photo, ((width - photo.width) // 2, 0))
    page.paste(legend, (margin, photo.height + margin))
    return np.array(page)
