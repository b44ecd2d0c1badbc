"""Loss curves and sample sheets as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..errors import import_extra
from ..files import whole_file
from .primitives import tensor_to_image


def save_sheet(sheet: np.ndarray, path: Path) -> None:
    """Write a picture, uint8 `[H,W,3]`, whole or not at all."""
    with whole_file(path) as partial:
        Image.fromarray(sheet).save(partial)


def make_sheet(rows: Sequence[Sequence[Tensor]]) -> np.ndarray:
    """Lay images `[3,H,W]` in [0,1], all of one size, out in rows; returns uint8 `[H*,W*,3]`."""
    strips = [np.concatenate([np.asarray(tensor_to_image(image)) for image in row], axis=1) for row in rows]
    return np.concatenate(strips, axis=0)


def draw_scatter(panels: Mapping[str, tuple[np.ndarray, np.ndarray]], shade: np.ndarray) -> np.ndarray:
    """Draw one square panel of points for each name: (x, y) in [0,1], shaded by `shade`, with the diagonal.

    Returns:
        uint8 `[H,W,3]`, three panels in a row.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure(9, 3.2 * -(-len(panels) // 3))
    for place, (name, (x, y)) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(-(-len(panels) // 3), 3, place)
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.7)
        axes.scatter(x, y, c=shade, s=3)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=name)
    figure.canvas.draw()
    pixels: np.ndarray = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
    return pixels


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure of this size in inches, that draws without a screen.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    message = "charts need matplotlib: pip install 'adadiffsr[train]'"
    figure = import_extra("matplotlib.figure", message).Figure(figsize=(width, height), layout="constrained")
    import_extra("matplotlib.backends.backend_agg", message).FigureCanvasAgg(figure)
    return figure


def save_loss_chart(history: Sequence[dict[str, float]], path: Path, title: str) -> None:
    """Draw one panel for each figure in `history` (rows with a `step` and any other figures).

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    names = list(dict.fromkeys(key for row in history for key in row if key != "step"))
    figure = new_figure(9, 2.2 * max(1, len(names)))
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(len(names), 1, place)
        rows = [(row["step"], row[name]) for row in history if name in row]
        axes.plot(*zip(*rows, strict=True), linewidth=1)
        axes.set_ylabel(name, fontsize=8)
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=90)
