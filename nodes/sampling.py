"""The two sampling nodes: one like the host's KSampler, one a SAMPLER for any guider."""

from typing import Any, get_args

from comfy_api.v0_0_2 import io

from ..adadiffsr_core.sampling.codebook import Solver
from ..adadiffsr_core.sampling.compute_mask import MaskMeans
from ..adadiffsr_core.sampling.config import MergeMode
from ..adadiffsr_core.settings import PRESETS
from .door import CheckedNode
from .host.run import KSamplerSettings, sample_regions, scheduler_names
from .host.sampler import RegionSampler
from .schema import MmleType, Of, PfjType, Row, Table, TilesType
from .settings import read_settings

_EVERYDAY = PRESETS["everyday"]
_DTSS = _EVERYDAY.dtss
_SOLVERS = sorted(get_args(Solver), key=lambda name: name != _EVERYDAY.solver)

_SAMPLER_NAME: Row = (
    "sampler_name",
    Of(io.Combo, options=_SOLVERS),
    "The solver, the host's of the same name. euler is the everyday choice; ddpm is the paper's.",
)
# What both nodes ask for, all with defaults; what is new is optional and goes last, so that graphs saved before it run.
# Prompts of a program that lack the last six go by the paper's rule, take masks for levels and have no network but what
# is connected, as they did; canvases are helped by `web/older_graphs.js`.
_REGION_INPUTS: list[Row] = [
    (
        "intervals",
        Of(io.String, default=", ".join(map(str, _DTSS.intervals)), advanced=True),
        "Of the rule paper: the ladder of steps that a region may take at once, smallest first. Four equal "
        "numbers turn adaptivity off: 1, 1, 1, 1 is every step for every region.",
    ),
    (
        "gain_threshold",
        Of(io.Float, default=_DTSS.gain_threshold, min=0.0, max=1.0, step=0.0001, round=0.00001, advanced=True),
        "Of the rule paper: a region whose information gain (per twentieth of the denoising) exceeds this goes on in "
        "small steps. Lower spends more steps, higher saves more. The paper's is 0.005, with trained metrics.",
    ),
    (
        "early_exit",
        Of(io.Boolean, default=_DTSS.early_exit, advanced=True),
        "Of the rule paper: stop a region for good once its texture begins to wear away, and keep its best estimate.",
    ),
    (
        "tile_size",
        Of(io.Int, default=0, min=0, max=4096, step=32, advanced=True),
        "Side of a tile in pixels. 0 is the size that the model was trained on.",
    ),
    (
        "overlap",
        Of(io.Int, default=64, min=0, max=1024, step=8, advanced=True),
        "Least overlap of neighbouring tiles in pixels. More hides seams better and costs more.",
    ),
    (
        "tile_fit",
        Of(io.Boolean, default=_EVERYDAY.tile_fit, advanced=True),
        "Let tiles grow up to a quarter where fewer of them then cover the picture.",
    ),
    (
        "tile_batch",
        Of(io.Int, default=0, min=0, max=64, advanced=True),
        "Tiles in one call of the network. 0 takes what fits into free memory. The picture is the same.",
    ),
    (
        "merge_mode",
        Of(io.Combo, options=list(get_args(MergeMode)), advanced=True),
        "final: regions are restored apart and merged once (the paper). every_step: they share one canvas "
        "that is merged at every step.",
    ),
    (
        "pfj_strength",
        Of(io.Float, default=_EVERYDAY.pfj_strength, min=0.0, max=2.0, step=0.05, advanced=True),
        "How strongly the PFJ acts, if one is connected. More of the embedded model's is crisper and "
        "strays further from the photo.",
    ),
    (
        "first_jump",
        Of(io.Float, optional=True, default=0.0, min=0.0, max=0.95, step=0.05, round=0.01, advanced=True),
        "Of the rule paper: share of the steps that every region's first step covers. 0.25 suits models that are shown "
        "the picture, such as the embedded one, at denoise 1; ordinary checkpoints need 0.",
    ),
    (
        "mmle",
        Of(MmleType, optional=True),
        "MMLE regressor: estimates the gain and, if it was taught to, how hard a region is. Without one the model's "
        "own is taken; a model that has none goes by statistics of the latents, and all its regions count as hard.",
    ),
    (
        "pfj",
        Of(PfjType, optional=True),
        "PFJ, feature injection. Without one the model's own is taken, where it has one; pfj_strength 0 injects "
        "nothing.",
    ),
    (
        "compute_mask",
        Of(io.Mask, optional=True),
        "Where to spend work, such as a mask painted on Load Image; mask_means says how. Connect it to Colour Match "
        "too, which puts back the pixels of what is left alone.",
    ),
    (
        "rule",
        Of(io.Combo, options=["bounded", "paper"], default="bounded", optional=True),
        "How steps are chosen. bounded: as few as keep every region near what all steps would give. paper: "
        "by classes of information gain, with intervals, gain_threshold, early_exit and first_jump.",
    ),
    (
        "likeness",
        Of(io.Float, optional=True, default=_DTSS.likeness, min=20.0, max=100.0, step=0.5, round=0.1),
        "Of the rule bounded: how near a region must come to what all steps would give, in dB. From 40 a "
        "difference is hard to see; higher takes more steps, 100 all.",
    ),
    (
        "budget",
        Of(io.Float, optional=True, default=0.0, min=0.0, max=1000.0, step=0.5, round=0.01, advanced=True),
        "Of the rule bounded: evaluations per region, on average over the picture, instead of likeness. "
        "0 goes by the likeness.",
    ),
    (
        "visit_last",
        Of(io.Boolean, optional=True, default=True, advanced=True),
        "Of the rule paper: end every region on the last, least noisy step. The rule bounded always does.",
    ),
    (
        "mask_means",
        Of(io.Combo, options=list(get_args(MaskMeans)), default="more", optional=True),
        "What compute_mask says. more: what is painted gets every step, the rest decides. only: what is painted is "
        "restored, the rest left alone. levels: black is left alone, grey decides, white gets every step.",
    ),
    (
        "own_networks",
        Of(io.Boolean, optional=True, default=True, advanced=True),
        "Let the model's own MMLE and PFJ take part where none is connected; the embedded model has both.",
    ),
]


