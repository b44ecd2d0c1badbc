"""The shipped workflows, each described once."""

from collections.abc import Callable

from .graph import Graph
from .parts import (
    BLUE,
    BROAD,
    BY_CLASSES,
    BY_CLASSES_NOTE,
    GREEN,
    GREY,
    NARROW,
    PICTURE,
    VIOLET,
    add_model,
    add_picture,
    add_sampler,
    decode,
    finish,
    read_me,
    reduce,
    sample,
    save,
    show_account,
    show_comparison,
    show_map,
    show_report,
)


def upscale_4x(g: Graph) -> None:
    """A photo in, a sharp one four times as large out."""
    read_me(
        g,
        """
# Upscale 4x

AdaDiffSR restores a picture **tile by tile** and gives each tile only as many diffusion steps as it needs to look as
if it had got all of them.

Press **Run**. Nothing has to be downloaded: the model comes with the pack and also runs without a graphics card.

**For your own picture**, put a *Load Image* node in the place of *Example Photo*.

**What to change first**
- *scale_by*: how much larger. The embedded model is made for **3 to 8**; for less, leave 4 and wake *Reduce*.
- *seed*: another draw of the same details.
- *likeness*: how near to the result of all steps. 40 is hard to tell from it; 30 is a quick draft, 50 slower.
""",
    )
    enlarged = add_picture(g)
    checkpoint = add_model(g)
    tiles = sample(g, checkpoint, enlarged, mmle=checkpoint["mmle"], pfj=checkpoint["pfj"], first_jump=0.25)
    result = finish(g, checkpoint, tiles, enlarged)
    save(g, reduce(g, result, 5), "upscaled", 6)
    show_map(g, tiles, result, 7)
    show_account(g, tiles, 8)


def own_checkpoint(g: Graph) -> None:
    """The same, ready for an ordinary Stable Diffusion checkpoint, prompts and a ControlNet."""
    read_me(
        g,
        """
# Your own checkpoint

The same as *Upscale 4x*, prepared for a Stable Diffusion checkpoint of yours, with prompts and a tile ControlNet. It
runs as it is, with the embedded model; grey and purple nodes do not run.

**To change over**
1. Choose your file in *Load AdaDiffSR Checkpoint*.
2. Select both *prompts*, press **Ctrl+M** to wake them, and connect them to *positive* and *negative* of *Apply
ControlNet*, in place of *null_prompt*.
3. If you have a **tile ControlNet**, select *Load ControlNet Model* and *Apply ControlNet*, press **Ctrl+B** to wake
them, and choose the file.
4. In the sampler set *cfg* **4 to 7**, *denoise* **0.2 to 0.5**, *dpmpp_2m*, scheduler **karras**.

An ordinary checkpoint is not shown the picture, so *denoise* decides how far it may stray from it. Without a
ControlNet stay below 0.35. *rule* is **paper** here: what the other one knows of steps was learnt from the embedded
model.
""",
    )
    enlarged = add_picture(g)
    checkpoint = add_model(
        g, "Ordinary SD 1.x, 2.x and XL files from *models/checkpoints* are listed after the embedded model."
    )
    g.column(NARROW)
    g.group("3  Prompts (off)", GREY)
    g.note("Press **Ctrl+M** to wake these, and connect them to *Apply ControlNet*. The embedded model knows no words.")
    words = {"clip": checkpoint["clip"]}
    g.add("CLIPTextEncode", "Positive prompt", text="a sharp, detailed photograph", **words).muted().tall(120)
    g.add("CLIPTextEncode", "Negative prompt", text="blurry, soft, noisy, jpeg artifacts", **words).muted().tall(120)
    g.group("4  ControlNet (off)", GREY)
    g.note("Press **Ctrl+B** to wake both. Each tile is shown its own piece of the picture. Bypassed, prompts pass by.")
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
    # Gains in Stable Diffusion's space are smaller than in the embedded model's.
    tiles = sample(g, checkpoint, enlarged, 5, denoise=0.4, gain_threshold=3e-4, **BY_CLASSES, **prompts)
    result = finish(g, checkpoint, tiles, enlarged, 6)
    save(g, result, "own_checkpoint", 7)
    show_map(g, tiles, result, 8)
    g.column(PICTURE)
    show_report(g, tiles, 9)


