"""What several workflows have in common."""

from typing import Any

from .graph import Column, Graph
from .layout import GAP, MARGIN
from .node import Node, Output

BLUE, GREEN, AMBER, VIOLET, GREY = "#3f789e", "#4a7a4a", "#a1742a", "#6d5a9c", "#555"
# Columns, px. LOAD_IMAGE is how wide and high that node is, which people put in the place of Example Photo.
TEXT, LOAD_IMAGE, LINKED, PICTURE = 290, 315, 225, 350
NARROW, TITLED = 221, 237  # where there are many columns: of text, and of what has a long title
BETWEEN = GAP + 2 * MARGIN  # of the nodes of two columns
PREVIEW, SAVED, TEXT_SHOWN = 248, 280, 130  # the least heights that the front end leaves as they are
UPSCALER_ROOM = 582  # of Upscale by Regions once it shows its result
# The rule for models that the bounded one was not measured on; all end on the least noisy step.
BY_CLASSES: dict[str, Any] = {"rule": "paper", "visit_last": True}


def read_me(g: Graph, text: str, width: int = TEXT) -> Column:
    """What the workflow is for, at its left end; the column that it is in."""
    column = g.column(width)
    g.group("Read me", AMBER)
    g.note(text)
    return column


def add_photo(g: Graph, photo: str = "coffee") -> Node:
    """A photo, with room for one's own."""
    node = g.add("AdaDiffSR_ExamplePhoto", photo=photo)
    return node.with_room(LOAD_IMAGE)


def add_model(g: Graph, number: int = 1) -> Node:
    """The checkpoint, below the last box."""
    g.group(f"{number}  Model", GREEN)
    return g.add("AdaDiffSR_LoadCheckpoint", checkpoint="embedded model")


def add_picture(g: Graph, checkpoint: Node, number: int = 2, photo: Output | None = None) -> tuple[Node, Node]:
    """A photo, enlarged plainly, and its latent."""
    g.column(LOAD_IMAGE)
    g.group(f"{number}  Picture", GREEN)
    enlarged = enlarge(g, photo)
    return enlarged, g.add("VAEEncode", pixels=enlarged, vae=checkpoint["vae"])


def enlarge(g: Graph, photo: Node | Output | None = None) -> Node:
    """A `photo`, or one that is added, enlarged plainly, below the last node."""
    return g.add("ImageScaleBy", "Enlarge 4x", image=photo or add_photo(g), upscale_method="bicubic", scale_by=4.0)


def add_sampler(g: Graph, checkpoint: Node, latent: Node, title: str | None = None, **inputs: Any) -> Node:
    """A Region-Aware KSampler with its defaults and `inputs`."""
    prompts = {"positive": checkpoint["null_prompt"], "negative": checkpoint["null_prompt"]}
    inputs = {"model": checkpoint, "latent_image": latent, **prompts, **inputs}
    return g.add("AdaDiffSR_RegionAwareKSampler", title, **inputs).growing()


def sample(g: Graph, checkpoint: Node, latent: Node, number: int = 3, **inputs: Any) -> Node:
    """Tiles of a picture, in a column whose lower end is free: while it runs, the sampler grows."""
    g.column(LINKED)
    g.group(f"{number}  Sample regions", BLUE)
    return add_sampler(g, checkpoint, latent, **inputs)


def finish(g: Graph, checkpoint: Node, tiles: Node, enlarged: Node, number: int = 4) -> Node:
    """Tiles to a picture in the photo's colours, in a column of its own."""
    g.column(LINKED)
    g.group(f"{number}  Join and decode", BLUE)
    merged = g.add("AdaDiffSR_GaussianLatentMerge", tiles=tiles)
    decoded = g.add("VAEDecode", samples=merged, vae=checkpoint["vae"])
    return g.add("AdaDiffSR_ColourMatch", image=decoded, reference=enlarged, method="wavelet")


def reduce(g: Graph, result: Node) -> Node:
    """A way to less than four times, asleep until it is wanted."""
    return g.add("ImageScaleBy", "Reduce (off)", image=result, upscale_method="area", scale_by=0.5).bypassed()


def save(g: Graph, result: Node | Output, prefix: str, number: int, height: int = SAVED) -> None:
    """Save a picture, its name beginning with `prefix`."""
    g.group(f"{number}  Save", VIOLET)
    g.add("SaveImage", images=result, filename_prefix=f"AdaDiffSR/{prefix}").tall(height)


def show_map(g: Graph, tiles: Node, result: Node, number: int, height: int = PREVIEW) -> None:
    """Evaluations of each tile, below the last box."""
    g.group(f"{number}  Where the steps went", VIOLET)
    region_map = g.add("AdaDiffSR_RegionMap", tiles=tiles, image=result).folded()
    g.add("PreviewImage", "Evaluations of each region", images=region_map).tall(height)


def show_curves(g: Graph, tiles: Node, number: int) -> None:
    """What each step added, below the last box."""
    g.group(f"{number}  What each step added", VIOLET)
    curves = g.add("AdaDiffSR_GainCurves", tiles=tiles).folded()
    g.add("PreviewImage", "One line for each region", images=curves).tall(PREVIEW)


def show_report(g: Graph, tiles: Node, number: int) -> None:
    """All that the run did, as JSON, below the last box."""
    g.group(f"{number}  Report", VIOLET)
    report = g.add("AdaDiffSR_RunReport", tiles=tiles).folded()
    g.add("PreviewAny", "Report", source=report).tall(TEXT_SHOWN)


def show_comparison(g: Graph, title: str, **pictures: Node | Output) -> None:
    """Pictures side by side under their names."""
    numbered = list(enumerate(pictures.items(), start=1))
    images = {f"image_{number}": image for number, (_, image) in numbered}
    captions = {f"caption_{number}": caption.replace("_", " ") for number, (caption, _) in numbered}
    comparison = g.add("AdaDiffSR_Compare", **images, **captions).folded()
    g.add("PreviewImage", title, images=comparison).tall(PREVIEW)


def upscale_node(g: Graph, photo: Node, title: str | None = None, **inputs: Any) -> Node:
    """The whole upscaler in one node, with room for the picture that it shows."""
    node = g.add("AdaDiffSR_UpscaleByRegions", title, **{"image": photo, "tile_size": 256, **inputs})
    return node.with_room(UPSCALER_ROOM).growing()
