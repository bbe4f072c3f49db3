"""The conformance tool itself: what it counts, lists, excludes and finds left behind. No kernel is needed here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .exclusions import EXCLUSIONS, EXECUTOR, list_exclusions, list_omitted
from .interpreters import INSIDE, find_interpreters
from .suites import QUICK, SUITES, Suite, choose_suites
from .supervisor import __file__ as supervisor_file
from .table import format_table
from .verdict import Row, end_if_hung, sum_groups

SUITE = Suite("processes", "mod", patterns=("x",))
REPORT = {"returncode": 0, "timed_out": False, "seconds": 1.0, "left": []}


def write_events(outcomes: dict[str, str], loaded: list[str] | None = None, altered: bool = False) -> list[str]:
    events: list[dict[str, Any]] = [{"event": "loaded", "tests": loaded or list(outcomes)}]
    for test, outcome in outcomes.items():
        events += [
            {"event": "start", "test": test},
            {"event": "outcome", "test": test, "outcome": outcome, "text": f"text of {test}"},
            {"event": "stop", "test": test, "seconds": 0.1},
        ]
    events.append({"event": "end", "altered": altered})
    return [json.dumps(event) for event in events]


def judge_events(
    events: list[str],
    *,
    starts: str = "warmfork",
    suite: Suite = SUITE,
    engine: str = "warmfork",
    version: str = "3.14.8",
    **report: Any,
) -> Row:
    return end_if_hung(version, suite, engine, events, [f"{by} 1" for by in starts.split()], REPORT | report)


def test_a_suite_whose_tests_pass_on_the_right_engine_has_no_fault() -> None:
    row = judge_events(write_events({"a": "passed", "b": "skipped"}), starts="warmfork warmfork")
    assert (row.run, row.passed, row.skipped, row.failed, row.warmfork, row.stdlib) == (2, 1, 1, 0, 2, 0)
    assert row.faults == []


def test_a_failure_is_a_fault_with_its_traceback() -> None:
    row = judge_events(write_events({"a": "passed", "b": "failed"}))
    assert (row.passed, row.failed) == (1, 1)
    assert row.faults == ["b failed\ntext of b"]


def test_a_green_suite_on_the_wrong_engine_is_a_fault() -> None:
    row = judge_events(write_events({"a": "passed"}), starts="warmfork stdlib stdlib")
    assert row.faults == ["2 starts by the wrong engine, where warmfork was to make all of them"]


def test_a_suite_without_any_start_is_a_fault() -> None:
    assert "no start by warmfork" in judge_events(write_events({"a": "passed"}), starts="").faults[0]


def test_a_start_in_a_suite_of_other_methods_is_a_fault() -> None:
    others = Suite("main-others", "mod", starts=False)
    assert judge_events(write_events({"a": "passed"}), starts="", suite=others).faults == []
    assert len(judge_events(write_events({"a": "passed"}), suite=others).faults) == 1


def test_a_loaded_test_that_did_not_run_is_a_fault() -> None:
    row = judge_events(write_events({"a": "passed"}, loaded=["a", "b"]))
    assert row.faults == ["b did not run"]


def test_a_module_that_skips_itself_is_a_fault() -> None:
    row = judge_events(write_events({"setUpModule (mod)": "skipped"}, loaded=["a"]))
    assert row.faults == ["a did not run", "setUpModule (mod) skipped\ntext of setUpModule (mod)"]


def test_a_failing_tear_down_makes_a_passed_test_a_failed_one_and_no_pass_undoes_it() -> None:
    events = write_events({"a": "passed"})
    for outcome in ("failed", "passed"):
        events.insert(3, json.dumps({"event": "outcome", "test": "a", "outcome": outcome, "text": "tearDown"}))
    row = judge_events(events)
    assert (row.passed, row.failed) == (0, 1)


LISTED = [entry.test for entry in EXCLUSIONS]


def test_a_listed_test_that_fails_is_counted_as_listed() -> None:
    row = judge_events(write_events({LISTED[0]: "failed", "b": "passed"}))
    assert (row.listed, row.failed, row.passed, row.faults) == (1, 0, 1, [])


def test_a_listed_test_that_fails_on_a_version_for_which_it_is_not_listed_is_a_fault() -> None:
    row = judge_events(write_events({LISTED[0]: "failed"}), version="3.13.0")
    assert (row.listed, row.failed, len(row.faults)) == (0, 1, 1)


@pytest.mark.parametrize("outcome", ["passed", "skipped"])
def test_a_listed_test_that_does_not_fail_is_a_fault(outcome: str) -> None:
    row = judge_events(write_events({LISTED[0]: outcome}))
    assert len(row.faults) == 1 and f"{LISTED[0]} is listed" in row.faults[0]


def test_a_listed_test_that_does_not_exist_is_a_fault_where_the_whole_module_ran() -> None:
    whole = next(suite for suite in SUITES if LISTED[0].startswith(suite.module + "."))
    faults = judge_events(write_events({LISTED[0]: "failed"}), suite=whole).faults
    assert len(faults) == 1 and LISTED[1] in faults[0] and faults[0].endswith("but there is no such test")
    assert judge_events(write_events({LISTED[0]: "failed"})).faults == []


def test_a_runner_that_crashed_or_ran_out_of_time_is_a_fault_that_names_the_test() -> None:
    events = write_events({"a": "passed"}, loaded=["a", "b"])[:-1]
    crashed = judge_events(events, returncode=-11)
    assert "the runner ended with -11; the first test without an end is b" in crashed.faults
    late = judge_events(events, returncode=None, timed_out=True)
    assert "the time limit was reached; the first test without an end is b" in late.faults


def test_leftovers_and_an_altered_environment_are_faults() -> None:
    row = judge_events(write_events({"a": "passed"}, altered=True), left=["/dev/shm/x"])
    assert len(row.faults) == 2 and row.faults[1] == "left behind: /dev/shm/x"


def test_a_few_unregistered_semaphores_are_usual_in_processes_up_to_3_13_and_nowhere_else() -> None:
    left, events = ["/dev/shm/sem.mp-0drhaiob", "/dev/shm/sem.tHYgkI"], write_events({"a": "passed"})
    row = judge_events(events, left=left, version="3.13.0")
    assert (row.left, row.faults) == (left, [])
    for unusual in (
        judge_events(events, left=left, version="3.14.8"),
        judge_events(events, left=left, version="3.13.0", suite=Suite("misc", "mod")),
        judge_events(events, left=left * 3, version="3.13.0"),
        judge_events(events, left=["/dev/shm/psm_1234"], version="3.13.0"),
    ):
        assert len(unusual.faults) == len(unusual.left)


def test_the_exclusion_list_has_the_two_private_tests_and_only_where_warmfork_runs() -> None:
    assert len(EXCLUSIONS) == 2 and all(entry.reason for entry in EXCLUSIONS)
    assert [len(list_exclusions(f"3.{minor}", "warmfork")) for minor in range(11, 16)] == [0, 0, 0, 2, 2]
    assert list_exclusions("3.15", "stdlib") == {}


def test_suites_are_chosen_by_version_name_group_and_quickness() -> None:
    assert len({suite.name for suite in SUITES}) == len(SUITES)
    assert "preload" not in [suite.name for suite in choose_suites((3, 14), [], quick=False)]
    assert "preload" in [suite.name for suite in choose_suites((3, 15), [], quick=False)]
    assert [suite.name for suite in choose_suites((3, 13), ["futures.wait"], quick=True)] == ["futures.wait"]
    assert len(choose_suites((3, 13), ["futures"], quick=False)) == 6
    assert [suite.name for suite in choose_suites((3, 11), [], quick=True)] == list(QUICK)


EXECUTOR_SUITE = Suite(
    "executor.process_pool", "test.test_concurrent_futures.test_process_pool", patterns=("x",), executor=True
)


def test_tests_listed_for_the_executor_are_listed_there_alone_and_have_a_reason() -> None:
    assert all(entry.reason and entry.executor for entry in EXECUTOR)
    assert len({entry.test for entry in EXECUTOR}) == len(EXECUTOR)
    killed = next(entry.test for entry in EXECUTOR if entry.test.endswith("test_killed_child"))
    assert killed in list_exclusions("3.13", "warmfork", executor=True)
    assert killed not in list_exclusions("3.13", "warmfork")
    assert judge_events(write_events({killed: "failed"}), suite=SUITE).failed == 1
    assert judge_events(write_events({killed: "failed"}), suite=EXECUTOR_SUITE).listed == 1
    assert "but it passed" in judge_events(write_events({killed: "passed"}), suite=EXECUTOR_SUITE).faults[-1]


def test_a_test_that_would_wait_for_ever_is_listed_and_not_run() -> None:
    waits = next(entry.test for entry in EXECUTOR if entry.waits)
    assert list_omitted("3.14", EXECUTOR_SUITE.module + ".") == [entry.test for entry in EXECUTOR if entry.waits]
    row = judge_events(write_events({"a": "passed"}, loaded=["a", waits]), suite=EXECUTOR_SUITE)
    assert (row.run, row.listed) == (1, 1)
    assert f"{waits} did not run" not in row.faults


def test_the_executor_stands_for_process_pool_executor_only_where_it_is_asked_for(tmp_path: Path) -> None:
    code = "import conformance_count, concurrent.futures as c; print(c.ProcessPoolExecutor.__mro__[1].__module__)"
    for asked, module in (("1", "warmfork"), ("", "concurrent.futures._base")):
        environment = os.environ | {
            "PYTHONPATH": str(INSIDE),
            "WARMFORK_CONFORMANCE_STARTS": str(tmp_path / "starts"),
            "WARMFORK_CONFORMANCE_ENGINE": "warmfork",
            "WARMFORK_CONFORMANCE_EXECUTOR": asked,
        }
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip().startswith(module)


def test_the_runner_omits_tests_and_forgives_a_listed_one_what_it_has_left(tmp_path: Path) -> None:
    pytest.importorskip("test.support", reason="this interpreter comes without CPython's test.support")
    source = """
