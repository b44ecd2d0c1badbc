"""Nodes executed as the host does, images for them, and what is one."""

import pytest
import torch


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def refusal(pack):
    return pack("adadiffsr_core.errors").AdaDiffSRError


@pytest.fixture
def run(pack):
    """Executes a node as the host does, and checks that it gives as many outputs as it declares."""

    def execute(module, name, **inputs):
        node = getattr(pack(module), name)
        output = node.execute(**inputs)
        assert len(output.args) == len(node.define_schema().outputs)
        return output

    return execute


def is_image(value, count):
    return (
        value.ndim == 4
        and value.shape[0] == count
        and value.shape[-1] == 3
        and value.dtype == torch.float32
        and value.device.type == "cpu"
        and 0 <= float(value.min()) <= float(value.max()) <= 1
    )
