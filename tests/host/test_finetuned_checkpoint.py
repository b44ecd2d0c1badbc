"""Fine-tuned Stable Diffusion against the host: networks from one state dict, and files in its stock loader.

Checkpoints have the widths by which the host knows a family, and fewer levels, so that they are quick; of the real size
they are proved by `benchmarks/finetune_sd21.py`.
"""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from adadiffsr_core.data.latent_pairs import LatentPairs, write_done
from adadiffsr_core.models.ldm_format import LdmCheckpoint
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.empty_prompt import embed_empty_prompt
from adadiffsr_core.nets.pfj import Pfj, PfjConfig
from adadiffsr_core.nets.sd_encoder import LATENT_SCALE, SdEncoder, SdEncoderConfig
from adadiffsr_core.nets.unet import UNet, UNetConfig
from adadiffsr_core.training.loop.loop import LoopConfig, Run
from adadiffsr_core.training.tasks.finetune import FinetuneTask, FinetuneTaskConfig
from adadiffsr_core.training.tasks.setup import Examples, TaskSetup
from tests.host.test_networks import PREFIX, close, draw, list_control, prefixed
from tests.oracles import randomise

SMALL = {"in_channels": 4, "model_channels": 320, "channel_mult": (1, 2), "num_res_blocks": 1, "attention_levels": (0,)}
FAMILIES = {
    "SD15": UNetConfig(**SMALL, context_dim=768, num_heads=8),
    "SD20": UNetConfig(**SMALL, context_dim=1024, num_head_channels=64, use_linear_in_transformer=True),
}
FIRST_STAGE = {
    "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
    "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip


def build_family(host, weights):
    """The host's family of these weights, and a model of it, in float32."""
    found = host("model_detection").model_config_from_unet(weights, PREFIX)
    found.set_inference_dtype(torch.float32, None)
    model = found.get_model(weights, PREFIX)
    model.load_model_weights(dict(weights), PREFIX)
    return found, model.diffusion_model.eval().requires_grad_(False)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_state_dict_gives_one_output(host, family):
    config = FAMILIES[family]
    unet = randomise(UNet(config)).requires_grad_(False)
    found, theirs = build_family(host, prefixed(unet))
    assert type(found).__name__ == family
    x, timesteps, context = draw(2, 4, 8, 12), torch.tensor([3.0, 800.0]), draw(2, 9, config.context_dim, seed=1)
    ours = unet(x, timesteps, context=context)
    assert ours.std() > 0.1
    close(ours, theirs(x, timesteps, context=context), 1e-4)
    assert (unet(x, timesteps, context=context.flip(0)) - ours).abs().max() > 1e-3
    pfj = randomise(Pfj(PfjConfig(channels=config.widths, width=8))).requires_grad_(False)
    residuals = pfj(draw(2, 4, 8, 12, seed=2), torch.tensor([[0.0, 0.0], [2e-3, -1e-3]]))
    injected = unet(x, timesteps, residuals, context)
    assert (injected - ours).abs().max() > 0.1
    control = {"input": list_control(residuals, config.num_res_blocks)}
    close(injected, theirs(x, timesteps, context=context, control=control), 1e-4)


@pytest.mark.parametrize("attention", [(0, 1, 2), (1,)])
def test_attention_of_three_levels_is_the_hosts(host, attention):
    config = UNetConfig(
        in_channels=4, model_channels=64, channel_mult=(1, 2, 2), num_res_blocks=2, context_dim=24,
        attention_levels=attention, num_heads=8,
    )  # fmt: skip
    unet = randomise(UNet(config)).requires_grad_(False)
    found = host("model_detection").detect_unet_config(prefixed(unet), PREFIX)
    base, families = host("model_base"), host("supported_models_base")
    family = type("Family", (families.BASE,), {"unet_extra_config": {"num_heads": 8, "num_head_channels": -1}})(found)
    theirs = base.BaseModel(family, base.ModelType.EPS).diffusion_model
    theirs.load_state_dict(unet.state_dict())
    x, timesteps, context = draw(2, 4, 8, 12), torch.tensor([3.0, 800.0]), draw(2, 9, 24, seed=1)
    close(unet(x, timesteps, context=context), theirs(x, timesteps, context=context), 1e-4)


def build_vae(host):
    """The host's first stage, with random weights."""
    return randomise(host("ldm.models.autoencoder").AutoencoderKL(ddconfig=FIRST_STAGE, embed_dim=4))


@torch.inference_mode()
def test_the_encoder_is_the_hosts(host):
    theirs, ours = build_vae(host), SdEncoder(SdEncoderConfig())
    weights = theirs.state_dict()
    ours.load_state_dict({key: weights[key] for key in ours.state_dict()})
    image = draw(1, 3, 64, 96).sigmoid()
    latent = ours.encode(image)
    assert latent.shape == (1, 4, 8, 12)
    close(latent, theirs.encode(image * 2 - 1) * LATENT_SCALE, 1e-4)


def build_clip(host, family):
    """The host's text encoder with random weights, by its own keys."""
    detection = host("supported_models")
    target = getattr(detection, family)({}).clip_target({})
    clip = host("sd").CLIP(target, embedding_directory=None)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in clip.cond_stage_model.named_parameters():
        scale = 0.05 if parameter.ndim < 2 else parameter.shape[-1] ** -0.5
        drawn = torch.randn(parameter.shape, generator=generator) * scale
        parameter.data = drawn + ("norm" in name and name.endswith("weight"))
    return clip


def ldm_keys(host, family, clip):
    """Its weights by the names that checkpoints have."""
    config = getattr(host("supported_models"), family)({})
    weights = {key: value.clone() for key, value in clip.cond_stage_model.state_dict().items()}
    return {key: value.contiguous() for key, value in config.process_clip_state_dict_for_saving(weights).items()}


@pytest.mark.parametrize(("family", "width"), [("SD15", 768), ("SD20", 1024)])
@torch.inference_mode()
def test_the_empty_prompt_is_the_hosts(host, family, width):
    clip = build_clip(host, family)
    theirs = clip.encode_from_tokens_scheduled(clip.tokenize(""))[0][0]
    assert theirs.std() > 0.1
    close(embed_empty_prompt(ldm_keys(host, family, clip), width), theirs, 1e-3)


@pytest.mark.parametrize("spread", [0.05, 0.2])
def test_the_prediction_is_what_the_host_finds(host, spread):
    source = LdmCheckpoint.__new__(LdmCheckpoint)
    source.unet_config = FAMILIES["SD20"]
    key = f"{PREFIX}output_blocks.11.1.transformer_blocks.0.norm1.bias"
    source.tensors = {key: draw(1024) * spread}
    family = host("supported_models").SD20({"in_channels": 4})
    kinds = host("model_base").ModelType
    assert {kinds.EPS: "eps", kinds.V_PREDICTION: "v"}[family.model_type(source.tensors, PREFIX)] == (
        source.detect_prediction()
    )


def save_checkpoint(host, path, family):
    """An ordinary checkpoint of this family with random weights, text encoder included where it is small."""
    tensors = prefixed(randomise(UNet(FAMILIES[family])))
    tensors |= {f"first_stage_model.{key}": value for key, value in build_vae(host).state_dict().items()}
    if family == "SD15":
        tensors |= ldm_keys(host, family, build_clip(host, family))
    halves = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    save_file({key: value.contiguous() for key, value in halves.items()}, path)
    return LdmCheckpoint(path)


def make_pairs(folder, count=4):
    rng = np.random.default_rng(count)
    folder.mkdir()
    for name in ("gt", "lq"):
        np.save(folder / f"{name}.npy", rng.standard_normal((count, 4, 16, 16)).astype(np.float16))
    write_done(folder, count)
    return LatentPairs(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_finetuned_opens_in_the_stock_loader(host, pack, tmp_path, family):
    source = save_checkpoint(host, tmp_path / "sd.safetensors", family)
    context = embed_empty_prompt(source.tensors, source.unet_config.context_dim)
    context = context if family == "SD15" else draw(1, 77, 1024)  # nothing is learnt from silence
    painter = Autoencoder(AutoencoderConfig(channels=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1)))
    pairs, config = make_pairs(tmp_path / "pairs"), FinetuneTaskConfig(pfj_width=8)
    loop = LoopConfig(steps=2, warmup_steps=1, learning_rate=1e-2, accumulation=2, average_on_disk=True)
    task = FinetuneTask(
        source, config, context, Examples(pairs, pairs), painter, TaskSetup(Processor(bfloat16=True), 0)
    )
    Run(task, loop, tmp_path / "run").train()

    path = tmp_path / "run" / "checkpoint.safetensors"
    loaded = host("sd").load_checkpoint_guess_config(str(path), output_vae=True, output_clip=True)
    before = host("sd").load_checkpoint_guess_config(str(source.path), output_vae=True, output_clip=True)
    assert type(loaded[0].model.model_config).__name__ == family
    assert loaded[0].model.model_type.name == "EPS"
    trained = LdmCheckpoint(path).load_unet().state_dict()
    theirs = {key: value.float() for key, value in loaded[0].model.diffusion_model.state_dict().items()}
    begun = {key: value.float() for key, value in before[0].model.diffusion_model.state_dict().items()}
    for key, value in trained.items():
        torch.testing.assert_close(theirs[key], value)
    assert sum(not torch.equal(begun[key], trained[key]) for key in trained) > 0.9 * len(trained)
    image = draw(1, 64, 64, 3).sigmoid()
    assert torch.equal(loaded[2].encode(image), before[2].encode(image))
    assert (loaded[1] is None) == (family == "SD20")

    inject = pack("nodes.loaders").load_pfj(tmp_path / "run" / "pfj.safetensors")
    assert inject.config.channels == FAMILIES[family].widths
