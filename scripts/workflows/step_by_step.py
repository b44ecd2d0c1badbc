"""Workflows about the nodes that Upscale by Regions is made of."""

from .blueprint import Face, make_entrance
from .graph import Graph
from .layout import SMALLEST
from .node import Output
from .parts import (
    AMBER,
    BLUE,
    BY_CLASSES,
    GREEN,
    GREY,
    LINKED,
    LOAD_IMAGE,
    NARROW,
    PICTURE,
    PREVIEW,
    TITLED,
    VIOLET,
    add_model,
    add_photo,
    add_picture,
    add_sampler,
    enlarge,
    finish,
    read_me,
    reduce,
    sample,
    save,
    show_comparison,
    show_curves,
    show_map,
    show_report,
)


def upscale_4x(g: Graph) -> None:
    """The same as `upscale`, with a node for each step."""
    read_me(
        g,
        """
# Upscale step by step

What *Upscale by Regions* does, taken apart: for LoRA, ControlNet, regional prompts and samplers of your choice. The
same in one node: template *adadiffsr_upscale*.

Press **Run**. The model comes with the pack.

**What to change first**
- *likeness*: how near each region comes to all steps. 42 is hard to tell from it.
- *seed*: another draw of the same details.
- *scale_by*: made for 3 to 8; for less leave 4, select *Reduce* and press **Ctrl+B**.
- *tile_size*: 0 is the model's own.
""",
    )
    checkpoint = add_model(g)
    enlarged, latent = add_picture(g, checkpoint)
    tiles = sample(g, checkpoint, latent, tile_size=256)
    result = finish(g, checkpoint, tiles, enlarged)
    reduced = reduce(g, result)
    show_report(g, tiles, 5)
    g.column(PICTURE)
    save(g, reduced, "upscaled", 6)
    show_map(g, tiles, result, 7, 300)


def upscale_blueprint(g: Graph) -> Face:
    """The same as one node, to be dropped into a graph and opened there."""
    entrance = make_entrance(image="IMAGE", mask="MASK")
    g.column(LINKED)
    checkpoint = add_model(g)
    enlarged, latent = add_picture(g, checkpoint, photo=entrance["image"])
    tiles = sample(g, checkpoint, latent, tile_size=256, compute_mask=entrance["mask"], mask_means="more")
    result = finish(g, checkpoint, tiles, enlarged)
    g.group("5  Where the steps went", VIOLET)
    region_map = g.add("AdaDiffSR_RegionMap", tiles=tiles, image=result)
    dials = ("seed", "likeness", "tile_size")
    return Face(
        description="Makes a small photo four times as large and sharp, each region with only the steps that it needs. "
        "Upscale by Regions taken apart, for LoRA, ControlNet and samplers of your choice. What the mask paints gets "
        "every step.",
        entrance=entrance,
        dials=[(checkpoint, "checkpoint"), (enlarged, "scale_by"), *((tiles, dial) for dial in dials)],
        results={"image": Output(result, 0), "map": Output(region_map, 0), "tiles": Output(tiles, 0)},
    )


def own_checkpoint(g: Graph) -> None:
    """Ready for an ordinary Stable Diffusion checkpoint, prompts and a ControlNet."""
    read_me(
        g,
        """
# Your own checkpoint

*Upscale step by step*, prepared for a Stable Diffusion checkpoint, prompts and a tile ControlNet. It runs as it is,
with the embedded model; grey and purple nodes do not run. Such a checkpoint is not shown the picture: *denoise* says
how far it may stray. *rule* is **paper**, for the other one was learnt from the embedded model.
""",
        NARROW,
    )
    g.group("To change over", AMBER)
    g.note(
        """
1. Choose your file in *Load AdaDiffSR Checkpoint*; it lists *models/checkpoints* after the embedded model.
2. **Prompts**: select both, press **Ctrl+M**, connect them to *positive* and *negative* of *Apply ControlNet*.
3. **Tile ControlNet**: select its two nodes, press **Ctrl+B**, choose the file. Without one keep *denoise* below 0.35.
4. In the sampler set *cfg* **4 to 7**, *denoise* **0.2 to 0.5**, scheduler **karras**.
"""
    )
    g.column(LOAD_IMAGE)
    checkpoint = add_model(g)
    g.group("2  Picture", GREEN)
    enlarged = enlarge(g)
    g.column(LINKED)
    g.group("3  Encode", BLUE)
    latent = g.add("VAEEncode", pixels=enlarged, vae=checkpoint["vae"]).folded()
    g.group("4  Prompts (off)", GREY)
    words = {"clip": checkpoint["clip"]}
    g.add("CLIPTextEncode", "Positive prompt", text="a sharp, detailed photograph", **words).muted().tall(SMALLEST)
    g.add("CLIPTextEncode", "Negative prompt", text="blurry, soft, noisy", **words).muted().tall(SMALLEST)
    g.group("5  ControlNet (off)", GREY)
    net = g.add("ControlNetLoader").bypassed()
    guided = g.add(
        "ControlNetApplyAdvanced",
        positive=checkpoint["null_prompt"],
        negative=checkpoint["null_prompt"],
        control_net=net,
        image=enlarged,
        strength=0.7,
    ).bypassed()
    prompts = {"positive": guided["positive"], "negative": guided["negative"]}
    # As such checkpoints are used; gains in their space are smaller than in the embedded model's.
    ordinary = {
        "sampler_name": "dpmpp_2m",
        "denoise": 0.4,
        "gain_threshold": 3e-4,
    }
    tiles = sample(g, checkpoint, latent, 6, **ordinary, **BY_CLASSES, **prompts)
    result = finish(g, checkpoint, tiles, enlarged, 7)
    save(g, result, "own_checkpoint", 8)
    g.column(TITLED)
    show_map(g, tiles, result, 9)
    show_curves(g, tiles, 10)


