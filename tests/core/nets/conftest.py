"""What tests of feature injection share: one that does something, and a UNet that it goes into."""

import pytest

from adadiffsr_core.nets.pfj import Pfj
from adadiffsr_core.nets.unet import UNet
from tests.oracles import TINY_PFJ, TINY_UNET, randomise


@pytest.fixture(scope="module")
def pfj():
    return randomise(Pfj(TINY_PFJ))


@pytest.fixture(scope="module")
def unet():
    return randomise(UNet(TINY_UNET), 1)
