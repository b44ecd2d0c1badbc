"""What tests share: a tiny model, walks of it on photographs of noise, and the jobs that reach its sampler."""

import pytest

from adadiffsr_core.sampling import run
from adadiffsr_core.sampling.tilewise import sample_tiles
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


@pytest.fixture
def jobs(monkeypatch):
    """The jobs that reach the sampler, which runs them all the same."""
    seen = []

    def sample(job, sink):
        seen.append(job)
        return sample_tiles(job, sink)

    monkeypatch.setattr(run, "sample_tiles", sample)
    return seen
