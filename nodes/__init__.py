"""The nodes of AdaDiffSR for ComfyUI: thin shells over `adadiffsr_core`.

Only `nodes/host` touches the host's internals; everything else knows its numbered node API alone.
"""

from comfy_api.v0_0_2 import ComfyExtension, io

from .colour import ColourMatch
from .examples import ExamplePhoto
from .host.folders import add_model_folder, take_photo_folders
from .loaders import LoadCheckpoint, LoadMmle, LoadPfj
from .measures import ImageQuality, RunReport
from .merge import GaussianLatentMerge
from .pictures import Compare, GainCurves, RegionMap
from .sampling import RegionAwareKSampler, RegionAwareSampler
from .training import TrainMmle
from .upscale import UpscaleByRegions

NODES: list[type[io.ComfyNode]] = [
    LoadCheckpoint,
    LoadMmle,
    LoadPfj,
    RegionAwareKSampler,
    RegionAwareSampler,
    GaussianLatentMerge,
    RegionMap,
    GainCurves,
    RunReport,
    ColourMatch,
    ImageQuality,
    Compare,
    ExamplePhoto,
    TrainMmle,
    UpscaleByRegions,
]


class AdaDiffSRExtension(ComfyExtension):
    """What the host asks for its nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node of the pack, once `models/adadiffsr` is known; older hosts never call `on_load`."""
        add_model_folder()
        take_photo_folders()
        return NODES
