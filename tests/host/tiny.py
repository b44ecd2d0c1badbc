"""Random-weight models of the host's own classes, small enough for a test, and calls to its samplers."""

import torch

CONTEXT = 16
LOUD = 20
SHAPE = {
    "image_size": 32,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": CONTEXT,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": True,
    "use_temporal_attention": False,
    "legacy": False,
}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def randomise(module, seed=0):
    """The host leaves weights as the memory was. What text says is made loud, or no test would hear it."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        size = 0.02 if parameter.ndim < 2 else 0.7 * parameter[0].numel() ** -0.5
        size *= LOUD if "attn2.to_v" in name or "attn2.to_out" in name else 1
        parameter.data = torch.randn(parameter.shape, generator=generator) * size
    return module


def build_model(host, prediction="eps", in_channels=4, adm=None, latent_format="SD15", channels=4, base="BaseModel"):
    """A MODEL with text conditioning; `adm` adds a vector as SDXL's."""
    models = host("model_base")
    fields = {
        "unet_extra_config": {"num_heads": 4, "num_head_channels": -1},
        "latent_format": getattr(host("latent_formats"), latent_format),
    }
    family_class = type("Family", (host("supported_models_base").BASE,), fields)
    shape = {**SHAPE, "in_channels": in_channels, "out_channels": channels, "adm_in_channels": adm}
    if adm is not None:
        shape["num_classes"] = "sequential"
    family = family_class(shape)
    family.set_inference_dtype(torch.float32, None)
    kind = {"eps": "EPS", "v": "V_PREDICTION", "flow": "FLOW"}[prediction]
    model = getattr(models, base)(family, getattr(models.ModelType, kind))
    randomise(model.diffusion_model)
    cpu = torch.device("cpu")
    return host("model_patcher").ModelPatcher(model, load_device=cpu, offload_device=cpu)


def build_framed_model(host):
    """A MODEL whose latents have a frame, [N,C,1,H,W]: the host's Qwen-Image, of one block."""
    models = host("model_base")
    fields = {
        "latent_format": host("latent_formats").Wan21,
        "sampling_settings": {"multiplier": 1.0, "shift": 2.0},
        "unet_extra_config": {},
    }
    heads = {"num_layers": 1, "attention_head_dim": 24, "num_attention_heads": 2, "axes_dims_rope": (8, 8, 8)}
    family = type("Family", (host("supported_models_base").BASE,), fields)({
        "image_model": "qwen_image", "in_channels": 64, "out_channels": 16, "joint_attention_dim": CONTEXT, **heads,
    })  # fmt: skip
    family.set_inference_dtype(torch.float32, None)
    model = models.QwenImage(family)
    randomise(model.diffusion_model)
    cpu = torch.device("cpu")
    return host("model_patcher").ModelPatcher(model, load_device=cpu, offload_device=cpu)


def build_control(host, seed=5, hint_channels=3):
    """A CONTROL_NET for such a model."""
    shape = {**SHAPE, "in_channels": 4, "adm_in_channels": None, "num_heads": 4, "num_head_channels": -1}
    del shape["out_channels"], shape["transformer_depth_output"]
    ops = host("ops").disable_weight_init
    network = host("cldm.cldm").ControlNet(**shape, hint_channels=hint_channels, dtype=torch.float32, operations=ops)
    randomise(network, seed)
    return host("controlnet").ControlNet(network.eval().requires_grad_(False), load_device=torch.device("cpu"))


def text(seed=0, **fields):
    """A CONDITIONING."""
    return [[draw(1, 7, CONTEXT, seed=seed), {"pooled_output": draw(1, 24, seed=seed + 50), **fields}]]


def with_control(conditioning, control, hint, strength=1.0, start=0.0, end=1.0):
    """As the host's Apply ControlNet: chains to what is there."""
    out = []
    for embedding, fields in conditioning:
        applied = control.copy().set_cond_hint(hint, strength, (start, end))
        applied.set_previous_controlnet(fields.get("control"))
        out.append([embedding, {**fields, "control": applied, "control_apply_to_uncond": True}])
    return out


@torch.inference_mode()
def sample_host(host, model, positive, negative, latent, sampler, sigmas, noise, *, cfg=3.0, mask=None, seed=7):
    """The host's own sampling, `[N,C,H,W]`."""
    guider = host("samplers").CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider.sample(noise, latent, sampler, sigmas, denoise_mask=mask, disable_pbar=True, seed=seed)


def build_sigmas(host, model, steps, scheduler="simple", denoise=1.0):
    """The host's base schedule."""
    cpu = torch.device("cpu")
    return host("samplers").KSampler(model, steps, cpu, "euler", scheduler, denoise).sigmas
