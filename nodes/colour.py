"""Colour Match."""

from comfy_api.v0_0_2 import io
from torch import Tensor

from ..adadiffsr_core.colour import match_colour
from ..adadiffsr_core.enlarging import enlarge
from .images import image_to_planes, planes_to_image, repeat_single


class ColourMatch(io.ComfyNode):
    """The photo's colours under the result's details."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See the host's node API."""
        return io.Schema(
            node_id="AdaDiffSR_ColourMatch",
            display_name="Colour Match",
            category="AdaDiffSR/image",
            description="Gives the result the colours of the photo it came from; diffusion shifts them a little.",
            inputs=[
                io.Image.Input("image", tooltip="The result, from VAE Decode."),
                io.Image.Input(
                    "reference",
                    tooltip="The photo that went in, of any size; it is stretched to the result's. One for each image, "
                    "or one for all.",
                ),
                io.Combo.Input(
                    "method",
                    options=["wavelet", "adain"],
                    default="wavelet",
                    tooltip="wavelet takes over colours place by place; adain only each channel's mean and contrast.",
                ),
            ],
            outputs=[io.Image.Output("matched", display_name="matched", tooltip="The result in the photo's colours.")],
        )

    @classmethod
    def execute(cls, image: Tensor, reference: Tensor, method: str) -> io.NodeOutput:
        """Match every image to its reference."""
        planes = image_to_planes(image)
        enlarged = enlarge(image_to_planes(reference), tuple(planes.shape[-2:]))
        matched = match_colour(planes, repeat_single(enlarged, len(planes), "reference"), method)
        return io.NodeOutput(planes_to_image(matched))
