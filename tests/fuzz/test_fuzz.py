"""Some damaged files; `python -m tests.fuzz.run` tries 20,000."""

import pytest

from tests.fuzz.judge import try_case
from tests.fuzz.subjects import SUBJECTS

CASES = {"bundle": 40, "state": 40, "cache": 60}


@pytest.mark.parametrize("name", CASES)
def test_damaged_files_are_opened_soundly_or_refused_in_a_sentence(name, one_thread, tmp_path):
    subject = SUBJECTS[name](tmp_path)
    sound = subject.path.read_bytes()
    verdicts = [try_case(subject, sound, 7, number) for number in range(CASES[name])]
    assert [(verdict.case, verdict.fault) for verdict in verdicts if verdict.fault] == []
    assert sum(verdict.refused for verdict in verdicts) > CASES[name] / 2  # else little was damaged
