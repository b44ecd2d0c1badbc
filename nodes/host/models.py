"""Our own models as the host's MODEL and VAE objects, so that its own nodes work with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models_base
import comfy.taesd.taesd
import torch
from torch import Tensor, nn

from ...adadiffsr_core.errors import CheckpointError, ConfigError
from ...adadiffsr_core.models.networks import UNET_PREFIX, Networks, read_schedule
from ...adadiffsr_core.nets.autoencoder import Autoencoder
from ...adadiffsr_core.nets.unet import UNet
from .latents import latent_format
from .networks import Network
from .unet import RestorationUNet, unet_shape

_PREDICTIONS = {
    "eps": comfy.model_base.ModelType.EPS,
    "v": comfy.model_base.ModelType.V_PREDICTION,
    "flow": comfy.model_base.ModelType.FLOW,
}


class _Family(comfy.supported_models_base.BASE):
    """What the host wants to know about a kind of model."""

    unet_extra_config: ClassVar[dict[str, Any]] = {}  # the host's default would have heads of its own
    memory_usage_factor = 0.5


class RestorationModel(comfy.model_base.BaseModel):
    """A diffusion model that is shown the latent it restores: the LATENT that comes into the sampler.

    Attributes:
        denoises_residual: whether it denoises what the picture has more than that latent (decision D36). The host sees
            pictures all the same.
        trained_px: side of the tiles that it was trained on, image px.
        tile_multiple: what a tile's side must be a multiple of, latent px.
    """

    trained_px = 512

    def __init__(self, family: _Family, model_type: comfy.model_base.ModelType, device: Any = None) -> None:
        super().__init__(family, model_type, device=device, unet_model=RestorationUNet)
        self.concat_keys = ("concat_image",)
        self.denoises_residual = False
        self.tile_multiple = 2 ** (len(family.unet_config["channel_mult"]) - 1)

    def _apply_model(self, x: Tensor, t: Tensor, c_concat: Tensor | None = None, *args: Any, **options: Any) -> Any:
        """The host's, by which estimates of the network become those of the picture; `t` is its word for sigma."""
        if not self.denoises_residual or c_concat is None:
            return super()._apply_model(x, t, c_concat, *args, **options)
        known = c_concat.to(x)
        share = 1 - t if self.model_type == comfy.model_base.ModelType.FLOW else torch.ones_like(t)
        seen = x - known * share.reshape(-1, 1, 1, 1)
        return super()._apply_model(seen, t, c_concat, *args, **options) + known

    def state_dict_for_saving(self, *_: Any, **__: Any) -> Any:
        """Refused: see `unsavable`."""
        raise unsavable("model")


def unsavable(what: str) -> ConfigError:
    """The sentence for the host's nodes that save a model or a VAE, whose files would lack what ours say of themselves.

    Without it no program can tell how the network is built and used; the host lets no model add to what it writes.
    """
    return ConfigError(
        f"ComfyUI's save nodes leave out the description that a {what} of AdaDiffSR needs, so that nothing could open "
        "the file; keep the one that it was loaded from, and add LoRAs after loading"
    )


def build_model(networks: Networks) -> Any:
    """A MODEL of a checkpoint of ours, of kind ldm or bundle.

    Raises:
        CheckpointError: its config cannot be used, or a weight is not finite.
    """
    schedule = read_schedule(networks.checkpoint)
    # By our own checks: the host takes what fits and leaves the rest as memory happens to be.
    weights = {UNET_PREFIX + key: value for key, value in networks.read(UNet).items()}
    family = _Family(unet_shape(networks.config(UNet)))
    family.latent_format = latent_format(networks)
    parameters = sum(value.numel() for value in weights.values())
    device = comfy.model_management.get_torch_device()
    dtype = comfy.model_management.unet_dtype(
        model_params=parameters, supported_dtypes=family.supported_inference_dtypes, weight_dtype=None
    )
    cast_to = comfy.model_management.unet_manual_cast(dtype, device, family.supported_inference_dtypes)
    family.set_inference_dtype(dtype, cast_to)
    model = RestorationModel(family, _PREDICTIONS[schedule.prediction])
    model.denoises_residual = schedule.target == "residual"
    _check_names(model.diffusion_model, weights, networks)
    model.load_model_weights(weights, UNET_PREFIX)
    offload = comfy.model_management.unet_offload_device()
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)


