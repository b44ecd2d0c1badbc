"""Nodes that measure: Run Report, Image Quality."""

import json

from comfy_api.v0_0_2 import io
from torch import Tensor

from ..adadiffsr_core.metrics.rating import rate_images
from ..adadiffsr_core.metrics.registry import create_metric, metric_names
from .images import image_to_planes, repeat_single
from .schema import TILES, Node, Of, Table
from .tiles import Tiles


class RunReport(Node):
    """What the run did, for programs."""

    table = Table(
        node_id="AdaDiffSR_RunReport",
        display_name="Run Report",
        search_aliases=["AdaDiffSR", "statistics", "json", "evaluations"],
        category="AdaDiffSR/results",
        description="Says as JSON what the run did: evaluations spent and saved, and for every tile its place, "
        "steps, classes and gains. API clients find it in the history as this node's text.",
        inputs=[TILES],
        outputs=[("report", io.String, "The report as JSON; boxes are [top, left, height, width].")],
        is_output_node=True,
    )

    @classmethod
    def execute(cls, tiles: Tiles) -> io.NodeOutput:
        """The report, as output and in the history."""
        report = json.dumps(tiles.report.to_dict() | {"latent_px": tiles.factor}, allow_nan=False)
        return io.NodeOutput(report, ui={"text": [report]})


class ImageQuality(Node):
    """How good a picture is, as a number."""

    table = Table(
        node_id="AdaDiffSR_ImageQuality",
        display_name="Image Quality",
        search_aliases=["AdaDiffSR", "metric", "psnr", "lpips", "brisque", "niqe"],
        category="AdaDiffSR/results",
        description="Measures the quality of pictures. PSNR works everywhere; the other metrics need Python "
        "packages that are for non-commercial use (pyiqa), and some download weights once.",
        inputs=[
            ("image", io.Image, "The pictures to measure; alpha is left out."),
            (
                "metric",
                Of(io.Combo, options=list(metric_names()), default="psnr"),
                "psnr to topiq_fr compare with a reference; topiq to piqe judge the picture by itself.",
            ),
            (
                "reference",
                Of(io.Image, optional=True),
                "The true picture, of the same size: one for each image, or one for all.",
            ),
        ],
        outputs=[
            ("value", io.Float, "The metric's mean over the batch."),
            ("text", io.String, "The same in words, with every image's value and the direction."),
        ],
        is_output_node=True,
    )

    @classmethod
    def execute(cls, image: Tensor, metric: str, reference: Tensor | None = None) -> io.NodeOutput:
        """Measure, and say it."""
        planes = image_to_planes(image)
        if reference is not None:
            reference = repeat_single(image_to_planes(reference), len(planes), "reference")
        value, text = rate_images(create_metric(metric), planes, reference)
        return io.NodeOutput(value, text, ui={"text": [text]})
