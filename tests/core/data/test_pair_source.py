"""Where a step's pairs come from: a window on disk that moves on, or the device itself."""

import numpy as np
import pytest
import torch

from adadiffsr_core.data.dataset import PairConfig, PairDataset
from adadiffsr_core.data.latent_pairs import CHUNK, PairEncoder
from adadiffsr_core.data.pair_source import DevicePairs, LivePairs, RenewedPairs, Window
from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.nets.autoencoder import Autoencoder
from tests.trained import AUTOENCODER, make_bank, save_photos

COUNT = 2 * CHUNK


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return save_photos(tmp_path_factory.mktemp("photos"), count=2, sides=((64, 64),))


@pytest.fixture(scope="module")
def coder():
    torch.manual_seed(0)
    return Autoencoder(AUTOENCODER).requires_grad_(False)


@pytest.fixture
def make_pairs(photos, coder, tmp_path):
    def make(folder="window", renewal=0.5, count=COUNT, **more):
        dataset = PairDataset(photos, PairConfig(size_px=32, min_scale=1.0), seed=4, length=2**40)
        window = Window(count, CHUNK, renewal)
        return RenewedPairs(tmp_path / folder, dataset, PairEncoder(coder, Processor()), window, 7, **more)

    return make


def numbers_of(pairs):
    return set((pairs._numbers - 1).tolist())


def test_the_window_moves_on_by_the_share_that_is_asked_for(make_pairs):
    pairs = make_pairs(renewal=0.5)
    pairs.draw(0, 8)
    assert numbers_of(pairs) == set(range(COUNT))
    pairs.draw(4, 8)  # 32 were drawn, so 16 are new
    assert numbers_of(pairs) == set(range(CHUNK, CHUNK + COUNT))
    pairs.draw(40, 8)  # and after a long while all are
    assert numbers_of(pairs) == set(range(160, 160 + COUNT))


def test_without_renewal_the_first_pairs_stay(make_pairs):
    pairs = make_pairs(renewal=0.0)
    pairs.draw(10**6, 8)
    assert numbers_of(pairs) == set(range(COUNT))


def test_every_pair_is_the_encoded_picture_of_its_number(make_pairs, coder):
    pairs = make_pairs()
    pairs.draw(40, 8)
    for place in (0, CHUNK, COUNT - 1):
        number = int(pairs._numbers[place]) - 1
        for array, picture in zip(pairs._arrays, pairs.dataset[number], strict=True):
            expected = coder.encode(picture[None].float() / 255)[0]
            torch.testing.assert_close(torch.from_numpy(array[place]).float(), expected, atol=2e-3, rtol=2e-3)


def test_a_step_draws_the_same_whatever_came_before(make_pairs):
    straight = make_pairs("straight")
    seen = [straight.draw(step, 8) for step in range(12)]
    stopped = make_pairs("stopped")
    for step in (0, 1, 9, 10, 11):  # ahead of what is asked for next, as after a crash between two saved states
        stopped.draw(step, 8)
    again = make_pairs("stopped")
    for step in (4, 5, 11):
        for one, other in zip(again.draw(step, 8), seen[step], strict=True):
            assert torch.equal(one, other)


def test_a_chunk_that_was_being_made_is_made_again(make_pairs, monkeypatch):
    whole = make_pairs("whole").draw(0, 8)
    pairs, encode, calls = make_pairs("parts"), Autoencoder.encode, []

    def die(self, image):
        calls.append(len(image))
        if len(calls) == 4:  # the second chunk's low-quality twins
            raise KeyboardInterrupt
        return encode(self, image)

    with monkeypatch.context() as patch:
        patch.setattr(Autoencoder, "encode", die)
        with pytest.raises(KeyboardInterrupt):
            pairs.draw(0, 8)
    again = make_pairs("parts")
    assert np.count_nonzero(again._numbers) == CHUNK  # the first one was kept
    for one, other in zip(again.draw(0, 8), whole, strict=True):
        assert torch.equal(one, other)


def test_a_window_that_cannot_be_is_refused(make_pairs):
    with pytest.raises(ConfigError, match=f"multiple of {CHUNK}"):
        make_pairs(count=CHUNK + 1)
    make_pairs(count=COUNT)
    with pytest.raises(ConfigError, match="shape"):
        make_pairs(count=3 * CHUNK)


@pytest.fixture
def live(coder):
    return LivePairs(make_bank(), PairEncoder(coder, Processor()), PairConfig(size_px=64, scales=(1.0, 4.0)), 3)


def test_live_pairs_depend_on_the_step_alone_and_never_come_again(live):
    first, again, other = live.draw(5, 3), live.draw(5, 3), live.draw(6, 3)
    assert [part.shape for part in first] == [(3, 4, 8, 8)] * 2
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(*first)
    assert not first[0].requires_grad


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_live_pairs_is_of_plain_colours(live, monkeypatch, share):
    seen = []
    encode = live.encoder.autoencoder.encode
    monkeypatch.setattr(live.encoder.autoencoder, "encode", lambda images: seen.append(images) or encode(images))
    live.config = PairConfig(size_px=64, flat_share=share)
    live.draw(5, 32)
    plain = sum(len(gt.flatten(1).unique(dim=1).T) <= 2 for gt in seen[0][:32])
    assert abs(plain - 32 * share) <= (7 if 0 < share < 1 else 0)


def test_pairs_on_the_device_follow_from_the_step_alone(live):
    """A run that was stopped makes again what its window lacks."""
    window = Window(length=8, chunk=4, renewal=0.5)
    straight, stopped = DevicePairs(live, window, 5), DevicePairs(live, window, 5)
    seen = [straight.draw(step, 4) for step in range(6)]
    for step in (5, 2):
        for one, other in zip(stopped.draw(step, 4), seen[step], strict=True):
            assert torch.equal(one, other)


def test_every_pair_on_the_device_is_one_of_the_window(live):
    window = Window(length=8, chunk=4, renewal=0.5)
    pairs = DevicePairs(live, window, 5)
    for step in (0, 1, 2, 7):
        first = window.first(step, 4)
        assert first == step * 2 // 4 * 4
        chunks = [live.draw(number, 4) for number in (first // 4, first // 4 + 1)]
        known = [torch.cat(parts) for parts in zip(*chunks, strict=True)]
        for gt, lq in zip(*pairs.draw(step, 4), strict=True):
            same = [bool(torch.equal(gt, a) and torch.equal(lq, b)) for a, b in zip(*known, strict=True)]
            assert sum(same) == 1


def test_a_window_is_whole_chunks():
    with pytest.raises(ConfigError, match="multiple of 4"):
        Window(length=6, chunk=4, renewal=0.5)
