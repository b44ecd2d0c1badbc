"""Fitting `LatentColours` to an autoencoder, by least squares, and painting rough pictures with them."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ConfigError
from ...models.latent_colours import LatentColours


class RoughDecoder(nn.Module):
    """Pictures of latents whose decoder is not at hand: a square of one colour for each latent pixel.

    Args:
        colours: of the latents' channels.
    """

    factors: Tensor
    bias: Tensor

    def __init__(self, colours: LatentColours) -> None:
        super().__init__()
        self.register_buffer("factors", torch.tensor(colours.factors))
        self.register_buffer("bias", torch.tensor(colours.bias))

    def decode(self, latent: Tensor) -> Tensor:
        """`[N,C,h,w]` to `[N,3,8h,8w]`, about [0,1]."""
        colours = torch.einsum("nchw,cr->nrhw", latent.float(), self.factors) + self.bias[:, None, None]
        return F.interpolate(colours / 2 + 0.5, scale_factor=8.0, mode="nearest")


def fit_colours(pairs: Iterable[tuple[Tensor, Tensor]]) -> LatentColours:
    """Colours that come nearest to those of pictures, over all their latent pixels.

    Args:
        pairs: images `[N,3,H,W]` in [0,1] and their latents `[N,C,h,w]`, of any sizes.

    Raises:
        ConfigError: there are fewer latent pixels than numbers to find.
    """
    rows = [_rows(image, latent) for image, latent in pairs]
    known = torch.cat([row for row, _ in rows]) if rows else torch.empty(0, 1)
    if len(known) < known.shape[1]:
        raise ConfigError(f"{len(known)} latent pixels do not say the colours of latents; use larger pictures")
    # The pseudo-inverse, since a channel may be dead, or two may say the same.
    found = torch.linalg.pinv(known) @ torch.cat([colours for _, colours in rows])
    numbers = [tuple(round(value, 4) for value in row) for row in found.tolist()]
    return LatentColours(factors=tuple(numbers[:-1]), bias=numbers[-1])


def _rows(image: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
    """`[P,C+1]` and `[P,3]` float64: each latent pixel, with a 1, and the mean of its picture's, in [-1,1]."""
    colours = F.interpolate(image.double(), size=latent.shape[-2:], mode="area") * 2 - 1
    known = F.pad(latent.double().cpu().movedim(1, -1).flatten(0, 2), (0, 1), value=1.0)
    return known, colours.cpu().movedim(1, -1).flatten(0, 2)
