"""The upscaler in one node."""

import math
from dataclasses import replace
from typing import Any, get_args

import torch
from comfy_api.v0_0_2 import io, ui
from torch import Tensor

from ..adadiffsr_core.config import unknown
from ..adadiffsr_core.drawing.pictures import draw_region_map
from ..adadiffsr_core.drawing.regions import report_to_regions
from ..adadiffsr_core.errors import ConfigError
from ..adadiffsr_core.photo.enlarging import enlarge
from ..adadiffsr_core.photo.scales import Size, target_size
from ..adadiffsr_core.pipeline import Upscaled, upscale_by
from ..adadiffsr_core.sampling.compute_mask import MaskMeans, check_means, mask_to_levels
from ..adadiffsr_core.settings import PRESETS, SamplingConfig
from .host.live import say_on_node
from .host.upscaling import DENOISE, HostRestorer, embedded_model, sees_picture
from .images import image_to_planes, opacity, pictures_to_image, planes_to_image
from .schema import Node, Of, Table, check_ranges

_EVERYDAY = PRESETS["everyday"]


class UpscaleByRegions(Node):
    """From a photograph to a larger one, with the embedded model or any other."""

    table = Table(
        node_id="AdaDiffSR_UpscaleByRegions",
        display_name="Upscale by Regions",
        category="AdaDiffSR",
        description="Makes a photo larger and sharp. Each region gets only the diffusion steps that it needs. Nothing "
        "has to be downloaded or connected but the photo.",
        search_aliases=["upscale", "upscaler", "super resolution", "enlarge", "restore", "tile", "AdaDiffSR"],
        inputs=[
            ("image", io.Image, "The photo, of any size."),
            (
                "scale",
                Of(io.Float, default=4.0, min=0.1, max=16.0, step=0.5, round=0.001),
                "How many times larger. The embedded model is made for 3 to 8; for less the photo is made four times "
                "as large first, and then reduced.",
            ),
            (
                "megapixels",
                Of(io.Float, optional=True, default=0.0, min=0.0, max=256.0, step=0.5, round=0.01),
                "Size of the result in millions of pixels, instead of scale. 0 goes by scale.",
            ),
            (
                "preset",
                Of(io.Combo, optional=True, options=list(reversed(PRESETS)), default="everyday"),
                "everyday: 24 steps, of which a region takes as few as it can. paper: 200 steps as in the paper, for "
                "comparison; it takes many times as long.",
            ),
            (
                "seed",
                Of(io.Int, optional=True, default=0, min=0, max=2**64 - 1, control_after_generate=True),
                "Seed of all noise: another one draws the details anew.",
            ),
            (
                "likeness",
                Of(io.Float, optional=True, default=_EVERYDAY.dtss.likeness, min=20.0, max=100.0, step=0.5, round=0.1),
                "How near every region must come to what all steps would give, in dB. From 40 a difference is hard to "
                "see; 30 is a quick draft, 100 takes all steps.",
            ),
            (
                "mask",
                Of(io.Mask, optional=True),
                "Where to spend work, such as a mask painted on Load Image; see mask_means.",
            ),
            (
                "mask_means",
                Of(io.Combo, optional=True, options=list(get_args(MaskMeans)), default="more", advanced=True),
                "more: what is painted gets every step, the rest decides. only: what is painted is restored, the rest "
                "only enlarged. levels: black is left alone, grey decides, white gets every step.",
            ),
            (
                "model",
                Of(io.Model, optional=True),
                "Another diffusion model. Without one the model that comes with AdaDiffSR is taken.",
            ),
            ("vae", Of(io.Vae, optional=True), "The VAE of that model; needed with it."),
            ("positive", Of(io.Conditioning, optional=True), "What to show, for models that read a prompt."),
            ("negative", Of(io.Conditioning, optional=True), "What to avoid; it counts where cfg is above 1."),
            (
                "cfg",
                Of(io.Float, optional=True, default=1.0, min=0.0, max=100.0, step=0.1, round=0.01, advanced=True),
                "Guidance. The embedded model is made for 1; Stable Diffusion wants 4 to 8.",
            ),
            (
                "denoise",
                Of(io.Float, optional=True, default=0.0, min=0.0, max=1.0, step=0.01, advanced=True),
                f"How much of the picture is drawn anew. 0 chooses: 1 for models that are shown the photo, such as "
                f"the embedded one, {DENOISE:g} for all others.",
            ),
            (
                "tile_size",
                Of(io.Int, optional=True, default=0, min=0, max=4096, step=32, advanced=True),
                "Side of a region in pixels. 0 is the size that the model was trained on. Smaller ones differ more "
                "from each other, and cost a little more in all.",
            ),
        ],
        outputs=[
            ("image", io.Image, "The photo, sharp and larger."),
            ("map", io.Image, "Where the steps went: every region with its number of evaluations."),
        ],
        is_output_node=True,
    )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        scale: float,
        mask: Tensor | None = None,
        mask_means: MaskMeans = "more",
        **choices: Any,
    ) -> io.NodeOutput:
        """Upscale, draw the map, show and say how it went."""
        check_ranges(cls.table, {"scale": scale, **choices})
        check_means(mask_means)
        levels = None if mask is None else mask_to_levels(mask, mask_means)[:, None]
        planes, alpha = _split_alpha(image)
        size = choose_size((planes.shape[-2], planes.shape[-1]), scale, choices.pop("megapixels", 0.0))
        restorer, config = prepare(**choices)
        done = upscale_by(restorer, planes, size, config, mask=levels)
        regions = [report_to_regions(done.report, done.latent_px, number) for number in range(len(done.image))]
        maps = [draw_region_map(each, own) for each, own in zip(done.image, regions, strict=True)]
        result = planes_to_image(done.image if alpha is None else torch.cat([done.image, enlarge(alpha, size)], dim=1))
        said = describe(done)
        say_on_node(said)
        shown = ui.PreviewImage(result, cls=cls).as_dict() | {"text": [said]}
        return io.NodeOutput(result, pictures_to_image(maps), ui=shown)


