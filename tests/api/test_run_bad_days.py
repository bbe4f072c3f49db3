"""Template.run(): bad days that have no place elsewhere."""

from __future__ import annotations

import pickle

import pytest

import warmfork


def test_a_child_that_closes_all_its_fds_has_an_outcome_and_no_result(template):
    done = template.run("import os\nos.closerange(0, 10_000)\nresult = 1", capture_output=True)
    assert done.outcome == warmfork.Exited(0)
    with pytest.raises(warmfork.ResultError, match="ended without one"):
        _ = done.result


def test_a_child_that_deletes_its_working_directory_harms_nobody(template, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    assert template.run("import os; os.rmdir(os.getcwd())", cwd=gone).ok()
    assert not gone.exists()
    assert template.run("1").result == 1


def test_an_exception_that_lies_about_itself_is_told_all_the_same(template):
    code = "class E(Exception):\n    def __str__(self): raise ValueError('no')\nraise E"
    done = template.run(code, capture_output=True)
    assert done.error.type == "E"
    assert "no message" in done.error.message


def test_errors_survive_pickling(template):
    with pytest.raises(warmfork.RunError) as caught:
        template.run("1/0", check=True, capture_output=True)
    back = pickle.loads(pickle.dumps(caught.value))
    assert str(back) == str(caught.value)
    assert back.completed.error.type == "ZeroDivisionError"
