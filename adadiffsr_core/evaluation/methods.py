"""Methods that tables compare, as data: how to sample, with which networks, by which estimate of gain."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from ..errors import ConfigError
from ..sampling.bounded import BASE_COURSES
from ..settings import PRESETS, SamplingConfig
from ..text import quoted

Kind = Literal["bicubic", "pictures", "sampled"]
Estimate = Literal["mmle", "latent", "iqa"]
Slicing = Literal["grid", "superpixels"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """One column of a table.

    Attributes:
        name: the column's head.
        kind: bicubic enlargement, another program's pictures, or sampling by the model.
        sampling: how to sample.
        estimate: of information gain.
        injection: name of the feature injection, such as `pfj`; empty for none.
        slicing: what regions are.
        every: only every so many-th image, since the method is slow.
        folder: of another program's pictures, with a folder for each test set.
    """

    name: str
    kind: Kind = "sampled"
    sampling: SamplingConfig = PRESETS["everyday"]
    estimate: Estimate = "mmle"
    injection: str = "pfj"
    slicing: Slicing = "grid"
    every: int = 1
    folder: Path | None = None

    def __post_init__(self) -> None:
        for value, choices in ((self.kind, Kind), (self.estimate, Estimate), (self.slicing, Slicing)):
            if value not in get_args(choices):
                raise ConfigError(
                    f"{quoted(value, 80)} of method {self.name} is unknown; use {', '.join(get_args(choices))}"
                )

    def fingerprint(self, networks: Mapping[str, str]) -> str:
        """Of everything that changes the numbers; the name and how many images are left out do not.

        Args:
            networks: fingerprints of `model`, `mmle` and every feature injection by its name; only those that the
                method uses count. Beside them `machine`, what networks and metrics run on and in which precision,
                unless that is the CPU in float32: other machines find other last digits and take another time.
        """
        if self.kind == "sampled":
            settings = {key: value for key, value in asdict(self).items() if key not in ("name", "every")}
            settings |= {name: networks.get(name) for name in self._networks()}
            if self.sampling.dtss.rule == "bounded":
                settings["courses"] = BASE_COURSES  # which are no setting, and go into every number all the same
        else:
            settings = {"kind": self.kind, "folder": self.folder}
        if "machine" in networks:
            settings["machine"] = networks["machine"]
        text = json.dumps(settings, sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()

    def _networks(self) -> list[str]:
        is_told = self.estimate != "latent" and not self.sampling.dtss.is_uniform
        return ["model", *(["mmle"] if is_told else []), *([self.injection] if self.injection else [])]


BICUBIC = Method(name="bicubic", kind="bicubic")


def uniform(interval: int, preset: str = "everyday", **changes: object) -> Method:
    """Every jump covers `interval` base steps; nothing is estimated."""
    sampling = PRESETS[preset].uniform(interval)
    return replace(Method(name=f"uniform {interval}", sampling=sampling), **changes)  # type: ignore[arg-type]


def adaptive(name: str, preset: str = "everyday", **dtss: object) -> Method:
    """The preset, with other numbers for the controller."""
    sampling = PRESETS[preset]
    changed = replace(sampling.dtss, **dtss)  # type: ignore[arg-type]
    return Method(name=name, sampling=replace(sampling, dtss=changed))
