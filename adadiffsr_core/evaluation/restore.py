"""What a method makes of a test image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConfigError, ImageError
from ..gain.information import GainEstimator
from ..gain.iqa import IqaEstimator
from ..gain.mmle import MmleEstimator
from ..gain.statistics import LatentStatistics
from ..metrics.base import Metric
from ..models.model import Model
from ..nets.pfj import Pfj
from ..photo.reading import read_photo
from ..pipeline import upscale
from ..sampling.report import RunReport
from .measure import to_levels, upscale_bicubic
from .methods import Estimate, Method
from .sets import SCALE, Picture
from .stopwatch import Stopwatch


@dataclass(frozen=True)
class Restored:
    """A method's picture.

    Attributes:
        image: `[1,3,H,W]` float32 in [0,1], on 8-bit levels as a saved file has.
        nfe: mean evaluations per tile.
        seconds: from the low-quality picture to the result, by `Stopwatch`.
        report: where the evaluations went; None if nothing was sampled.
    """

    image: Tensor
    nfe: float = 0.0
    seconds: float = 0.0
    report: RunReport | None = None


@dataclass(frozen=True)
class Bench:
    """Networks that methods choose from.

    Attributes:
        model: with all that ships.
        injections: feature injections by the name methods give.
        teachers: makes the metrics that the regressor was taught by, for the IQA estimator.
    """

    model: Model
    injections: Mapping[str, Pfj] = field(default_factory=dict)
    teachers: Callable[[], Sequence[Metric]] | None = None

    @property
    def ours(self) -> Method:
        """The everyday preset with every network that is here."""
        estimate: Estimate = "latent" if self.model.mmle is None else "mmle"
        return Method(name="ours", estimate=estimate, injection="pfj" if "pfj" in self.injections else "")

    def restore(self, method: Method, picture: Picture, seed: int) -> Restored:
        """Make a method's picture; results are as large as the truth, or four times the input.

        Raises:
            ConfigError: the method needs a network that is not here.
            ImageError: a file is missing.
        """
        lq = read_photo(picture.lq).pixels[None]
        if method.kind == "pictures":
            return Restored(self._read_result(method, picture))
        if method.kind == "bicubic":
            return Restored(upscale_bicubic(lq, SCALE))
        size = (lq.shape[-2] * SCALE, lq.shape[-1] * SCALE)
        model = self._choose_networks(method)
        config = replace(method.sampling, seed=seed)
        watch = Stopwatch(model.device)
        if method.slicing == "superpixels":
            from .superpixels import upscale_superpixels  # needs an extra

            cut = upscale_superpixels(model, lq, size, config)
            image, report = cut.image, cut.report
        else:
            done = upscale(replace(model, estimator=self._choose_estimator(method)), lq, size, config)
            image, report = done.image, done.report
        return Restored(to_levels(image), report.mean_nfe, watch.read(), report)

    def _choose_networks(self, method: Method) -> Model:
        if method.injection and method.injection not in self.injections:
            raise ConfigError(f"{method.name} needs the feature injection {method.injection}; give its file by --pfj")
        pfj = self.injections[method.injection] if method.injection else None
        return replace(self.model, pfj=pfj)

    def _choose_estimator(self, method: Method) -> GainEstimator:
        if method.estimate == "latent" or method.sampling.dtss.is_uniform:
            return LatentStatistics()  # which a uniform run never asks
        if self.model.mmle is None:
            raise ConfigError(f"{method.name} needs an MMLE regressor, and the model has none; give one by --mmle")
        if method.estimate == "mmle":
            return MmleEstimator(self.model.mmle)
        if self.teachers is None:
            raise ConfigError(f"{method.name} needs the regressor's metrics, which are not here")
        return IqaEstimator(self.model.decode, self.teachers(), self.model.mmle.config)

    def _read_result(self, method: Method, picture: Picture) -> Tensor:
        path = (method.folder or Path()) / picture.dataset / f"{picture.lq.stem}.png"
        if not path.is_file():
            raise ImageError(f"{method.name} has no picture {path}")
        return read_photo(path).pixels[None]


def full_steps(method: Method) -> Method:
    """The same with every base step, which shortcuts are compared with."""
    return replace(method, name="full", sampling=method.sampling.uniform(1), every=1)


def distance_to_full(image: Tensor, full: Tensor, metrics: Mapping[str, Metric]) -> dict[str, float]:
    """How far a picture is from that of all steps: `full_<metric>` for each metric that compares."""
    with torch.inference_mode():
        return {f"full_{name}": float(metric(image, full)) for name, metric in metrics.items()}
