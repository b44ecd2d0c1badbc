"""The UNet with attention: shapes, detection, and what it must not change. Equality with LDM's is in tests/host."""

import json

import pytest
import torch

from adadiffsr_core.errors import CheckpointError, ConfigError, ShapeError
from adadiffsr_core.models.model import load_model
from adadiffsr_core.nets.attention import SpatialTransformer
from adadiffsr_core.nets.sd_unet import SD_UNETS, detect_unet_config, sd_unet_config
from adadiffsr_core.nets.unet import UNet, UNetConfig
from tests.oracles import randomise

TINY = UNetConfig(
    in_channels=4, model_channels=32, channel_mult=(1, 2), num_res_blocks=1, context_dim=24, attention_levels=(1,),
    num_head_channels=8, use_linear_in_transformer=True,
)  # fmt: skip


SEEING = UNetConfig(
    in_channels=4, model_channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_levels=(1,), num_head_channels=32
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shapes_of(config):
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in UNet(config).state_dict().items()}


def test_a_network_without_attention_has_none():
    """As files say that know nothing of it, such as the first embedded model's."""
    config = UNetConfig.from_dict({"channel_mult": [1, 2, 3], "num_res_blocks": 1})
    assert (config.context_dim, config.attention_levels) == (None, ())
    assert not any("transformer" in key for key in shapes_of(config))
    assert len(UNet(config).middle_block) == 1


def test_the_embedded_model_attends_to_itself_at_its_coarse_levels():
    config = load_model().unet.config
    assert (config.context_dim, config.attention_levels) == (None, (2, 3))


@pytest.mark.parametrize(("name", "millions"), [("sd15", 859.5), ("sd21", 865.9)])
def test_released_shapes_have_the_released_sizes(name, millions):
    shapes = shapes_of(sd_unet_config(name))
    size = sum(torch.Size(shape).numel() for shape in shapes.values()) / 1e6
    assert size == pytest.approx(millions, abs=0.1)
    assert len(shapes) == 686
    assert sd_unet_config(name).widths == (320, 640, 1280, 1280)
    assert sd_unet_config(name).multiple == 8


def test_a_unet_that_reads_no_text_is_not_stable_diffusions():
    with pytest.raises(CheckpointError, match="no UNet of Stable Diffusion 1 or 2"):
        detect_unet_config(shapes_of(SEEING))


def test_other_names_are_refused():
    with pytest.raises(ConfigError, match="'sdxl' is unknown; use one of sd15, sd21"):
        sd_unet_config("sdxl")


@pytest.mark.parametrize("config", [
    *SD_UNETS.values(), UNetConfig(),
    UNetConfig(in_channels=8, model_channels=32, context_dim=768, attention_levels=(0, 2), num_heads=8),
])  # fmt: skip
def test_shapes_tell_the_config(config):
    assert detect_unet_config(shapes_of(config)) == config
    assert UNetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("missing", ["input_blocks.0.0.weight", "out.2.weight", "time_embed.0.bias",
                                     "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"])  # fmt: skip
def test_incomplete_unets_are_refused(missing):
    shapes = shapes_of(sd_unet_config("sd21"))
    del shapes[missing]
    with pytest.raises(CheckpointError, match="no UNet of Stable Diffusion 1 or 2"):
        detect_unet_config(shapes)


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"context_dim": 8}, "give attention_levels with context_dim"),
    ({"attention_levels": (0,)}, "either num_heads or"),
    ({"attention_levels": (3,), "num_heads": 4}, "among 0 to 2"),
    ({"attention_levels": (0,), "num_heads": 5}, "do not divide"),
    ({"context_dim": 8, "attention_levels": (3,), "num_heads": 4}, "among 0 to 2"),
    ({"context_dim": 0, "attention_levels": (0,), "num_heads": 4}, "at least 1"),
    ({"context_dim": 8, "attention_levels": (0,)}, "either num_heads or"),
    ({"context_dim": 8, "attention_levels": (0,), "num_heads": 4, "num_head_channels": 8}, "either num_heads or"),
    ({"context_dim": 8, "attention_levels": (0,), "num_heads": 5}, "do not divide"),
    ({"context_dim": 8, "attention_levels": (0,), "num_heads": 0}, "do not divide"),
])  # fmt: skip
def test_impossible_attention_is_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        UNetConfig(**settings)


def test_text_goes_to_those_who_read():
    x, timesteps = draw(1, 4, 8, 8), torch.tensor([5.0])
    with pytest.raises(ShapeError, match="reads a text embedding"):
        UNet(TINY)(x, timesteps)
    for config in (UNetConfig(in_channels=4), SEEING):
        with pytest.raises(ShapeError, match="reads no text"):
            UNet(config)(x, timesteps, context=draw(1, 3, 24))


def test_a_fresh_transformer_changes_nothing():
    x = draw(2, 64, 5, 3)
    for linear in (False, True):
        net = SpatialTransformer(64, 24, 4, linear=linear)
        assert torch.equal(net(x, draw(2, 3, 24)), x)
        assert (randomise(net)(x, draw(2, 3, 24)) - x).abs().max() > 0.1