import unittest
from test import support
class Sample(unittest.TestCase):
    def test_a(self): pass
    def test_left(self):
        support.environment_altered = True
        self.fail()
"""
    events = run_runner(tmp_path, source, options=["--omit", "sample.Sample.test_a"])
    assert [event["test"] for event in events if event["event"] == "outcome"] == ["sample.Sample.test_left"]
    assert events[-1]["altered"] is True
    (tmp_path / "events").unlink()
    events = run_runner(tmp_path, source, options=["--listed", "sample.Sample.test_left"])
    assert events[-1]["altered"] is False


def test_the_table_is_aligned_markdown_with_a_sum_for_each_version() -> None:
    rows = [
        Row("3.13", "futures.wait", run=8, passed=8, warmfork=5, seconds=2.0),
        Row("3.13", "futures.init", run=3, passed=2, skipped=1, warmfork=4, seconds=1.0),
        Row("3.14", "misc", run=86, passed=86, warmfork=300, seconds=20.0),
    ]
    lines = format_table(rows).splitlines()
    assert len(lines) == 6 and len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[4].strip("|").split("|")][:4] == ["3.13", "sum", "11", "10"]
    assert [(row.suite, row.run, row.warmfork) for row in sum_groups(rows)] == [("futures", 11, 9), ("misc", 86, 300)]


def test_the_running_interpreter_is_found_once() -> None:
    versions = [interpreter.version for interpreter in find_interpreters()]
    assert versions.count(sys.version_info[:2]) == 1 and len(set(versions)) == len(versions)


START = """
import multiprocessing as m
if __name__ == "__main__":
    process = m.get_context("forkserver").Process(target=print)
    process.start()
    process.join()
    assert process.exitcode == 0
