"""Example Photo."""

from pathlib import Path

import numpy as np
from comfy_api.v0_0_2 import io
from PIL import Image

from ..adadiffsr_core.config import unknown
from ..adadiffsr_core.errors import ImageError
from .images import pictures_to_image
from .schema import Node, Of, Table

FOLDER = Path(__file__).parents[1] / "photos"  # not `examples`: the host would take that for workflows
PHOTOS = ("cat", "coffee", "astronaut", "hotel", "harbour", "receipt")


class ExamplePhoto(Node):
    """A photo to try things on, without a file of one's own."""

    table = Table(
        node_id="AdaDiffSR_ExamplePhoto",
        display_name="Example Photo",
        search_aliases=["AdaDiffSR", "sample image", "test image", "photo"],
        category="AdaDiffSR/image",
        description="A small photo that comes with AdaDiffSR, so that workflows run at once. Put Load Image in its "
        "place for a photo of your own.",
        inputs=[
            (
                "photo",
                Of(io.Combo, options=list(PHOTOS), default="cat"),
                "All are free to use: see the README in the pack's folder photos.",
            )
        ],
        outputs=[("image", io.Image, "The photo, 150 to 300 px on a side.")],
    )

    @classmethod
    def execute(cls, photo: str) -> io.NodeOutput:
        """Read it."""
        if photo not in PHOTOS:  # older hosts do not check what is chosen from a list
            raise unknown("photo", photo, PHOTOS)
        path = FOLDER / f"{photo}.jpg"
        try:
            with Image.open(path, formats=["JPEG"]) as opened:
                levels = np.array(opened.convert("RGB"))
        except OSError:
            raise ImageError(
                f"photos/{path.name} is missing from the pack or damaged; install AdaDiffSR again"
            ) from None
        return io.NodeOutput(pictures_to_image([levels]))
