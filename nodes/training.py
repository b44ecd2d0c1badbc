"""The node that trains: a regressor of information gain for whatever model the user has."""

from typing import Any, get_args

from comfy_api.v0_0_2 import io

from ..adadiffsr_core.training.walks.targets import Reference
from .host.walks import HostModel
from .images import pictures_to_image
from .regressor import TrainingSettings, list_photographs, train_regressor
from .schema import advanced
from .types import MmleType, PfjType


class TrainMmle(io.ComfyNode):
    """MMLE's training, with progress and cancel."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See the host's node API."""
        return io.Schema(
            node_id="AdaDiffSR_TrainMMLE",
            display_name="Train MMLE Regressor",
            category="AdaDiffSR/training",
            description="Teaches a small network to guess image quality from this model's latents, so that the "
            "Region-Aware KSampler knows what each step still adds. Cancel at any time; Run goes on from there.",
            inputs=_inputs(),
            outputs=[
                MmleType.Output("mmle", display_name="mmle", tooltip="The regressor, for the Region-Aware KSampler."),
                io.String.Output(
                    "path", display_name="path", tooltip="The file it was saved to, for Load MMLE Regressor."
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="How well it does on photographs it has not seen, in words.",
                ),
                io.Image.Output(
                    "chart",
                    display_name="chart",
                    tooltip="Its guesses over the metrics' true values: the nearer to the diagonal the better.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, image_folder: str, **_: Any) -> str:
        """See the host's node API: the node runs again when photographs come or go."""
        return list_photographs(image_folder)

    @classmethod
    def execute(
        cls,
        model: Any,
        vae: Any,
        positive: Any,
        cfg: float,
        denoise: float,
        negative: Any = None,
        pfj: Any = None,
        **settings: Any,
    ) -> io.NodeOutput:
        """Train; see `train_regressor`."""
        prompts = {"positive": positive, "negative": positive if negative is None else negative}
        subject = HostModel(model=model, vae=vae, cfg=cfg, denoise=denoise, pfj=pfj, **prompts)
        trained = train_regressor(subject, TrainingSettings(**settings))
        chart = pictures_to_image([trained.chart])
        return io.NodeOutput(trained.mmle, str(trained.path), trained.report, chart, ui={"text": [trained.report]})


def _inputs() -> list[Any]:
    return [
        io.Model.Input("model", tooltip="The diffusion model to learn about, with its LoRAs; it is not changed."),
        io.Vae.Input("vae", tooltip="The model's VAE, which the metrics look through."),
        io.Conditioning.Input(
            "positive",
            tooltip="The prompt you sample with: null_prompt for the embedded model. No ControlNet, no areas.",
        ),
        io.String.Input(
            "image_folder",
            default="",
            tooltip="A folder of sharp photographs, sub-folders too: its name in ComfyUI's input folder, or the "
            "path of one that the server's owner listed. Some hundreds teach well; four are the least.",
        ),
        io.String.Input(
            "file_name",
            default="my_mmle",
            tooltip="The regressor is saved under this name in models/adadiffsr. The same name and settings go on "
            "with a run that was cancelled.",
        ),
        io.Int.Input(
            "steps",
            default=2600,
            min=1,
            max=1_000_000,
            tooltip="Training steps in all. A finished run goes on if you raise it.",
        ),
        io.Int.Input(
            "walks",
            default=900,
            min=1,
            max=100_000,
            tooltip="Degraded tiles that the model restores for the regressor to learn from. Each costs eight "
            "evaluations of the model and eight of every metric.",
        ),
        *_advanced_inputs(),
        io.Conditioning.Input(
            "negative", optional=True, tooltip="What to avoid, where cfg is above 1. Without it, positive is taken."
        ),
        PfjType.Input("pfj", optional=True, tooltip="The feature injection, if you sample with one."),
    ]


def _advanced_inputs() -> list[Any]:
    return [
        advanced(
            io.Float.Input,
            "learning_rate",
            default=0.001,
            min=0.000001,
            max=0.1,
            step=0.0001,
            round=0.000001,
            tooltip="Peak of the schedule, which rises first and falls over the last half.",
        ),
        advanced(
            io.Combo.Input,
            "reference",
            options=list(get_args(Reference)),
            tooltip="What metrics with a reference compare with: lq is the low-quality picture (the paper), gt the "
            "photograph before it was degraded.",
        ),
        advanced(
            io.String.Input,
            "metrics",
            default="psnr, st_lpips, vsi, nlpd, brisque, niqe",
            tooltip="What to learn, at least one with a reference and one without. All but psnr need pip install pyiqa "
            "or stlpips-pytorch; brisque and niqe also a file each, piqe none.",
        ),
        advanced(
            io.Int.Input,
            "seed",
            default=0,
            min=0,
            max=2**32 - 1,
            control_after_generate=False,
            tooltip="Seed of everything random. Keep it to go on with a run.",
        ),
        advanced(
            io.Float.Input,
            "cfg",
            default=1.0,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            tooltip="Guidance, as you sample with it. The embedded model is made for 1.",
        ),
        advanced(
            io.Float.Input,
            "denoise",
            default=1.0,
            min=0.01,
            max=1.0,
            step=0.01,
            tooltip="As you sample with it: 1 for models that are shown the picture, such as the embedded one; "
            "ordinary checkpoints want 0.2 to 0.5.",
        ),
        advanced(
            io.Int.Input,
            "tile_size",
            default=0,
            min=0,
            max=4096,
            step=32,
            tooltip="Side of a training tile in pixels. 0 is the size that the model was trained on, less is faster.",
        ),
    ]
