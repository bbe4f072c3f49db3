"""preload="auto": a program's second run has what its children needed in the first, and nothing that harms them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import make_environment, run_program

TASKS = """\
import os, sys, time
def task(*names):
    had = [name for name in names if name in sys.modules]
    for name in names:
        __import__(name)
    return had
def fail(name):
    try:
        __import__(name)
    except Exception as error:
        import traceback
        return traceback.format_exc()
"""

PROGRAM = """\
import logging, sys
import warmfork, tasks
logging.basicConfig(format="%(message)s", stream=sys.stdout)
if __name__ == "__main__":
    with warmfork.Template(preload=PRELOAD, spares=0) as template:
        children = [template.start(tasks.task, sys.argv[1:]) for _ in range(3)]
        print(*[sorted(child.result(30)) for child in children], sep="\\n")
"""

SLOW = "import time\nuntil = time.monotonic() + 0.004\nwhile time.monotonic() < until: pass\n"

MODULES = {
    "slow_one": SLOW,
    "slow_two": SLOW,
    "with_thread": SLOW
    + "import threading\nstop = threading.Event()\n"
    + "threading.Thread(target=stop.wait, daemon=True, name='reporter').start()\n",
    "with_socket": SLOW + "import socket\nkept = socket.socket()\n",
    "kills_templates": SLOW + "import os, sys\nif 'warmfork._tasks.call' not in sys.modules: os.kill(os.getpid(), 9)\n",
    "fails_in_templates": SLOW
    + "import sys\nif 'warmfork._tasks.call' not in sys.modules: raise ValueError('not here')\n",
    "raises": "1 / 0\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {**MODULES, "tasks": TASKS}.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def run(folder: Path, *modules: str, preload: str = '"auto"', **env: str) -> list[str]:
    """Run the program, whose three children import these. Gives what it prints: the log, and what each child had."""
    environment = {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": None, **env}
    done = run_program(PROGRAM.replace("PRELOAD", preload), folder, *modules, env=environment)
    return done.stdout.splitlines()


def preload_command(folder: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "warmfork", "preload", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env=make_environment({"XDG_CACHE_HOME": str(folder / "cache")}),
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_the_second_run_has_what_the_children_of_the_first_imported(folder):
    assert run(folder, "slow_one", "slow_two") == ["[]"] * 3
    assert run(folder, "slow_one", "slow_two") == ["['slow_one', 'slow_two']"] * 3


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("with_thread", "it leaves threads running: reporter"),
        ("fails_in_templates", "it can't be imported: ValueError: not here"),
    ],
)
def test_what_harms_children_is_left_out_and_the_log_says_why(folder, module, why):
    assert run(folder, module, "slow_one") == ["[]"] * 3
    assert run(folder, module, "slow_one") == [
        f'template gen=1: "{module}" is not preloaded, children import it themselves: {why}',
        *["['slow_one']"] * 3,
    ]
    assert run(folder, module, "slow_one")[-3:] == ["['slow_one']"] * 3
    assert f"left out: {why}" in preload_command(folder, "show", "program.py")


def test_what_opens_a_socket_is_never_imported_in_the_template(folder):
    run(folder, "with_socket")
    assert run(folder, "with_socket")[-3:] == ["[]"] * 3
    assert "left out: it opens a socket" in preload_command(folder, "show", "program.py")


def test_a_module_that_killed_a_template_is_tried_in_a_fork_and_left_out(folder):
    run(folder, "kills_templates")
    lines = run(folder, "kills_templates")
    assert lines[-3:] == ["[]"] * 3
    assert any('"kills_templates" is not preloaded' in line and "died" in line for line in lines)


def test_an_explicit_list_goes_before_what_was_learnt(folder):
    run(folder, "slow_one")
    (folder / "first.py").write_text("import sys\nseen = 'slow_one' in sys.modules\n")
    assert run(folder, "slow_one", "first", preload='["auto", "first"]') == ["['first', 'slow_one']"] * 3
    tail = "import first\nassert not first.seen\n"
    (folder / "slow_one.py").write_text(SLOW + tail)
    run(folder, "slow_one", preload='["auto", "first"]')
    assert run(folder, "slow_one", preload='["auto", "first"]')[-3:] == ["['slow_one']"] * 3


def test_a_module_whose_file_has_changed_is_learnt_anew(folder):
    for _ in range(2):
        run(folder, "slow_one")
    (folder / "slow_one.py").write_text(SLOW + "changed = True\n")
    assert run(folder, "slow_one") == ["[]"] * 3
    assert run(folder, "slow_one") == ["['slow_one']"] * 3


def test_children_are_not_asked_any_more_once_nothing_new_comes(folder):
    for _ in range(4):
        run(folder, "slow_one")
    (reports,) = (folder / "cache" / "warmfork").glob("*.reports")
    run(folder, "slow_one", "slow_two")
    assert reports.read_bytes() == b""


def test_the_variable_does_it_for_a_program_of_multiprocessing(folder):
    code = """\
        import multiprocessing, sys, tasks
        if __name__ == "__main__":
            with multiprocessing.Pool(2) as pool:
                print(pool.map(tasks.task, ["slow_one"] * 2, 1))
    """
    env = {"XDG_CACHE_HOME": str(folder / "cache"), "WARMFORK_RUN": "1", "WARMFORK_PRELOAD": "auto"}
    (folder / "tasks.py").write_text(TASKS.replace("def task(*names):", "def task(*names):\n    time.sleep(0.2)"))
    assert run_program(code, folder, env=env).stdout == "[[], []]\n"
    assert run_program(code, folder, env=env).stdout == "[['slow_one'], ['slow_one']]\n"


def test_the_next_generation_in_the_same_run_has_what_the_first_ones_children_needed(folder):
    code = """\
        import os, signal, warmfork, tasks
        if __name__ == "__main__":
            with warmfork.Template(preload="auto", spares=0) as template:
                print(template.start(tasks.task, ["slow_one"]).result(30))
                pidfd = os.pidfd_open(template.pid)
                os.kill(template.pid, signal.SIGKILL)
                import select
                select.select([pidfd], [], [], 10)
                print(template.start(tasks.task, ["slow_one"]).result(30), template.generation)
    """
    done = run_program(code, folder, env={"XDG_CACHE_HOME": str(folder / "cache")})
    assert done.stdout.splitlines() == ["[]", "['slow_one'] 2"]


def test_tracebacks_of_children_show_no_frame_of_the_watch(folder):
    code = """\
        import warmfork, tasks
        if __name__ == "__main__":
            with warmfork.Template(preload="auto") as template:
                for name in ("raises", "no_such_module"):
                    print(template.start(tasks.fail, [name]).result(30))
    """
    done = run_program(code, folder, env={"XDG_CACHE_HOME": str(folder / "cache")})
    assert "ZeroDivisionError" in done.stdout and "no_such_module" in done.stdout
    assert "frozen" not in done.stdout and "learning" not in done.stdout


def test_a_program_without_a_file_or_a_home_learns_nothing_and_runs(folder):
    assert run(folder, "slow_one", XDG_CACHE_HOME="/proc/none")[-3:] == ["[]"] * 3
    code = "import warmfork\nwith warmfork.Template(preload='auto') as t: print(t.start(max, (1, 2)).result(20))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=folder
    )
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


def test_what_was_learnt_is_shown_and_forgotten(folder):
    assert preload_command(folder, "show", "program.py", code=1) == "nothing is known of program.py\n"
    for _ in range(2):
        run(folder, "slow_one")
    shown = preload_command(folder, "show", "program.py")
    assert os.path.realpath(folder / "program.py") in shown and "slow_one" in shown and "preloaded" in shown
    assert preload_command(folder, "forget", "program.py") == "forgotten: program.py\n"
    assert [*(folder / "cache" / "warmfork").iterdir()] == []
    assert run(folder, "slow_one") == ["[]"] * 3


def test_a_wrong_call_of_preload_is_refused(folder):
    for words in ((), ("show",), ("eat", "x.py"), ("show", "--jason", "x.py")):
        preload_command(folder, *words, code=2)
