"""The errors that users meet. Each message is one sentence: what is wrong and what to do."""

from .text import sentence


class AdaDiffSRError(Exception):
    """Anything this project refuses, said in one sentence on one line, whatever names and values are in it."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(sentence(value) if isinstance(value, str) else value for value in args))


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


class MissingExtraError(AdaDiffSRError, ImportError):
    """An optional dependency is needed; the message names what to install."""
