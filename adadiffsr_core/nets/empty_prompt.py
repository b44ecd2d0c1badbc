"""What Stable Diffusion's text encoders say of an empty prompt, computed from a checkpoint's own weights.

The tokens of no text are known numbers, so no tokenizer is needed. The layers are torch's own transformer layers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import CheckpointError

_LENGTH, _START, _END, _HEAD = 77, 49406, 49407, 64
# Of a layer, by torch's names.
_PARTS = ("norm1.{}", "self_attn.in_proj_{}", "self_attn.out_proj.{}", "norm2.{}", "linear1.{}", "linear2.{}")


@dataclass(frozen=True)
class _Family:
    """Where one text encoder's weights are and what differs.

    Attributes:
        prefix: of its keys.
        token, position, final, layer: keys below it; a layer's is completed by its number.
        parts: names in the file of each of `_PARTS`: those of several are joined.
        padding: the token behind the end.
        activation: of the layers.
        layers: how many are run, from the first.
    """

    prefix: str
    token: str
    position: str
    final: str
    layer: str
    parts: tuple[tuple[str, ...], ...]
    padding: int
    activation: Callable[[Tensor], Tensor]
    layers: int


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


# CLIP ViT-L/14 of Stable Diffusion 1, by Hugging Face's names.
_V1 = _Family(
    prefix="cond_stage_model.transformer.text_model.",
    token="embeddings.token_embedding.weight",
    position="embeddings.position_embedding.weight",
    final="final_layer_norm.",
    layer="encoder.layers.{}.",
    parts=(
        ("layer_norm1.{}",),
        ("self_attn.q_proj.{}", "self_attn.k_proj.{}", "self_attn.v_proj.{}"),
        ("self_attn.out_proj.{}",),
        ("layer_norm2.{}",),
        ("mlp.fc1.{}",),
        ("mlp.fc2.{}",),
    ),
    padding=_END,
    activation=_quick_gelu,
    layers=12,
)
# OpenCLIP ViT-H/14 of Stable Diffusion 2, which is read one of its 24 layers before the end.
_V2 = _Family(
    prefix="cond_stage_model.model.",
    token="token_embedding.weight",
    position="positional_embedding",
    final="ln_final.",
    layer="transformer.resblocks.{}.",
    parts=tuple(
        (f"{part}{{}}",) for part in ("ln_1.", "attn.in_proj_", "attn.out_proj.", "ln_2.", "mlp.c_fc.", "mlp.c_proj.")
    ),
    padding=0,
    activation=F.gelu,
    layers=23,
)


@torch.no_grad()
def embed_empty_prompt(tensors: Mapping[str, Tensor], width: int) -> Tensor:
    """The embedding that the UNet is shown for an empty prompt.

    Args:
        tensors: a checkpoint's, by LDM's key names; read one layer at a time.
        width: of the tokens that the UNet reads.

    Returns:
        `[1,77,width]` float32. Zeros, as Load AdaDiffSR Checkpoint says nothing, if the file has no text encoder.

    Raises:
        CheckpointError: it has one that is incomplete or of another width.
    """
    found = [family for family in (_V1, _V2) if family.prefix + family.token in tensors]
    if not found:
        return torch.zeros(1, _LENGTH, width)
    try:
        embedding = _embed(found[0], tensors)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"the checkpoint's text encoder cannot be used: {error}") from error
    if embedding.shape[-1] != width:
        raise CheckpointError(f"the text encoder's tokens are {embedding.shape[-1]} wide; the UNet reads {width}")
    return embedding


def _embed(family: _Family, tensors: Mapping[str, Tensor]) -> Tensor:
    def read(key: str) -> Tensor:
        return tensors[family.prefix + key].float()

    tokens = torch.tensor([_START, _END] + [family.padding] * (_LENGTH - 2))
    x = (read(family.token)[tokens] + read(family.position))[None]
    mask = torch.full((_LENGTH, _LENGTH), -torch.inf).triu(1)
    for number in range(family.layers):
        x = _layer(family, read, number, x.shape[-1])(x, src_mask=mask)
    return F.layer_norm(x, x.shape[-1:], read(f"{family.final}weight"), read(f"{family.final}bias"))


def _layer(family: _Family, read: Callable[[str], Tensor], number: int, width: int) -> nn.Module:
    place = family.layer.format(number)
    weights: dict[str, Any] = {
        ours.format(kind): torch.cat([read(place + name.format(kind)) for name in theirs])
        for ours, theirs in zip(_PARTS, family.parts, strict=True)
        for kind in ("weight", "bias")
    }
    with torch.device("meta"):
        layer = nn.TransformerEncoderLayer(
            width, width // _HEAD, 4 * width, 0.0, family.activation, batch_first=True, norm_first=True
        )
    layer.load_state_dict(weights, assign=True)
    return cast(nn.Module, layer.eval())
