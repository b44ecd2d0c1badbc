"""The pictures of README and of the help pages; what each shows is said on its page."""

import torch
from PIL import Image
from torch import Tensor

from adadiffsr_core import SamplingConfig
from adadiffsr_core.drawing.gain_curves import draw_gain_curves
from adadiffsr_core.drawing.pictures import draw_comparison
from adadiffsr_core.drawing.primitives import tensor_to_image
from adadiffsr_core.metrics.psnr import psnr
from adadiffsr_core.photo.colour import match_colour
from adadiffsr_core.photo.enlarging import enlarge, reduce

from .layout import Box, crop, lay_beside, resize, set_on_paper
from .results import SCALE, Results, count_evaluations, enlarge_photo, load_photo

FACE: Box = (60, 40, 780, 579)  # of the cat, with both eyes and the whiskers; px of the result, as in all that follow
EYES: Box = (258, 40, 694, 440)
CUP: Box = (192, 30, 852, 576)
CUP_IN_PHOTO: Box = (80, 8, 240, 168)  # px of the photo
CAST = (0.15, 0.0, -0.45)  # what a channel gains at the right edge, as a share


def result(results: Results) -> Image.Image:
    """The cat's face before and after."""
    before, after = results.before_after("cat", results.everyday, FACE, (553, 414))
    done = results.make("cat", results.everyday)
    evaluations = f"{count_evaluations(done)} of {done.report.base_steps} evaluations per tile"
    return _beside((f"photo, enlarged {SCALE}x", before), (f"result, {evaluations}", after))


def steps_by_region(results: Results) -> Image.Image:
    """The harbour, and its map: sky, foliage and water."""
    done = results.make("harbour", results.small_tiles)
    return lay_beside(
        [tensor_to_image(done.image[0]), Image.fromarray(results.map("harbour", results.small_tiles))], 560
    )


def ksampler(results: Results) -> Image.Image:
    """The cat's eyes before and after."""
    before, after = results.before_after("cat", results.everyday, EYES, (360, 330))
    done = results.make("cat", results.everyday)
    evaluations = f"{count_evaluations(done)} of {done.report.base_steps} evaluations per tile"
    return _beside(("before (bicubic)", before), (f"after, {evaluations}", after))


def compare(results: Results) -> Image.Image:
    """The cat's eyes before, by few evaluations and by all."""
    everyday, all_steps = results.everyday, results.everyday.every_step()
    before, adaptive = results.before_after("cat", everyday, EYES, (360, 330))
    _, uniform = results.before_after("cat", all_steps, EYES, (360, 330))
    few, all_ = (count_evaluations(results.make("cat", config)) for config in (everyday, all_steps))
    row = (("before", before), (f"adaptive, {few} evaluations", adaptive), (f"every step, {all_} evaluations", uniform))
    return resize(_beside(*row), (1000, 333))


def upscale_by_regions(results: Results) -> Image.Image:
    """The cat, the result, and the map."""
    done = results.make("cat", results.everyday)
    photos = [tensor_to_image(each) for each in (enlarge_photo("cat"), done.image[0])]
    return lay_beside([*photos, Image.fromarray(results.map("cat", results.everyday))], 300)


def region_map(results: Results) -> Image.Image:
    """The coffee's map by the paper's rule, whose frames are of more than one kind."""
    return resize(results.map("coffee", _ruled_by_classes(results)), (900, 642))


def mask(results: Results) -> Image.Image:
    """The cat's map, left third masked black, middle grey, right white."""
    return set_on_paper(results.map("cat", results.small_tiles, "thirds"), (900, 646))


def colour_match(results: Results) -> Image.Image:
    """The coffee, a result whose colours are off towards the right, and what both methods make of it."""
    photo, made = enlarge_photo("coffee"), results.make("coffee", results.everyday).image[0]
    towards_right = torch.linspace(0, 1, made.shape[-1])
    cast = (made * (1 + made.new_tensor(CAST)[:, None, None] * towards_right)).clamp(0, 1)
    methods = {name: match_colour(cast[None], photo[None], name)[0].clamp(0, 1) for name in ("wavelet", "adain")}
    row = {"photo": photo, "result with a cast": cast, **methods}
    return resize(_beside(*((name, crop(image, CUP, (360, 298))) for name, image in row.items())), (1100, 251))


def gain_curves(results: Results) -> Image.Image:
    """The gains of the run in `region_map`, with their median."""
    return resize(draw_gain_curves(results.make("coffee", _ruled_by_classes(results)).report), (1100, 532))


def image_quality(results: Results) -> Image.Image:
    """The coffee, and copies that lost detail, with their PSNR to it; no model takes part."""
    reference = crop(load_photo("coffee"), CUP_IN_PHOTO, (160, 160))[None]
    row = [("reference", reference)]
    for factor in (2, 4):
        small = reduce(reference, (160 // factor, 160 // factor))
        copy = enlarge(small, (160, 160))
        row.append((f"shrunk by {factor}, enlarged: psnr {float(psnr(copy, reference)):.2f}", copy))
    return _beside(*((caption, enlarge(image, (320, 320))[0]) for caption, image in row))


def _ruled_by_classes(results: Results) -> SamplingConfig:
    """The paper's rule as the embedded model wants it, with its `first_jump`, and enough tiles for a median."""
    return results.ruled(results.small_tiles, rule="paper", visit_last=True)


def _beside(*images: tuple[str, Tensor]) -> Image.Image:
    return Image.fromarray(draw_comparison(images))
