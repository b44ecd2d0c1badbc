"""Methods: what they restore, what they need, and which numbers are of the same one."""

import time
from dataclasses import replace

import pytest
import torch

from adadiffsr_core.errors import ConfigError, ImageError
from adadiffsr_core.evaluation import methods
from adadiffsr_core.evaluation.methods import BICUBIC, Method, adaptive, uniform
from adadiffsr_core.evaluation.restore import Bench, full_steps
from adadiffsr_core.evaluation.sets import Picture
from adadiffsr_core.evaluation.stopwatch import Stopwatch
from adadiffsr_core.photo.reading import read_photo
from adadiffsr_core.photo.value import Photo
from adadiffsr_core.photo.writing import write_photo
from adadiffsr_core.settings import PRESETS
from tests import evaluated
from tests.evaluated import make_model

pairs = evaluated.pairs
NETWORKS = {"model": "a", "mmle": "b", "pfj": "c"}


def test_a_regressor_that_is_not_there_is_asked_for():
    picture = Picture("T", "0", None, None)
    with pytest.raises(ConfigError, match="needs an MMLE regressor"):
        Bench(make_model())._choose_estimator(adaptive("x"))
    with pytest.raises(ConfigError, match="needs the feature injection pfj"):
        Bench(make_model())._choose_networks(adaptive("x"))
    assert Bench(make_model()).ours.estimate == "latent"
    assert picture.key == "T/0"


def test_one_seed_makes_one_picture(pairs):
    bench = Bench(make_model())
    picture = Picture("T", "0", pairs / "lq" / "0.png", pairs / "gt" / "0.png")
    method = replace(adaptive("latent"), estimate="latent", injection="")
    once, again = (bench.restore(method, picture, 3) for _ in range(2))
    assert torch.equal(once.image, again.image)
    assert once.image.shape == (1, 3, 32, 32)
    assert once.nfe == again.nfe > 0
    other = bench.restore(method, picture, 4)
    assert not torch.equal(once.image, other.image)


def test_results_are_as_a_saved_file_would_have_them(pairs):
    made = Bench(make_model()).restore(uniform(6, injection=""), Picture("T", "1", pairs / "lq" / "1.png", None), 0)
    write_photo(Photo(pixels=made.image[0]), pairs / "made.png")
    assert torch.allclose(read_photo(pairs / "made.png").pixels, made.image[0], atol=1e-6)


def test_the_picture_of_all_steps_is_uniform_sampling():
    full = full_steps(adaptive("x"))
    assert full.sampling == PRESETS["everyday"].uniform(1)
    assert full.sampling.dtss.is_uniform


def test_missing_pictures_of_another_method_are_named(pairs):
    method = Method(name="rival", kind="pictures", folder=pairs / "rival")
    with pytest.raises(ImageError, match=r"rival has no picture .*0\.png"):
        Bench(make_model()).restore(method, Picture("T", "0", pairs / "lq" / "0.png", None), 0)


@pytest.mark.parametrize(
    ("change", "network"), [({}, "model"), ({}, "mmle"), ({}, "pfj"), ({"injection": ""}, "model")]
)
def test_a_changed_network_starts_new_numbers(change, network):
    method = replace(adaptive("x"), **change)
    assert method.fingerprint(NETWORKS) != method.fingerprint({**NETWORKS, network: "new"})


def test_other_courses_start_new_numbers_of_the_rule_that_goes_by_them(monkeypatch):
    bounded, paper = adaptive("x"), adaptive("x", "paper")
    before = [method.fingerprint(NETWORKS) for method in (bounded, paper)]
    monkeypatch.setattr(methods, "BASE_COURSES", methods.BASE_COURSES[:-1])
    assert bounded.fingerprint(NETWORKS) != before[0]
    assert paper.fingerprint(NETWORKS) == before[1]


def test_what_a_method_does_not_use_leaves_its_numbers():
    plain = uniform(2, injection="")
    assert plain.fingerprint(NETWORKS) == plain.fingerprint({"model": "a"})
    assert BICUBIC.fingerprint(NETWORKS) == BICUBIC.fingerprint({})
    assert plain.fingerprint(NETWORKS) == replace(plain, name="y", every=3).fingerprint(NETWORKS)
    assert plain.fingerprint(NETWORKS) != uniform(3, injection="").fingerprint(NETWORKS)


def test_numbers_of_other_machines_are_kept_apart_and_old_ones_are_found_again():
    known = {"9af88db3a8": adaptive("x"), "8dca892b74": uniform(2, injection=""), "fffc556d87": BICUBIC}
    for word, method in known.items():
        assert method.fingerprint(NETWORKS) == word  # or values that are stored would be lost
        words = {method.fingerprint({**NETWORKS, "machine": machine}) for machine in ("cuda float16", "cpu bfloat16")}
        assert len(words | {word}) == 3


def test_time_is_that_of_this_process():
    watch = Stopwatch(torch.device("cpu"))
    first = watch.read()
    time.sleep(0.05)
    assert 0 <= first <= watch.read() < first + 0.05
