"""`warmfork doctor`: what it finds in modules that do known things, its exit codes, and its words."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import make_environment
from warmfork.cli import diagnosis

MODULES = {
    "quiet_one": "import decimal\n",
    "with_thread": "import threading\nstop = threading.Event()\n"
    "threading.Thread(target=stop.wait, daemon=True, name='reporter').start()\n",
    "with_socket": "import socket\ns = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n",
    "with_lock": "import threading\nheld = threading.Lock(); held.acquire(); free = threading.RLock()\n",
    "with_variable": "import os\nos.environ.get('MY_API_KEY'); os.getenv('PATH')\n",
    "with_counter": "import itertools\nids = itertools.count()\n",
    "hangs_in_forks": "import os, time\nos.register_at_fork(after_in_child=lambda: time.sleep(1000))\n",
    "hangs_at_import": "import time\ntime.sleep(1000)\n",
    "dies_at_import": "import os\nos._exit(7)\n",
    "prints": "print('{ not JSON')\n",
    "brings": "import decimal, with_thread\n",
    "lazy": "def task():\n    import fractions\n",
    "seeded": "import random\nclass R(random.Random): pass\n",
    "opens_gpu": "import os\nfrom warmfork._machine import fds\nfds.GPU_DEVICES = (os.getcwd() + '/dev',)\n"
    "opened = os.open('dev0', os.O_RDONLY)\n",
    "keeps_file": "kept = open('dev0')\n",
    "has_functions_called": "import os\nos.register_at_fork(before=print)\n",
    "ends_forks": "import os\nos.register_at_fork(after_in_child=lambda: os._exit(3))\n",
    "ignores_children": "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("modules")
    for name, text in MODULES.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "dev0").touch()  # stands for a GPU
    (folder / "app.py").write_text("import decimal, with_thread, json\nif __name__ == '__main__':\n    1 / 0\n")
    return folder


def run(folder: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "warmfork", "doctor", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=make_environment({"COLUMNS": None}),
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code < 2 or done.stdout else done.stderr


def examine(folder: Path, *words: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(folder, "--json", "--no-measure", *words, code=code))
    return found


def pick(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [one for one in found["findings"] if one["kind"] == kind]


def test_a_module_that_does_nothing_is_safe_and_each_module_has_its_own_cost_and_that_of_what_it_brings(folder):
    """N78: what doctor itself needs (rich, psutil) is not counted, and MiB are not charged to whoever came first alone."""
    found = examine(folder, "quiet_one")
    assert (found["verdict"], found["preload"], found["effect"]) == ("safe", ["quiet_one"], None)
    modules = {one["name"]: one for one in found["modules"]}
    assert (modules["quiet_one"]["by"], modules["decimal"]["by"]) == ("", "quiet_one")
    assert modules["quiet_one"]["ms"] >= modules["decimal"]["ms"] > modules["quiet_one"]["own_ms"]
    assert not any(name.partition(".")[0] in ("rich", "psutil", "warmfork") for name in modules)


def test_a_package_is_not_brought_by_what_is_in_it(folder):
    package = folder / "package"
    package.mkdir()
    (package / "__init__.py").write_text("import decimal\n")
    (package / "inner.py").write_text("")
    found = [(one["name"], one["by"]) for one in examine(folder, "package.inner")["modules"]]
    assert len({*found}) == len(found)
    assert {("package", ""), ("package.inner", ""), ("decimal", "package")} <= {*found}


def test_a_thread_that_stays_is_told_with_the_module_that_started_it_and_its_importer_is_not_suggested(folder):
    found = examine(folder, "brings", "quiet_one", code=1)
    (thread,) = pick(found, "thread")
    assert (thread["severity"], thread["module"], thread["in_child"]) == ("danger", "with_thread", False)
    assert '"reporter"' in thread["what"]
    assert found["preload"] == ["quiet_one"]


def test_threads_that_a_fork_stops_are_no_danger():
    """N78."""
    facts = {"threads": [("python (native)", "numpy._core", False), ("python (native)", "grpc", True)]}
    severities = {one["module"]: one["severity"] for one in diagnosis.judge(facts, "")}
    assert severities == {"numpy._core": "note", "grpc": "danger"}


def test_a_listening_socket_is_seen_in_the_child(folder):
    (one,) = pick(examine(folder, "with_socket", code=1), "socket")
    assert (one["severity"], one["module"], one["in_child"]) == ("danger", "with_socket", True)
    assert re.search(r"listening socket \(tcp port \d+\)", one["what"])


def test_a_held_lock_is_told_and_a_free_one_is_not(folder):
    """N79."""
    (one,) = pick(examine(folder, "with_lock", code=1), "lock")
    assert (one["module"], '"held"' in one["what"]) == ("with_lock", True)


@pytest.mark.parametrize(
    ("module", "kind", "severity", "told"),
    [
        ("opens_gpu", "gpu", "danger", "it has the GPU {folder}/dev0 open"),
        ("keeps_file", "fd", "note", "it keeps {folder}/dev0 open"),
        ("has_functions_called", "at-fork", "note", "it has functions called at each fork: before"),
        ("ends_forks", "canary", "danger", "a canary child died (3)"),
    ],
)
def test_what_a_module_has_open_and_what_it_does_at_forks_is_told(folder, module, kind, severity, told):
    (one,) = pick(examine(folder, module, code=0 if severity == "note" else 1), kind)
    assert (one["severity"], told.format(folder=folder) in one["what"]) == (severity, True), one


def test_variables_read_at_import_are_told_with_their_reader_and_do_not_make_a_module_unsafe(folder):
    """N59."""
    found = examine(folder, "with_variable")
    (one,) = [each for each in pick(found, "environment") if each["module"] == "with_variable"]
    assert "MY_API_KEY (not set), PATH" in one["what"]
    assert "MY_API_KEY" in pick(found, "secrets")[0]["what"]


def test_a_counter_that_starts_alike_in_all_children_is_noted(folder):
    """N55."""
    (one,) = pick(examine(folder, "with_counter"), "random")
    assert one["what"] == "with_counter.ids gives the same in two children: count(0)"


def test_generators_that_draw_the_same_in_two_children_are_a_finding():
    drawn = {"numpy.random": "0.5", "random": "0.1"}
    facts = {"canaries": [{"drawn": drawn}, {"drawn": {**drawn, "random": "0.2"}}]}
    (one,) = diagnosis.judge(facts, "")
    assert (one["severity"], one["kind"], one["what"].split()[0]) == ("warning", "random", "numpy.random")


def test_children_that_hang_are_found_by_the_deadline(folder):
    """N79: what C libraries have locked shows itself here alone."""
    (one,) = pick(examine(folder, "--timeout", "1", "hangs_in_forks", code=1), "canary")
    assert (one["severity"], "hung" in one["what"]) == ("danger", True)


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("no_such_module", "No module named 'no_such_module'"),
        ("hangs_at_import", "it took more than 4 s: hangs_at_import"),
        ("dies_at_import", "ended (7): dies_at_import"),
    ],
)
def test_what_can_not_be_told_has_code_2_and_says_why(folder, module, why):
    found = examine(folder, "--timeout", "1", module, code=2)
    assert found["verdict"] == "unknown" and why in found["findings"][0]["what"]


def test_what_modules_print_is_not_in_the_output(folder):
    assert examine(folder, "prints")["verdict"] == "safe"


def test_a_script_is_run_as_a_template_does_and_its_imports_are_suggested(folder):
    found = examine(folder, "app.py", code=1)
    assert found["verdict"] == "findings"
    assert "with_thread" not in found["preload"]
    assert {one["name"] for one in found["modules"] if not one["by"]} == {"decimal", "with_thread", "json"}


def test_a_callable_shows_what_is_imported_late(folder):
    (one,) = pick(examine(folder, "--call", "lazy:task", "lazy"), "call")
    assert "it imports late" in one["what"] and "fractions" in one["what"]


def test_a_preload_that_ignores_the_deaths_of_children_is_told(folder):
    assert pick(examine(folder, "ignores_children", code=1), "signal")


def test_the_effect_is_measured(folder):
    effect = json.loads(run(folder, "--json", "quiet_one"))["effect"]
    assert set(effect) == {"with", "without"}
    for one in effect.values():
        assert one["first_ms"] > 0 and one["later_ms"] > 0 and one["child_own_mib"] > 0


def test_people_get_tables_the_verdict_and_a_list_to_copy(folder):
    text = run(folder, "quiet_one")
    assert "Verdict: safe to preload." in text and 'Suggested: preload=["quiet_one"]' in text
    assert "with preload" in text and "quiet_one" in text and "\x1b" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "wants modules, or a file"),
        (["no-name"], '"no-name" is no name of a module'),
        (["none.py"], "there is no file none.py"),
        (["app.py", "json"], "app.py is a file, and more is named"),
        (["--timeout", "soon", "json"], '--timeout is a number of seconds, not "soon"'),
        (["--call", "task", "json"], '--call wants module:function, not "task"'),
        (["--jason", "json"], 'takes no "--jason"'),
    ],
)
def test_a_wrong_call_is_refused(folder, words, message):
    assert message in run(folder, *words, code=2)


def test_help_says_the_fields_of_the_json(folder):
    text = run(folder, "--help")
    fields = text[text.index("The fields of --json") : text.index("Exit codes")]
    assert re.findall(r"^  ([a-z]+)  ", fields, re.MULTILINE) == list(examine(folder, "quiet_one"))
    assert max(map(len, text.splitlines())) <= 80
