"""TAESD as a teacher, and the cache of what it taught."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from adadiffsr_core.errors import CheckpointError, ConfigError
from adadiffsr_core.training import taesd as taesd_module
from adadiffsr_core.training.taesd import Taesd
from adadiffsr_core.training.teacher import build_teacher_cache
from tests.trained import FlatTeacher, save_photos


def save_taesd(folder, seed=0):
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    nets = {"encoder": taesd_module._encoder(), "decoder": taesd_module._decoder()}
    for name, net in nets.items():
        save_file(
            {key: value.bfloat16() for key, value in net.state_dict().items()}, folder / f"taesd_{name}.safetensors"
        )
    return nets


def test_taesd_loads_what_was_saved(tmp_path):
    nets = save_taesd(tmp_path)
    teacher = Taesd(tmp_path)
    image = torch.rand(1, 3, 32, 24)
    latent = teacher.encode(image)
    assert latent.shape == (1, 4, 4, 3)
    assert teacher.decode(latent).shape == image.shape
    assert torch.equal(latent, nets["encoder"].bfloat16().float()(image))
    assert not any(p.requires_grad for p in teacher.parameters())


def test_what_is_not_taesd_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="taesd_encoder"):
        Taesd(tmp_path)
    save_taesd(tmp_path)
    (tmp_path / "taesd_decoder.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="taesd_decoder"):
        Taesd(tmp_path)


def test_the_cache_holds_oriented_photographs_and_their_latents(tmp_path):
    paths = save_photos(tmp_path / "data")
    build_teacher_cache(tmp_path / "cache", paths, FlatTeacher(), seed=4)
    images, latents = (np.load(tmp_path / "cache" / f"{name}.npy") for name in ("images", "latents"))
    assert (images.shape, images.dtype) == ((5, 512, 512, 3), np.uint8)
    assert (latents.shape, latents.dtype) == ((5, 4, 64, 64), np.float16)
    for index, path in enumerate(paths):
        photo = np.asarray(Image.open(path))
        down, right = (max(0, 512 - side) for side in photo.shape[:2])
        photo = np.pad(photo, ((0, down), (0, right), (0, 0)), "reflect")[:512, :512]
        orientation = int(np.random.default_rng([4, index]).integers(8))
        photo = np.rot90(photo, orientation % 4)
        photo = photo[:, ::-1] if orientation >= 4 else photo
        assert np.array_equal(images[index], photo)
        means = photo.reshape(64, 8, 64, 8, 3).mean(axis=(1, 3)).transpose(2, 0, 1) / 255 * 2 - 1
        assert np.abs(latents[index, :3] - means).max() < 0.01


def test_a_stopped_cache_equals_one_made_at_a_stretch(tmp_path, monkeypatch):
    paths = save_photos(tmp_path / "data")
    build_teacher_cache(tmp_path / "whole", paths, FlatTeacher(), seed=0)
    monkeypatch.setattr("adadiffsr_core.training.teacher._FLUSH_EVERY", 2)
    calls = []

    class Dying(FlatTeacher):
        def encode(self, image):
            calls.append(len(image))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return super().encode(image)

    with pytest.raises(KeyboardInterrupt):
        build_teacher_cache(tmp_path / "parts", paths, Dying(), seed=0)
    build_teacher_cache(tmp_path / "parts", paths, Dying(), seed=0)
    assert calls == [2, 2, 2, 1]  # the first batch was kept
    for name in ("images.npy", "latents.npy"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    build_teacher_cache(tmp_path / "parts", paths, Dying(), seed=0)
    assert len(calls) == 4


def test_a_cache_of_other_photographs_is_refused(tmp_path):
    paths = save_photos(tmp_path / "data", count=3)
    build_teacher_cache(tmp_path / "cache", paths[:2], FlatTeacher(), seed=0)
    with pytest.raises(ConfigError, match="other photographs; choose"):
        build_teacher_cache(tmp_path / "cache", paths, FlatTeacher(), seed=0)
    with pytest.raises(ConfigError, match="other photographs; choose"):
        build_teacher_cache(tmp_path / "cache", paths[1::-1], FlatTeacher(), seed=0)
    with pytest.raises(ConfigError, match="other seed; choose"):
        build_teacher_cache(tmp_path / "cache", paths[:2], FlatTeacher(), seed=1)
