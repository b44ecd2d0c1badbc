"""How a picture is sampled: every number in one place, and the two sets of them that have a name."""

from dataclasses import dataclass
from typing import Annotated

from .config import Most, Seed
from .errors import ConfigError
from .photo.colour import ColourMatch
from .sampling.bounded import BASE_COURSES
from .sampling.config import RegionConfig
from .sampling.rule import DtssConfig
from .sampling.run import TILE_BATCH
from .sampling.schedule import MAX_TIMESTEP, Schedule, Spacing


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(RegionConfig):
    """How a picture is sampled; as it stands, the everyday preset.

    Attributes:
        steps: base steps N.
        eta, spacing, denoise: see `build_codebook` and `Schedule.build_sigmas`; no schedule has
            a step for less than a thousandth.
        seed: of all noise.
        colour: how colours are matched to the input.

    Raises:
        ConfigError: a value is out of its range, or a budget is one that no tile can keep to.
    """

    tile_batch: Annotated[int, Most(2**16, least=1)] = TILE_BATCH
    steps: Annotated[int, Most(MAX_TIMESTEP, least=1)] = 24
    eta: Annotated[float, Most(1, least=0)] | None = None
    spacing: Spacing = "uniform"
    denoise: Annotated[float, Most(1, least=1 / MAX_TIMESTEP)] = 1.0
    seed: Seed = 0
    colour: ColourMatch = "wavelet"

    def __post_init__(self) -> None:
        super().__post_init__()
        Schedule().build_sigmas(self.steps, self.spacing, self.denoise)  # which knows what it cannot build
        least = min(self.steps, len(BASE_COURSES[0][1]))
        if self.dtss.rule == "bounded" and 0 < self.dtss.budget < least:
            raise ConfigError(
                f"budget must be at least {least}, the evaluations that every tile takes, got {self.dtss.budget:g}"
            )


PRESETS: dict[str, SamplingConfig] = {
    # Section 4.1: intervals of 5, 10, 15, 20 of 1,000 timesteps are 1 to 4 of 200 base steps.
    "paper": SamplingConfig(steps=200, solver="ddpm", dtss=DtssConfig(), tile_fit=False, pfj_strength=1.0),
    "everyday": SamplingConfig(),
}
