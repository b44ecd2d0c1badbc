"""What the bar shows of a run never goes back, however the guess of what is left changes."""

import torch
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 60)), min_size=1, max_size=20))
def test_the_share_that_is_done_never_falls(host, pack, turns):
    preview, turn = pack("nodes.host.preview"), pack("adadiffsr_core.sampling.turn")
    grid, shown, done = pack("adadiffsr_core.sampling.tiles").build_grid(8, 8, 8, 0), [], 0
    start = torch.zeros(1, 4, 8, 8)
    watch = preview.Preview(lambda step, x0, x, total: shown.append((step + 1, total)), start, grid, True)
    for more, left in turns:
        done += more
        watch.told = -torch.inf  # as if the last preview were long ago
        watch(turn.Progress(done, done + left))
    watch.finish(start)
    shares = [value / total for value, total in shown]
    assert shares == sorted(shares)
    assert max(shares) <= 1
