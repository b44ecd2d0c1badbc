"""Where a run's tiles are, told to the page that asked for it while it runs; `web/` draws them."""

import logging
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from comfy_execution.progress import get_progress_state
from torch import Tensor

from ...adadiffsr_core.drawing.regions import TILE_CLASSES, Box, Region, split_overlaps
from ...adadiffsr_core.sampling.compute_mask import tile_levels
from ...adadiffsr_core.sampling.report import RunReport, TileReport
from ...adadiffsr_core.sampling.run import Start
from ...adadiffsr_core.sampling.tiles import TileGrid
from ...adadiffsr_core.sampling.turn import Progress

EVENT = "adadiffsr.regions"
MESSAGES_PER_SECOND = 4
UNTOUCHED = TILE_CLASSES.index("untouched")

Send = Callable[[dict[str, Any]], None]
# Of a tile: its id, evaluations so far, class as its place in TILE_CLASSES, and whether it is finished, 0 or 1.
State = tuple[int, int, int, int]

logger = logging.getLogger(__name__)


class LiveMap:
    """Sends the state of each tile as it changes, at most `MESSAGES_PER_SECOND` times between the first and the last.

    Nothing is sent, nor made, where no page listens: a run in a script, or a prompt of a program without a client id.
    And whatever goes wrong in telling is logged once and ends the telling, never the run. Every message has `node`
    and `type`, see `find_page`, and `tiles`, a `State` for each tile that is new or changed. The first has also

        canvas: [height, width], image px.
        images: of the batch; tile t of image n has the id n * len(cells) + t.
        steps: base steps N.
        cells: [left, top, right, bottom] of each tile of an image, image px; neighbours share their overlap.

    and the last `stories`: for each tile [base indices of its evaluations, likeness in dB or None], by id.

    Args:
        start: of the run.
        mask: compute mask on the canvas `[M,1,H,W]`, or None.
        factor: image px per latent px.
    """

    def __init__(self, start: Start, mask: Tensor | None, factor: int) -> None:
        self._send: Send | None = None
        self._nfe: dict[int, int] = {}
        self._changed: dict[int, State] = {}
        self._told = monotonic()
        with self._harmlessly():
            self._send = find_page()
            if self._send is not None:
                self._begin(start, mask, factor)

    def __call__(self, progress: Progress) -> None:
        """The core's `on_step`."""
        if self._send is None:
            return
        with self._harmlessly():
            finished = set(progress.finished)
            for tile_id, step in zip(progress.tiles, progress.steps, strict=True):
                self._nfe[tile_id] = self._nfe.get(tile_id, 0) + 1
                state = (tile_id, self._nfe[tile_id], int(step.tile_class), int(tile_id in finished))
                self._changed[tile_id] = state
            if monotonic() - self._told >= 1 / MESSAGES_PER_SECOND:
                self._tell()

    def finish(self, report: RunReport) -> None:
        """Say what is still unsaid, and each tile's story."""
        with self._harmlessly():
            self._tell(stories=[_story(tile) for tile in report.tiles])

    def _begin(self, start: Start, mask: Tensor | None, factor: int) -> None:
        grid, images = start.grid, len(start.x)
        if mask is not None:
            levels = tile_levels(mask, grid, images).tolist()
            untouched = [tile_id for tile_id, level in enumerate(levels) if level <= 0]
            self._changed = {tile_id: (tile_id, 0, UNTOUCHED, 1) for tile_id in untouched}
        self._tell(
            canvas=[side * factor for side in grid.canvas],
            images=images,
            steps=start.codebook.steps,
            cells=_cells(grid, factor),
        )

    def _tell(self, **more: Any) -> None:
        if self._send is not None:
            self._send({"tiles": list(self._changed.values()), **more})
            self._changed, self._told = {}, monotonic()

    @contextmanager
    def _harmlessly(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            self._send = None
            logger.warning("the live region map stops here; the run goes on", exc_info=True)


def say_on_node(text: str) -> None:
    """Show a line on the node that runs, in the page that asked for it; nothing where there is none.

    A page has told the host what it can read; programs have not, and some take whatever is binary for a picture.
    """
    server = _find_server()
    if server is None or not server.client_id or server.last_node_id is None:
        return
    said = server.sockets_metadata.get(server.client_id, {}).get("feature_flags", {})
    if said.get("supports_preview_metadata"):
        server.send_progress_text(text, server.last_node_id, server.client_id)


def _find_server() -> Any:
    # Looked up, not imported: where nobody has started the host's server, importing it would bring all of it.
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def find_page() -> Send | None:
    """What sends to the page that asked for the prompt that runs; None where there is no such page.

    Added to each message are `node`, the id of the node that runs, as the page knows it ("12", or "5:12" within a
    subgraph), and `type`, its class, by which the page sees that it still has the same workflow open.
    """
    server = _find_server()
    if server is None or not server.client_id or server.last_node_id is None:
        return None
    page, node = server.client_id, server.last_node_id
    head = {"node": node, "type": get_progress_state().dynprompt.get_node(node)["class_type"]}
    return lambda message: server.send_sync(EVENT, {**head, **message}, page)


def _cells(grid: TileGrid, factor: int) -> list[Box]:
    height, width = (side * factor for side in grid.tile)
    regions = [
        Region(
            top_px=top * factor,
            left_px=left * factor,
            height_px=height,
            width_px=width,
            nfe=0,
            max_nfe=0,
            tile_class="untouched",
        )
        for top, left, _, _ in grid.boxes
    ]
    canvas_height, canvas_width = (side * factor for side in grid.canvas)
    return split_overlaps(regions, canvas_height, canvas_width)


def _story(tile: TileReport) -> tuple[list[int], float | None]:
    likeness = tile.likeness
    if likeness is not None:
        likeness = round(likeness, 2) if math.isfinite(likeness) else None  # JSON has no infinity
    return [step.index for step in tile.steps], likeness