def adaptive_and_uniform(g: Graph) -> None:
    """The bounded rule beside every third step for all."""
    read_me(
        g,
        """
# Adaptive and uniform

The same photo, noise and model, twice:

- **adaptive**: *rule* bounded. Each region takes as few of 24 steps as keep it within 42 dB of all.
- **uniform**: *intervals* 3, 3, 3, 3. Every region takes every third step, whatever it gains.

Compare the maps: the number is a region's evaluations, the sum below.

**What to change**: a higher *likeness* spends more; *budget* says how many a region may take on average, 8 is what
uniform takes.
""",
        LOAD_IMAGE,
    )
    g.group("1  Photo", GREEN)
    photo = add_photo(g)
    g.column(LINKED)
    checkpoint = add_model(g, 2)
    g.group("3  Picture", GREEN)
    enlarged = enlarge(g, photo)
    latent = g.add("VAEEncode", pixels=enlarged, vae=checkpoint["vae"])
    uniform_rule = {"rule": "paper", "intervals": "3, 3, 3, 3", "visit_last": False}
    runs = []
    for number, name, rule in ((4, "Adaptive", {}), (5, "Uniform", uniform_rule)):
        g.column(LINKED)
        g.group(f"{number}  {name}", BLUE)
        runs.append((name, add_sampler(g, checkpoint, latent, name, tile_size=256, **rule)))
    g.column(LINKED)
    g.group("6  Where the steps went", VIOLET)
    for name, tiles in runs:
        region_map = g.add("AdaDiffSR_RegionMap", f"{name}: map", tiles=tiles, image=enlarged).folded()
        g.add("PreviewImage", f"{name}: evaluations", images=region_map).tall(PREVIEW)
    g.column(LINKED)
    g.group("7  Join and decode", BLUE)
    pictures = {}
    for name, tiles in runs:
        merged = g.add("AdaDiffSR_GaussianLatentMerge", f"{name}: join", tiles=tiles).folded()
        decoded = g.add("VAEDecode", f"{name}: decode", samples=merged, vae=checkpoint["vae"])
        pictures[name.lower()] = decoded.folded()
    g.group("8  Side by side", VIOLET)
    show_comparison(g, "Adaptive and uniform", **pictures)


def any_guider(g: Graph) -> None:
    """Region-aware sampling as one part of the host's own advanced sampling."""
    read_me(
        g,
        """
# Any guider

*Region-Aware Sampler* is an ordinary **SAMPLER**: it goes wherever ComfyUI's *KSamplerSelect* goes. Guidance, noise and
schedule come from nodes of your choice.

**What to change**
- *CFG Guider*: any other guider.
- *Basic Scheduler*: any schedule that ends at 0. For an ordinary checkpoint *denoise* 0.2 to 0.5.
- *Region-Aware Sampler*: how regions are sampled. By rule *paper* each tile moves by what its steps still add;
*intervals* is the ladder of strides, four equal numbers turn adaptivity off.

What comes out is merged already; maps and reports need *Region-Aware KSampler*.
""",
    )
    checkpoint = add_model(g)
    enlarged, latent = add_picture(g, checkpoint)
    g.column(LINKED)
    g.group("3  Noise and guidance", BLUE)
    noise = g.add("RandomNoise", "Random Noise")
    prompts = {"positive": checkpoint["null_prompt"], "negative": checkpoint["null_prompt"]}
    guider = g.add("CFGGuider", "CFG Guider", model=checkpoint, cfg=1.0, **prompts)
    sigmas = g.add("BasicScheduler", "Basic Scheduler", model=checkpoint, scheduler="simple", steps=24, denoise=1.0)
    g.note("The embedded model wants cfg 1 and the whole schedule.")
    g.column(LINKED)
    g.group("4  Sample regions", BLUE)
    sampler = g.add("AdaDiffSR_RegionAwareSampler", **BY_CLASSES)
    parts = {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": sigmas}
    merged = g.add("SamplerCustomAdvanced", "Sampler Custom Advanced", latent_image=latent, **parts).growing()
    g.column(LOAD_IMAGE)
    g.group("5  Decode", BLUE)
    decoded = g.add("VAEDecode", samples=merged, vae=checkpoint["vae"]).folded()
    result = g.add("AdaDiffSR_ColourMatch", image=decoded, reference=enlarged, method="wavelet")
    save(g, result, "any_guider", 6)
