"""Ways to inject features, and the gains that they are told."""

from dataclasses import replace

import torch

from adadiffsr_core.nets.pfj import Pfj
from tests.oracles import TINY_PFJ

GAINS = torch.tensor([[0.0, 0.0], [1e-3, -1e-3], [5e-3, 2e-3]])


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


RIVALS = ("concat", "cross_attention")
MODES = ("pfj", *RIVALS)


def build(mode):
    return Pfj(replace(TINY_PFJ, mode=mode))
