"""The host's MODEL and VAE as what restores a picture, from pixels to pixels."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from torch import Tensor

from ...adadiffsr_core.models.model import embedded_weights
from ...adadiffsr_core.photo.scales import Scales
from ...adadiffsr_core.pipeline import pad_to_latents
from ...adadiffsr_core.sampling.compute_mask import fit_pixels
from ...adadiffsr_core.sampling.config import LatentSizes, RegionConfig
from ...adadiffsr_core.sampling.run import Sampled
from ...adadiffsr_core.sampling.turn import Progress
from ...adadiffsr_core.settings import SamplingConfig
from ..images import image_to_planes, planes_to_image
from ..merge import merge
from ..settings import RegionSettings
from .checkpoints import open_checkpoint
from .geometry import latent_sizes
from .models import Loaded, RestorationModel, null_conditioning
from .networks import companions
from .run import KSamplerSettings, sample_regions

DENOISE = 0.3  # of ordinary checkpoints, which are not shown the picture: enough to draw details, too little to invent


@lru_cache(maxsize=1)
def embedded_model() -> Loaded:
    """The model that comes with the pack, loaded once; the host moves it as it likes."""
    return open_checkpoint(embedded_weights())


def sees_picture(model: Any) -> bool:
    """Whether a MODEL is shown the low-quality picture."""
    return isinstance(model.model, RestorationModel)


@dataclass(frozen=True, kw_only=True)
class HostRestorer:
    """See `adadiffsr_core.pipeline.Restorer`.

    Attributes:
        model, vae: the host's MODEL and VAE.
        positive, negative: CONDITIONING; None is that of an empty prompt.
        seed, cfg: as in the host's KSampler, whose other numbers are the config's.
    """

    model: Any
    vae: Any
    positive: Any = None
    negative: Any = None
    seed: int = 0
    cfg: float = 1.0

    @property
    def scales(self) -> Scales:
        """What the model was trained for; an ordinary one takes any."""
        return companions(self.model).scales

    @property
    def sizes(self) -> LatentSizes:
        """What tiles go by."""
        return latent_sizes(self.model.model)

    def restore(
        self, enlarged: Tensor, config: SamplingConfig, mask: Tensor | None, on_step: Callable[[Progress], None]
    ) -> Sampled:
        """See `Restorer`; the host's progress is told by the sampler, so that `on_step` is not."""
        height, width = enlarged.shape[-2:]
        padded = pad_to_latents(enlarged, self.sizes.factor)
        levels = None
        if mask is not None:
            levels = pad_to_latents(fit_pixels(mask, (height, width)), self.sizes.factor)[:, 0]
        shared = {each.name: getattr(config, each.name) for each in fields(RegionConfig)}
        settings = RegionSettings(config=RegionConfig(**{**shared, "tile_batch": 0}), compute_mask=levels)
        base = KSamplerSettings(seed=self.seed, steps=config.steps, cfg=self.cfg, denoise=config.denoise)
        nothing = null_conditioning(self.model)
        positive, negative = (nothing if each is None else each for each in (self.positive, self.negative))
        latent = {"samples": self.vae.encode(planes_to_image(padded))}
        tiles = sample_regions(self.model, positive, negative, latent, settings, base)
        decoded = self.vae.decode(merge(tiles))
        decoded = decoded.reshape(-1, *decoded.shape[-3:])  # of models that were made for video, one frame each
        return Sampled(image_to_planes(decoded)[..., :height, :width], tiles.report, tiles.grid)
