"""Weights that live in a file."""

import torch

from adadiffsr_core.training.loop.paging import page_out


def test_paged_weights_behave_as_any_others(tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.Linear(7, 3))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    release = page_out(net.requires_grad_(False), tmp_path)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])
        value.add_(1)
    release()
    assert all(torch.equal(value, before[key] + 1) for key, value in net.state_dict().items())
    assert list(tmp_path.iterdir()) == []
