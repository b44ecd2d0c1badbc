"""What tests of walks share: a tiny model, and walks of it on photographs of noise."""

import pytest

from tests import oracles
from tests.walked import make_walks, save_photos


@pytest.fixture(scope="module")
def model():
    return oracles.tiny_model()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return save_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def walks(tmp_path_factory, photos, model):
    return make_walks(tmp_path_factory.mktemp("walks"), photos, model)
