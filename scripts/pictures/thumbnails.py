"""The workflows' thumbnails: what their runs make; settings are those of the graphs in `scripts/workflows`."""

from dataclasses import replace

from PIL import Image

from adadiffsr_core.drawing.pictures import draw_region_map
from adadiffsr_core.drawing.primitives import tensor_to_image
from adadiffsr_core.drawing.regions import report_to_regions

from .layout import THUMBNAIL, Box, crop, fill_thumbnail, join_parts, join_strips
from .results import Results, enlarge_photo

CUP: Box = (330, 30, 842, 414)  # of the coffee, px of the result, as in all that follow
SPOON: Box = (637, 420, 829, 708)
NARROW_SPOON: Box = (645, 380, 816, 764)


def upscale(results: Results) -> Image.Image:
    """The coffee, and its map."""
    done = results.make("coffee", results.small_tiles).image[0]
    region_map = results.map("coffee", results.small_tiles)
    size = done.shape[-1], done.shape[-2]
    return join_strips([fill_thumbnail(done, size), fill_thumbnail(region_map, size)])


def upscale_4x(results: Results) -> Image.Image:
    """The spoon before and after."""
    half = THUMBNAIL[0] // 2, THUMBNAIL[1]
    return join_parts(results.before_after("coffee", results.small_tiles, SPOON, half))


def own_checkpoint(results: Results) -> Image.Image:
    """The coffee as that workflow makes it before a checkpoint is chosen."""
    config = replace(results.ruled(results.by_classes, gain_threshold=3e-4), denoise=0.4)
    done = results.make("coffee", config).image[0]
    return fill_thumbnail(done, (done.shape[-1], done.shape[-2]))


def adaptive_and_uniform(results: Results) -> Image.Image:
    """Maps of the coffee by both runs, over the photo."""
    photo = enlarge_photo("coffee")
    every_third = {"rule": "paper", "intervals": (3,) * 4, "first_jump": 0.0, "visit_last": False}
    halves = []
    for config in (results.small_tiles, results.ruled(results.small_tiles, **every_third)):
        done = results.make("coffee", config)
        region_map = draw_region_map(photo, report_to_regions(done.report, done.latent_px))
        halves.append(fill_thumbnail(region_map, (photo.shape[-1], photo.shape[-2])))
    return join_strips(halves)


def compute_mask(results: Results) -> Image.Image:
    """The cat's map, with its eyes painted."""
    region_map, photo = results.map("cat", results.small_tiles, "eyes"), enlarge_photo("cat")
    return fill_thumbnail(region_map, (photo.shape[-1], photo.shape[-2]))


def quality(results: Results) -> Image.Image:
    """The spoon as a draft, by the everyday likeness and by all steps."""
    tiles = results.small_tiles
    configs = (results.ruled(tiles, likeness=30.0), tiles, tiles.every_step())
    done = [results.make("coffee", config).image[0] for config in configs]
    return join_parts([crop(each, NARROW_SPOON, (171, THUMBNAIL[1])) for each in done])


def any_guider(results: Results) -> Image.Image:
    """The cup, pixel for pixel."""
    return tensor_to_image(crop(results.make("coffee", results.by_classes).image[0], CUP, THUMBNAIL))
