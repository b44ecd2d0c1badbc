"""What a ComfyUI server is asked for: one picture through the upscaler, as the shipped workflow has it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .comfy_server import Prompt

WORKFLOW = Path(__file__).parents[1] / "workflows" / "api" / "adadiffsr_upscale.json"
UPSCALER = "AdaDiffSR_UpscaleByRegions"


def read_node(workflow: Path, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The upscaler of a workflow in API form: its numbers, and those that were chosen instead; nothing connected to it.

    Regions have the size that the model was trained on, as on the command line; those of the template are smaller.

    Args:
        workflow: the file.
        chosen: inputs by name; None leaves the workflow's.
    """
    nodes = json.loads(workflow.read_text(encoding="utf-8")).values()
    (found,) = [node for node in nodes if node["class_type"] == UPSCALER]
    inputs = {name: value for name, value in found["inputs"].items() if not isinstance(value, list)}
    return {**inputs, "tile_size": 0, **{name: value for name, value in chosen.items() if value is not None}}


def build_prompt(picture: str, node: Mapping[str, Any]) -> Prompt:
    """The picture as Load Image names it, through the upscaler, to a temporary file on the server.

    Half a level is added at the end, by nodes of the host: what it saves is cut to 8 bits, the command line rounds.
    """
    blend = {"image1": ["inverted", 0], "image2": ["level", 0], "blend_factor": 0.5, "blend_mode": "difference"}
    level = {"width": 8, "height": 8, "batch_size": 1, "color": 0x010101}
    return {
        "photo": {"class_type": "LoadImage", "inputs": {"image": picture}},
        "upscaled": {"class_type": UPSCALER, "inputs": {**node, "image": ["photo", 0]}},
        "level": {"class_type": "EmptyImage", "inputs": level},
        "inverted": {"class_type": "ImageInvert", "inputs": {"image": ["upscaled", 0]}},
        "lowered": {"class_type": "ImageBlend", "inputs": blend},
        "raised": {"class_type": "ImageInvert", "inputs": {"image": ["lowered", 0]}},
        "saved": {"class_type": "PreviewImage", "inputs": {"images": ["raised", 0]}},
    }
