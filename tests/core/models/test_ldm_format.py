"""Reading and writing checkpoints by LDM's names, at toy size."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from adadiffsr_core.errors import CheckpointError
from adadiffsr_core.models.ldm_format import LdmCheckpoint, is_ours, replace_unet
from adadiffsr_core.nets.sd_encoder import SdEncoder
from adadiffsr_core.nets.unet import UNet
from tests.oracles import randomise
from tests.toy_sd import CONCAT, ENCODER, PREFIX, V1, V2, randomised, save_sd


@pytest.fixture
def source(tmp_path):
    return LdmCheckpoint(save_sd(tmp_path / "sd.safetensors"))


@pytest.mark.parametrize("config", [V1, V2, CONCAT])
def test_the_shape_is_found_and_the_weights_arrive(config, tmp_path):
    path = save_sd(tmp_path / "sd.safetensors", config)
    found = LdmCheckpoint(path)
    assert found.unet_config == config
    unet, expected = found.load_unet(), randomise(UNet(config), 0).state_dict()
    assert {p.dtype for p in unet.parameters()} == {torch.float32}
    for key, value in unet.state_dict().items():
        assert torch.equal(value, expected[key].half().float())
    image = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    whole = SdEncoder(ENCODER)
    whole.load_state_dict({k: v.half().float() for k, v in randomise(SdEncoder(ENCODER), 1).state_dict().items()})
    encoder = found.load_encoder(ENCODER)
    torch.testing.assert_close(encoder.encode(image), whole.encode(image))
    assert encoder.encode(image).shape == (1, 4, 2, 3)
    assert not any(p.requires_grad for p in encoder.parameters())


def test_every_other_byte_is_the_sources(source, tmp_path):
    target = tmp_path / "out" / "checkpoint.safetensors"
    weights = randomise(UNet(V2), 5).state_dict()
    replace_unet(source.path, target, weights)
    before, after = load_file(source.path), load_file(target)
    assert before.keys() == after.keys()
    for key, value in after.items():
        ours = key.startswith(PREFIX)
        assert value.dtype == before[key].dtype
        assert torch.equal(value, weights[key.removeprefix(PREFIX)].half() if ours else before[key])
    with safe_open(target, "pt") as file:
        assert file.metadata() == {"modelspec.title": "toy"}
    replace_unet(target, tmp_path / "back.safetensors", source.load_unet().state_dict())
    assert (tmp_path / "back.safetensors").read_bytes() == source.path.read_bytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_stored_in_the_sources_dtype(dtype, tmp_path):
    path = save_sd(tmp_path / "sd.safetensors", dtype=dtype)
    weights = randomise(UNet(V2), 5).state_dict()
    replace_unet(path, tmp_path / "out.safetensors", weights)
    for key, value in load_file(tmp_path / "out.safetensors").items():
        if key.startswith(PREFIX):
            assert torch.equal(value, weights[key.removeprefix(PREFIX)].to(dtype))


@pytest.mark.parametrize(("spoil", "sentence"), [
    (lambda w: w.pop("out.2.bias"), "no weight of shape"),
    (lambda w: w.update({"out.2.bias": torch.zeros(5)}), "no weight of shape"),
    (lambda w: w.update({"out.2.bias": torch.full((4,), 1e6)}), "not finite as torch.float16"),
])  # fmt: skip
def test_what_cannot_be_written_leaves_the_old_file(spoil, sentence, source, tmp_path):
    target = tmp_path / "out.safetensors"
    target.write_bytes(b"old")
    weights = randomise(UNet(V2), 5).state_dict()
    spoil(weights)
    with pytest.raises(CheckpointError, match=sentence):
        replace_unet(source.path, target, weights)
    assert target.read_bytes() == b"old"
    assert not list(tmp_path.glob(".*"))


def change(path, **tensors):
    save_file(load_file(path) | tensors, path)
    return path


def test_odd_checkpoints_are_refused(tmp_path):
    path = save_sd(tmp_path / "sd.safetensors")
    vector = {f"{PREFIX}label_emb.0.0.weight": torch.zeros(4, 4)}
    deep = {f"{PREFIX}input_blocks.1.1.transformer_blocks.1.norm1.weight": torch.zeros(64)}
    for odd in (vector, deep, {f"{PREFIX}out.2.bias": torch.zeros(3)}):
        with pytest.raises(CheckpointError, match=r"no UNet of Stable Diffusion 1 or 2; .* does not fit"):
            LdmCheckpoint(change(save_sd(path), **odd))
    (tmp_path / "cut.safetensors").write_bytes(save_sd(path).read_bytes()[:-9])
    save_file({"a": torch.zeros(1)}, tmp_path / "lora.safetensors")
    for name, sentence in (("cut", "cannot be read"), ("lora", "no UNet of"), ("absent", "does not exist")):
        with pytest.raises(CheckpointError, match=sentence):
            LdmCheckpoint(tmp_path / f"{name}.safetensors")
    nan = LdmCheckpoint(change(save_sd(path), **{f"{PREFIX}out.2.bias": torch.full((4,), torch.nan)}))
    with pytest.raises(CheckpointError, match="NaN"):
        nan.load_unet()
    with pytest.raises(CheckpointError, match="has no first_stage_model"):
        nan.load_encoder()  # the real encoder is larger
    assert not is_ours(path)


LAST_NORM = f"{PREFIX}output_blocks.11.1.transformer_blocks.0.norm1.bias"


@pytest.mark.parametrize(("config", "spread", "prediction"), [(V2, 0.2, "v"), (V2, 0.05, "eps"), (V1, 0.2, "eps")])
def test_the_prediction_is_found_as_the_host_finds_it(config, spread, prediction, tmp_path):
    source = LdmCheckpoint(save_sd(tmp_path / "sd.safetensors", config))
    source.tensors = {LAST_NORM: randomised(4096).half() * spread}
    assert source.detect_prediction() == prediction
    source.tensors = {}
    assert source.detect_prediction() == "eps"