class RegionAwareKSampler(CheckedNode):
    """The host's KSampler, with the steps decided region by region."""

    table = Table(
        node_id="AdaDiffSR_RegionAwareKSampler",
        display_name="Region-Aware KSampler",
        search_aliases=["AdaDiffSR", "upscale", "super resolution", "tile", "tiled sampler", "restore", "enlarge"],
        category="AdaDiffSR/sampling",
        description="Restores a picture tile by tile and gives each tile only the steps that still add "
        "information. Follow it with Gaussian Latent Merge.",
        inputs=[
            ("model", io.Model, "Any diffusion model for pictures."),
            ("positive", io.Conditioning, "What to show; regional prompts and ControlNets are cropped."),
            ("negative", io.Conditioning, "What to avoid; it counts where cfg is above 1."),
            ("latent_image", io.Latent, "The low-quality picture at its final size, from VAE Encode."),
            (
                "seed",
                Of(io.Int, default=0, min=0, max=2**64 - 1, control_after_generate=True),
                "Seed of all noise. One seed gives one picture, whatever the tile batch.",
            ),
            (
                "steps",
                Of(io.Int, default=_EVERYDAY.steps, min=1, max=1000),
                "Base steps: what a region costs if nothing is skipped.",
            ),
            (
                "cfg",
                Of(io.Float, default=1.0, min=0.0, max=100.0, step=0.1, round=0.01),
                "Guidance. The embedded model is made for 1; Stable Diffusion wants 4 to 8.",
            ),
            _SAMPLER_NAME,
            (
                "scheduler",
                Of(io.Combo, options=scheduler_names, default="simple"),
                "How the base steps are spread over noise levels.",
            ),
            (
                "denoise",
                Of(io.Float, default=1.0, min=0.01, max=1.0, step=0.01),
                "1 starts from pure noise: right for models that are shown the picture, such as the "
                "embedded one. Ordinary checkpoints want 0.2 to 0.5.",
            ),
            *_REGION_INPUTS,
        ],
        outputs=[("tiles", TilesType, "Finished tiles, for Gaussian Latent Merge and the result nodes.")],
    )

    @classmethod
    def execute(  # noqa: PLR0913  the host calls it so
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        latent_image: dict[str, Any],
        seed: int,
        steps: int,
        cfg: float,
        scheduler: str,
        denoise: float,
        **regions: Any,
    ) -> io.NodeOutput:
        """Sample the regions; see `sample_regions`."""
        base = KSamplerSettings(seed=seed, steps=steps, cfg=cfg, scheduler=scheduler, denoise=denoise)
        tiles = sample_regions(model, positive, negative, latent_image, read_settings(**regions), base)
        return io.NodeOutput(tiles)


class RegionAwareSampler(CheckedNode):
    """The same as a SAMPLER."""

    table = Table(
        node_id="AdaDiffSR_RegionAwareSampler",
        display_name="Region-Aware Sampler",
        search_aliases=["AdaDiffSR", "upscale", "super resolution", "tile", "tiled sampler", "restore", "enlarge"],
        category="AdaDiffSR/sampling",
        description="Region-aware sampling for SamplerCustomAdvanced, with any guider and schedule that ends at 0. "
        "The latent that goes in is the low-quality picture; the one that comes out is merged.",
        inputs=[_SAMPLER_NAME, *_REGION_INPUTS],
        outputs=[("sampler", io.Sampler, "For SamplerCustomAdvanced or SamplerCustom.")],
    )

    @classmethod
    def execute(cls, **regions: Any) -> io.NodeOutput:
        """Build it; nothing is sampled yet."""
        return io.NodeOutput(RegionSampler(read_settings(**regions)))
