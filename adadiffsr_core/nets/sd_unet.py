"""UNets of Stable Diffusion 1 and 2: their shapes, by name or read from a checkpoint's weights."""

from collections.abc import Mapping, Sequence
from itertools import count

import torch

from ..config import unknown
from ..errors import CheckpointError
from ..text import shown
from .unet import UNet, UNetConfig

# Alike in both: widths 320, 640, 1280, 1280, with attention on all levels but the coarsest.
_BASE = UNetConfig(
    in_channels=4,
    model_channels=320,
    channel_mult=(1, 2, 4, 4),
    num_res_blocks=2,
    context_dim=768,
    attention_levels=(0, 1, 2),
    num_heads=8,
)
_V2 = {"context_dim": 1024, "num_heads": None, "num_head_channels": 64, "use_linear_in_transformer": True}
SD_UNETS = {"sd15": _BASE, "sd21": UNetConfig.from_dict({**_BASE.to_dict(), **_V2})}


def sd_unet_config(name: str) -> UNetConfig:
    """The shape of a released UNet: `sd15` (860 M parameters; all of 1.x) or `sd21` (866 M; all of 2.x).

    Raises:
        ConfigError: the name is another.
    """
    if name not in SD_UNETS:
        raise unknown("UNet", name, SD_UNETS)
    return SD_UNETS[name]


def detect_unet_config(shapes: Mapping[str, Sequence[int]]) -> UNetConfig:
    """The config of which weights of these shapes are, by key names within the UNet.

    How many heads attention has cannot be seen: as in the host, linear projections mean Stable Diffusion 2 (heads of
    64 channels), convolutions mean 1 (8 heads).

    Raises:
        CheckpointError: they are not those of a UNet as in Stable Diffusion 1 or 2.
    """
    try:
        config = _guess(shapes)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:  # a ConfigError is a ValueError
        raise CheckpointError("the diffusion model is no UNet of Stable Diffusion 1 or 2") from error
    with torch.device("meta"):
        expected = {key: tuple(value.shape) for key, value in UNet(config).state_dict().items()}
    found = {key: tuple(shape) for key, shape in shapes.items()}
    if odd := sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)):
        raise CheckpointError(
            f"the diffusion model is no UNet of Stable Diffusion 1 or 2; {shown(odd[0], 80)} does not fit"
        )
    return config


def _guess(shapes: Mapping[str, Sequence[int]]) -> UNetConfig:
    width, in_channels = shapes["input_blocks.0.0.weight"][:2]
    levels: list[list[int]] = [[]]  # input blocks of each level
    for block in count(1):
        if f"input_blocks.{block}.0.op.weight" in shapes:
            levels.append([])
        elif f"input_blocks.{block}.0.out_layers.3.weight" in shapes:
            levels[-1].append(block)
        else:
            break
    ends = [blocks[-1] for blocks in levels]
    attended = tuple(level for level, end in enumerate(ends) if f"input_blocks.{end}.1.proj_in.weight" in shapes)
    attention = f"input_blocks.{ends[attended[0]]}.1." if attended else ""
    is_linear = bool(attended) and len(shapes[f"{attention}proj_in.weight"]) == 2
    return UNetConfig(
        in_channels=in_channels,
        out_channels=shapes["out.2.weight"][0],
        model_channels=width,
        channel_mult=tuple(shapes[f"input_blocks.{end}.0.out_layers.3.weight"][0] // width for end in ends),
        num_res_blocks=len(levels[0]),
        context_dim=shapes[f"{attention}transformer_blocks.0.attn2.to_k.weight"][1] if attended else None,
        attention_levels=attended,
        num_heads=8 if attended and not is_linear else None,
        num_head_channels=64 if is_linear else None,
        use_linear_in_transformer=is_linear,
    )
