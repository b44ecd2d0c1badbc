"""Reports: sums by hand, and JSON that says the same."""

import json
import math
from dataclasses import FrozenInstanceError

import pytest

from adadiffsr_core.sampling.report import RunLog, StepRecord
from adadiffsr_core.sampling.rule import TileClass
from adadiffsr_core.sampling.tiles import build_grid


def make_report(fr_gain=0.1 / 3):
    """2 images of 2 tiles; tile 1 stops early, tile 2 is untouched, tile 3 takes one step."""
    log = RunLog(build_grid(8, 12, 8, 2), 2, base_steps=10)
    steps = {0: [(0, 4), (4, 8), (8, 10)], 1: [(0, 3), (3, 3)], 3: [(0, 10)]}
    for tile_id, jumps in steps.items():
        for number, (index, target) in enumerate(jumps):
            last = tile_id == 1 and number == 1
            tile_class = TileClass.SATURATED if last else TileClass.STABLE
            log.add(tile_id, StepRecord(index, 999.0 - 100 * index, tile_class, fr_gain, -0.2, target))
    return log.close(2, calls=(2, 2, 1, 1))


def test_a_new_report_places_every_tile_of_every_image():
    report = RunLog(build_grid(8, 12, 8, 2), 2, base_steps=10).close(2)
    places = [(tile.image, tile.top, tile.left, tile.height, tile.width) for tile in report.tiles]
    assert places == [(0, 0, 0, 8, 8), (0, 0, 4, 8, 8), (1, 0, 0, 8, 8), (1, 0, 4, 8, 8)]
    assert (report.nfe, report.full_nfe, report.saved, report.occupancy) == (0, 40, 1.0, 1.0)


def test_sums_are_the_tiles():
    report = make_report()
    assert [tile.nfe for tile in report.tiles] == [3, 2, 0, 1]
    assert [tile.outcome for tile in report.tiles] == ["stable", "saturated", "untouched", "stable"]
    assert (report.nfe, report.full_nfe, report.mean_nfe) == (6, 40, 1.5)
    assert report.saved == pytest.approx(34 / 40)
    assert report.occupancy == pytest.approx(6 / 8)


def test_json_says_the_same():
    report = make_report()
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert {key: values[key] for key in ("base_steps", "nfe", "full_nfe", "mean_nfe", "saved")} == {
        "base_steps": 10,
        "nfe": 6,
        "full_nfe": 40,
        "mean_nfe": 1.5,
        "saved": 0.85,
    }
    assert (values["denoiser_calls"], values["occupancy"], values["seconds"]) == (4, 0.75, 0.0)
    assert values["tiles"][1] == {
        "image": 0,
        "box": [0, 4, 8, 8],
        "nfe": 2,
        "outcome": "saturated",
        "likeness_db": None,
        "index": [0, 3],
        "timestep": [999.0, 699.0],
        "class": ["stable", "saturated"],
        "fr_gain": [0.033333, 0.033333],
        "nr_gain": [-0.2, -0.2],
    }
    assert values["tiles"][2]["index"] == []


def test_a_report_stays_as_it_was():
    log, calls = RunLog(build_grid(8, 8, 8, 2), 1, base_steps=10), [1]
    report = log.close(2, calls=tuple(calls))
    log.add(0, StepRecord(0, 999.0, TileClass.STABLE, 0.0, 0.0, 10))
    calls.append(1)
    assert (report.nfe, report.calls, log.nfe, log.begun) == (0, (1,), 1, {0})
    with pytest.raises(FrozenInstanceError):
        report.seconds = 1.0


def test_json_has_no_nan():
    for gain in (math.nan, math.inf):
        values = json.loads(json.dumps(make_report(gain).to_dict(), allow_nan=False))
        assert (values["tiles"][3]["fr_gain"], values["tiles"][3]["nr_gain"]) == ([None], [-0.2])
