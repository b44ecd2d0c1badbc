"""Workflows about Upscale by Regions, the whole upscaler in one node."""

from .graph import Graph
from .parts import (
    BETWEEN,
    BLUE,
    GREEN,
    LINKED,
    LOAD_IMAGE,
    PREVIEW,
    SAVED,
    TEXT_SHOWN,
    VIOLET,
    add_photo,
    read_me,
    save,
    show_comparison,
    upscale_node,
)

_WIDE, _BEFORE_AFTER = 486, 550  # of pictures side by side, px
_BELOW = 270  # of the first of two columns below these
EYES = (76, 34, 160, 76)  # left, top, right and bottom, px, of the cat, whose photo is 224 x 150 px


def upscale(g: Graph) -> None:
    """A photo in, a sharp one four times as large out, and where the work went."""
    read_me(
        g,
        """
# Upscale a photo

Press **Run**. Nothing has to be downloaded.

**Your own picture**: put a *Load Image* node in the place of *Example Photo*.

**What to see**: every region got only the steps it needs. On the map the number is its steps, out of 24. The smooth
saucer takes few, the grain of the wood takes more.

**What to change**
- *scale*, or *megapixels*
- *likeness*: how near to all steps. 30 is a draft, 42 hard to tell from all, 50 slower.
- *tile_size*: 256 shows differences; 0 is the model's own.
""",
    )
    g.column(LOAD_IMAGE)
    g.group("1  Photo", GREEN)
    photo = add_photo(g)
    g.column(LOAD_IMAGE)
    g.group("2  Upscale", BLUE)
    done = upscale_node(g, photo, scale=4.0)
    wide = g.column(_BEFORE_AFTER)
    g.group("3  Before and after", VIOLET)
    show_comparison(g, "Before and after", before=photo, after=done)
    g.column(_BELOW, wide)
    g.group("4  Where the steps went", VIOLET)
    g.add("PreviewImage", "Evaluations of each region", images=done["map"]).tall(SAVED)
    g.column(_BEFORE_AFTER - _BELOW - BETWEEN)
    save(g, done, "upscaled", 5)


def compute_mask(g: Graph) -> None:
    """The artist paints where work is done."""
    read_me(
        g,
        """
# Paint where work is done

*mask_means* says what a mask tells *Upscale by Regions*:

- **more**: what is painted gets **every step**, the rest decides for itself.
- **only**: what is painted is restored, the rest is **only enlarged** and costs nothing.
- **levels**: black is left alone, grey decides, white gets every step.

Here the eyes are painted: compare the maps.

**To paint yourself**: put *Load Image* in the place of *Example Photo*, right-click it, *Open in Mask Editor*, and
connect its *MASK* to both *mask*.
""",
        LOAD_IMAGE,
    )
    g.group("1  Photo", GREEN)
    photo = add_photo(g, "cat")
    g.column(LINKED)
    g.group("2  What is painted", GREEN)
    sheet = g.add("SolidMask", "Empty sheet", value=0.0, width=224, height=150).folded()
    left, top, right, bottom = EYES
    stroke = g.add("SolidMask", "Brush stroke", value=1.0, width=right - left, height=bottom - top).folded()
    mask = g.add("MaskComposite", "Paint", destination=sheet, source=stroke, x=left, y=top, operation="add").folded()
    g.add("PreviewImage", "The mask", images=g.add("MaskToImage", "As image", mask=mask).folded()).tall(PREVIEW)
    runs = {}
    for number, means in ((3, "more"), (4, "only")):
        g.column(LINKED)
        g.group(f"{number}  mask_means: {means}", BLUE)
        runs[means] = upscale_node(g, photo, f"Upscale: {means}", mask=mask, mask_means=means)
    g.column(_WIDE)
    g.group("5  Where the steps went", VIOLET)
    show_comparison(g, "Evaluations of each region", **{means: done["map"] for means, done in runs.items()})
    save(g, runs["only"], "compute_mask", 6)


def quality(g: Graph) -> None:
    """What likeness promises, measured."""
    read_me(
        g,
        """
# As good as all steps?

*likeness* promises how near a result comes to that of **every step**. Here it is measured: one photo, with 30, 42
and 100, which means all 24 steps.

**PSNR** (dB, more is nearer) compares pixel by pixel with the result of all steps, as *likeness* does: what was **saved
at no visible cost**, not which picture is nearer to the truth. There it forgives blur, and plain enlarging often wins.

Here 30 reaches about 35 dB, 42 about 47 dB.

**For other questions** install *pyiqa*: *metric* then offers LPIPS, DISTS, MUSIQ and more.
""",
        LOAD_IMAGE,
    )
    g.group("1  Photo", GREEN)
    photo = add_photo(g)
    runs = {}
    for number, (name, likeness) in enumerate((("draft", 30.0), ("everyday", 42.0), ("all_steps", 100.0)), start=2):
        g.column(LINKED)
        g.group(f"{number}  likeness {likeness:g}", BLUE)
        runs[name] = upscale_node(g, photo, name.replace("_", " ").capitalize(), likeness=likeness)
    wide = g.column(_WIDE)
    g.group("5  See for yourself", VIOLET)
    show_comparison(g, "Draft, everyday, all steps", **runs)
    for number, (name, under) in enumerate((("draft", wide), ("everyday", None)), start=6):
        g.column((_WIDE - BETWEEN) // 2, under)
        g.group(f"{number}  Measure {name}", VIOLET)
        compared = {"image": runs[name], "reference": runs["all_steps"], "metric": "psnr"}
        measured = g.add("AdaDiffSR_ImageQuality", f"Measure {name}", **compared).folded()
        g.add("PreviewAny", f"{name.capitalize()} against all steps", source=measured["text"]).tall(TEXT_SHOWN)
