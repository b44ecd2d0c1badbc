"""AdaDiffSR: super-resolution with as many steps, region by region, as still add information.

The public names; nothing else is meant for other programs:

    from adadiffsr_core import PRESETS, load_model, read_photo, upscale, write_photo

    model, photo = load_model(), read_photo(Path("photo.jpg"))
    result = upscale(model, photo.pixels[None], size, PRESETS["everyday"])

They are imported when they are first asked for, so that `import adadiffsr_core` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import AdaDiffSRError
    from .models.model import Model, load_model
    from .photo.reading import read_photo
    from .photo.value import Photo
    from .photo.writing import write_photo
    from .pipeline import Upscaled, upscale
    from .sampling.report import RunReport
    from .sampling.rule import DtssConfig
    from .settings import PRESETS, SamplingConfig

__all__ = [
    "PRESETS",
    "AdaDiffSRError",
    "DtssConfig",
    "Model",
    "Photo",
    "RunReport",
    "SamplingConfig",
    "Upscaled",
    "load_model",
    "read_photo",
    "upscale",
    "write_photo",
]

_HOMES = {
    "errors": ("AdaDiffSRError",),
    "models.model": ("Model", "load_model"),
    "photo.reading": ("read_photo",),
    "photo.value": ("Photo",),
    "photo.writing": ("write_photo",),
    "pipeline": ("Upscaled", "upscale"),
    "sampling.rule": ("DtssConfig",),
    "sampling.report": ("RunReport",),
    "settings": ("PRESETS", "SamplingConfig"),
}


def __getattr__(name: str) -> Any:
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
