"""Table 2: parameters and FLOPs of every network, counted by torch's own counter.

A multiply-add is two FLOPs here, as the counter has it; the paper does not say what it is there. Convolutions, linear
layers and the products of attention count, norms and activations do not. For the Stable Diffusion 2.1 UNet at 64x64
that makes 804 GFLOPs, or 402 G multiply-adds; the 339 G that are published leave out the products of attention.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..models.model import Model
from ..nets.mmle import Mmle, MmleConfig
from ..nets.pfj import Pfj, PfjConfig
from ..nets.sd_unet import sd_unet_config
from ..nets.unet import UNet

# A tile of 512 px, and the tokens of a prompt.
TILE = 64
TOKENS = 77

Row = dict[str, str | float]


def count_parameters(net: nn.Module) -> int:
    """Numbers in all of a network's weights."""
    return sum(parameter.numel() for parameter in net.parameters())


def count_flops(net: Callable[..., object], *inputs: object) -> int:
    """FLOPs of one call, two for each multiply-add.

    Source: `torch.utils.flop_counter`.

    Args:
        net: a network or one of its methods; on the meta device nothing is computed or kept.
        inputs: its arguments.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(*inputs)
    return int(counter.get_total_flops())


def complexity_rows(model: Model) -> list[Row]:
    """Every network of a model, and the two small ones beside the Stable Diffusion 2.1 UNet, for one 512 px tile.

    Source: Table 2. A model without MMLE or PFJ is counted with those of the default shape.

    Returns:
        Rows with `method`, `parameters_m` (millions), `gflops` (1e9 FLOPs, see `count_flops`) and `note`.
    """
    coder, channels = model.autoencoder, model.unet.config.out_channels
    latent = next(model.unet.parameters()).new_zeros(1, channels, TILE, TILE)
    image = latent.new_zeros(1, coder.config.in_channels, TILE * coder.config.factor, TILE * coder.config.factor)
    mmle = model.mmle or Mmle(MmleConfig(latent_channels=channels)).to(latent)
    pfj = model.pfj or Pfj(PfjConfig(latent_channels=channels, channels=model.unet.config.widths)).to(latent)
    flops = count_flops(mmle, latent, latent, latent.new_ones(1))
    sd21 = sd_unet_config("sd21")
    with torch.device("meta"):
        # No weights, no memory.
        sd21_unet, sd21_pfj = UNet(sd21), Pfj(PfjConfig(channels=sd21.widths))
        prompt = torch.empty(1, TOKENS, sd21.context_dim or 0)
    return [
        *_unet_rows("UNet", model.unet, pfj, mmle, flops),
        _row("encoder", count_parameters(coder.encoder), count_flops(coder.encode, image), "once per picture"),
        _row("decoder", count_parameters(coder.decoder), count_flops(coder.decode, latent), "once per picture"),
        *_unet_rows("SD 2.1 UNet", sd21_unet, sd21_pfj, mmle, flops, prompt),
    ]


def _unet_rows(
    name: str, unet: UNet, pfj: Pfj, mmle: Mmle, mmle_flops: int, context: Tensor | None = None
) -> list[Row]:
    """A UNet, the regressor, the injection in its two parts, and the regressor and the injection together."""
    latent = next(unet.parameters()).new_zeros(1, unet.config.out_channels, TILE, TILE)
    x = latent.new_zeros(1, unet.config.in_channels, TILE, TILE)
    timesteps, gain = latent.new_zeros(1), latent.new_zeros(1, 2)
    with torch.no_grad():
        features = pfj.features(latent)

    def injected() -> object:
        return unet(x, timesteps, pfj.modulate(features, gain), context)

    alone = count_flops(unet, x, timesteps, None, context)
    per_tile, per_step = count_flops(pfj.features, latent), count_flops(injected) - alone
    kept = sum(map(count_parameters, (pfj.conv_in, pfj.down, pfj.blocks)))

    def share(method: str, parameters: int, flops: int, when: str) -> Row:
        return _row(f"{method} beside the {name}", parameters, flops, f"{flops / alone:.2%} of the UNet's, {when}")

    return [
        _row(name, count_parameters(unet), alone, "every evaluation"),
        share("MMLE", count_parameters(mmle), mmle_flops, "every evaluation"),
        share("PFJ features", kept, per_tile, "once per tile"),
        share("PFJ modulation", count_parameters(pfj) - kept, per_step, "every evaluation"),
        share(
            "MMLE + PFJ",
            count_parameters(mmle) + count_parameters(pfj),
            mmle_flops + per_tile + per_step,
            "in a tile's first evaluation",
        ),
    ]


def _row(method: str, parameters: int, flops: int, note: str) -> Row:
    return {"method": method, "parameters_m": round(parameters / 1e6, 3), "gflops": round(flops / 1e9, 3), "note": note}
