"""Every picture that shows what the embedded model does: where it is, how large, and who draws it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from PIL import Image

from . import pages, thumbnails
from .layout import THUMBNAIL
from .results import Results

DOCS_BYTES, HELP_BYTES, THUMBNAIL_BYTES = 100_000, 80_000, 60_000


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One file.

    Attributes:
        path: below the repository's root.
        size: (width, height), px.
        limit: bytes that the file stays below.
        draw: draws it.
    """

    path: str
    size: tuple[int, int]
    limit: int
    draw: Callable[[Results], Image.Image]

    @property
    def name(self) -> str:
        """What it is asked for by: its file's name without ending and `adadiffsr_`."""
        return self.path.rpartition("/")[2].removesuffix(".jpg").removeprefix("adadiffsr_")


ALBUM: tuple[Picture, ...] = (
    Picture(path="docs/img/result.jpg", size=(1130, 454), limit=DOCS_BYTES, draw=pages.result),
    Picture(path="docs/img/steps_by_region.jpg", size=(1097, 560), limit=DOCS_BYTES, draw=pages.steps_by_region),
    Picture(path="docs/img/region_map.jpg", size=(900, 646), limit=DOCS_BYTES, draw=pages.mask),
    *(
        Picture(path=f"web/docs/img/{draw.__name__}.jpg", size=size, limit=HELP_BYTES, draw=draw)
        for draw, size in (
            (pages.ksampler, (744, 370)),
            (pages.upscale_by_regions, (1328, 300)),
            (pages.compare, (1000, 333)),
            (pages.region_map, (900, 642)),
            (pages.mask, (900, 646)),
            (pages.colour_match, (1100, 251)),
            (pages.gain_curves, (1100, 532)),
            (pages.image_quality, (992, 360)),
        )
    ),
    *(
        Picture(path=f"workflows/adadiffsr_{draw.__name__}.jpg", size=THUMBNAIL, limit=THUMBNAIL_BYTES, draw=draw)
        for draw in (
            thumbnails.upscale,
            thumbnails.upscale_4x,
            thumbnails.own_checkpoint,
            thumbnails.adaptive_and_uniform,
            thumbnails.compute_mask,
            thumbnails.quality,
            thumbnails.any_guider,
        )
    ),
)


def choose_pictures(names: Iterable[str]) -> list[Picture]:
    """Those of the `ALBUM` with these names, or all of them if there are none."""
    wanted = set(names)
    return [picture for picture in ALBUM if not wanted or picture.name in wanted]