"""


def run_counted(tmp_path: Path, engine: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    script, starts = tmp_path / "script.py", tmp_path / "starts"
    script.write_text("import conformance_count\n" + START, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WARMFORK_")}
    environment |= {
        "PYTHONPATH": str(INSIDE),
        "WARMFORK_CONFORMANCE_STARTS": str(starts),
        "WARMFORK_CONFORMANCE_ENGINE": engine,
    }
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return done, [line.split()[0] for line in starts.read_text(encoding="utf-8").splitlines()]


def test_a_start_by_the_stdlib_is_counted_and_goes_on_where_the_stdlib_is_tested(tmp_path: Path) -> None:
    done, starts = run_counted(tmp_path, "stdlib")
    assert (done.returncode, starts) == (0, ["stdlib"]), done.stderr


def test_a_start_by_the_stdlib_is_counted_and_raises_where_warmfork_is_tested(tmp_path: Path) -> None:
    done, starts = run_counted(tmp_path, "warmfork")
    assert (done.returncode, starts) == (1, ["stdlib"])
    assert "RuntimeError: a process was about to be started by the stdlib's forkserver" in done.stderr


def test_a_start_by_warmfork_is_counted_and_goes_on(tmp_path: Path) -> None:
    # A package of warmfork's shape: which class is counted, and that its start goes on, needs no more than that.
    place = tmp_path / "warmfork" / "mp" / "client"
    place.mkdir(parents=True)
    for folder in (place, place.parent, place.parent.parent):
        (folder / "__init__.py").touch()
    (place / "popen.py").write_text("class Popen:\n    def __init__(self, process):\n        print(process)\n")
    starts = tmp_path / "starts"
    environment = os.environ | {
        "PYTHONPATH": str(INSIDE),
        "WARMFORK_CONFORMANCE_STARTS": str(starts),
        "WARMFORK_CONFORMANCE_ENGINE": "warmfork",
    }
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import conformance_count; "
        "from warmfork.mp.client.popen import Popen; Popen('begun')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "begun\n"
    assert starts.read_text(encoding="utf-8").startswith("warmfork ")


def supervise(tmp_path: Path, code: str, *, limit: float = 60, grace: float = 10) -> tuple[dict[str, Any], str]:
    tmp_path.joinpath("tmp").mkdir()
    request = {
        "command": [sys.executable, "-c", code],
        "env": dict(os.environ) | {"TMPDIR": str(tmp_path / "tmp")},
        "cwd": str(tmp_path / "tmp"),
        "watch": [str(tmp_path / "tmp")],
        "log": str(tmp_path / "log"),
        "limit": limit,
        "grace": grace,
    }
    done = subprocess.run(
        [sys.executable, supervisor_file], input=json.dumps(request), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout), (tmp_path / "log").read_text(encoding="utf-8")


def test_the_supervisor_reports_exit_status_and_output_of_a_clean_suite(tmp_path: Path) -> None:
    report, log = supervise(tmp_path, "import sys; print('here'); sys.exit(3)")
    assert (report["returncode"], report["timed_out"], report["left"], log) == (3, False, [], "here\n")


def test_the_supervisor_names_and_kills_an_orphan_in_a_session_of_its_own(tmp_path: Path) -> None:
    began = time.monotonic()
    code = (
        "import os, subprocess, sys\n"
        "code = 'import signal; signal.pause()'\n"
        "p = subprocess.Popen([sys.executable, '-c', code], start_new_session=True, env={})\n"
        "print(p.pid, flush=True)\n"
        "os._exit(0)"
    )
    report, log = supervise(tmp_path, code, grace=0.5)
    assert report["left"] == [f"process {log.strip()}: {sys.executable} -c import signal; signal.pause()"]
    assert not Path(f"/proc/{log.strip()}").exists()
    assert time.monotonic() - began < 30


def test_the_supervisor_waits_for_an_orphan_that_is_about_to_end(tmp_path: Path) -> None:
    code = (
        "import os, select\nif os.fork() == 0:\n    select.select([], [], [], 0.5)  # the work it has left\nos._exit(0)"
    )
    report, _ = supervise(tmp_path, code)
    assert (report["returncode"], report["left"]) == (0, [])


def test_the_supervisor_names_files_and_shared_memory_that_stay(tmp_path: Path) -> None:
    name = f"wfc-test-{os.getpid()}"
    code = f"open({name!r}, 'w').close(); open('/dev/shm/{name}', 'w').close(); open('pymp-usual', 'w').close()"
    report, _ = supervise(tmp_path, code)
    try:
        assert report["left"] == [f"/dev/shm/{name}", f"file {name}"]
    finally:
        Path("/dev/shm", name).unlink(missing_ok=True)


def test_the_supervisor_ends_a_suite_at_its_time_limit_with_a_traceback_in_the_log(tmp_path: Path) -> None:
    code = "import faulthandler, signal; faulthandler.enable(); signal.pause()"
    report, log = supervise(tmp_path, code, limit=1)
    assert (report["returncode"], report["timed_out"], report["left"]) == (-6, True, [])
    assert "Fatal Python error: Aborted" in log


def run_runner(tmp_path: Path, source: str, *patterns: str, options: list[str] | None = None) -> list[dict[str, Any]]:
    (tmp_path / "sample.py").write_text(source, encoding="utf-8")
    events = tmp_path / "events"
    command = [sys.executable, str(INSIDE), "--module", "sample", "--events", str(events), *(options or [])]
    for pattern in patterns:
        command += ["-k", pattern]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, check=True, timeout=60, capture_output=True)
    return [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]


def test_the_runner_records_every_kind_of_outcome(tmp_path: Path) -> None:
    pytest.importorskip("test.support", reason="this interpreter comes without CPython's test.support")
    source = """