def _check_names(theirs: nn.Module, weights: Mapping[str, Tensor], networks: Networks) -> None:
    """See that the host's class has the very weights that ours has."""
    if odd := sorted({UNET_PREFIX + key for key in theirs.state_dict()} ^ weights.keys()):
        raise CheckpointError(
            f"{networks.checkpoint.path} cannot be opened: this ComfyUI's UNet and ours differ in {odd[0]}"
        )


class _FirstStage(nn.Module):
    """Our autoencoder by the host's rules: images in [-1,1], latents before their scaling."""

    def __init__(self, autoencoder: Autoencoder, scale: float) -> None:
        super().__init__()
        self.autoencoder, self.scale = autoencoder, scale

    def __getattr__(self, name: str) -> Any:
        if name in ("encoder", "decoder"):  # which other packs' tiled nodes take apart, as those of Stable Diffusion
            raise AttributeError(
                f"AdaDiffSR's VAE has no {name} that could be cut into tiles; use ComfyUI's own VAE Encode and VAE "
                "Decode, which work on it in blocks, or their tiled forms"
            )
        return super().__getattr__(name)

    def encode(self, image: Tensor, **_: Any) -> Tensor:
        return self.autoencoder.encode((image + 1) / 2) / self.scale

    def decode(self, latent: Tensor, **_: Any) -> Tensor:
        return self.autoencoder.decode(latent * self.scale) * 2 - 1


class RestorationVae(comfy.sd.VAE):
    """The host's VAE about our autoencoder: its encode and decode nodes work, the tiled ones too.

    Args:
        autoencoder: of any number of channels.
        scale: that the host divides the network's latents by.
    """

    def __init__(self, autoencoder: Autoencoder, scale: float) -> None:
        # The host builds a VAE from weights that it knows; a small one is the frame for ours.
        super().__init__(sd=comfy.taesd.taesd.TAESD().state_dict())
        self.latent_channels = autoencoder.config.z_channels  # of what the tiled nodes sum up
        self.downscale_ratio = self.upscale_ratio = factor = autoencoder.config.factor
        self.first_stage_model = cast(Any, _FirstStage(autoencoder, scale).to(self.vae_dtype))
        offload = comfy.model_management.vae_offload_device()
        self.patcher = comfy.model_patcher.ModelPatcher(
            self.first_stage_model, load_device=self.device, offload_device=offload
        )
        self.memory_used_encode = lambda shape, dtype: _memory(shape[-2] * shape[-1])
        self.memory_used_decode = lambda shape, dtype: _memory(shape[-2] * shape[-1] * factor**2)

    def get_sd(self) -> Any:
        """Refused: see `unsavable`."""
        raise unsavable("VAE")


def _memory(pixels: int) -> int:
    # It works in blocks and nothing runs at full resolution; above what was measured from 512 to 4096 px.
    return int(400 * 2**20 + 12 * 4 * pixels)


def build_vae(networks: Networks) -> RestorationVae:
    """A VAE of a checkpoint of ours, of kind autoencoder, ldm or bundle.

    Raises:
        CheckpointError: it has no autoencoder, or one that does not fit its config.
    """
    autoencoder = networks.build(Autoencoder, "cpu", torch.float32)
    return RestorationVae(autoencoder, latent_format(networks).scale_factor)


def null_conditioning(model: Any) -> list[Any]:
    """A CONDITIONING that says nothing, for a MODEL whose text encoder is missing or that reads no text."""
    width = model.model.model_config.unet_config.get("context_dim") or 768
    return [[torch.zeros(1, 77, width), {"pooled_output": torch.zeros(1, width)}]]


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint gives.

    Attributes:
        model, vae, null_prompt: the host's MODEL, VAE and CONDITIONING.
        clip: the host's CLIP, or None.
        mmle, pfj: networks in the host's care, where the file has them.
    """

    model: Any
    vae: Any
    null_prompt: list[Any]
    clip: Any = None
    mmle: Network | None = None
    pfj: Network | None = None
