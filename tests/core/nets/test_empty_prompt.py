"""What the text encoder inside a checkpoint says to an empty prompt."""

import pytest
import torch

from adadiffsr_core.errors import CheckpointError
from adadiffsr_core.nets.empty_prompt import embed_empty_prompt


def clip_weights(width, layers, *, v2):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator) * (0.02 if len(shape) < 2 else shape[-1] ** -0.5)

    place = "cond_stage_model.model." if v2 else "cond_stage_model.transformer.text_model."
    top = ("token_embedding.weight", "positional_embedding", "ln_final") if v2 else (
        "embeddings.token_embedding.weight", "embeddings.position_embedding.weight", "final_layer_norm"
    )  # fmt: skip
    tensors = {top[0]: draw(49408, width), top[1]: draw(77, width), f"{top[2]}.weight": 1 + draw(width)}
    tensors[f"{top[2]}.bias"] = draw(width)
    for number in range(layers):
        names = ("transformer.resblocks.{}.ln_1", "transformer.resblocks.{}.ln_2", "transformer.resblocks.{}.mlp.c_fc",
                 "transformer.resblocks.{}.mlp.c_proj", "transformer.resblocks.{}.attn.out_proj") if v2 else (
            "encoder.layers.{}.layer_norm1", "encoder.layers.{}.layer_norm2", "encoder.layers.{}.mlp.fc1",
            "encoder.layers.{}.mlp.fc2", "encoder.layers.{}.self_attn.out_proj")  # fmt: skip
        shapes = ((width,), (width,), (4 * width, width), (width, 4 * width), (width, width))
        for name, shape in zip(names, shapes, strict=True):
            weight = draw(*shape)
            tensors[f"{name.format(number)}.weight"] = weight + (len(shape) == 1)
            tensors[f"{name.format(number)}.bias"] = draw(shape[0])
        attention, bias = draw(3 * width, width), draw(3 * width)
        if v2:
            tensors[f"transformer.resblocks.{number}.attn.in_proj_weight"] = attention
            tensors[f"transformer.resblocks.{number}.attn.in_proj_bias"] = bias
        else:
            for name, w, b in zip("qkv", attention.chunk(3), bias.chunk(3), strict=True):
                tensors[f"encoder.layers.{number}.self_attn.{name}_proj.weight"] = w
                tensors[f"encoder.layers.{number}.self_attn.{name}_proj.bias"] = b
    return {place + key: value for key, value in tensors.items()}


def embed_naively(tensors, *, v2):
    """CLIP's text transformer by hand, from its paper's description; Hugging Face's names only."""
    tensors = {key.split("model.")[-1]: value for key, value in tensors.items()}
    tokens = [49406, 49407] + [0 if v2 else 49407] * 75
    token, position = (
        ("token_embedding.weight", "positional_embedding")
        if v2
        else ("embeddings.token_embedding.weight", "embeddings.position_embedding.weight")
    )
    x = torch.stack([tensors[token][t] for t in tokens]) + tensors[position]
    width, heads = x.shape[1], x.shape[1] // 64

    def norm(x, name):
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def project(x, name):
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def attend(seen, number):
        if v2:
            place = f"transformer.resblocks.{number}.attn."
            q, k, v = (seen @ tensors[f"{place}in_proj_weight"].T + tensors[f"{place}in_proj_bias"]).chunk(3, dim=1)
        else:
            place = f"encoder.layers.{number}.self_attn."
            q, k, v = (project(seen, f"{place}{name}_proj") for name in "qkv")
        out = torch.zeros_like(seen)
        for head in range(heads):
            part = slice(head * 64, head * 64 + 64)
            for t in range(77):
                weights = (k[: t + 1, part] @ q[t, part] / 8).softmax(0)
                out[t, part] = weights @ v[: t + 1, part]
        return project(out, f"{place}out_proj")

    for number in range(23 if v2 else 12):
        place = f"transformer.resblocks.{number}." if v2 else f"encoder.layers.{number}."
        x = x + attend(norm(x, f"{place}ln_1" if v2 else f"{place}layer_norm1"), number)
        h = project(
            norm(x, f"{place}ln_2" if v2 else f"{place}layer_norm2"), f"{place}mlp." + ("c_fc" if v2 else "fc1")
        )
        h = torch.nn.functional.gelu(h) if v2 else h * torch.sigmoid(1.702 * h)
        x = x + project(h, f"{place}mlp." + ("c_proj" if v2 else "fc2"))
    assert width == x.shape[1]
    return norm(x, "ln_final" if v2 else "final_layer_norm")[None]


@pytest.mark.parametrize(("v2", "layers"), [(False, 12), (True, 24)])
def test_the_empty_prompt_is_what_clip_says(v2, layers):
    tensors = clip_weights(64, layers, v2=v2)
    ours = embed_empty_prompt(tensors, 64)
    assert ours.std() > 0.3
    torch.testing.assert_close(ours, embed_naively(tensors, v2=v2), rtol=0, atol=1e-4)
    with pytest.raises(CheckpointError, match="64 wide; the UNet reads 768"):
        embed_empty_prompt(tensors, 768)
    first = next(key for key in tensors if ".0." in key)
    with pytest.raises(CheckpointError, match="cannot be used"):
        embed_empty_prompt({key: value for key, value in tensors.items() if key != first}, 64)


def test_no_text_encoder_is_silence():
    assert torch.equal(embed_empty_prompt({}, 16), torch.zeros(1, 77, 16))
