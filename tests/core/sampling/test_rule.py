"""The rule's settings: which make intervals even, which are refused, and JSON."""

import pytest

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.sampling.controller import start_states
from adadiffsr_core.sampling.rule import DtssConfig


@pytest.mark.parametrize(
    ("settings", "is_uniform"),
    [
        ({}, False),
        ({"early_exit": False}, False),
        ({"intervals": (2, 2)}, True),
        ({"intervals": (2, 2), "early_exit": True, "first_jump": 0.5}, True),
        ({"intervals": (2, 2), "rule": "bounded"}, False),
    ],
)
def test_of_one_interval_adaptivity_is_off_wherever_its_switches_stand(settings, is_uniform):
    config = DtssConfig(**settings)
    assert config.is_uniform is is_uniform
    assert not (is_uniform and (config.exits or config.jumps_ahead))
    assert not bool(start_states(2, config).may_exit.any()) or not is_uniform


@pytest.mark.parametrize(
    "settings",
    [
        {"intervals": ()},
        {"intervals": (0, 1)},
        {"intervals": (2, 1)},
        {"gain_threshold": -1e-3},
        {"nr_from": 1.5},
        {"nr_from": -0.1},
        {"views": "ours"},
        {"first_jump": 1.0},
        {"first_jump": -0.1},
    ],
)
def test_impossible_rules_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        DtssConfig(**settings)


def test_rules_survive_json():
    config = DtssConfig(intervals=(1, 3), gain_threshold=0.01, early_exit=False, nr_from=0.25)
    assert DtssConfig.from_dict({**config.to_dict(), "intervals": [1, 3]}) == config
    with pytest.raises(ConfigError, match="tau"):
        DtssConfig.from_dict({"tau": 1})
