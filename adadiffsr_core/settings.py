"""How a picture is sampled: every number in one place, and the two sets of them that have a name."""

from dataclasses import dataclass, field, replace
from typing import Literal

from .config import Config
from .errors import ConfigError
from .photo.colour import ColourMatch
from .sampling.codebook import Solver
from .sampling.controller import DtssConfig
from .sampling.schedule import Spacing

MergeMode = Literal["final", "every_step"]


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(Config):
    """How a picture is sampled.

    Attributes:
        steps: base steps N.
        solver, eta, spacing, denoise: see `build_codebook` and `Schedule.build_sigmas`.
        dtss: the controller's numbers.
        merge: tiles merged once at the end (the paper), or composed at every base step.
        tile: side of the tiles the model was trained on, latent px.
        overlap: least overlap of tiles, latent px.
        tile_fit: choose the tile size that evaluates the least area.
        tile_batch: tiles in one call of the network.
        seed: of all noise.
        colour: how colours are matched to the input.
        pfj_strength: of feature injection, where the model has it. More of the embedded model's is crisper and strays
            further from the input.
    """

    steps: int = 24
    solver: Solver = "euler"
    eta: float | None = None
    spacing: Spacing = "uniform"
    denoise: float = 1.0
    dtss: DtssConfig = field(default_factory=DtssConfig)
    merge: MergeMode = "final"
    tile: int = 64
    overlap: int = 8
    tile_fit: bool = True
    tile_batch: int = 8
    seed: int = 0
    colour: ColourMatch = "wavelet"
    pfj_strength: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tile_batch < 1:
            raise ConfigError(f"tile_batch must be at least 1, got {self.tile_batch}")
        if not 0 <= self.pfj_strength < float("inf"):
            raise ConfigError(f"pfj_strength must be a number from 0 up, got {self.pfj_strength}")

    def uniform(self, interval: int) -> "SamplingConfig":
        """The same without adaptivity: every jump covers `interval` base steps and no tile stops early."""
        return replace(self, dtss=replace(self.dtss, intervals=(interval,) * 4, early_exit=False, first_jump=0.0))


PRESETS: dict[str, SamplingConfig] = {
    # Section 4.1: intervals of 5, 10, 15, 20 of 1,000 timesteps are 1 to 4 of 200 base steps.
    "paper": SamplingConfig(steps=200, solver="ddpm", tile_fit=False),
    # Its numbers: decisions D17, D28 and D66.
    "everyday": SamplingConfig(
        solver="dpmpp_2m", dtss=DtssConfig(gain_threshold=2e-3, early_exit=False, first_jump=0.25)
    ),
}
