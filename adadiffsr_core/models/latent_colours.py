"""Rough colours of latents without their decoder: what a host shows while it samples."""

from dataclasses import dataclass
from typing import Annotated

from ..config import Config, Most
from ..errors import ConfigError

_COLOURS = 3
_Number = Annotated[float, Most(1e6)]


@dataclass(frozen=True, kw_only=True)
class LatentColours(Config):
    """A linear map from a latent pixel to the mean colour of the pixels that it stands for, in [-1,1].

    Attributes:
        factors: (red, green, blue) of each latent channel.
        bias: what is added.
    """

    factors: Annotated[tuple[tuple[_Number, ...], ...], Most(16_384)]
    bias: tuple[_Number, ...] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.factors or any(len(row) != _COLOURS for row in (*self.factors, self.bias)):
            raise ConfigError(
                f"factors must be red, green and blue of each latent channel, and bias the same once; got "
                f"{len(self.factors)} rows, of {sorted({len(row) for row in (*self.factors, self.bias)})} numbers"
            )


# Of Stable Diffusion 1 and 2's latent space, scaled by 0.18215: fitted to the first embedded model's autoencoder, which
# spoke it, on the photographs that ship.
SD_COLOURS = LatentColours(
    factors=(
        (0.3156, 0.2477, 0.2191),
        (0.1862, 0.2302, 0.1594),
        (-0.1301, 0.1926, 0.2546),
        (-0.1766, -0.3483, -0.4728),
    ),
    bias=(0.054, -0.1213, -0.2316),
)


def plain_colours(channels: int) -> LatentColours:
    """Colours of a latent space of which nothing is known: the channels by turns red, green and blue."""
    share = 0.5 * (_COLOURS / max(channels, _COLOURS)) ** 0.5
    rows = (tuple(share * (colour == channel % _COLOURS) for colour in range(_COLOURS)) for channel in range(channels))
    return LatentColours(factors=tuple(rows))
