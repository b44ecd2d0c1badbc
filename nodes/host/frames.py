"""Pictures of models that were made for video: latents of one frame, [N,C,1,H,W], which regions see as [N,C,H,W]."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

_FRAMES = 2  # the axis


def has_frames(model: Any) -> bool:
    """Whether a host's BaseModel wants latents of [N,C,frames,H,W]."""
    return bool(getattr(model.latent_format, "latent_dimensions", 2) == 3)


def is_picture(latent: Tensor) -> bool:
    """Whether a latent with frames has one only."""
    return latent.ndim == 5 and latent.shape[_FRAMES] == 1


def drop_frame(latent: Tensor) -> Tensor:
    """`[N,C,1,H,W]` to `[N,C,H,W]`; any other latent as it is."""
    return latent.squeeze(_FRAMES) if is_picture(latent) else latent


def add_frame(latent: Tensor) -> Tensor:
    """`[N,C,H,W]` to `[N,C,1,H,W]`."""
    return latent.unsqueeze(_FRAMES)


def as_wanted(latent: Tensor, model: Any) -> Tensor:
    """`[N,C,H,W]` as a host's BaseModel wants it."""
    return add_frame(latent) if has_frames(model) else latent


def show_framed(callback: Callable[..., Any]) -> Callable[..., Any]:
    """The host's callback, handed latents of one frame: it keeps the last as the denoised output."""

    def show(step: int, denoised: Tensor, x: Tensor, total: int) -> Any:
        return callback(step, add_frame(denoised), add_frame(x), total)

    return show