def adaptive_and_uniform(g: Graph) -> None:
    """The bounded rule beside every third step for all."""
    read_me(
        g,
        """
# Adaptive and uniform

The same photo, noise and model, twice:

- **adaptive**: *rule* bounded. Each tile takes as few evaluations as keep it within 40 dB of what all 24 would give,
evenly spread, the last of them on the last step.
- **uniform**: *rule* paper with *intervals* 3, 3, 3, 3. Every tile takes every third step, as a sampler without
regions would with 8 steps.

Compare the two maps: the number on a tile is its evaluations. The reports say how many there were in all. *tile_size*
is 256 here, to have more tiles. How hard each one is, the model's regressor (*mmle*) guesses; where it cannot, all
count as hard, and take the same number.

**What to change**: a higher *likeness* makes the adaptive run spend more, a lower one less, and *budget* says how many
evaluations a tile may take on average: 8 is what the uniform run takes. Four other equal numbers make that one dearer
or cheaper.
""",
    )
    enlarged = add_picture(g)
    checkpoint = add_model(g)
    g.group("3  Encode once", BLUE)
    latent = g.add("VAEEncode", pixels=enlarged, vae=checkpoint["vae"])
    uniform_rule = {"rule": "paper", "intervals": "3, 3, 3, 3", "visit_last": False}
    sampled = {}
    for number, name, rule, text in (
        (4, "Adaptive", {"mmle": checkpoint["mmle"]}, "An easy tile takes few, long strides, a hard one more of them."),
        (5, "Uniform", uniform_rule, "Four equal *intervals*: every tile takes the same strides, whatever it gains."),
    ):
        g.column(NARROW)
        g.group(f"{number}  {name}", BLUE)
        g.note(text)
        sampled[name] = add_sampler(g, checkpoint, latent, name, tile_size=256, **rule)
    g.column(NARROW)
    g.group("6  Join and decode", BLUE)
    runs = [(name, tiles, decode(g, checkpoint, tiles, enlarged)) for name, tiles in sampled.items()]
    g.column(PICTURE)
    g.group("7  Where the steps went", VIOLET)
    for name, tiles, result in runs:
        region_map = g.add("AdaDiffSR_RegionMap", f"{name}: Region Map", tiles=tiles, image=result)
        g.add("PreviewImage", f"{name}: evaluations of each tile", images=region_map).tall(430)
    g.column(BROAD)
    g.group("8  Results side by side", VIOLET)
    (_, _, adaptive), (_, _, uniform) = runs
    show_comparison(g, "adaptive_and_uniform", bicubic=enlarged, adaptive=adaptive, uniform=uniform)
    g.group("9  Reports", VIOLET)
    for name, tiles, _ in runs:
        report = g.add("AdaDiffSR_RunReport", f"{name}: Run Report", tiles=tiles)
        g.add("PreviewAny", f"{name}: report", source=report).tall(180)


def compute_mask(g: Graph) -> None:
    """The artist decides where work is done."""
    read_me(
        g,
        """
# Compute mask

You decide where work is done:

- **black**: the enlarged photo, to the last bit, and costs no steps
- **grey**: decides by itself, as without a mask
- **white**: every step

Here the left third is black, the middle grey, the right white. A tile takes the brightest level that it contains;
*tile_size* is 256 here, so that tiles follow the mask more closely.

**For a mask of your own**, open a picture in *Load Image*, choose *Open in Mask Editor*, and connect its *MASK* to
*compute_mask* and to *mask* of *Colour Match*. Any size will do.
""",
    )
    enlarged = add_picture(g)
    checkpoint = add_model(g)
    g.column(NARROW)
    g.group("3  The mask", GREEN)
    g.note("A grey sheet; subtracting a white stripe on the left makes it black there, adding one on the right white.")
    sheet = g.add("SolidMask", "Grey sheet", value=0.5, width=300, height=200)
    stripe = g.add("SolidMask", "White stripe", value=1.0, width=100, height=200)
    left = g.add("MaskComposite", "Left: black", destination=sheet, source=stripe, x=0, operation="subtract")
    mask = g.add("MaskComposite", "Right: white", destination=left, source=stripe, x=200, operation="add")
    g.add("PreviewImage", "The mask", images=g.add("MaskToImage", mask=mask)).tall(280)
    tiles = sample(g, checkpoint, enlarged, 4, mmle=checkpoint["mmle"], compute_mask=mask, tile_size=256)
    result = finish(g, checkpoint, tiles, enlarged, 5, ", and its pixels where the mask is black", mask=mask)
    save(g, result, "compute_mask", 6)
    show_map(g, tiles, result, 7)
    show_account(g, tiles, 8)


