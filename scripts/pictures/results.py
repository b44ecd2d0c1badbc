"""What pictures are made of: example photographs, and what the model makes of them, each once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adadiffsr_core import Model, SamplingConfig, Upscaled, read_photo, upscale
from adadiffsr_core.drawing.pictures import draw_region_map
from adadiffsr_core.drawing.regions import report_to_regions
from adadiffsr_core.photo.enlarging import enlarge
from adadiffsr_core.sampling.compute_mask import mask_to_levels

from ..workflows.one_node import EYES
from .layout import Box, Pixels, crop

SCALE = 4
PHOTOS = Path(__file__).resolve().parents[2] / "photos"


@dataclass(frozen=True)
class Results:
    """Photographs enlarged by one model, kept so that pictures share them.

    Attributes:
        model: the networks.
        everyday: what the pictures' settings are variants of.
        made: what was made before, by photograph, settings and mask.
    """

    model: Model
    everyday: SamplingConfig
    made: dict[tuple[str, SamplingConfig, str], Upscaled] = field(default_factory=dict)

    @property
    def small_tiles(self) -> SamplingConfig:
        """The everyday settings with tiles of 256 px, as the workflows have them."""
        return replace(self.everyday, tile_size=256)

    @property
    def by_classes(self) -> SamplingConfig:
        """The paper's rule with the defaults of the node Region-Aware KSampler, ended on the last step."""
        return self.ruled(self.everyday, rule="paper", visit_last=True, first_jump=0.0)

    @staticmethod
    def ruled(config: SamplingConfig, **numbers: Any) -> SamplingConfig:
        """The same settings with other numbers of `DtssConfig`."""
        return replace(config, dtss=replace(config.dtss, **numbers))

    def make(self, photo: str, config: SamplingConfig, mask: str = "") -> Upscaled:
        """A photograph made `SCALE` times as large.

        Args:
            photo: its file's name in `PHOTOS`, without ending.
            config: how to sample.
            mask: the name of one of `MASKS`, or none.
        """
        key = photo, config, mask
        if key not in self.made:
            pixels = load_photo(photo)
            height, width = pixels.shape[-2:]
            levels = MASKS[mask](height, width)[None] if mask else None
            size = SCALE * height, SCALE * width
            self.made[key] = upscale(self.model, pixels[None], size, config, mask=levels)
        return self.made[key]

    def map(self, photo: str, config: SamplingConfig, mask: str = "") -> Pixels:
        """The region map of `make`, [height, width, 3] uint8, drawn on the result."""
        done = self.make(photo, config, mask)
        return draw_region_map(done.image[0], report_to_regions(done.report, done.latent_px))

    def before_after(
        self, photo: str, config: SamplingConfig, box: Box, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """A part of the photograph enlarged by bicubic interpolation, and of `make`.

        Args:
            photo: as in `make`.
            config: as in `make`.
            box: the part, px of the result.
            size: (width, height) that it is shown at, px.
        """
        done = self.make(photo, config).image[0]
        return crop(enlarge_photo(photo), box, size), crop(done, box, size)


def load_photo(name: str) -> Tensor:
    """An example photograph, [3, h, w] float32 in [0, 1]."""
    return read_photo(PHOTOS / f"{name}.jpg").pixels[:3]


def enlarge_photo(name: str) -> Tensor:
    """The same `SCALE` times as large by bicubic interpolation."""
    photo = load_photo(name)
    height, width = photo.shape[-2:]
    return enlarge(photo[None], (SCALE * height, SCALE * width))[0]


def count_evaluations(done: Upscaled) -> str:
    """Evaluations that a tile took, to a tenth and without a zero after the point: 8.5, or 7."""
    return f"{round(done.report.mean_nfe, 1):g}"


def _paint_thirds(height: int, width: int) -> Tensor:
    """Left third black, middle grey, right white."""
    levels = torch.full((1, height, width), 0.5)
    levels[..., : width // 3], levels[..., -(width // 3) :] = 0, 1
    return levels


def _paint_eyes(height: int, width: int) -> Tensor:
    """The eyes of the cat painted, to get more."""
    left, top, right, bottom = EYES
    mask = torch.zeros(height, width)
    mask[top:bottom, left:right] = 1
    return mask_to_levels(mask, "more")


# Levels [1, h, w] in [0, 1] for a photograph of this height and width, px.
MASKS: Mapping[str, Callable[[int, int], Tensor]] = {"thirds": _paint_thirds, "eyes": _paint_eyes}