import unittest
class Sample(unittest.TestCase):
    def test_error(self): raise ValueError("boom")
    def test_expected(self): self.fail()
    test_expected = unittest.expectedFailure(test_expected)
    def test_fail(self): self.fail("no")
    def test_pass(self): pass
    def test_skip(self): self.skipTest("why")
    def test_sub(self):
        with self.subTest(n=1): self.fail("inner")
    @unittest.expectedFailure
    def test_unexpected(self): pass
"""
    events = run_runner(tmp_path, source)
    outcomes = {event["test"].split("_")[1]: event for event in events if event["event"] == "outcome"}
    assert {name: event["outcome"] for name, event in outcomes.items()} == {
        "error": "failed",
        "expected": "passed",
        "fail": "failed",
        "pass": "passed",
        "skip": "skipped",
        "sub": "failed",
        "unexpected": "failed",
    }
    assert "ValueError: boom" in outcomes["error"]["text"] and "inner" in outcomes["sub"]["text"]
    assert len(events[0]["tests"]) == 7 and events[-1] == {"event": "end", "altered": False}


def test_the_runner_takes_the_tests_that_match_a_pattern(tmp_path: Path) -> None:
    pytest.importorskip("test.support", reason="this interpreter comes without CPython's test.support")
    source = "import unittest\nclass A(unittest.TestCase):\n    def test_x(self): pass\n    def test_y(self): pass\n"
    assert run_runner(tmp_path, source, "test_x")[0]["tests"] == ["sample.A.test_x"]
