"""What the user's pictures are made of: colours, text and rows of labelled items, with Pillow alone."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..errors import ShapeError
from .lettering import measure, write_line

Colour = tuple[int, int, int]

PAPER: Colour = (22, 24, 29)
INK: Colour = (236, 238, 242)
FAINT_INK: Colour = (160, 166, 178)
VIRIDIS: tuple[Colour, ...] = (
    (68, 1, 84),
    (71, 44, 122),
    (59, 81, 139),
    (44, 113, 142),
    (33, 144, 141),
    (39, 173, 129),
    (92, 200, 99),
    (170, 220, 50),
    (253, 231, 37),
)  # nine even steps of matplotlib's viridis: perceptually uniform, readable without colour vision


def ramp_colour(share: float) -> Colour:
    """The colour of `share` in [0, 1], from dark violet to yellow."""
    position = min(max(share, 0.0), 1.0) * (len(VIRIDIS) - 1)
    lower = min(int(position), len(VIRIDIS) - 2)
    red, green, blue = (
        round(low + (high - low) * (position - lower))
        for low, high in zip(VIRIDIS[lower], VIRIDIS[lower + 1], strict=True)
    )
    return red, green, blue


def tensor_to_image(image: Tensor) -> Image.Image:
    """An 8-bit picture of [3, H, W] in [0, 1]; values outside are clamped, NaN is black.

    Raises:
        ShapeError: the tensor has another shape, or no pixels.
    """
    if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise ShapeError(f"a picture is drawn from a tensor of shape [3, H, W], got {list(image.shape)}")
    levels = image.detach().float().nan_to_num(0.0).clamp_(0, 1).mul_(255).round_().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(levels.permute(1, 2, 0).cpu().numpy()))


def text_item(text: str, size_px: int, colour: Colour = INK) -> Image.Image:
    """One line of text on paper, `line_height(size_px)` high."""
    item = Image.new("RGB", (round(measure(text, size_px)) + 1, line_height(size_px)), PAPER)
    write_line(item, 0, item.height / 2, text, colour, size_px)
    return item


def line_height(size_px: int) -> int:
    """Height of a line of text, in px."""
    return round(1.5 * size_px)


def join_row(items: Sequence[Image.Image], gap_px: int) -> Image.Image:
    """Items side by side, centred on one line."""
    width = sum(item.width for item in items) + gap_px * (len(items) - 1)
    row = Image.new("RGB", (width, max(item.height for item in items)), PAPER)
    left = 0
    for item in items:
        row.paste(item, (left, (row.height - item.height) // 2))
        left += item.width + gap_px
    return row


def flow_rows(items: Sequence[Image.Image], width_px: int, gap_px: int) -> Image.Image:
    """Items in as many rows as the width asks for, as words in a paragraph; a wide item is cut at the edge."""
    rows: list[list[Image.Image]] = []
    free_px = -1
    for item in items:
        if item.width + gap_px > free_px:
            rows.append([])
            free_px = width_px + gap_px
        rows[-1].append(item)
        free_px -= item.width + gap_px
    joined = [join_row(row, gap_px) for row in rows]
    block = Image.new("RGB", (width_px, sum(row.height for row in joined)), PAPER)
    top = 0
    for row in joined:
        block.paste(row, (0, top))
        top += row.height
    return block


def colour_bar(max_nfe: int, text_px: int) -> Image.Image:
    """A legend's item: which colour stands for how many evaluations, from none to `max_nfe`."""
    shares = np.linspace(0, 1, 10 * text_px)
    line = np.array([ramp_colour(share) for share in shares], dtype=np.uint8)
    bar = Image.fromarray(np.tile(line, (round(0.8 * text_px), 1, 1)))
    title, ends = text_item("evaluations", text_px, FAINT_INK), [text_item(str(n), text_px) for n in (0, max_nfe)]
    return join_row([title, ends[0], bar, ends[1]], text_px // 2)


def stack_pictures(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """At least one picture [H, W, 3] -> [N, height, width, 3], with paper below and beside the smaller ones."""
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    return np.stack([fit_sheet(picture, height, width) for picture in pictures])


def fit_sheet(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A picture [H, W, 3] in the corner of a sheet of paper of another size, px; what is beyond it is cut off."""
    sheet = np.tile(np.array(PAPER, dtype=np.uint8), (height, width, 1))
    part = picture[:height, :width]
    sheet[: part.shape[0], : part.shape[1]] = part
    return sheet
