"""The paper's tables, and methods compared at as many evaluations, seed by seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.evaluation.curve import compare, compare_at_equal_nfe
from adadiffsr_core.evaluation.methods import adaptive
from adadiffsr_core.evaluation.table import describe
from adadiffsr_core.evaluation.tables import INTERVALS, build_tables, choose_tables


def test_tables_are_chosen_by_name():
    tables = build_tables(adaptive("ours"), {}, ["pfj", "concat"])
    assert [table.name for table in choose_tables(["5", "1"], tables)] == ["1", "5"]
    assert len(choose_tables(["all"], tables)) == len(tables)
    assert choose_tables(["2"], tables) == []
    with pytest.raises(ConfigError, match="there is no table 9"):
        choose_tables(["9"], tables)


def test_the_papers_intervals_are_base_steps_of_its_preset():
    rows = build_tables(adaptive("ours"), {}, [])["3"].methods
    assert [row.name for row in rows] == [str(intervals).replace(" ", "") for intervals in INTERVALS]
    for row, intervals in zip(rows, INTERVALS, strict=True):
        sampling = row.sampling
        assert [1000 // sampling.steps * step for step in sampling.dtss.intervals] == list(intervals)
        assert sampling.solver == "ddpm"


def test_injections_that_are_not_there_are_not_compared():
    assert [method.name for method in build_tables(adaptive("ours"), {}, ["pfj"])["5"].methods] == ["none", "PFJ"]
    names = [
        method.name for method in build_tables(adaptive("ours"), {}, ["pfj", "concat", "cross_attention"])["5"].methods
    ]
    assert names == ["none", "concat", "cross_attention", "PFJ"]


def values(rows):
    """(picture, seed) -> (nfe, psnr, niqe) as the stores hold them."""
    return {f"T/{p}/{s}": {"nfe": n, "psnr": a, "niqe": b} for (p, s), (n, a, b) in rows.items()}


@given(st.floats(6, 24))
def test_on_the_line_of_uniform_sampling_there_is_no_difference(nfe):
    uniforms = [values({("a", 0): (n, 20 + n, 10 - n / 4)}) for n in (24, 12, 6)]
    (psnr, niqe) = compare_at_equal_nfe(values({("a", 0): (nfe, 20 + nfe, 10 - nfe / 4)}), uniforms, ("psnr", "niqe"))
    assert psnr.mean == pytest.approx(0, abs=1e-9)
    assert niqe.mean == pytest.approx(0, abs=1e-9)


def test_differences_are_means_over_pictures_and_spreads_over_seeds():
    base = values({(p, s): (12, 25.0, 8.0) for p in "ab" for s in (0, 1)})
    ours = {("a", 0): (12, 26.0, 7.0), ("a", 1): (12, 26.4, 7.0), ("b", 0): (12, 27.0, 7.0), ("b", 1): (12, 27.4, 7.0)}
    psnr, niqe = compare(values(ours), base, ("psnr", "niqe"))
    assert psnr.mean == pytest.approx(1.7)
    assert psnr.error == pytest.approx(np.std([1.2, 2.2], ddof=1) / 2**0.5)
    assert psnr.spread == pytest.approx(np.std([1.5, 1.9], ddof=1))
    assert psnr.relative == pytest.approx(1.7 / 25)
    assert (psnr.verdict, niqe.verdict) == ("better", "better")


def test_a_difference_no_larger_than_its_spread_is_none():
    base = values({("a", s): (12, 25.0, 8.0) for s in (0, 1)})
    ours = values({("a", 0): (12, 25.5, 9.0), ("a", 1): (12, 24.7, 9.0)})
    psnr, niqe = compare(ours, base, ("psnr", "niqe"))
    assert (psnr.verdict, niqe.verdict) == ("within spread", "worse")


def test_nothing_in_common_is_refused():
    with pytest.raises(ConfigError, match="no picture in common"):
        compare(values({("a", 0): (1, 1, 1)}), values({("b", 0): (1, 1, 1)}), ("psnr",))


def test_numbers_read_in_their_own_direction():
    assert describe("full_psnr").higher_is_better
    assert not describe("full_st_lpips").higher_is_better
    assert not describe("nfe").higher_is_better
