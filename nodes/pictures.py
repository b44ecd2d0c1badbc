"""Nodes that show: Region Map, Gain Curves, Compare."""

import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from ..adadiffsr_core.drawing.gain_curves import draw_gain_curves
from ..adadiffsr_core.drawing.pictures import draw_comparison, draw_region_map
from ..adadiffsr_core.drawing.regions import regions_to_mask, report_to_regions
from ..adadiffsr_core.photo.enlarging import enlarge
from .images import image_to_planes, pictures_to_image, repeat_single
from .schema import TILES, Node, Of, Table
from .tiles import Tiles


class RegionMap(Node):
    """Where the evaluations went, over the photograph."""

    table = Table(
        node_id="AdaDiffSR_RegionMap",
        display_name="Region Map",
        search_aliases=["AdaDiffSR", "tile map", "heat map", "steps"],
        category="AdaDiffSR/results",
        description="Shows where the steps went: every tile with its number of evaluations, coloured by it and "
        "framed by what the tile was doing at its end.",
        inputs=[
            TILES,
            (
                "image",
                io.Image,
                "The picture to draw on: the result, or the photo that went in. One for each image of the "
                "run, or one for all; any size is stretched to the result's.",
            ),
        ],
        outputs=[
            ("map", io.Image, "One map for each image of the run, with a legend below."),
            (
                "mask",
                io.Mask,
                "Where more was spent than elsewhere, for every pixel of the picture: grey is the mean, white twice as "
                "much or more, black nothing. Fits compute_mask with mask_means levels.",
            ),
        ],
    )

    @classmethod
    def execute(cls, tiles: Tiles, image: Tensor) -> io.NodeOutput:
        """One map and one mask for each image of the run."""
        count = len(tiles.report.tiles) // tiles.grid.count
        planes = repeat_single(image_to_planes(image), count, "image")
        canvas_px = (tiles.grid.canvas[0] * tiles.factor, tiles.grid.canvas[1] * tiles.factor)
        regions = [report_to_regions(tiles.report, tiles.factor, number) for number in range(count)]
        maps = [draw_region_map(enlarge(planes[number][None], canvas_px)[0], own) for number, own in enumerate(regions)]
        size = (planes.shape[-2], planes.shape[-1])
        masks = [regions_to_mask(own, canvas_px, size) for own in regions]
        return io.NodeOutput(pictures_to_image(maps), torch.stack(masks))


class GainCurves(Node):
    """What each step added, tile by tile."""

    table = Table(
        node_id="AdaDiffSR_GainCurves",
        display_name="Gain Curves",
        search_aliases=["AdaDiffSR", "information gain", "plot", "chart"],
        category="AdaDiffSR/results",
        description="Plots how much each step still added to each tile, from noise to the clean picture.",
        inputs=[TILES],
        outputs=[
            (
                "curves",
                io.Image,
                "Left: gain in likeness to the input (FR); right: gain in quality by itself (NR). One line "
                "for each tile, coloured as in the Region Map, and their median in white.",
            )
        ],
    )

    @classmethod
    def execute(cls, tiles: Tiles) -> io.NodeOutput:
        """One plot for the whole run."""
        return io.NodeOutput(pictures_to_image([draw_gain_curves(tiles.report, tiles.report.gain_threshold)]))


class Compare(Node):
    """Pictures side by side."""

    table = Table(
        node_id="AdaDiffSR_Compare",
        display_name="Compare",
        search_aliases=["AdaDiffSR", "before and after", "side by side"],
        category="AdaDiffSR/image",
        description="Puts two to four pictures side by side at one height, each under its caption.",
        inputs=[
            ("image_1", io.Image, "The leftmost picture. Sizes may differ; a batch gives one row each."),
            ("image_2", io.Image, "The second picture."),
            ("caption_1", Of(io.String, default="before"), "Written above the first picture."),
            ("caption_2", Of(io.String, default="after"), "Written above the second picture."),
            ("image_3", Of(io.Image, optional=True), "A third picture; leave it open if there is none."),
            ("caption_3", Of(io.String, default="", optional=True), "Written above the third picture."),
            ("image_4", Of(io.Image, optional=True), "A fourth picture; leave it open if there is none."),
            ("caption_4", Of(io.String, default="", optional=True), "Written above the fourth picture."),
        ],
        outputs=[("comparison", io.Image, "One row for each image of the longest batch; a single is repeated.")],
    )

    @classmethod
    def execute(  # noqa: PLR0913  the host calls it so
        cls,
        image_1: Tensor,
        image_2: Tensor,
        caption_1: str,
        caption_2: str,
        image_3: Tensor | None = None,
        caption_3: str = "",
        image_4: Tensor | None = None,
        caption_4: str = "",
    ) -> io.NodeOutput:
        """One comparison for each image of the longest batch."""
        images = {"image_1": image_1, "image_2": image_2, "image_3": image_3, "image_4": image_4}
        batches = {name: image_to_planes(image) for name, image in images.items() if image is not None}
        captions = dict(zip(images, (caption_1, caption_2, caption_3, caption_4), strict=True))
        count = max(map(len, batches.values()))
        columns = [(captions[name], repeat_single(batch, count, name)) for name, batch in batches.items()]
        rows = [draw_comparison([(caption, batch[row]) for caption, batch in columns]) for row in range(count)]
        return io.NodeOutput(pictures_to_image(rows))
