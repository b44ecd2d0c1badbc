"""What several tests of training share: a small autoencoder, a fast teacher, pairs, photographs."""

import numpy as np
import torch
from PIL import Image

from adadiffsr_core.data.latent_pairs import LatentPairs, write_done
from adadiffsr_core.data.photo_bank import PhotoBank
from adadiffsr_core.data.photo_files import find_images
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.nets.autoencoder import AutoencoderConfig
from adadiffsr_core.training.loop.state import load_state
from adadiffsr_core.training.tasks.ldm import Watched
from adadiffsr_core.training.tasks.taesd import Taesd
from adadiffsr_core.training.walks.sampled import SampledPairs

AUTOENCODER = AutoencoderConfig(channels=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1))
RARE = 10**6


class FlatTeacher(Taesd):
    """The real thing is slow; this teaches the mean of each square."""

    def __init__(self, folder=None):
        torch.nn.Module.__init__(self)
        self.channels = 4

    def encode(self, image):
        means = torch.nn.functional.avg_pool2d(image, 8)
        return torch.cat([means, means[:, :1]], dim=1) * 2 - 1


def make_bank(count=4, device="cpu"):
    pieces = torch.randint(256, (count, 3, 512, 512), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return PhotoBank(pieces.to(device), torch.full((count, 2), 512).to(device))


def make_pictures(count=6, side=64):
    generator = torch.Generator().manual_seed(1)
    truth, low_quality = torch.randint(256, (2, count, 3, side, side), dtype=torch.uint8, generator=generator)
    return Watched(truth, low_quality)


class FixedPairs:
    """A `PairSource` of pairs that never change."""

    def __init__(self, pairs, seed=3, processor=None):
        self.pairs, self.seed, self.processor = pairs, seed, processor or Processor()

    def draw(self, step, batch_size):
        gt, lq = self.pairs.draw(np.random.default_rng([self.seed, step]), batch_size)
        return self.processor.place(gt), self.processor.place(lq)


def make_pairs(folder, count=8, side=8):
    rng = np.random.default_rng(count)
    folder.mkdir(parents=True)
    for name in ("gt", "lq"):
        np.save(folder / f"{name}.npy", rng.standard_normal((count, 4, side, side)).astype(np.float16))
    write_done(folder, count)
    return LatentPairs(folder)


def make_sampled(folder, count=8, side=8):
    rng = np.random.default_rng(count)
    folder.mkdir(parents=True)
    np.save(folder / "latent.npy", rng.standard_normal((count, 4, side, side)).astype(np.float16))
    np.save(folder / "gt.npy", rng.integers(0, 256, (count, 3, 8 * side, 8 * side), dtype=np.uint8))
    write_done(folder, count)
    return SampledPairs(folder)


def save_photos(folder, count=5, sides=((520, 512), (40, 600), (512, 512))):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        height, width = sides[index % len(sides)]
        Image.fromarray(small).resize((width, height)).save(folder / f"photo{index}.png")
    return find_images([folder])


def state_of(folder):
    tensors, facts = load_state(folder / "state.safetensors")
    return tensors, facts["step"]
