"""Rows of noise and of a picture: those of the whole, read downwards in any steps, and no more held than need be."""

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adadiffsr_core.errors import ShapeError
from adadiffsr_core.sampling.noise import field_noise
from adadiffsr_core.sampling.noise_rows import noise_rows
from adadiffsr_core.streaming.rows import RowStream

pytestmark = pytest.mark.usefixtures("one_thread")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 17), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**64 - 1), st.data())
def test_noise_rows_are_the_field_s(channels, height, width, seed, data):
    rows = data.draw(st.integers(1, height))
    pieces = list(noise_rows(channels, height, width, seed, rows))
    assert torch.equal(torch.cat(pieces, dim=2), field_noise((1, channels, height, width), seed))


def test_noise_of_a_large_field_is_passed_over_in_chunks(monkeypatch):
    monkeypatch.setattr("adadiffsr_core.sampling.noise_rows._CHUNK", 64)
    pieces = list(noise_rows(5, 37, 29, 7, 11))
    assert torch.equal(torch.cat(pieces, dim=2), field_noise((1, 5, 37, 29), 7))


@pytest.mark.parametrize("seed", range(40))
def test_rows_may_be_read_downwards_in_any_steps(seed):
    random = Random(seed)
    heights = [random.randint(1, 9) for _ in range(random.randint(1, 12))]
    whole = torch.arange(sum(heights) * 2.0).view(1, -1, 2)
    stream, top = RowStream(whole.split(heights, dim=1), whole.shape[1]), 0
    while top < whole.shape[1]:
        bottom = random.randint(top + 1, whole.shape[1])
        assert torch.equal(stream.read(top, bottom), whole[:, top:bottom])
        top = random.randint(top, bottom)
        if top == bottom:
            break


def test_a_stream_of_rows_forgets_what_lies_above():
    made = []

    def pieces():
        for number in range(100):
            made.append(number)
            yield torch.full((1, 10, 2), float(number))

    stream = RowStream(pieces(), 1000)
    for top in range(0, 900, 7):
        stream.read(top, top + 30)
        assert sum(piece.shape[1] for piece in stream._held) <= 30 + 2 * 10
        assert len(made) <= (top + 30) // 10 + 1  # nothing is made before it is needed
    with pytest.raises(ShapeError, match="gone"):
        stream.read(100, 130)
    with pytest.raises(ShapeError, match="ended after 30"):
        RowStream(torch.zeros(1, 30, 2).split(10, dim=1), 40).read(25, 35)
