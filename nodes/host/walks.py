"""The host's MODEL and VAE as the model that a regressor's training walks: through a guider, as they are sampled."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import comfy.samplers
import torch
from torch import Tensor

from ...adadiffsr_core.config import check_multiple
from ...adadiffsr_core.errors import ConfigError
from ...adadiffsr_core.sampling.codebook import Codebook, build_codebook
from ...adadiffsr_core.sampling.denoiser import Denoiser, ElasticDenoiser
from ...adadiffsr_core.sampling.schedule import Schedule
from ...adadiffsr_core.sampling.tiles import build_grid
from ...adadiffsr_core.settings import SamplingConfig
from .denoiser import SamplerCall
from .geometry import latent_sizes
from .guards import is_flow, refuse_unsuitable
from .networks import Network
from .prepare import prepare
from .run import KSamplerSettings
from .schedule import drop_repeats

_SCHEDULER = "simple"  # the sampling nodes' default
# What a conditioning may hold that belongs to one picture.
_OF_A_PICTURE = ("control", "area", "mask", "gligen", "concat_latent_image", "reference_latents")


@dataclass(frozen=True, kw_only=True)
class HostModel:
    """See `adadiffsr_core.training.walks.walked_model.WalkedModel`.

    Attributes:
        model, vae: the host's MODEL and VAE.
        positive, negative, cfg, denoise: as in the host's KSampler.
        pfj: feature injection that takes part, told of no gain, or None.
        pfj_strength: of it, as in the sampling nodes.

    Raises:
        ConfigError: a conditioning belongs to one picture, or a number is none.
    """

    model: Any
    vae: Any
    positive: Any
    negative: Any
    cfg: float = 1.0
    denoise: float = 1.0
    pfj: Network | None = None
    pfj_strength: float = SamplingConfig().pfj_strength

    def __post_init__(self) -> None:
        # What the sampling nodes refuse of these two numbers, walks refuse.
        KSamplerSettings(seed=0, steps=1, cfg=self.cfg, denoise=self.denoise)
        for _, fields in [*self.positive, *self.negative]:
            if found := [name for name in _OF_A_PICTURE if fields.get(name) is not None]:
                raise ConfigError(
                    f"the conditioning holds {' and '.join(found)}, which belongs to one picture and training shows "
                    "many; connect a plain prompt"
                )

    @property
    def factor(self) -> int:
        """Image px per latent px, along a side."""
        return latent_sizes(self.model.model).factor

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return int(self.model.model.latent_format.latent_channels)

    @property
    def multiple(self) -> int:
        """What a tile's side must be a multiple of, latent px."""
        return latent_sizes(self.model.model).multiple

    def choose_tile(self, tile_size: int) -> int:
        """Side of a tile, image px; 0 becomes what the model was trained on.

        Raises:
            ConfigError: it is no multiple of what the model needs.
        """
        check_multiple("tile_size", tile_size, self.factor * self.multiple)
        return tile_size or latent_sizes(self.model.model).trained * self.factor

    @torch.inference_mode()
    def encode(self, image: Tensor) -> Tensor:
        """See `WalkedModel`."""
        latent: Tensor = self.model.model.process_latent_in(self.vae.encode(image.movedim(1, -1)))
        return latent.float().cpu()

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> Tensor:
        """See `WalkedModel`."""
        image: Tensor = self.vae.decode(self.model.model.process_latent_out(latent))
        return image.movedim(-1, 1).float().cpu().clamp(0, 1)

    def build_codebook(self, sampling: SamplingConfig) -> Codebook:
        """See `WalkedModel`."""
        schedule = comfy.samplers.KSampler(
            self.model,
            steps=sampling.steps,
            device=torch.device("cpu"),
            sampler=sampling.solver,
            scheduler=_SCHEDULER,
            denoise=self.denoise,
            model_options=self.model.model_options,
        )
        kind = Schedule("flow" if is_flow(self.model.get_model_object("model_sampling")) else "eps")
        return build_codebook(drop_repeats(schedule.sigmas.cpu()), sampling.solver, sampling.eta, kind)

    def visit(
        self, codebook: Codebook, lq_latent: Tensor, noise: Tensor, walk: Callable[[Denoiser, Tensor], Tensor]
    ) -> Tensor:
        """See `WalkedModel`."""
        guider = comfy.samplers.CFGGuider(self.model)
        guider.set_conds(self.positive, self.negative)
        guider.set_cfg(self.cfg)
        visitor = _Visitor(walk, self.pfj, self.pfj_strength)
        latent = self.model.model.process_latent_out(lq_latent)
        guider.sample(noise, latent, visitor, codebook.sigmas, disable_pbar=True, seed=0)
        return visitor.seen


class _Visitor(comfy.samplers.Sampler):
    """A SAMPLER that walks where it is called, since only there the host has the network ready."""

    def __init__(self, walk: Callable[[Denoiser, Tensor], Tensor], pfj: Network | None, strength: float) -> None:
        self.walk, self.pfj, self.strength, self.seen = walk, pfj, strength, torch.empty(0)

    def sample(  # noqa: PLR0913  the host calls it so
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """See the host's `Sampler`; what was walked stays in `seen`."""
        refuse_unsuitable(extra_args["model_options"], latent_image, sigmas)
        call = SamplerCall(guider=model_wrap, sigmas=sigmas, extra_args=extra_args, noise=noise, latent=latent_image)
        side = latent_image.shape[-1]
        grid = build_grid(side, side, side, 0, latent_sizes(call.model).multiple)
        denoiser, _, x = prepare(self, call, grid, self.pfj, self.strength, [])
        # Walks in one batch are at levels of their own, which may lie on different sides of a boundary.
        together = 1 if denoiser.boundaries else len(noise)
        self.seen = self.walk(cast(Denoiser, ElasticDenoiser(denoiser, together)), x)
        return latent_image
