"""Train MMLE Regressor in the host's process: its settings, photographs, walks and models."""

import numpy as np
from PIL import Image

from adadiffsr_core.data.photo_files import find_images
from tests.host import tiny

EXTRAS = ("cv2", "scipy", "matplotlib", "pyiqa")
SIDE = 64
SETTINGS = {
    "image_folder": "photos", "file_name": "learnt", "steps": 6, "walks": 4, "learning_rate": 1e-3,
    "reference": "lq", "metrics": "psnr, piqe", "seed": 0, "cfg": 1.0, "denoise": 1.0, "tile_size": SIDE,
}  # fmt: skip


def save_photos(folder, count=7, side=96):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"photo{number}.png")


def draw_walks(module, folder, photos, subject, count=3):
    """Walks by either import of the core."""
    load = module("adadiffsr_core.training.walks.walks"), module("adadiffsr_core.data.dataset")
    dataset = load[1].PairDataset(find_images([photos]), load[1].PairConfig(size_px=SIDE, min_scale=1.0), 3, count)
    return load[0].build_walks(folder, dataset, subject, load[0].WalkConfig(visits=8, batch_size=2), 3)


def make_subject(pack, model, vae, positive, **more):
    more = {"negative": positive, **more}
    return pack("nodes.host.walks").HostModel(model=model, vae=vae, positive=positive, **more)


def build_prompt(**changes):
    """The node with the embedded model, in API form."""
    links = {"model": ["checkpoint", 0], "vae": ["checkpoint", 1], "positive": ["checkpoint", 2]}
    return {
        "checkpoint": {"class_type": "AdaDiffSR_LoadCheckpoint", "inputs": {"checkpoint": "embedded model"}},
        "train": {"class_type": "AdaDiffSR_TrainMMLE", "inputs": {**SETTINGS, **links, **changes}},
        "chart": {"class_type": "PreviewImage", "inputs": {"images": ["train", 3]}},
    }


def build_vae(host, channels=4):
    """A small VAE of the host's, with latents of 4 or 16 channels."""
    module = host("taesd.taesd").TAESD(latent_channels=channels)
    return host("sd").VAE(sd=tiny.randomise(module).state_dict())


def text_model(host, **options):
    return {"model": tiny.build_model(host, **options), "positive": tiny.text()}
