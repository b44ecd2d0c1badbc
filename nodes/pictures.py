"""Nodes that show: Region Map, Gain Curves, Compare."""

import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from ..adadiffsr_core.drawing.gain_curves import draw_gain_curves
from ..adadiffsr_core.drawing.pictures import draw_comparison, draw_region_map
from ..adadiffsr_core.drawing.regions import regions_to_mask, report_to_regions
from ..adadiffsr_core.photo.enlarging import enlarge
from .images import image_to_planes, pictures_to_image, repeat_single
from .tiles import Tiles
from .types import TilesType


class RegionMap(io.ComfyNode):
    """Where the evaluations went, over the photograph."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See the host's node API."""
        return io.Schema(
            node_id="AdaDiffSR_RegionMap",
            display_name="Region Map",
            category="AdaDiffSR/results",
            description="Shows where the steps went: every tile with its number of evaluations, coloured by it and "
            "framed by what the tile was doing at its end.",
            inputs=[
                TilesType.Input("tiles", tooltip="Finished tiles, from the Region-Aware KSampler."),
                io.Image.Input(
                    "image",
                    tooltip="The picture to draw on: the result, or the photo that went in. One for each image of the "
                    "run, or one for all; any size is stretched to the result's.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "map", display_name="map", tooltip="One map for each image of the run, with a legend below."
                ),
                io.Mask.Output(
                    "mask",
                    display_name="mask",
                    tooltip="Share of the possible steps that were spent, for every pixel of the picture: black is "
                    "none, white all.",
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


class GainCurves(io.ComfyNode):
    """What each step added, tile by tile."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See the host's node API."""
        return io.Schema(
            node_id="AdaDiffSR_GainCurves",
            display_name="Gain Curves",
            category="AdaDiffSR/results",
            description="Plots how much each step still added to each tile, from noise to the clean picture.",
            inputs=[TilesType.Input("tiles", tooltip="Finished tiles, from the Region-Aware KSampler.")],
            outputs=[
                io.Image.Output(
                    "curves",
                    display_name="curves",
                    tooltip="Left: gain in likeness to the input (FR); right: gain in quality by itself (NR). One line "
                    "for each tile, coloured as in the Region Map, and their median in white.",
                )
            ],
        )

    @classmethod
    def execute(cls, tiles: Tiles) -> io.NodeOutput:
        """One plot for the whole run."""
        return io.NodeOutput(pictures_to_image([draw_gain_curves(tiles.report, tiles.report.gain_threshold)]))


class Compare(io.ComfyNode):
    """Pictures side by side."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See the host's node API."""
        return io.Schema(
            node_id="AdaDiffSR_Compare",
            display_name="Compare",
            category="AdaDiffSR/image",
            description="Puts two to four pictures side by side at one height, each under its caption.",
            inputs=[
                io.Image.Input(
                    "image_1", tooltip="The leftmost picture. Sizes may differ; a batch gives one row each."
                ),
                io.Image.Input("image_2", tooltip="The second picture."),
                io.String.Input("caption_1", default="before", tooltip="Written above the first picture."),
                io.String.Input("caption_2", default="after", tooltip="Written above the second picture."),
                io.Image.Input("image_3", optional=True, tooltip="A third picture; leave it open if there is none."),
                io.String.Input("caption_3", default="", optional=True, tooltip="Written above the third picture."),
                io.Image.Input("image_4", optional=True, tooltip="A fourth picture; leave it open if there is none."),
                io.String.Input("caption_4", default="", optional=True, tooltip="Written above the fourth picture."),
            ],
            outputs=[
                io.Image.Output(
                    "comparison",
                    display_name="comparison",
                    tooltip="One row for each image of the longest batch; a single is repeated.",
                )
            ],
        )

    @classmethod
    def execute(
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
