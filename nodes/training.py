"""The node that trains: a regressor of information gain for whatever model the user has."""

from typing import Any, get_args

from comfy_api.v0_0_2 import io

from ..adadiffsr_core.data.origin import fingerprint_files
from ..adadiffsr_core.training.walks.targets import Reference
from .host.training import find_photographs
from .host.walks import HostModel
from .images import pictures_to_image
from .regressor import TrainingSettings, train_regressor
from .schema import MmleType, Node, Of, PfjType, Table


class TrainMmle(Node):
    """MMLE's training, with progress and cancel."""

    table = Table(
        node_id="AdaDiffSR_TrainMMLE",
        display_name="Train MMLE Regressor",
        search_aliases=["AdaDiffSR", "MMLE", "train", "information gain"],
        category="AdaDiffSR/training",
        description="Teaches a small network to guess image quality from this model's latents, so that the "
        "Region-Aware KSampler knows what each step still adds. Cancel at any time; Run goes on from there.",
        inputs=[
            ("model", io.Model, "The diffusion model to learn about, with its LoRAs; it is not changed."),
            ("vae", io.Vae, "The model's VAE, which the metrics look through."),
            (
                "positive",
                io.Conditioning,
                "The prompt you sample with: null_prompt for the embedded model. No ControlNet, no areas.",
            ),
            (
                "image_folder",
                Of(io.String, default=""),
                "A folder of sharp photographs, sub-folders too: its name in ComfyUI's input folder, or the "
                "path of one that the server's owner listed. Some hundreds teach well; four are the least.",
            ),
            (
                "file_name",
                Of(io.String, default="my_mmle"),
                "The regressor is saved under this name in models/adadiffsr. The same name and settings go on "
                "with a run that was cancelled.",
            ),
            (
                "steps",
                Of(io.Int, default=2600, min=1, max=1_000_000),
                "Training steps in all. A finished run goes on if you raise it.",
            ),
            (
                "walks",
                Of(io.Int, default=900, min=1, max=100_000),
                "Degraded tiles that the model restores for the regressor to learn from. Each costs eight "
                "evaluations of the model and eight of every metric.",
            ),
            (
                "learning_rate",
                Of(io.Float, default=0.001, min=0.000001, max=0.1, step=0.0001, round=0.000001, advanced=True),
                "Peak of the schedule, which rises first and falls over the last half.",
            ),
            (
                "reference",
                Of(io.Combo, options=list(get_args(Reference)), advanced=True),
                "What metrics with a reference compare with: lq is the low-quality picture (the paper), gt the "
                "photograph before it was degraded.",
            ),
            (
                "metrics",
                Of(io.String, default="psnr, st_lpips, vsi, nlpd, brisque, niqe", advanced=True),
                "What to learn, at least one with a reference and one without. All but psnr need pip install pyiqa "
                "or stlpips-pytorch; brisque and niqe also a file each, piqe none.",
            ),
            (
                "seed",
                Of(io.Int, default=0, min=0, max=2**32 - 1, control_after_generate=False, advanced=True),
                "Seed of everything random. Keep it to go on with a run.",
            ),
            (
                "cfg",
                Of(io.Float, default=1.0, min=0.0, max=100.0, step=0.1, round=0.01, advanced=True),
                "Guidance, as you sample with it. The embedded model is made for 1.",
            ),
            (
                "denoise",
                Of(io.Float, default=1.0, min=0.01, max=1.0, step=0.01, advanced=True),
                "As you sample with it: 1 for models that are shown the picture, such as the embedded one; "
                "ordinary checkpoints want 0.2 to 0.5.",
            ),
            (
                "tile_size",
                Of(io.Int, default=0, min=0, max=4096, step=32, advanced=True),
                "Side of a training tile in pixels. 0 is the size that the model was trained on, less is faster.",
            ),
            (
                "negative",
                Of(io.Conditioning, optional=True),
                "What to avoid, where cfg is above 1. Without it, positive is taken.",
            ),
            ("pfj", Of(PfjType, optional=True), "The feature injection, if you sample with one."),
        ],
        outputs=[
            ("mmle", MmleType, "The regressor, for the Region-Aware KSampler."),
            ("path", io.String, "The file it was saved to, for Load MMLE Regressor."),
            ("report", io.String, "How well it does on photographs it has not seen, in words."),
            ("chart", io.Image, "Its guesses over the metrics' true values: the nearer to the diagonal the better."),
        ],
        is_output_node=True,
    )

    @classmethod
    def fingerprint_inputs(cls, image_folder: str, **_: Any) -> str:
        """A hash of the photographs: the node runs again when some come or go."""
        return fingerprint_files(find_photographs(image_folder))

    @classmethod
    def execute(  # noqa: PLR0913  the host calls it so
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
