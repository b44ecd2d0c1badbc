"""How regions are sampled: what the command line, Python and ComfyUI let people choose alike."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from typing_extensions import Self

from ..config import Config, Most, check_multiple
from ..errors import ConfigError
from ..text import quoted
from .codebook import Solver
from .rule import ALL_STEPS_DB, DtssConfig
from .tiles import TileGrid, build_grid, fit_grid

MergeMode = Literal["final", "every_step"]

# Decisions D17, D28, D66 and D71.
EVERYDAY_DTSS = DtssConfig(rule="bounded", visit_last=True, gain_threshold=2e-3, early_exit=False, first_jump=0.25)


@dataclass(frozen=True)
class LatentSizes:
    """What a model says about sizes.

    Attributes:
        factor: image px per latent px, along a side.
        multiple: what a tile's side must be a multiple of, latent px.
        trained: side of the tiles that it was trained on, latent px.
    """

    factor: int
    multiple: int
    trained: int


@dataclass(frozen=True, kw_only=True)
class RegionConfig(Config):
    """How regions are sampled; sizes in image px, which mean the same for every model.

    Attributes:
        solver: how a step is taken; in ComfyUI the host's of the same name.
        dtss: the controller's numbers.
        merge: tiles merged once at the end (the paper), or composed at every base step.
        tile_size: side of a tile, image px; 0 is what the model was trained on.
        overlap: least overlap of neighbours, image px.
        tile_fit: let tiles grow up to a quarter where that evaluates less area.
        tile_batch: tiles in one call of the network; 0 is what free memory holds.
        pfj_strength: of feature injection, where there is any. More of the embedded model's is crisper and strays
            further from the input.
    """

    solver: Solver = "euler"
    dtss: DtssConfig = EVERYDAY_DTSS
    merge: MergeMode = "final"
    tile_size: Annotated[int, Most(2**16, least=0)] = 0
    overlap: Annotated[int, Most(2**16, least=0)] = 64
    tile_fit: bool = True
    tile_batch: Annotated[int, Most(2**16, least=0)] = 0
    pfj_strength: Annotated[float, Most(100, least=0)] = 0.5

    def tile_side(self, sizes: LatentSizes) -> int:
        """Side of a tile before it is fitted, latent px."""
        return self.tile_size // sizes.factor or sizes.trained

    def plan_tiles(self, height: int, width: int, sizes: LatentSizes) -> TileGrid:
        """Where tiles are on a latent canvas of this size, latent px.

        Raises:
            ConfigError: a size is no multiple of what the model needs, or the overlap leaves no room.
        """
        check_multiple("tile_size", self.tile_size, sizes.factor * sizes.multiple)
        check_multiple("overlap", self.overlap, sizes.factor)
        tile, overlap = self.tile_side(sizes), self.overlap // sizes.factor
        if overlap >= tile:
            side = tile * sizes.factor
            size = f"tile_size {side} px" if self.tile_size else f"the model's tiles of {side} px"
            raise ConfigError(
                f"overlap {self.overlap} px leaves no room in {size}; use an overlap of at most "
                f"{tile // 2 * sizes.factor}, or a tile_size above {self.overlap}"
            )
        if self.tile_fit:
            return fit_grid(height, width, tile, overlap, multiple=sizes.multiple)
        return build_grid(height, width, tile, overlap, sizes.multiple)

    def uniform(self, interval: int) -> Self:
        """The same without adaptivity: every jump covers `interval` base steps and no tile stops early."""
        dtss = replace(self.dtss, rule="paper", intervals=(interval,) * 4, early_exit=False, first_jump=0.0)
        return replace(self, dtss=dtss)

    def every_step(self) -> Self:
        """The same with every base step, which likeness is measured by.

        Gain is told to feature injection as in the run itself, so that it is not estimated where that has none.
        """
        if self.dtss.is_uniform:
            return self.uniform(1)
        return replace(self, dtss=replace(self.dtss, rule="bounded", likeness=ALL_STEPS_DB, budget=0.0))


def parse_intervals(text: str) -> tuple[int, ...]:
    """`1, 2, 3, 4` to numbers.

    Raises:
        ConfigError: it is no such list.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except (AttributeError, ValueError):  # no text: a program may send whatever JSON knows
        raise ConfigError(
            f"intervals {quoted(text, 80)} must be whole numbers and commas, such as 1, 2, 3, 4"
        ) from None
