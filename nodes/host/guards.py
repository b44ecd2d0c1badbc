"""What region-aware sampling cannot work with, refused in one sentence before anything is evaluated."""

from collections.abc import Iterator, Mapping
from typing import Any

import comfy.model_sampling
from torch import Tensor

from ...adadiffsr_core.errors import ConfigError, ShapeError

# Each keeps an output by step or by conditioning, not by tile, and would hand one tile's to another.
_CACHES = {
    "lazycache": "LazyCache",  # before EasyCache, whose holder it uses
    "easycache": "EasyCache",
    "teacache": "TeaCache",
    "rel_l1_thresh": "TeaCache",
    "magcache": "MagCache",
    "fbcache": "WaveSpeed's First Block Cache",
    "first_block_cache": "WaveSpeed's First Block Cache",
    "wavespeed": "WaveSpeed",
}


def refuse_unsuitable(model_options: Mapping[str, Any], latent: Tensor, sigmas: Tensor) -> None:
    """Check what a run was given.

    Args:
        model_options: of this run.
        latent: the low-quality latent.
        sigmas: the base schedule.

    Raises:
        ConfigError: a step cache or a context window is on the model, or the schedule does not end at 0.
        ShapeError: the latent is not one of pictures.
    """
    if getattr(latent, "is_nested", False) or latent.ndim != 4:
        raise ShapeError(
            f"region-aware sampling is for pictures, latents of [N,C,H,W]; this one is {list(latent.shape)}, "
            f"so use the host's own KSampler for it"
        )
    if model_options.get("context_handler") is not None:
        raise ConfigError("context windows on the model are for video; remove their node to sample by regions")
    names = list(_names(model_options))
    for mark, cache in _CACHES.items():
        if any(mark in name for name in names):
            raise ConfigError(
                f"{cache} is on the model and would hand one region's result to another; remove or bypass its "
                f"node (region-aware sampling already skips the steps that add nothing)"
            )
    if float(sigmas[-1]) != 0:
        raise ConfigError(
            "region-aware sampling needs sigmas that end at 0, since finished regions carry no noise; "
            "give it the last part of a split schedule, or all of it"
        )


def is_flow(model_sampling: Any) -> bool:
    """Whether a host's model blends picture and noise rather than adding them."""
    return isinstance(model_sampling, comfy.model_sampling.CONST)


def _names(options: Any) -> Iterator[str]:
    """Keys of nested options, and names of the functions and classes in them with their modules."""
    if isinstance(options, Mapping):
        for key, value in options.items():
            yield str(key).lower()
            yield from _names(value)
    elif isinstance(options, list | tuple):
        for value in options:
            yield from _names(value)
    elif callable(options) or hasattr(options, "__dict__"):
        named = options if hasattr(options, "__qualname__") else type(options)
        yield f"{getattr(named, '__module__', '')}.{named.__qualname__}".lower()
