"""Recipes: everything a training run is told, as JSON; those of the shipped model are the defaults."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import Config, Seed, unknown
from ..data.dataset import PairConfig
from ..errors import ConfigError
from ..files import read_small_file
from ..nets.autoencoder import AutoencoderConfig
from ..nets.mmle import MmleConfig
from ..nets.pfj import PfjConfig
from ..nets.unet import UNetConfig
from ..plain_json import parse_json
from ..settings import PRESETS
from ..text import quoted, shown
from .loop.config import LoopConfig
from .tasks.autoencoder import AutoencoderTaskConfig
from .tasks.decoder import DecoderTaskConfig
from .tasks.finetune import FinetuneTaskConfig
from .tasks.ldm import LdmTaskConfig
from .tasks.mmle import MmleTaskConfig
from .tasks.pfj import PfjTaskConfig
from .walks.targets import Reference
from .walks.walks import WalkConfig

_LONGEST = 10**6  # bytes of a file that changes a recipe


@dataclass(frozen=True, kw_only=True)
class Recipe(Config):
    """What every recipe has.

    Attributes:
        loop: how long and how fast.
        holdout: share of the photographs to measure on.
    """

    loop: LoopConfig = field(default_factory=LoopConfig)
    holdout: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.holdout < 1:
            raise ConfigError(f"holdout must be a share between 0 and 1, got {self.holdout}")


@dataclass(frozen=True, kw_only=True)
class AutoencoderRecipe(Recipe):
    """How an autoencoder is trained.

    Attributes:
        loop, net, task: their configs.
        holdout: share of the photographs to measure on.
    """

    net: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    task: AutoencoderTaskConfig = field(default_factory=AutoencoderTaskConfig)


@dataclass(frozen=True, kw_only=True)
class PairRecipe(Recipe):
    """What every recipe has that learns from pairs of latents.

    Attributes:
        loop, data: their configs.
        pairs: cached pairs to train on.
        held_out: cached pairs to measure on.
        holdout: share of the photographs that those come from.
        pairs_seed: of the pairs; None is the loop's. With one of their own, runs of several seeds share what they keep.
    """

    data: PairConfig = field(default_factory=PairConfig)
    pairs: int = 8192
    held_out: int = 256
    pairs_seed: Seed | None = None


def _check_counts(recipe: PairRecipe) -> None:
    if min(recipe.pairs, recipe.held_out) < 1:
        raise ConfigError(f"pairs and held_out must be at least 1, got {recipe.pairs} and {recipe.held_out}")


def _check_sheet(recipe: PairRecipe) -> None:
    if recipe.pairs < 1 or recipe.held_out < 6:  # the sheet shows six
        raise ConfigError(f"pairs must be at least 1 and held_out 6, got {recipe.pairs} and {recipe.held_out}")


@dataclass(frozen=True, kw_only=True)
class LdmRecipe(PairRecipe):
    """How a diffusion model is trained.

    Attributes:
        net, task: their configs.
        live: degrade and encode pairs on the device and keep the window of them there, rather than on disk; None does
            so on CUDA.
        pairs: in the window, a multiple of 16, or of 256 where they are live.
        renewal: new pairs of the window for each that is drawn; 0 keeps the first for ever.
    """

    net: UNetConfig = field(default_factory=UNetConfig)
    task: LdmTaskConfig = field(default_factory=LdmTaskConfig)
    live: bool | None = None
    renewal: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_sheet(self)
        if not 0 <= self.renewal <= 1:
            raise ConfigError(f"renewal must be in [0,1], got {self.renewal}")


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe(PairRecipe):
    """How a Stable Diffusion checkpoint is fine-tuned.

    Attributes:
        task: its config.
        net: of the checkpoint's UNet; found in the file, not chosen.
    """

    net: UNetConfig = field(default_factory=UNetConfig)
    task: FinetuneTaskConfig = field(default_factory=FinetuneTaskConfig)
    held_out: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_counts(self)


@dataclass(frozen=True, kw_only=True)
class MmleRecipe(Recipe):
    """How an MMLE regressor is trained.

    Attributes:
        loop, net, task, data, walk: their configs; `worst` and `best` of `net` are measured, not taken from here.
        reference: what full-reference metrics compare with: the low-quality picture (the paper's o) or the truth.
        walks: to train on.
        held_out: walks to measure on.
        holdout: share of the photographs that those come from.
        ends: tiles restored by all steps besides, from which the trained regressor learns difficulty; 0 teaches none.
    """

    net: MmleConfig = field(default_factory=MmleConfig)
    task: MmleTaskConfig = field(default_factory=MmleTaskConfig)
    data: PairConfig = field(default_factory=PairConfig)
    walk: WalkConfig = field(default_factory=WalkConfig)
    reference: Reference = "lq"
    walks: int = 600
    held_out: int = 96
    ends: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.walks, self.held_out) < 1:
            raise ConfigError(f"walks and held_out must be at least 1, got {self.walks} and {self.held_out}")
        if self.ends < 0 or self.ends == 1:
            raise ConfigError(f"ends must be 0, or at least 2 to learn from, got {self.ends}")

    @property
    def held_out_ends(self) -> int:
        """Of other photographs, to measure on."""
        return min(self.held_out, self.ends)


@dataclass(frozen=True, kw_only=True)
class PfjRecipe(PairRecipe):
    """How feature injection is trained.

    Attributes:
        net, task: their configs.
        joint: train the UNet as well.
    """

    net: PfjConfig = field(default_factory=PfjConfig)
    task: PfjTaskConfig = field(default_factory=PfjTaskConfig)
    joint: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_sheet(self)


@dataclass(frozen=True, kw_only=True)
class DecoderRecipe(PairRecipe):
    """How a decoder learns on what a model samples.

    Attributes:
        net: of the model's autoencoder; found in the file, not chosen.
        task: its config.
        preset: by which pairs are sampled.
    """

    net: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    task: DecoderTaskConfig = field(default_factory=DecoderTaskConfig)
    preset: str = "everyday"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_counts(self)
        if self.preset not in PRESETS:
            raise unknown("preset", self.preset, PRESETS)


def read_recipe(
    kind: str, path: Path | None, loop: Mapping[str, Any], task: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    """The shipped recipe, changed by a file, changed by the command line; as plain values.

    Args:
        kind: which recipe: a name in the folder `configs`.
        path: JSON with the same sections, of which only what differs need be there; None for none.
        loop: settings of that section that go before all others.
        task: likewise.
        more: other sections likewise, or settings outside of any.

    Raises:
        ConfigError: the file is missing, no ordinary file, too large or no JSON object, or a section is none.
    """
    shipped = Path(__file__).parent / "configs" / f"{kind}.json"
    values: dict[str, Any] = json.loads(shipped.read_text(encoding="utf-8"))
    for changes in ({} if path is None else _read_json(path), {"loop": loop, "task": task, **more}):
        for name, change in changes.items():
            is_section = isinstance(values.get(name), Mapping)
            if is_section and not isinstance(change, Mapping):
                raise ConfigError(f"{name} must be a section of settings, got {quoted(change, 80)}")
            values[name] = {**values[name], **change} if is_section else change
    return values


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = parse_json(read_small_file(path, _LONGEST))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {shown(str(error), 80)}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold sections such as loop and net, in braces")
    return values
