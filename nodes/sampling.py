"""The two sampling nodes: one like the host's KSampler, one a SAMPLER for any guider."""

from typing import Any, get_args

from comfy_api.v0_0_2 import io

from ..adadiffsr_core.sampling.codebook import Solver
from ..adadiffsr_core.sampling.config import MergeMode
from ..adadiffsr_core.settings import PRESETS
from .host.run import sample_regions, scheduler_names
from .host.sampler import RegionSampler
from .schema import advanced
from .settings import read_settings
from .types import MmleType, PfjType, TilesType

_EVERYDAY = PRESETS["everyday"]
_SOLVERS = sorted(get_args(Solver), key=lambda name: name != _EVERYDAY.solver)


def _sampler_name() -> Any:
    return io.Combo.Input(
        "sampler_name",
        options=_SOLVERS,
        tooltip="The solver, the host's of the same name. dpmpp_2m is the everyday choice; ddpm is the paper's.",
    )


def _region_inputs() -> list[Any]:
    """What both nodes ask for, all with defaults; new ones go last, since saved workflows hold values by position."""
    return [
        advanced(
            io.String.Input,
            "intervals",
            default=", ".join(map(str, _EVERYDAY.dtss.intervals)),
            tooltip="Of the rule paper: the ladder of steps that a region may take at once, smallest first. Four equal "
            "numbers turn adaptivity off.",
        ),
        advanced(
            io.Float.Input,
            "gain_threshold",
            default=_EVERYDAY.dtss.gain_threshold,
            min=0.0,
            max=1.0,
            step=0.0001,
            round=0.00001,
            tooltip="Of the rule paper: a region whose information gain (per twentieth of the denoising) exceeds this "
            "goes on in small steps. Lower spends more steps, higher saves more. The paper's is 0.005, with trained "
            "metrics.",
        ),
        advanced(
            io.Boolean.Input,
            "early_exit",
            default=_EVERYDAY.dtss.early_exit,
            tooltip="Of the rule paper: stop a region for good once its texture begins to wear away, and keep its best "
            "estimate.",
        ),
        advanced(
            io.Int.Input,
            "tile_size",
            default=0,
            min=0,
            max=4096,
            step=32,
            tooltip="Side of a tile in pixels. 0 is the size that the model was trained on.",
        ),
        advanced(
            io.Int.Input,
            "overlap",
            default=64,
            min=0,
            max=1024,
            step=8,
            tooltip="Least overlap of neighbouring tiles in pixels. More hides seams better and costs more.",
        ),
        advanced(
            io.Boolean.Input,
            "tile_fit",
            default=_EVERYDAY.tile_fit,
            tooltip="Let tiles grow up to a quarter where fewer of them then cover the picture.",
        ),
        advanced(
            io.Int.Input,
            "tile_batch",
            default=0,
            min=0,
            max=64,
            tooltip="Tiles in one call of the network. 0 takes what fits into free memory. The picture is the same.",
        ),
        advanced(
            io.Combo.Input,
            "merge_mode",
            options=list(get_args(MergeMode)),
            tooltip="final: regions are restored apart and merged once (the paper). every_step: they share one canvas "
            "that is merged at every step.",
        ),
        advanced(
            io.Float.Input,
            "pfj_strength",
            default=1.0,
            min=0.0,
            max=2.0,
            step=0.05,
            tooltip="How strongly the PFJ acts, if one is connected. More of the embedded model's is crisper and "
            "strays further from the photo.",
        ),
        advanced(
            io.Float.Input,
            "first_jump",
            # Optional, so that graphs saved before it was there still run.
            optional=True,
            default=0.0,
            min=0.0,
            max=0.95,
            step=0.05,
            round=0.01,
            tooltip="Of the rule paper: share of the steps that every region's first step covers. 0.25 suits models "
            "that are shown the picture, such as the embedded one, at denoise 1; ordinary checkpoints need 0.",
        ),
        MmleType.Input(
            "mmle",
            optional=True,
            tooltip="Regressor that estimates the gain and, if it was taught to, how hard a region is. Without it, "
            "statistics of the latents estimate the gain, and the rule bounded takes all regions for hard ones.",
        ),
        PfjType.Input("pfj", optional=True, tooltip="Feature injection. Without it nothing is injected."),
        io.Mask.Input(
            "compute_mask",
            optional=True,
            tooltip="Where to spend work: black keeps its latent and costs no steps, grey decides by itself, white "
            "gets every step. Connect it to Colour Match too, which keeps black's pixels.",
        ),
        # Optional and last, as all that came later; graphs saved before go by the paper's rule, as they did then.
        io.Combo.Input(
            "rule",
            options=["bounded", "paper"],
            optional=True,
            tooltip="How steps are chosen. bounded: as few as keep every region near what all steps would give. paper: "
            "by classes of information gain, with intervals, gain_threshold, early_exit and first_jump.",
        ),
        io.Float.Input(
            "likeness",
            optional=True,
            default=_EVERYDAY.dtss.likeness,
            min=20.0,
            max=100.0,
            step=0.5,
            round=0.1,
            tooltip="Of the rule bounded: how near a region must come to what all steps would give, in dB. From 42 a "
            "difference is hard to see; higher takes more steps, 100 all.",
        ),
        advanced(
            io.Float.Input,
            "budget",
            optional=True,
            default=0.0,
            min=0.0,
            max=1000.0,
            step=0.5,
            round=0.01,
            tooltip="Of the rule bounded: evaluations per region, on average over the picture, instead of likeness. "
            "0 goes by the likeness.",
        ),
        advanced(
            io.Boolean.Input,
            "visit_last",
            optional=True,
            default=True,
            tooltip="Of the rule paper: end every region on the last, least noisy step. The rule bounded always does.",
        ),
    ]


