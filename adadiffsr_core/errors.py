"""The errors that users meet. Each message is one sentence: what is wrong and what to do."""

import copyreg
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

from .text import sentence

_SHOWN_MODULE = "adadiffsr"


class _Named(type):
    """Classes that say one module's name wherever they are imported from, and are pickled all the same.

    ComfyUI imports a pack under the name of its folder, and programs that read its errors tell them apart by name.
    """


def _find_class(name: str) -> _Named:
    return cast(_Named, globals()[name])


def _make_error(name: str, args: tuple[Any, ...]) -> "AdaDiffSRError":
    return cast("AdaDiffSRError", _find_class(name)(*args))


# By a function, whose module is the true one: workers that load photographs hand errors over as pickles.
copyreg.pickle(_Named, lambda kind: (_find_class, (kind.__name__,)))


class AdaDiffSRError(Exception, metaclass=_Named):
    """Anything this project refuses, said in one sentence on one line, whatever names and values are in it.

    Programs know the kinds by name, `adadiffsr.ConfigError` and so on, also in ComfyUI's history.
    """

    __module__ = _SHOWN_MODULE

    def __init_subclass__(cls) -> None:
        cls.__module__ = _SHOWN_MODULE

    def __init__(self, *args: object) -> None:
        super().__init__(*(sentence(value) if isinstance(value, str) else value for value in args))

    def __reduce__(self) -> tuple[Callable[..., "AdaDiffSRError"], tuple[str, tuple[Any, ...]]]:
        # Not by the class: Ray's pickles would hold a copy of one that is not found in the module that it shows.
        return _make_error, (type(self).__name__, self.args)


class ConfigError(AdaDiffSRError, ValueError):
    """A setting is out of its range or contradicts another."""


class ShapeError(AdaDiffSRError, ValueError):
    """A tensor or image has a shape that cannot be used."""


class ImageError(AdaDiffSRError, ValueError):
    """A file cannot be read or written as an image."""


class CheckpointError(AdaDiffSRError):
    """A weights file is missing, damaged, or of another kind than asked for."""


class DenoiserError(AdaDiffSRError, RuntimeError):
    """The network returned something that cannot be sampled, such as NaN."""


class DiskError(AdaDiffSRError, OSError):
    """A disk has less room than is needed."""


class WorkerError(AdaDiffSRError, RuntimeError):
    """A process that did a part of the work died, or could not begin."""


class MissingExtraError(AdaDiffSRError, ImportError):
    """An optional dependency is needed; the message names what to install."""


def import_extra(module: str, message: str) -> Any:
    """A module that only some of the work needs, imported when it is used.

    Args:
        module: its whole name.
        message: what needs it and how it is installed.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(message) from error
