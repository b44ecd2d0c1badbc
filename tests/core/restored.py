"""Small pictures for a whole tiny model, and settings for a short run of it."""

import torch

from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.settings import SamplingConfig

SMALL = SamplingConfig(steps=6, solver="euler", tile_size=64, overlap=16, dtss=DtssConfig(nr_from=0.3))


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
