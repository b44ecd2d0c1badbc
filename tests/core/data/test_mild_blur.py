"""How far the milder degradation blurs is told by the pairs' config, wherever they are made."""

import numpy as np
import pytest
import torch
from PIL import Image

from adadiffsr_core.data.dataset import PairConfig, PairDataset
from adadiffsr_core.data.latent_pairs import PairEncoder
from adadiffsr_core.data.pair_source import LivePairs
from adadiffsr_core.data.photo_files import find_images
from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.nets.autoencoder import Autoencoder
from tests.trained import AUTOENCODER, make_bank


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(5):
        Image.fromarray(rng.integers(0, 256, (48, 60, 3), dtype=np.uint8)).save(tmp_path / f"{index}.png")
    return find_images([tmp_path])


def mild(**changes):
    return PairConfig(**{"size_px": 32, "mild_prob": 1.0, "scales": (2.0, 2.0), **changes})


def detail(images):
    return float(torch.stack([image.float().diff(dim=-1).abs().mean() for image in images]).mean())


def test_of_pairs_on_disk(photos):
    def blurred(**settings):
        pairs = PairDataset(photos, mild(**settings), 3, 24)
        return detail(lq for _, lq in (pairs[i] for i in range(24)))

    usual = blurred()
    assert usual == blurred(mild_blur=(0.5, 2.8))
    assert blurred(mild_blur=(2.0, 4.0)) < 0.8 * usual < usual < blurred(mild_blur=(0.2, 0.4))


def test_of_pairs_on_the_device(monkeypatch):
    coder = Autoencoder(AUTOENCODER).requires_grad_(False)
    seen = []
    encode = coder.encode
    monkeypatch.setattr(coder, "encode", lambda images: seen.append(images) or encode(images))
    for blur in ((2.0, 4.0), (0.5, 2.8)):
        LivePairs(make_bank(), PairEncoder(coder, Processor()), mild(size_px=64, mild_blur=blur), 3).draw(0, 24)
    strong, usual = (detail(images[24:]) for images in seen)
    assert strong < 0.8 * usual


@pytest.mark.parametrize("bad", [(3.0, 1.0), (0.0, 1.0)])
def test_a_range_that_is_none_is_refused(bad):
    with pytest.raises(ConfigError, match="mild_blur"):
        mild(mild_blur=bad)
