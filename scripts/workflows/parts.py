"""What several workflows have in common."""

from typing import Any

from .graph import Graph
from .node import Node, Output

BLUE, GREEN, AMBER, VIOLET, GREY = "#3f789e", "#4a7a4a", "#a1742a", "#6d5a9c", "#555"
NARROW, PICTURE, BROAD = 340, 560, 900
# The rule for models that the bounded one was not measured on; all end on the least noisy step.
BY_CLASSES: dict[str, Any] = {"rule": "paper", "visit_last": True}
_BOUNDED_NOTE = (
    "Each tile takes as few steps as keep it within *likeness* of what all steps would give. 40 dB spends about a "
    "third; higher spends more. *budget*, if not 0, says how many on average instead."
)
BY_CLASSES_NOTE = (
    "*rule* **paper**: each tile moves by what its steps still add. *intervals* is the ladder of strides, four equal "
    "numbers turn adaptivity off. *gain_threshold* says what counts as still improving: lower spends more steps."
)


def read_me(g: Graph, text: str) -> None:
    """What the workflow is for, at its left end."""
    g.column(NARROW)
    g.group("Read me", AMBER)
    g.note(text)


def add_picture(g: Graph) -> Node:
    """A photo, enlarged plainly."""
    g.column(NARROW)
    g.group("1  Picture", GREEN)
    g.note("For your own picture, put *Load Image* in the place of *Example Photo*.")
    photo = g.add("AdaDiffSR_ExamplePhoto", photo="cat")
    return g.add("ImageScaleBy", "Enlarge 4x", image=photo, upscale_method="bicubic", scale_by=4.0)


def add_model(g: Graph, more: str = "") -> Node:
    """The checkpoint, with a note that `more` is added to."""
    g.group("2  Model", GREEN)
    g.note(f"The embedded model needs no file and no prompt: *null_prompt* is both positive and negative. {more}")
    return g.add("AdaDiffSR_LoadCheckpoint", checkpoint="embedded model")


def add_sampler(g: Graph, checkpoint: Node, latent: Node, title: str | None = None, **inputs: Any) -> Node:
    """A Region-Aware KSampler with its defaults and `inputs`."""
    prompts = {"positive": checkpoint["null_prompt"], "negative": checkpoint["null_prompt"]}
    return g.add(
        "AdaDiffSR_RegionAwareKSampler", title, **{"model": checkpoint, "latent_image": latent, **prompts, **inputs}
    )


def sample(g: Graph, checkpoint: Node, enlarged: Node, number: int = 3, **inputs: Any) -> Node:
    """Tiles of a picture, by the bounded rule unless `inputs` say otherwise."""
    g.column(NARROW)
    g.group(f"{number}  Sample region by region", BLUE)
    g.note(BY_CLASSES_NOTE if inputs.get("rule") == "paper" else _BOUNDED_NOTE)
    latent = g.add("VAEEncode", pixels=enlarged, vae=checkpoint["vae"])
    return add_sampler(g, checkpoint, latent, **inputs)


def decode(g: Graph, checkpoint: Node, tiles: Node, enlarged: Node, **kept: Node) -> Node:
    """Tiles to a picture in the photo's colours; `mask`, if given, says where the photo's pixels stay."""
    merged = g.add("AdaDiffSR_GaussianLatentMerge", tiles=tiles)
    decoded = g.add("VAEDecode", samples=merged, vae=checkpoint["vae"])
    return g.add("AdaDiffSR_ColourMatch", image=decoded, reference=enlarged, method="wavelet", **kept)


def finish(
    g: Graph, checkpoint: Node, tiles: Node, enlarged: Node, number: int = 4, more: str = "", **kept: Node
) -> Node:
    """`decode` in a column of its own, with a note that `more` is added to."""
    g.column(NARROW)
    g.group(f"{number}  Join and decode", BLUE)
    g.note(f"Tiles are joined without seams and decoded. *Colour Match* takes the tones of the photo back{more}.")
    return decode(g, checkpoint, tiles, enlarged, **kept)


def reduce(g: Graph, result: Node, number: int) -> Node:
    """A way to less than four times, asleep until it is wanted."""
    g.group(f"{number}  Smaller (off)", GREY)
    g.note("For **less than 4x**, press **Ctrl+B** to wake it: 0.5 makes it 2x, 0.25 as large as the photo.")
    return g.add("ImageScaleBy", "Reduce", image=result, upscale_method="area", scale_by=0.5).bypassed()


def save(g: Graph, result: Node, prefix: str, number: int) -> None:
    """Save a picture, its name beginning with `prefix`."""
    g.column(PICTURE)
    g.group(f"{number}  Save", VIOLET)
    g.add("SaveImage", images=result, filename_prefix=f"AdaDiffSR/{prefix}").tall(430)


def show_map(g: Graph, tiles: Node, result: Node, number: int) -> None:
    """Evaluations of each tile, below the last box."""
    g.group(f"{number}  Where the steps went", VIOLET)
    g.note("The number on a tile is its evaluations, its frame what it was doing at its end.")
    region_map = g.add("AdaDiffSR_RegionMap", tiles=tiles, image=result)
    g.add("PreviewImage", "Region map", images=region_map).tall(430)


def show_account(g: Graph, tiles: Node, number: int) -> None:
    """What the run did, as a plot and as text, in a column of its own."""
    g.column(PICTURE)
    g.group(f"{number}  What each step added", VIOLET)
    g.note("One line for each tile, from noise on the left to the clean picture on the right.")
    g.add("PreviewImage", "Gain curves", images=g.add("AdaDiffSR_GainCurves", tiles=tiles)).tall(320)
    show_report(g, tiles, number + 1)


def show_report(g: Graph, tiles: Node, number: int) -> None:
    """The report as text, below the last box."""
    g.group(f"{number}  Report", VIOLET)
    g.note("All that the run did, as JSON. API clients find it in the history too.")
    g.add("PreviewAny", "Report", source=g.add("AdaDiffSR_RunReport", tiles=tiles)).tall(260)


def show_comparison(g: Graph, prefix: str, **pictures: Node | Output) -> None:
    """Pictures side by side under their names, and saved."""
    numbered = list(enumerate(pictures.items(), start=1))
    images = {f"image_{number}": image for number, (_, image) in numbered}
    captions = {f"caption_{number}": caption for number, (caption, _) in numbered}
    comparison = g.add("AdaDiffSR_Compare", **images, **captions)
    g.add("SaveImage", images=comparison, filename_prefix=f"AdaDiffSR/{prefix}").tall(330)
