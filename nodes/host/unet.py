"""Our UNet as the host's own class: its shape in the host's words, and self-attention where no text is read."""

from typing import Any

import torch
from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn

from ...adadiffsr_core.nets.unet import UNetConfig


def unet_shape(config: UNetConfig) -> dict[str, Any]:
    """The arguments of the host's UNet class, by the names that other parts of the host look for too.

    It is what the host's `detect_unet_config` finds in such weights, and what cannot be seen there: the heads, and
    that attention may be to no text.
    """
    levels, blocks = len(config.channel_mult), config.num_res_blocks
    depths = [int(level in config.attention_levels) for level in range(levels)]
    heads = {"num_heads": config.num_heads or -1, "num_head_channels": config.num_head_channels or -1}
    return {
        "use_checkpoint": False,
        "image_size": 32,
        "use_spatial_transformer": True,
        "legacy": False,
        "adm_in_channels": None,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "model_channels": config.model_channels,
        "channel_mult": list(config.channel_mult),
        "num_res_blocks": [blocks] * levels,
        "transformer_depth": [depth for depth in depths for _ in range(blocks)],
        "transformer_depth_output": [depth for depth in depths for _ in range(blocks + 1)],
        "transformer_depth_middle": 1 if config.attention_levels else -1,
        "use_linear_in_transformer": config.use_linear_in_transformer,
        "context_dim": config.context_dim,
        "use_temporal_resblock": False,
        "use_temporal_attention": False,
        # The class wants one of the two, even for no attention.
        **(heads if config.attention_levels else {"num_heads": -1, "num_head_channels": 64}),
    }


class RestorationUNet(UNetModel):
    """The host's UNet, and without a `context_dim` one that has self-attention alone and reads no text.

    The host cannot build that: it wants a width for the second attention, and for a block without one adds the first
    one's output twice. So the second attention is built and then made one that adds nothing.
    """

    def __init__(self, *args: Any, context_dim: int | None = None, **options: Any) -> None:
        super().__init__(*args, context_dim=[None] if context_dim is None else context_dim, **options)
        if context_dim is None:
            for module in self.modules():
                if isinstance(module, BasicTransformerBlock):
                    module.norm2, module.attn2 = nn.Identity(), _Nothing()


class _Nothing(nn.Module):
    """Attention to nothing, whatever text the user connected."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        return torch.zeros_like(x)
