"""What is damaged, and who reads it: each subject writes one sound file, and reads a damaged one in its place."""

import importlib
import sys

import numpy as np
import torch

from adadiffsr_core.data.arrays import Layout, open_arrays
from adadiffsr_core.data.latent_pairs import LatentPairs
from adadiffsr_core.data.origin import claim_cache
from adadiffsr_core.data.photo_files import load_image
from adadiffsr_core.models.checkpoint import Checkpoint, save_checkpoint
from adadiffsr_core.models.model import load_model
from adadiffsr_core.models.networks import load_mmle, load_pfj
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.nets.mmle import Mmle
from adadiffsr_core.nets.pfj import Pfj
from adadiffsr_core.photo.reading import open_photo
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.training.loop.config import LoopConfig
from adadiffsr_core.training.loop.loop import Run
from adadiffsr_core.training.tasks.ldm import LdmTask, LdmTaskConfig, load_autoencoder
from adadiffsr_core.training.tasks.setup import Examples, TaskSetup
from tests.fuzz.mutations import mutate, mutate_array, mutate_note
from tests.fuzz.pictures import encode_pictures, mutate_picture
from tests.host.pack import part
from tests.oracles import TINY_AUTOENCODER, TINY_MMLE, TINY_PFJ, TINY_UNET, randomise, tiny_model
from tests.trained import FixedPairs, make_pairs, make_pictures


def assert_sound(module):
    """What was opened in spite of all holds numbers."""
    assert all(bool(value.isfinite().all()) for value in module.state_dict().values())


class Bundle:
    """Weights of all kinds in one file, by every reader of the core."""

    mutate = staticmethod(mutate)

    def __init__(self, folder):
        self.path = folder / "bundle.safetensors"
        model = tiny_model()
        nets = {
            "model.diffusion_model.": model.unet,
            "first_stage_model.": model.autoencoder,
            "mmle.": randomise(Mmle(TINY_MMLE)),
            "pfj.": randomise(Pfj(TINY_PFJ)),
        }
        tensors = {prefix + key: value for prefix, net in nets.items() for key, value in net.state_dict().items()}
        configs = {"unet": TINY_UNET, "autoencoder": TINY_AUTOENCODER, "mmle": TINY_MMLE, "pfj": TINY_PFJ}
        config = {name: value.to_dict() for name, value in configs.items()} | {"schedule": Schedule().to_dict()}
        save_checkpoint(Checkpoint("bundle", config, tensors, {"steps": 3, "loss": 0.5}), self.path, torch.float16)

    def read(self):
        model = load_model(self.path)
        for module in (model.unet, model.autoencoder):
            assert_sound(module)

    def read_others(self):
        for load in (load_mmle, load_pfj, load_autoencoder):
            yield lambda load=load: assert_sound(load(self.path))


def start_host(folder):
    """Make ComfyUI importable, on the processor; its own `tests` would shadow ours, which are imported by now."""
    sys.path.insert(0, str(folder))
    for name, change in (("options", lambda host: host.enable_args_parsing(False)), ("cli_args", _without_gpu)):
        change(importlib.import_module(f"comfy.{name}"))


def _without_gpu(host):
    host.args.cpu = True


class HostBundle(Bundle):
    """The same by ComfyUI's loader."""

    def __init__(self, folder):
        super().__init__(folder)
        self.checkpoints = part("nodes.host.checkpoints")
        self.read()

    def read(self):
        loaded = self.checkpoints.open_checkpoint(self.path)
        assert_sound(loaded.model.model.diffusion_model)
        assert_sound(loaded.vae.first_stage_model)

    def read_others(self):
        # Whatever the command line refuses, the host refuses.
        yield lambda: load_model(self.path)


class State:
    """A training state, by the run that would go on."""

    mutate = staticmethod(mutate)

    def __init__(self, folder):
        self.folder, self.path = folder / "run", folder / "run" / "state.safetensors"
        pairs, held_out = make_pairs(folder / "pairs"), make_pairs(folder / "held_out", count=6)
        self.task = LdmTask(
            TINY_UNET,
            LdmTaskConfig(batch_size=2),
            tiny_model().autoencoder,
            Examples(FixedPairs(pairs), held_out),
            make_pictures(side=32),
            TaskSetup(Processor(), 3),
        )
        self.config = LoopConfig(steps=2, warmup_steps=1, log_every=1)
        Run(self.task, self.config, self.folder).train()
        (self.folder / "weights.safetensors").unlink()

    def read(self):
        before = sorted(path.name for path in self.folder.iterdir()), self.path.read_bytes()
        try:
            run = Run(self.task, self.config, self.folder)
        finally:
            assert (sorted(path.name for path in self.folder.iterdir()), self.path.read_bytes()) == before
        assert type(run.step) is int
        assert run.step >= 0
        assert_sound(run.task.networks)
        assert_sound(run.average)
        for optimiser in run.optimisers.values():
            for moments in optimiser.adam.state.values():
                assert all(bool(value.isfinite().all()) for value in moments.values())

    def read_others(self):
        return iter(())


class Cache:
    """A cache of training pairs: two arrays and two notes."""

    origin = {"photographs": "abc", "settings": {"size_px": 64, "scales": [1, 4]}}  # noqa: RUF012

    def __init__(self, folder):
        self.folder = folder / "cache"
        make_pairs(self.folder)
        claim_cache(self.folder, self.origin)
        self.files = [self.folder / name for name in ("gt.npy", "progress.json", "origin.json")]
        self.sound = {path: path.read_bytes() for path in self.files}
        self.path = self.files[0]

    def mutate(self, _, rng):
        for path, data in self.sound.items():
            path.write_bytes(data)
        self.path = self.files[int(rng.integers(len(self.files)))]
        return (mutate_array if self.path.suffix == ".npy" else mutate_note)(self.sound[self.path], rng)

    def read(self):
        claim_cache(self.folder, self.origin)
        pairs = LatentPairs(self.folder)
        for latent in pairs.take(np.arange(pairs.count)):
            assert bool(latent.isfinite().all())
        open_arrays(self.folder, {"gt": Layout((8, 4, 8, 8))})

    def read_others(self):
        return iter(())


class Picture:
    """A photograph of any kind, by the reader of `upscale` and by that of training."""

    opens_slowly = True  # large pictures may take their time; those that are refused may not

    def __init__(self, folder):
        self.path, self.files = folder / "photo.png", encode_pictures()
        for content in self.files.values():
            self.path.write_bytes(content)
            self.read()

    def mutate(self, _, rng):
        return mutate_picture(self.files, rng)

    def read(self):
        for photo in open_photo(self.path).read_pages():
            assert 0 <= float(photo.pixels.min()) <= float(photo.pixels.max()) <= 1

    def read_others(self):
        yield self.train

    def train(self):
        levels = load_image(self.path)
        assert (levels.dtype, levels.ndim, levels.shape[2]) == (np.uint8, 3, 3)


SUBJECTS = {"bundle": Bundle, "state": State, "cache": Cache, "picture": Picture, "host": HostBundle}