def quality(g: Graph) -> None:
    """A photo is made small, restored, and measured against itself."""
    read_me(
        g,
        """
# Quality

How near does it come to the truth? A good photo is made four times **smaller**, then enlarged again, once by plain
bicubic scaling and once by AdaDiffSR. Both are measured against the photo itself.

**PSNR** (dB, more is better) compares pixel by pixel. It forgives blur and punishes details that are a little off, so
bicubic often wins by it: look at the pictures too.

**What to change**: with the optional package *pyiqa* installed, *metric* also offers LPIPS, DISTS, MUSIQ and others,
which are nearer to what eyes see.

Sides must be multiples of **8**, or encoding cuts a few pixels off and nothing fits; hence *Crop to multiples of 8*.
The photo here is tiny, so that much of it is lost: expect better from larger ones.
""",
    )
    g.column(NARROW)
    g.group("1  A true picture, made small", GREEN)
    g.note("To measure on your own picture, put *Load Image* in the place of *Example Photo*.")
    photo = g.add("AdaDiffSR_ExamplePhoto", photo="coffee")
    size = {"width": 296, "height": 200, "crop": "center", "upscale_method": "bicubic"}
    truth = g.add("ImageScale", "Crop to multiples of 8", image=photo, **size)
    small = g.add("ImageScaleBy", "Make 4x smaller", image=truth, upscale_method="area", scale_by=0.25)
    enlarged = g.add("ImageScaleBy", "Enlarge 4x", image=small, upscale_method="bicubic", scale_by=4.0)
    checkpoint = add_model(g)
    tiles = sample(g, checkpoint, enlarged, mmle=checkpoint["mmle"], pfj=checkpoint["pfj"], first_jump=0.25)
    result = finish(g, checkpoint, tiles, enlarged)
    g.column(NARROW)
    g.group("5  Measure", VIOLET)
    g.note("Both against the true picture. A mean over the batch, if there are several.")
    for name, image in (("Bicubic", enlarged), ("AdaDiffSR", result)):
        text = g.add("AdaDiffSR_ImageQuality", f"{name}: PSNR", image=image, reference=truth, metric="psnr")["text"]
        g.add("PreviewAny", name, source=text).tall(130)
    g.column(BROAD)
    g.group("6  See for yourself", VIOLET)
    show_comparison(g, "quality", bicubic=enlarged, AdaDiffSR=result, truth=truth)
    show_report(g, tiles, 7)


def any_guider(g: Graph) -> None:
    """Region-aware sampling as one part of the host's own advanced sampling."""
    read_me(
        g,
        """
# Any guider

*Region-Aware Sampler* is an ordinary **SAMPLER**: it goes wherever ComfyUI's *KSamplerSelect* goes. Guidance, noise and
schedule come from nodes of your choice.

**What to change**
- *CFG Guider*: any other guider, such as *Dual CFG Guider* or one of another pack.
- *Basic Scheduler*: any schedule that ends at 0. For an ordinary checkpoint lower *denoise* to 0.2 to 0.5.
- *Region-Aware Sampler*: how regions are sampled.

The latent that comes out is merged already; maps and reports need *Region-Aware KSampler*.
""",
    )
    enlarged = add_picture(g)
    checkpoint = add_model(g)
    g.column(NARROW)
    g.group("3  Noise, guidance, schedule", BLUE)
    g.note("ComfyUI's own nodes. The embedded model wants cfg 1, and the whole schedule (denoise 1).")
    latent = g.add("VAEEncode", pixels=enlarged, vae=checkpoint["vae"])
    noise = g.add("RandomNoise", "Random Noise")
    prompts = {"positive": checkpoint["null_prompt"], "negative": checkpoint["null_prompt"]}
    guider = g.add("CFGGuider", "CFG Guider", model=checkpoint, cfg=1.0, **prompts)
    sigmas = g.add("BasicScheduler", "Basic Scheduler", model=checkpoint, scheduler="simple", steps=24, denoise=1.0)
    g.column(NARROW)
    g.group("4  Sample region by region", BLUE)
    g.note(f"What to sample with, and how regions share the steps, meet here. {BY_CLASSES_NOTE}")
    sampler = g.add("AdaDiffSR_RegionAwareSampler", **BY_CLASSES)
    parts = {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": sigmas}
    merged = g.add("SamplerCustomAdvanced", "Sampler Custom Advanced", latent_image=latent, **parts)
    g.column(NARROW)
    g.group("5  Decode", BLUE)
    g.note("*Colour Match* takes the tones of the photo back.")
    decoded = g.add("VAEDecode", samples=merged, vae=checkpoint["vae"])
    result = g.add("AdaDiffSR_ColourMatch", image=decoded, reference=enlarged, method="wavelet")
    save(g, result, "any_guider", 6)


GRAPHS: tuple[Callable[[Graph], None], ...] = (
    upscale_4x,
    own_checkpoint,
    adaptive_and_uniform,
    compute_mask,
    quality,
    any_guider,
)
