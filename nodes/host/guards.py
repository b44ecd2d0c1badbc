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
# What tiled diffusion nodes are called, here and in the packs that they come from, without underscores.
_TILERS = ("tileddiffusion", "multidiffusion", "mixtureofdiffusers", "spotdiffusion")


def refuse_unsuitable(model_options: Mapping[str, Any], latent: Tensor, sigmas: Tensor) -> None:
    """Check what a run was given.

    Args:
        model_options: of this run.
        latent: the low-quality latent.
        sigmas: the base schedule.

    Raises:
        ConfigError: a step cache, a context window, tiled diffusion or a patch that holds a picture is on the model,
            or the schedule does not end at 0.
        ShapeError: the latent is not one of pictures.
    """
    if getattr(latent, "is_nested", False) or latent.ndim != 4:
        raise ShapeError(
            f"region-aware sampling is for pictures, latents of [N,C,H,W] or of one frame, [N,C,1,H,W]; this one is "
            f"{list(latent.shape)}, so use the host's own KSampler for it"
        )
    if model_options.get("context_handler") is not None:
        raise ConfigError("context windows on the model are for video; remove their node to sample by regions")
    names = [_name(leaf) for leaf in leaves(model_options)]
    for mark, cache in _CACHES.items():
        if any(mark in name for name in names):
            raise ConfigError(
                f"{cache} is on the model and would hand one region's result to another; remove or bypass its "
                f"node (region-aware sampling already skips the steps that add nothing)"
            )
    if _is_tiled(model_options.get("model_function_wrapper")):
        raise ConfigError(
            "a tiled diffusion node is on the model and would cut regions into tiles of its own; remove or bypass it "
            "(region-aware sampling works by tiles already)"
        )
    if any(hasattr(patch, "encoded_image") for patch in leaves(model_options)):
        raise ConfigError(
            "a patch on the model holds a picture of the whole canvas, which cannot be cropped to regions; "
            "remove its node, or use a ControlNet through Apply ControlNet"
        )
    if float(sigmas[-1]) != 0:
        raise ConfigError(
            "region-aware sampling needs sigmas that end at 0, since finished regions carry no noise; "
            "give it the last part of a split schedule, or all of it"
        )


def refuse_foreign(latent: Tensor, denoise_mask: Tensor | None, model: Any) -> None:
    """Check that a latent is one of the space that a model works in; an empty one the host has made so.

    Args:
        latent: `[N,C,H,W]`.
        denoise_mask: of it, or None.
        model: the host's BaseModel.

    Raises:
        ShapeError: it was encoded by another model's VAE, or holds what is no number, as its mask may.
    """
    for value, what in ((latent, "latent"), (denoise_mask, "noise mask")):
        if value is not None and not bool(value.isfinite().all()):
            raise ShapeError(f"the {what} holds NaN or infinity; look at what made it, often a VAE in fp16")
    wanted = getattr(getattr(model, "latent_format", None), "latent_channels", None)
    if isinstance(wanted, int) and latent.shape[1] != wanted:
        raise ShapeError(
            f"this latent has {latent.shape[1]} channels and the model works on {wanted}; encode the picture with the "
            "VAE that belongs to the model"
        )


def is_flow(model_sampling: Any) -> bool:
    """Whether a host's model blends picture and noise rather than adding them."""
    return isinstance(model_sampling, comfy.model_sampling.CONST)


def leaves(options: Any) -> Iterator[Any]:
    """What nested options hold, and their keys."""
    if isinstance(options, Mapping):
        for key, value in options.items():
            yield key
            yield from leaves(value)
    elif isinstance(options, list | tuple):
        for value in options:
            yield from leaves(value)
    else:
        yield options


def _is_tiled(wrapper: Any) -> bool:
    """Whether the one function about the model is a tiled diffusion's."""
    names = [_name(kind) for part in _unwrap(wrapper) for kind in (part, *type(part).__mro__)]
    return any(mark in name.replace("_", "").replace("-", "") for name in names for mark in _TILERS)


def _unwrap(part: Any, depth: int = 4) -> Iterator[Any]:
    """A function and what it stands for: the object of a method, what a partial or a decorator holds."""
    if part is not None and depth:
        yield part
        for name in ("__self__", "func", "__wrapped__"):
            yield from _unwrap(getattr(part, name, None), depth - 1)


def _name(leaf: Any) -> str:
    """A key as it is; of a function or an object its name, or its class's, with the module."""
    if isinstance(leaf, str):
        return leaf.lower()
    named = leaf if hasattr(leaf, "__qualname__") else type(leaf)
    return f"{getattr(named, '__module__', '')}.{named.__qualname__}".lower()
