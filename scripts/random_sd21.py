"""Writes a checkpoint of Stable Diffusion 2.1's size with random weights, from the host's own classes.

For proofs of size, speed and memory where the real one cannot be had; its pictures are noise. Run with the interpreter
of a ComfyUI: `python scripts/random_sd21.py COMFYUI_DIR OUT.safetensors`.
"""

import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(sys.argv[1]).resolve()))

import comfy.options

comfy.options.enable_args_parsing(False)

import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True

import comfy.ldm.models.autoencoder  # noqa: E402
import comfy.model_base  # noqa: E402
import comfy.supported_models  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "context_dim": 1024,
    "use_linear_in_transformer": True,
    "use_spatial_transformer": True,
    "use_temporal_attention": False,
    "adm_in_channels": None,
    "legacy": False,
    "dtype": torch.float16,
}
FIRST_STAGE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}


def randomise(module: torch.nn.Module) -> None:
    """Weights that neither vanish nor explode."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        size = 0.02 if parameter.ndim < 2 else 0.5 * parameter[0].numel() ** -0.5
        drawn = torch.randn(parameter.shape, generator=generator) * size
        parameter.data = (drawn + (parameter.ndim == 1)).to(torch.float16)


def main() -> None:
    """Build, fill and write."""
    logging.getLogger().setLevel(logging.INFO)
    unet = comfy.model_base.BaseModel(comfy.supported_models.SD20(UNET)).diffusion_model
    vae = comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=FIRST_STAGE, embed_dim=4)
    weights: dict[str, torch.Tensor] = {}
    for prefix, module in (("model.diffusion_model.", unet), ("first_stage_model.", vae)):
        randomise(module)
        logging.info("%s %.0f M parameters", prefix, sum(p.numel() for p in module.parameters()) / 1e6)
        weights |= {prefix + key: value.half().contiguous() for key, value in module.state_dict().items()}
    save_file(weights, sys.argv[2])


if __name__ == "__main__":
    main()
