"""Some damaged files and hostile words; `python -m tests.fuzz.run` and `python -m tests.fuzz.words` try many."""

import pytest

from tests.fuzz.judge import try_case
from tests.fuzz.subjects import SUBJECTS
from tests.fuzz.words import run_cases

CASES = {"bundle": 40, "state": 40, "cache": 60, "picture": 300}


@pytest.mark.parametrize("name", CASES)
def test_damaged_files_are_opened_soundly_or_refused_in_a_sentence(name, one_thread, tmp_path):
    subject = SUBJECTS[name](tmp_path)
    sound = subject.path.read_bytes()
    verdicts = [try_case(subject, sound, 7, number) for number in range(CASES[name])]
    assert [(verdict.case, verdict.fault) for verdict in verdicts if verdict.fault] == []
    assert sum(verdict.refused for verdict in verdicts) > CASES[name] / 3  # else little was damaged


def test_hostile_words_do_their_work_or_are_refused_in_a_sentence(one_thread):
    verdicts = run_cases(7, range(25))
    assert [(case, fault) for case, fault in verdicts if fault] == []
