"""Errors have names that programs can rely on, and travel between processes."""

import pickle
import sys
from inspect import isclass

import pytest
from torch.utils.data import DataLoader

from adadiffsr_core import errors

KINDS = [kind for kind in vars(errors).values() if isclass(kind) and issubclass(kind, errors.AdaDiffSRError)]


class Refusing:
    """A data set whose every item is refused."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise errors.ImageError("no picture")


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_named_alike_wherever_it_is_imported_from(kind):
    assert kind.__module__ == "adadiffsr"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(kind, protocol):
    back = pickle.loads(pickle.dumps(kind("what is wrong"), protocol))  # noqa: S301
    assert type(back) is kind is pickle.loads(pickle.dumps(kind, protocol))  # noqa: S301
    assert str(back) == "what is wrong"


@pytest.mark.skipif(sys.platform == "win32", reason="workers there are handed the data set by name")
def test_an_error_in_a_worker_that_loads_photographs_arrives():
    with pytest.raises(errors.ImageError, match="no picture"):
        next(iter(DataLoader(Refusing(), num_workers=1)))
