"""What a walk needs of a diffusion model, whoever hosts it, and what tells one model from another."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.origin import read_note
from ...errors import ConfigError
from ...files import whole_file
from ...models.model import Model
from ...models.unet_denoiser import UNetDenoiser
from ...sampling.codebook import Codebook, build_codebook
from ...sampling.denoiser import Denoiser
from ...sampling.tiles import build_grid
from ...settings import SamplingConfig

_FILE = "probe.json"
_TOLERANCE = 0.01  # of the largest value: what precision and memory management may change


class WalkedModel(Protocol):
    """A diffusion model with its autoencoder.

    Latents are in the scale that the network sees, float32, and on whichever device the model has them.
    """

    @property
    def factor(self) -> int:
        """Image px per latent px, along a side."""
        ...

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        ...

    @property
    def multiple(self) -> int:
        """What a tile's side must be a multiple of, latent px."""
        ...

    def encode(self, image: Tensor) -> Tensor:
        """Images `[N,3,H,W]` in [0,1] to latents `[N,C,h,w]`."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """Latents to images `[N,3,H,W]` in [0,1]."""
        ...

    def build_codebook(self, sampling: SamplingConfig) -> Codebook:
        """The base schedule and the coefficients of its jumps."""
        ...

    def visit(
        self, codebook: Codebook, lq_latent: Tensor, noise: Tensor, walk: Callable[[Denoiser, Tensor], Tensor]
    ) -> Tensor:
        """Call `walk` with the network at hand, and return what it returns.

        Args:
            codebook: of this model.
            lq_latent: square tiles to restore, `[B,C,h,h]`, as `encode` made them.
            noise: standard normal, the same.
            walk: given the network, asked for tiles 0 to B - 1, and the noisy start `[B,C,h,h]` on its device.
        """
        ...


class OwnModel:
    """A model of our own architecture as a `WalkedModel`.

    Feature injection, where the model has it, takes part.

    Args:
        model: the networks, on any device.
        pfj_strength: of feature injection, as `SamplingConfig` has it.
    """

    def __init__(self, model: Model, pfj_strength: float = SamplingConfig().pfj_strength) -> None:
        self.model, self.pfj_strength, self.multiple = model, pfj_strength, model.unet.config.multiple
        self.factor, self.channels = model.autoencoder.config.factor, model.autoencoder.config.z_channels

    def encode(self, image: Tensor) -> Tensor:
        """See `WalkedModel`."""
        return self.model.encode(image)

    def decode(self, latent: Tensor) -> Tensor:
        """See `WalkedModel`."""
        return self.model.decode(latent)

    def build_codebook(self, sampling: SamplingConfig) -> Codebook:
        """See `WalkedModel`."""
        sigmas = self.model.schedule.build_sigmas(sampling.steps, sampling.spacing)
        return build_codebook(sigmas, sampling.solver, sampling.eta, self.model.schedule)

    def visit(
        self, codebook: Codebook, lq_latent: Tensor, noise: Tensor, walk: Callable[[Denoiser, Tensor], Tensor]
    ) -> Tensor:
        """See `WalkedModel`."""
        side = lq_latent.shape[-1]
        grid = build_grid(side, side, side, 0, self.multiple)
        x = self.model.schedule.start(lq_latent, noise, float(codebook.sigmas[0]))
        networks = self.model.unet, self.model.schedule
        return walk(UNetDenoiser(*networks, lq_latent, grid, self.model.pfj, self.pfj_strength), x)


@torch.inference_mode()
def probe_model(model: WalkedModel, sampling: SamplingConfig, size_px: int) -> list[float]:
    """What tells a model: coarse values of its estimates of one drawn tile, at the start of the schedule and halfway.

    Weights cannot tell it where the host has changed or packed them; this also sees prompt, guidance and autoencoder.

    Raises:
        ConfigError: the autoencoder's latents are not those that the network wants, or the estimates are not finite.
    """
    generator = torch.Generator().manual_seed(0)
    image = F.interpolate(torch.rand(1, 3, 16, 16, generator=generator), size=(size_px, size_px), mode="bilinear")
    lq_latent, side = model.encode(image), size_px // model.factor
    if lq_latent.shape != (1, model.channels, side, side):
        raise ConfigError(
            f"this VAE makes latents of {list(lq_latent.shape[1:])} from {size_px} px where the model works on "
            f"{[model.channels, side, side]}; connect the model's own VAE"
        )
    codebook = model.build_codebook(sampling)
    noise = torch.randn(lq_latent.shape, generator=generator).to(lq_latent.device)

    def look(denoise: Denoiser, x: Tensor) -> Tensor:
        sigmas = codebook.sigmas[[0, codebook.steps // 2]].to(x.device)
        return torch.cat([denoise(x * (sigma / sigmas[0]), sigma[None], [0], None) for sigma in sigmas])

    seen = F.adaptive_avg_pool2d(model.visit(codebook, lq_latent, noise, look).float().cpu(), 4)
    if not bool(seen.isfinite().all()):
        raise ConfigError("the network returns NaN or infinity; run it in full precision (float32)")
    return [round(value, 5) for value in seen.flatten().tolist()]


def claim_model(folder: Path, probe: list[float]) -> None:
    """Note that walks in `folder` are those of a model, or see that they are.

    Args:
        folder: created if need be.
        probe: from `probe_model`.

    Raises:
        ConfigError: they are another's.
    """
    path = folder / _FILE
    if not path.exists():
        with whole_file(path) as partial:
            partial.write_text(json.dumps(probe), encoding="utf-8")
        return
    note = read_note(path)
    if not isinstance(note, list) or not all(isinstance(value, float | int) for value in note):
        raise ConfigError(f"{path} is damaged; remove {folder} to make it anew, or choose another folder")
    known, here = torch.tensor(note, dtype=torch.float32), torch.tensor(probe)
    if known.shape != here.shape or float((known - here).abs().max()) > _TOLERANCE * float(known.abs().max()):
        raise ConfigError(f"{folder} was made with another model, VAE or prompt; choose another folder, or remove it")
