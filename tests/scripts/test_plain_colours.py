"""A decoder learns plain colours, and nothing else of a model changes."""

import numpy as np
import pytest
import torch
from PIL import Image

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.checkpoint import load_checkpoint
from adadiffsr_core.models.model import load_model
from adadiffsr_core.training.tasks.ldm import save_ldm
from scripts.teach_plain_colours import PLAIN, SIDE_PX, crop_photos, teach_file
from tests.oracles import randomise, tiny_model


@pytest.fixture
def model(tmp_path):
    model, path = tiny_model(), tmp_path / "model.safetensors"
    save_ldm(randomise(model.unet, 1), randomise(model.autoencoder, 2), model.schedule, path, {"steps": 3})
    return path


@torch.no_grad()
def wrong(path):
    coder, plain = load_model(path).autoencoder, PLAIN[:, :, None, None].expand(-1, -1, 32, 32)
    return float((coder.decode(coder.encode(plain)) - plain).square().mean())


def test_plain_colours_come_nearer_and_all_but_the_decoder_stays(model, tmp_path):
    out, generator = tmp_path / "out.safetensors", torch.Generator().manual_seed(5)
    teach_file(model, torch.rand(4, 3, 32, 32, generator=generator), out, 30, generator)
    assert wrong(out) < 0.95 * wrong(model)
    before, after = load_checkpoint(model), load_checkpoint(out)
    changed = {key for key, value in before.tensors.items() if not torch.equal(value, after.tensors[key])}
    assert changed
    assert all(".decoder." in key for key in changed)
    assert before.tensors.keys() == after.tensors.keys()
    assert dict(after.facts) == {"steps": 3, "plain_colours": {"steps": 30, "seed": 5}}


def test_squares_are_of_photographs_that_are_large_enough(tmp_path):
    sides = (SIDE_PX, SIDE_PX - 1, 3 * SIDE_PX)
    paths = [tmp_path / f"{side}.png" for side in sides]
    for side, path in zip(sides, paths, strict=True):
        Image.fromarray(np.full((side, side, 3), side % 256, np.uint8)).save(path)
    photos = crop_photos(paths, 96, torch.Generator().manual_seed(0))
    assert sorted(float(photo.mean() * 255) for photo in photos) == pytest.approx([128, 3 * SIDE_PX % 256])
    assert photos.shape[1:] == (3, SIDE_PX, SIDE_PX)
    with pytest.raises(ConfigError, match="at least two photographs must have 128 px"):
        crop_photos(paths[:2], 96, torch.Generator().manual_seed(0))
