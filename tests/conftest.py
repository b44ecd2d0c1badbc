"""What all tests share: searches that are random on a desk and the same every time in CI."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No deadline: a property holds however busy the machine is.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Of torch: many short operations take longer with a second thread, which others may be using."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
