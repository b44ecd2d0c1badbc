"""A UNet that is not shown the condition: neither at the start nor after it has learnt."""

import torch

from adadiffsr_core.nets.unet import UNet
from scripts.compare_spaces import hide_condition
from tests.oracles import TINY_UNET, randomise


def test_what_is_hidden_changes_nothing_before_and_after_a_step():
    unet, latents = randomise(UNet(TINY_UNET)).requires_grad_(True), TINY_UNET.out_channels
    hide_condition(unet, latents)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=0.1)
    x, shown = (torch.randn(2, latents, 16, 16, generator=torch.Generator().manual_seed(n)) for n in (0, 1))

    def look(condition):
        return unet(torch.cat([x, condition], dim=1), torch.tensor([10.0, 500.0]))

    before = look(shown)
    assert torch.equal(before, look(-shown))
    (before - shown).square().mean().backward()
    optimiser.step()
    after = look(shown)
    assert not torch.equal(after, before)
    assert torch.equal(after, look(-shown))
