"""Ordinary LDM-format checkpoints of Stable Diffusion 1 and 2: read in parts, written with other UNet weights."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..files import whole_file
from ..nets.layout import channels_last
from ..nets.sd_encoder import SdEncoder, SdEncoderConfig
from ..nets.sd_unet import detect_unet_config
from ..nets.unet import UNet
from ..sampling.schedule import Prediction
from .checkpoint import FORMAT
from .networks import AUTOENCODER_PREFIX, UNET_PREFIX
from .tensor_file import TensorFile

M = TypeVar("M", bound=nn.Module)

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Of the norm below, in models with v-prediction; in others about half of it.
_V_SPREAD = 0.09


class LdmCheckpoint:
    """A checkpoint by LDM's key names, opened.

    Attributes:
        path: of the file.
        tensors: by key, each read when it is asked for.
        unet_config: of its UNet.

    Raises:
        CheckpointError: the file is missing, damaged, or no checkpoint of Stable Diffusion 1 or 2.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.tensors = path, TensorFile(path)
        shapes = {key.removeprefix(UNET_PREFIX): self.tensors.shape(key) for key in self._keys(UNET_PREFIX)}
        try:
            self.unet_config = detect_unet_config(shapes)
        except CheckpointError as error:
            raise CheckpointError(f"{path} cannot be fine-tuned: {error}") from error

    def load_unet(self) -> UNet:
        """The UNet, in float32."""
        with torch.device("meta"):
            unet = UNet(self.unet_config)
        return self._fill(unet, UNET_PREFIX)

    def load_encoder(self, config: SdEncoderConfig | None = None) -> SdEncoder:
        """The autoencoder's encoder, in float32, frozen; None is the config of Stable Diffusion's."""
        with torch.device("meta"):
            encoder = SdEncoder(config or SdEncoderConfig())
        return channels_last(self._fill(encoder, AUTOENCODER_PREFIX)).eval().requires_grad_(False)

    def detect_prediction(self) -> Prediction:
        """What the UNet predicts, by the host's rule, so that the host comes to the same.

        Stable Diffusion 1 predicts noise, and so does 2 at 512 px; 2 at 768 px predicts velocity, and has wider norms
        in its last transformer.
        """
        key = f"{UNET_PREFIX}output_blocks.11.1.transformer_blocks.0.norm1.bias"
        is_v = self.unet_config.use_linear_in_transformer and self.unet_config.in_channels == 4 and key in self.tensors
        return "v" if is_v and float(self.tensors[key].float().std(correction=0)) > _V_SPREAD else "eps"

    def _keys(self, prefix: str) -> Iterator[str]:
        return (key for key in self.tensors if key.startswith(prefix))

    def _fill(self, module: M, prefix: str) -> M:
        module.to_empty(device="cpu")
        for name, place in module.state_dict().items():
            if (key := prefix + name) not in self.tensors or self.tensors.shape(key) != tuple(place.shape):
                raise CheckpointError(f"{self.path} has no {key} of shape {tuple(place.shape)}, as a checkpoint has")
            place.copy_(self.tensors[key])
            if not bool(torch.isfinite(place).all()):
                raise CheckpointError(f"{self.path}: {key} holds NaN or infinity; the file is damaged")
        return module


def is_ours(path: Path) -> bool:
    """Whether a file says that it is of this project's format.

    Raises:
        CheckpointError: the file is missing or no safetensors file.
    """
    return TensorFile(path).metadata.get("format") == FORMAT


def replace_unet(source: Path, target: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a checkpoint with other UNet weights, whole or not at all; every other byte is the source's.

    Args:
        source: the checkpoint whose UNet was trained.
        target: where to.
        weights: every one of the UNet's, by key name within it; stored in the dtypes of the source.

    Raises:
        CheckpointError: a weight is missing, has another shape, or is not finite in its dtype.
    """
    with source.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    with whole_file(target) as partial:
        shutil.copyfile(source, partial)
        with partial.open("r+b") as file:
            for key, entry in header.items():
                if key.startswith(UNET_PREFIX):
                    file.seek(8 + length + entry["data_offsets"][0])
                    file.write(_to_bytes(key, entry, weights))


def _to_bytes(key: str, entry: Mapping[str, object], weights: Mapping[str, Tensor]) -> bytes:
    dtype = _DTYPES.get(str(entry["dtype"]))
    if dtype is None:
        raise CheckpointError(f"{key} is stored as {entry['dtype']}; convert the file to one of {', '.join(_DTYPES)}")
    value = weights.get(key.removeprefix(UNET_PREFIX))
    if value is None or list(value.shape) != entry["shape"]:
        raise CheckpointError(f"there is no weight of shape {entry['shape']} for {key}; nothing was written")
    # Flat: a 1x1 convolution laid out channels last counts as contiguous and has odd strides.
    stored = value.detach().to("cpu", dtype).contiguous().flatten()
    if not bool(torch.isfinite(stored).all()):
        raise CheckpointError(f"{key} is not finite as {dtype}; nothing was written")
    return bytes(stored.view(torch.uint8).numpy())