def test_without_a_text_only_the_attention_to_it_is_gone():
    reading, seeing = (SpatialTransformer(64, width, 4, linear=False).state_dict() for width in (24, None))
    gone = {key for key in reading if "attn2" in key or "norm2" in key}
    assert len(gone) == 7
    assert list(seeing) == [key for key in reading if key not in gone]
    assert {key: value.shape for key, value in seeing.items()} == {key: reading[key].shape for key in seeing}


def test_self_attention_is_attention_to_a_text_that_says_nothing():
    reading, seeing = (
        randomise(SpatialTransformer(64, 24, 4, linear=False)),
        SpatialTransformer(64, None, 4, linear=False),
    )
    out = reading.transformer_blocks[0].attn2.to_out[0]
    out.weight.zero_(), out.bias.zero_()
    seeing.load_state_dict({key: reading.state_dict()[key] for key in seeing.state_dict()})
    x = draw(2, 64, 5, 3)
    assert torch.equal(seeing(x), reading(x, draw(2, 3, 24)))


def attend_naively(x, context, layer):
    """One query, head and key at a time, from Vaswani et al. 2017."""
    q, k, v = x @ layer.to_q.weight.T, context @ layer.to_k.weight.T, context @ layer.to_v.weight.T
    size = q.shape[-1] // layer.heads
    out = torch.zeros_like(q)
    for item in range(len(x)):
        for head in range(layer.heads):
            part = slice(head * size, (head + 1) * size)
            for row in range(x.shape[1]):
                weights = torch.tensor([float(q[item, row, part] @ key[part]) / size**0.5 for key in k[item]]).softmax(
                    0
                )
                out[item, row, part] = sum(w * value[part] for w, value in zip(weights, v[item], strict=True))
    return out @ layer.to_out[0].weight.T + layer.to_out[0].bias


@pytest.mark.parametrize("which", ["attn1", "attn2"])
def test_attention_is_attention(which):
    block = randomise(SpatialTransformer(32, 24, 4, linear=True)).requires_grad_(False).transformer_blocks[0]
    x, context = draw(2, 5, 32), draw(2, 3, 32 if which == "attn1" else 24, seed=1)
    layer = getattr(block, which)
    torch.testing.assert_close(layer(x, context), attend_naively(x, context, layer), rtol=0, atol=1e-5)


def test_pixels_have_no_order_in_attention():
    net = randomise(SpatialTransformer(32, 24, 4, linear=False)).requires_grad_(False)
    x, context = draw(1, 32, 4, 6), draw(1, 3, 24, seed=1)
    torch.testing.assert_close(net(x.flip(-1), context).flip(-1), net(x, context), rtol=0, atol=1e-5)
    torch.testing.assert_close(net(x.mT, context).mT, net(x, context), rtol=0, atol=1e-5)


def test_items_of_a_batch_are_apart():
    net = randomise(UNet(TINY)).requires_grad_(False)
    x, timesteps, context = draw(3, 4, 8, 8), torch.tensor([1.0, 500.0, 999.0]), draw(3, 7, 24, seed=1)
    together = net(x, timesteps, context=context)
    for item in range(3):
        one = slice(item, item + 1)
        alone = net(x[one], timesteps[one], context=context[one])
        torch.testing.assert_close(together[one], alone, rtol=0, atol=1e-4)
    assert (net(x, timesteps, context=context.flip(0)) - together).abs().max() > 1e-3


@pytest.mark.parametrize("config", [TINY, SEEING])
def test_residuals_may_be_functions_with_attention_too(config):
    net = randomise(UNet(config)).requires_grad_(False)
    x, timesteps = draw(1, 4, 8, 8), torch.tensor([500.0])
    context = None if config.context_dim is None else draw(1, 7, 24, seed=1)
    fixed = [draw(1, 32, 8, 8, seed=2), draw(1, 64, 4, 4, seed=3)]
    ours = net(x, timesteps, fixed, context)
    assert torch.equal(net(x, timesteps, [lambda own, r=r: r for r in fixed], context), ours)
    assert (net(x, timesteps, context=context) - ours).abs().max() > 1e-2


@pytest.mark.parametrize("config", [TINY, SEEING, UNetConfig(in_channels=4, model_channels=32)])
def test_checkpointing_changes_neither_output_nor_gradient(config):
    results = []
    context = None if config.context_dim is None else draw(2, 7, 24, seed=1)
    for checkpointing in (False, True):
        net = randomise(UNet(config)).requires_grad_()
        net.checkpointing = checkpointing
        x = draw(2, 4, 8, 8)
        output = net(x, torch.tensor([5.0, 700.0]), context=context)
        output.square().mean().backward()
        results.append([output, *(p.grad for p in net.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    with torch.no_grad():
        assert torch.equal(net(x, torch.tensor([5.0, 700.0]), context=context), results[0][0])
