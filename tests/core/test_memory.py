"""Every name that memory runs out under, and how much of it there is."""

import errno

import pytest
import torch

from adadiffsr_core.memory import available_bytes, is_out_of_memory, name_out_of_memory
from adadiffsr_core.sampling.denoiser import ElasticDenoiser

FULL = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: not enough memory: you tried to allocate"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]
OTHER = [RuntimeError("shapes do not fit"), OSError(errno.ENOSPC, "No space left on device"), ValueError("memory")]


@pytest.mark.parametrize("error", FULL, ids=repr)
def test_memory_errors_are_told_from_others(error):
    assert is_out_of_memory(error)
    with pytest.raises((MemoryError, torch.OutOfMemoryError)), name_out_of_memory():
        raise error


@pytest.mark.parametrize("error", OTHER, ids=repr)
def test_other_errors_are_left_alone(error):
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)) as raised, name_out_of_memory():
        raise error
    assert raised.value is error


@pytest.mark.parametrize("error", FULL[:4], ids=repr)
def test_batches_are_halved_whatever_the_name(error):
    def cramped(x, sigma, tiles, gain):
        if len(x) > 2:
            raise error
        return 2 * x

    elastic = ElasticDenoiser(cramped, 8)
    x = torch.arange(8.0)[:, None]
    assert torch.equal(elastic(x, x[:, 0], range(8), None), 2 * x)
    assert elastic.calls == [2] * 4


def test_there_is_memory_and_torch_can_have_a_little_of_it():
    free = available_bytes()
    assert free is None or 2**20 < free < 2**50
