"""The errors that users meet. Each message is one sentence: what is wrong and what to do."""


class AdaDiffSRError(Exception):
    """Anything this project refuses, said in one sentence."""


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


class MissingExtraError(AdaDiffSRError, ImportError):
    """An optional dependency is needed; the message names what to install."""
