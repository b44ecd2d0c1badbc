"""Colour Match."""

from typing import get_args

import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from ..adadiffsr_core.photo.colour import ColourMatch as Method
from ..adadiffsr_core.photo.colour import match_colour
from ..adadiffsr_core.photo.enlarging import enlarge
from ..adadiffsr_core.sampling.compute_mask import MaskMeans, check_means, fit_pixels, keep_pixels, mask_to_levels
from .images import crop_as_encoded, image_to_planes, opacity, planes_to_image, repeat_single
from .schema import Node, Of, Table


class ColourMatch(Node):
    """The photo's colours under the result's details."""

    table = Table(
        node_id="AdaDiffSR_ColourMatch",
        display_name="Colour Match",
        search_aliases=["AdaDiffSR", "color match", "colour transfer", "wavelet", "adain"],
        category="AdaDiffSR/image",
        description="Gives the result the colours of the photo it came from; diffusion shifts them a little.",
        inputs=[
            ("image", io.Image, "The result, from VAE Decode."),
            (
                "reference",
                io.Image,
                "The photo that went in, of any size; it is stretched to the result's. One for each image, "
                "or one for all.",
            ),
            (
                "method",
                Of(io.Combo, options=["wavelet", "adain"], default="wavelet"),
                "wavelet takes over colours place by place; adain only each channel's mean and contrast.",
            ),
            (
                "mask",
                Of(io.Mask, optional=True),
                "The compute mask or noise mask of the run: where it is black the reference's own pixels "
                "come back, which encoding and decoding would change.",
            ),
            (
                "mask_means",
                Of(io.Combo, options=list(get_args(MaskMeans)), default="levels", optional=True, advanced=True),
                "As on the sampler. more leaves nothing alone, so that nothing is put back.",
            ),
        ],
        outputs=[("matched", io.Image, "The result in the photo's colours.")],
    )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        reference: Tensor,
        method: Method,
        mask: Tensor | None = None,
        mask_means: MaskMeans = "levels",
    ) -> io.NodeOutput:
        """Match every image to its reference, and put the reference back where the mask is black."""
        check_means(mask_means)
        planes = image_to_planes(image)
        size = (planes.shape[-2], planes.shape[-1])
        original = enlarge(crop_as_encoded(image_to_planes(reference), size), size)
        original = repeat_single(original, len(planes), "reference")
        matched = match_colour(planes, original, method).clamp(0, 1)
        if mask is not None:
            levels = fit_pixels(crop_as_encoded(mask_to_levels(mask, mask_means), size), size)
            matched = keep_pixels(matched, original, repeat_single(levels, len(planes), "mask"))
        # Encoding and decoding lost it, and the photo has it still.
        alpha = opacity(reference) if opacity(image) is None else opacity(image)
        if alpha is not None:
            fitted = enlarge(crop_as_encoded(alpha, size), size)
            matched = torch.cat([matched, repeat_single(fitted, len(planes), "reference")], dim=1)
        return io.NodeOutput(planes_to_image(matched))