def prepare(
    preset: str = "everyday",
    seed: int = 0,
    likeness: float = _EVERYDAY.dtss.likeness,
    denoise: float = 0.0,
    tile_size: int = 0,
    **connected: Any,
) -> tuple[HostRestorer, SamplingConfig]:
    """What restores, and how.

    Args:
        preset, seed, likeness, denoise, tile_size: see the node.
        connected: model, vae, positive, negative and cfg, those that are there.

    Raises:
        ConfigError: a choice is unknown, or only one of MODEL and VAE is there.
    """
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    model, vae = connected.pop("model", None), connected.pop("vae", None)
    if (model is None) != (vae is None):
        missing, there = ("vae", "model") if vae is None else ("model", "vae")
        raise ConfigError(f"a {there} is connected and its {missing} is not; connect both, or neither")
    if model is None:
        loaded = embedded_model()
        model, vae = loaded.model, loaded.vae
    chosen = PRESETS[preset]
    config = replace(
        chosen,
        dtss=replace(chosen.dtss, likeness=likeness),
        tile_size=tile_size,
        denoise=denoise or (1.0 if sees_picture(model) else DENOISE),
    )
    return HostRestorer(model=model, vae=vae, seed=seed, **connected), config


def choose_size(source: Size, scale: float, megapixels: float) -> Size:
    """(height, width) of the result, px, of a photo of that of the source; `megapixels` above 0 go before `scale`."""
    if not megapixels <= 0:
        scale = math.sqrt(megapixels * 1e6 / (source[0] * source[1]))
    return target_size(source, scale)


def describe(done: Upscaled) -> str:
    """How it went, in a line."""
    report = done.report
    width, height = done.image.shape[-1], done.image.shape[-2]
    lines = [
        f"{width} x {height} px in {report.seconds:.0f} s; {report.mean_nfe:.1f} of {report.base_steps} evaluations "
        f"a region, {100 * report.saved:.0f} % saved",
        *(note for note in (report.note, done.note) if note),
    ]
    return "\n".join(lines)


def _split_alpha(image: Tensor) -> tuple[Tensor, Tensor | None]:
    """Planes `[N,3,H,W]`, or `[N,4,H,W]` with opacity, which is also `[N,1,H,W]`."""
    planes, alpha = image_to_planes(image), opacity(image)
    return planes if alpha is None else torch.cat([planes, alpha], dim=1), alpha