class RegionAwareKSampler(io.ComfyNode):
    """The host's KSampler, with the steps decided region by region."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See the host's node API."""
        return io.Schema(
            node_id="AdaDiffSR_RegionAwareKSampler",
            display_name="Region-Aware KSampler",
            category="AdaDiffSR/sampling",
            description="Restores a picture tile by tile and gives each tile only the steps that still add "
            "information. Follow it with Gaussian Latent Merge.",
            inputs=[
                io.Model.Input("model", tooltip="Any diffusion model for pictures."),
                io.Conditioning.Input(
                    "positive", tooltip="What to show; regional prompts and ControlNets are cropped."
                ),
                io.Conditioning.Input("negative", tooltip="What to avoid; it counts where cfg is above 1."),
                io.Latent.Input("latent_image", tooltip="The low-quality picture at its final size, from VAE Encode."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    control_after_generate=True,
                    tooltip="Seed of all noise. One seed gives one picture, whatever the tile batch.",
                ),
                io.Int.Input(
                    "steps",
                    default=_EVERYDAY.steps,
                    min=1,
                    max=1000,
                    tooltip="Base steps: what a region costs if nothing is skipped.",
                ),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance. The embedded model is made for 1; Stable Diffusion wants 4 to 8.",
                ),
                _sampler_name(),
                io.Combo.Input(
                    "scheduler",
                    options=scheduler_names(),
                    default="simple",
                    tooltip="How the base steps are spread over noise levels.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="1 starts from pure noise: right for models that are shown the picture, such as the "
                    "embedded one. Ordinary checkpoints want 0.2 to 0.5.",
                ),
                *_region_inputs(),
            ],
            outputs=[
                TilesType.Output(
                    "tiles",
                    display_name="tiles",
                    tooltip="Finished tiles, for Gaussian Latent Merge and the result nodes.",
                )
            ],
        )

    @classmethod
    def execute(
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
        tiles = sample_regions(
            model,
            positive,
            negative,
            latent_image,
            read_settings(**regions),
            seed=seed,
            steps=steps,
            cfg=cfg,
            scheduler=scheduler,
            denoise=denoise,
        )
        return io.NodeOutput(tiles)


class RegionAwareSampler(io.ComfyNode):
    """The same as a SAMPLER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See the host's node API."""
        return io.Schema(
            node_id="AdaDiffSR_RegionAwareSampler",
            display_name="Region-Aware Sampler",
            category="AdaDiffSR/sampling",
            description="Region-aware sampling for SamplerCustomAdvanced, with any guider and schedule that ends at 0. "
            "The latent that goes in is the low-quality picture; the one that comes out is merged.",
            inputs=[_sampler_name(), *_region_inputs()],
            outputs=[
                io.Sampler.Output(
                    "sampler", display_name="sampler", tooltip="For SamplerCustomAdvanced or SamplerCustom."
                )
            ],
        )

    @classmethod
    def execute(cls, **regions: Any) -> io.NodeOutput:
        """Build it; nothing is sampled yet."""
        return io.NodeOutput(RegionSampler(read_settings(**regions)))
