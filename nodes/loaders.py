"""Nodes that load weights."""

from comfy_api.v0_0_2 import io

from ..adadiffsr_core.models.networks import load_mmle, load_pfj
from .host.checkpoints import find_checkpoint, find_network, list_checkpoints, list_networks, open_checkpoint
from .host.networks import entrust
from .schema import MmleType, Node, Of, PfjType, Table

_FILE = "The embedded model's own, or a file of kind {} or bundle in models/adadiffsr."


class LoadCheckpoint(Node):
    """A model, ready for every node of the host and of ours."""

    table = Table(
        node_id="AdaDiffSR_LoadCheckpoint",
        display_name="Load AdaDiffSR Checkpoint",
        search_aliases=["AdaDiffSR", "checkpoint loader", "upscale model", "super resolution"],
        category="AdaDiffSR/loaders",
        description="Loads the model that comes with AdaDiffSR (no download), a checkpoint fine-tuned for it, or "
        "an ordinary Stable Diffusion checkpoint.",
        inputs=[
            (
                "checkpoint",
                Of(io.Combo, options=list_checkpoints),
                "The embedded model needs no file. Others are looked for in models/adadiffsr and models/checkpoints.",
            )
        ],
        outputs=[
            ("model", io.Model, "The diffusion model, for any sampler."),
            ("vae", io.Vae, "Its VAE, for the host's VAE Encode and VAE Decode, tiled ones too."),
            ("null_prompt", io.Conditioning, "The conditioning of an empty prompt, for both positive and negative."),
            ("clip", io.Clip, "The text encoder, where the file has one; the embedded model has none."),
            ("mmle", MmleType, "The MMLE regressor, where the file is a bundle that has one."),
            ("pfj", PfjType, "The feature injection, where the file is a bundle that has one."),
        ],
    )

    @classmethod
    def execute(cls, checkpoint: str) -> io.NodeOutput:
        """Load what the file has; None for what it has not."""
        loaded = open_checkpoint(find_checkpoint(checkpoint))
        return io.NodeOutput(loaded.model, loaded.vae, loaded.null_prompt, loaded.clip, loaded.mmle, loaded.pfj)


class LoadMmle(Node):
    """The regressor that estimates information gain."""

    table = Table(
        node_id="AdaDiffSR_LoadMMLE",
        display_name="Load MMLE Regressor",
        search_aliases=["AdaDiffSR", "MMLE", "information gain", "quality regressor"],
        category="AdaDiffSR/loaders",
        description="Loads a regressor that guesses image quality from latents. It tells the sampler how much each "
        "step still adds to a region.",
        inputs=[("file", Of(io.Combo, options=list_networks), _FILE.format("mmle"))],
        outputs=[("mmle", MmleType, "The regressor, for the Region-Aware KSampler.")],
    )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        """Load it and hand it to the host."""
        return io.NodeOutput(entrust(load_mmle(find_network(file))))


class LoadPfj(Node):
    """Progressive feature injection."""

    table = Table(
        node_id="AdaDiffSR_LoadPFJ",
        display_name="Load PFJ",
        search_aliases=["AdaDiffSR", "PFJ", "feature injection"],
        category="AdaDiffSR/loaders",
        description="Loads a feature injection: it feeds the network features of the low-quality picture, weighed "
        "by the information gain of each region.",
        inputs=[("file", Of(io.Combo, options=list_networks), _FILE.format("pfj"))],
        outputs=[("pfj", PfjType, "The feature injection, for the Region-Aware KSampler.")],
    )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        """Load it and hand it to the host."""
        return io.NodeOutput(entrust(load_pfj(find_network(file))))
