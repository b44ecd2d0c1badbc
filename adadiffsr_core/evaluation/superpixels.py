"""Table 6: regions that follow the picture instead of a grid.

The paper takes its segments from SAM and its kin, whose weights cannot be had everywhere; here they are SLIC's
superpixels (Achanta et al. 2012, by scikit-image).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError, ShapeError, import_extra
from ..models.model import Model
from ..photo.colour import match_colour
from ..photo.enlarging import enlarge
from ..pipeline import sample_latent
from ..sampling.report import RunReport
from ..settings import SamplingConfig

_Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class UpscaledSegments:
    """What `upscale_superpixels` returns.

    Attributes:
        image: `[1,3,H,W]` float32 in [0,1], on the CPU.
        report: where the evaluations went; its tiles lie where they were sampled on the picture's canvas, may reach
            over its right and lower edge, and are in no order.
        segments: which segment each latent pixel belongs to, `[h,w]` from 0.
        factor: image px per latent px.
    """

    image: Tensor
    report: RunReport
    segments: Tensor
    factor: int


def find_segments(image: Tensor, segments: int) -> Tensor:
    """Superpixels of a picture `[1,3,h,w]` in [0,1]: the number of each pixel's, `[h,w]`; about `segments` of them.

    Source: Table 6; SLIC with scikit-image's defaults.

    Raises:
        ConfigError: no segments are asked for.
        ShapeError: there is not exactly one picture.
        MissingExtraError: scikit-image is not installed.
    """
    if segments < 1:
        raise ConfigError(f"a picture must have at least 1 segment, got {segments}")
    if image.ndim != 4 or image.shape[:2] != (1, 3) or 0 in image.shape:
        raise ShapeError(f"superpixels are found in one picture [1,3,height,width], got {tuple(image.shape)}")
    module = import_extra("skimage.segmentation", "superpixels need scikit-image: pip install 'adadiffsr[eval]'")
    levels = image[0].permute(1, 2, 0).float().cpu().numpy()
    return torch.from_numpy(module.slic(levels, n_segments=segments, start_label=0))


def segment_weights(segments: Tensor, border: int) -> Tensor:
    """How much each segment counts at each place: 1 inside, falling to 0 from `border` px before its edge to as far
    behind it; the sum over segments is 1 everywhere.

    Source: decision D30.

    Args:
        segments: the number of each latent pixel's segment, `[h,w]`; every number from 0 on occurs.
        border: from 0, latent px.

    Returns:
        `[S,1,h,w]` float32 in [0,1].
    """
    masks = F.one_hot(segments).permute(2, 0, 1)[:, None].float()
    return F.avg_pool2d(masks, 2 * border + 1, stride=1, padding=border, count_include_pad=False)


@torch.inference_mode()
def sample_segments(
    model: Model, lq_latent: Tensor, segments: Tensor, config: SamplingConfig
) -> tuple[Tensor, RunReport]:
    """Restore a low-quality latent segment by segment.

    Each is cut out by the box about it, zero outside itself and its soft border, and filled up with zeros to a
    tile of the trained size. A box that is larger is cut into tiles as a picture would be, of which those that hold
    nothing of the segment are not evaluated. Segments share no noise, as pictures of a batch do not.

    Source: the text of Table 6, "slice or fill these segmentation results into fixed resolution regions using
    zero-padding"; decision D30.

    Args:
        model: the networks.
        lq_latent: `[1,C,h,w]` float32.
        segments: see `segment_weights`.
        config: how to sample; tiles have the trained size whatever `tile_fit` says. Soft borders are as wide as tiles
            overlap.

    Returns:
        Latents `[1,C,h,w]`, and the report of all tiles of all segments.
    """
    config = replace(config, tile_fit=False)
    weights = segment_weights(segments, config.overlap // model.sizes.factor // 2).to(lq_latent.device)
    restored = torch.zeros_like(lq_latent)
    reports = []
    for size, boxes in _by_size(map(_box_about, weights), config.tile_side(model.sizes)).items():
        numbers, corners = list(boxes), list(boxes.values())
        kept = weights[numbers] > 0
        regions, places = _cut(lq_latent * kept, corners, size), _cut(kept.float(), corners, size)
        # 0 is never evaluated, 0.5 leaves a tile to the controller.
        sampled, report, _ = sample_latent(model, regions, config, mask=places / 2)
        for number, region, (top, left, bottom, right) in zip(numbers, sampled, corners, strict=True):
            share = weights[number, :, top:bottom, left:right]
            restored[0, :, top:bottom, left:right] += region[:, : bottom - top, : right - left] * share
        reports.append(_move_tiles(report, corners))
    return restored, _join(reports)


def upscale_superpixels(
    model: Model, image: Tensor, size: tuple[int, int], config: SamplingConfig, *, segments: int = 12
) -> UpscaledSegments:
    """Upscale a picture by superpixels in place of a grid; otherwise as `pipeline.upscale`.

    With one segment and `tile_fit` off it is the same to the bit, if the latent is at least a tile high and wide.

    Source: Table 6.

    Args:
        model: the networks.
        image: `[1,3,h,w]` in [0,1].
        size: (height, width) of the result, px.
        config: how to sample.
        segments: about how many.

    Raises:
        ShapeError: there is not exactly one picture.
        ConfigError: the size or the number of segments is below 1.
        MissingExtraError: scikit-image is not installed.
    """
    if min(size) < 1:
        raise ConfigError(f"the result must be at least 1x1 px, got {size[1]}x{size[0]}")
    found = find_segments(image, segments)
    factor, enlarged = model.autoencoder.config.factor, enlarge(image, size)
    height, width = (-(-side // factor) for side in size)
    bottom, right = height * factor - size[0], width * factor - size[1]
    lq_latent = model.encode(F.pad(enlarged, (0, right, 0, bottom), mode="replicate"))
    small = F.interpolate(found[None, None].float(), size=(height, width), mode="nearest-exact")[0, 0]
    # A segment may be too thin for any latent pixel; the others then count on without it.
    numbers = torch.unique(small, return_inverse=True)[1]
    latent, report = sample_segments(model, lq_latent, numbers, config)
    restored = model.decode(latent)[..., : size[0], : size[1]].cpu()
    return UpscaledSegments(match_colour(restored, enlarged, config.colour).clamp(0, 1), report, numbers, factor)


def _box_about(weight: Tensor) -> _Box:
    """(top, left, bottom, right) of where a `[1,h,w]` weight is above 0, bottom and right exclusive."""
    places = weight[0].nonzero()
    (top, left), (bottom, right) = places.amin(dim=0).tolist(), (places.amax(dim=0) + 1).tolist()
    return top, left, bottom, right


def _by_size(boxes: Iterable[_Box], tile: int) -> dict[tuple[int, int], dict[int, _Box]]:
    """Boxes by the size of the region that holds them, (height, width), at least a tile: one size is one batch."""
    sizes: dict[tuple[int, int], dict[int, _Box]] = {}
    for number, (top, left, bottom, right) in enumerate(boxes):
        sizes.setdefault((max(bottom - top, tile), max(right - left, tile)), {})[number] = top, left, bottom, right
    return sizes


def _cut(canvases: Tensor, boxes: Sequence[_Box], size: tuple[int, int]) -> Tensor:
    """Each canvas's box, filled up with zeros to the right and downwards: `[B,C,h,w]` to `[B,C,*size]`."""
    regions = canvases.new_zeros(*canvases.shape[:2], *size)
    for region, canvas, (top, left, bottom, right) in zip(regions, canvases, boxes, strict=True):
        region[:, : bottom - top, : right - left] = canvas[:, top:bottom, left:right]
    return regions


def _move_tiles(report: RunReport, boxes: Sequence[_Box]) -> RunReport:
    """From places in a region to places on the one canvas."""
    corners = [boxes[tile.image][:2] for tile in report.tiles]
    moved = (
        replace(tile, image=0, top=tile.top + top, left=tile.left + left)
        for tile, (top, left) in zip(report.tiles, corners, strict=True)
    )
    return replace(report, tiles=tuple(moved))


def _join(reports: Sequence[RunReport]) -> RunReport:
    """One report of all."""
    return replace(
        reports[0],
        tiles=tuple(tile for report in reports for tile in report.tiles),
        calls=tuple(call for report in reports for call in report.calls),
        seconds=sum(report.seconds for report in reports),
    )
