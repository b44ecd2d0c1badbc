"""The smallest useful graph of our nodes, in API form, for the tests that need to change one setting of it."""

from typing import Any

from tests.host.api import Prompt

SIDE, SCALE = 64, 4
SAMPLING: dict[str, Any] = {
    "seed": 1,
    "steps": 4,
    "cfg": 1.0,
    "sampler_name": "dpmpp_2m",
    "scheduler": "simple",
    "denoise": 1.0,
    "intervals": "1, 2, 3, 4",
    "gain_threshold": 0.0006,
    "early_exit": False,
    "tile_size": 128,
    "overlap": 32,
    "tile_fit": True,
    "tile_batch": 0,
    "merge_mode": "final",
    "pfj_strength": 1.0,
}


def build_upscale(*, spread: float = 0.1, colour: str = "wavelet", **sampling: Any) -> Prompt:
    """A photograph of SIDE px, enlarged SCALE times with the embedded model; `sampling` replaces sampler inputs."""
    return {
        "photo": _node("ExamplePhoto", photo="cat"),
        "small": _resize("photo", SIDE),
        "large": _resize("small", SIDE * SCALE),
        "model": _node("LoadCheckpoint", checkpoint="embedded model"),
        "lq": {"class_type": "VAEEncode", "inputs": {"pixels": ["large", 0], "vae": ["model", 1]}},
        "tiles": _node(
            "RegionAwareKSampler",
            model=["model", 0],
            positive=["model", 2],
            negative=["model", 2],
            latent_image=["lq", 0],
            **{**SAMPLING, **sampling},
        ),
        "report": _node("RunReport", tiles=["tiles", 0]),
        "merged": _node("GaussianLatentMerge", tiles=["tiles", 0], spread=spread),
        "decoded": {"class_type": "VAEDecode", "inputs": {"samples": ["merged", 0], "vae": ["model", 1]}},
        "matched": _node("ColourMatch", image=["decoded", 0], reference=["small", 0], method=colour),
        "save": {"class_type": "SaveImage", "inputs": {"images": ["matched", 0], "filename_prefix": "upscaled"}},
    }


def build_masked(value: float, *, side: int = SIDE * SCALE, **sampling: Any) -> Prompt:
    """The same with one value everywhere as its compute mask."""
    mask = {"class_type": "SolidMask", "inputs": {"value": value, "width": side, "height": side}}
    return {"mask": mask, **build_upscale(compute_mask=["mask", 0], **sampling)}


def _node(name: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": f"AdaDiffSR_{name}", "inputs": inputs}


def _resize(image: str, side: int) -> dict[str, Any]:
    inputs = {"image": [image, 0], "upscale_method": "bicubic", "width": side, "height": side, "crop": "center"}
    return {"class_type": "ImageScale", "inputs": inputs}
