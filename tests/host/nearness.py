"""How near two results of sampling are, and how near is the same."""

import torch

TOLERANCE = 1e-4


def close(ours, theirs):
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE * max(1.0, float(theirs.abs().max())))


def differs(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())
