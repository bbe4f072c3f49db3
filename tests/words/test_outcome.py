from __future__ import annotations

import _signal
import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmfork._words.outcome import Exited, Lost, Outcome, Signaled, Usage, read_status


def test_an_exit_code_comes_back_as_it_was():
    for code in range(256):
        status = code << 8
        assert os.waitstatus_to_exitcode(status) == code
        assert read_status(status) == Exited(code)


def test_a_signal_comes_back_as_it_was():
    for number in range(1, 65):
        assert os.waitstatus_to_exitcode(number) == -number
        assert read_status(number) == Signaled(number, False)
        assert read_status(number | 0x80) == Signaled(number, True)


EXAMPLES = [Exited(0), Exited(1), Signaled(1), Signaled(9), Signaled(9, True), Lost("why"), Lost("other")]


@given(st.sampled_from(EXAMPLES), st.sampled_from(EXAMPLES))
def test_outcomes_are_equal_when_they_are_the_same_fact(one, other):
    assert (one == other) == (one is other) == (hash(one) == hash(other) and repr(one) == repr(other))
    assert one != 0 and one != (one,)


def test_exit_code_1_and_signal_1_are_two_facts():
    assert Exited(1) != Signaled(1)


@pytest.mark.parametrize("outcome", EXAMPLES, ids=repr)
def test_an_outcome_survives_pickling_and_its_repr_makes_it_again(outcome):
    assert pickle.loads(pickle.dumps(outcome)) == outcome
    assert eval(repr(outcome), {**globals(), **vars(_signal)}) == outcome


def test_an_outcome_says_what_it_means_to_subprocess_and_to_people():
    assert [one.returncode for one in (Exited(3), Signaled(9), Lost("why"))] == [3, -9, None]
    assert [one.ok for one in (Exited(0), Exited(3), Signaled(9), Lost("why"))] == [True, False, False, False]
    assert repr(Signaled(11)) == "Signaled(signal=SIGSEGV, core_dumped=False)"
    assert str(Signaled(6, True, why="memory")) == "killed by SIGABRT, core dumped (memory)"
    assert [Signaled(number).signal_name for number in (17, 29, 40)] == ["SIGCHLD", "SIGIO", "40"]
    assert isinstance(Exited(0), Outcome)


def test_outcomes_are_matched_by_their_fields():
    found = []
    for outcome in (Exited(3), Signaled(9, True), Lost("why")):
        match outcome:
            case Exited(code):
                found.append(code)
            case Signaled(signal, core):
                found.append((signal, core))
            case Lost(reason):
                found.append(reason)
    assert found == [3, (9, True), "why"]


def test_usage_says_its_numbers():
    assert repr(Usage(0.5, 0.25, 1024, 2.5)) == "Usage(user=0.5, system=0.25, peak_rss=1024, seconds=2.5)"
