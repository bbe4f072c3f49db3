from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.programs import (
    DEADLINE,
    FORMS,
    OURS,
    Form,
    Terminal,
    list_pythons,
    make_environment,
    make_programs,
    name_python,
    run,
)

WAITS = "import signal, sys; print('ready', flush=True); signal.pause()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    make_programs(folder)
    return folder


@pytest.fixture(params=list_pythons(), ids=name_python)
def python(request: pytest.FixtureRequest) -> str:
    path: str = request.param
    return path


def by_module(python: str, *outer: str) -> list[str]:
    return [python, *outer, "-m", "warmfork", "run"]


def by_script(python: str, *outer: str) -> list[str]:
    return [python, *outer, str(Path(python).with_name("warmfork")), "run"]


def observe(command: list[str], form: Form, folder: Path, report: Path) -> dict[str, object]:
    """What a program says of itself, and what its caller sees of it."""
    report.unlink(missing_ok=True)
    words = [word.replace("{folder}", str(folder)) for word in form.words]
    process = subprocess.Popen(
        [*command, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=make_environment(REPORT=str(report), PYTHONSAFEPATH="", PYTHONHASHSEED="0", **form.environ),
    )
    stdout, stderr = process.communicate(form.stdin, timeout=DEADLINE)
    seen: dict[str, object] = {"code": process.returncode, "stdout": stdout, "stderr": stderr}
    if form.reports:
        assert report.exists(), f"the program did not come to its report:\n{stderr}"
        seen |= json.loads(report.read_text())
        assert seen["pid"] == process.pid
    return seen


@pytest.mark.parametrize("launcher", [by_module, by_script])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_program_cannot_tell_warmfork_run_from_python(python, form, launcher, folder, tmp_path):
    plain = observe([python, *form.outer], form, folder, tmp_path / "report")
    ours = observe(launcher(python, *form.outer), form, folder, tmp_path / "report")
    if form.reports:
        assert plain["ours"] == [], "the hook was active without the variable"
        assert ours["ours"] == [
            "warmfork", "warmfork.mp", "warmfork.mp.shared", "warmfork.mp.shared.watching", "warmfork.startup"
        ]  # fmt: skip
        assert ours["hooks"] == plain["hooks"] + 1
        assert ours["variables"] == ["1", None]
    ignored = {*OURS, "orig_argv"} if form.merged else set(OURS)
    assert {k: v for k, v in ours.items() if k not in ignored} == {k: v for k, v in plain.items() if k not in ignored}


@pytest.mark.parametrize(
    ("words", "before", "after"),
    [
        (["--preload", "numpy"], "", "numpy"),
        (["--preload=a.b:load", "--preload", "c,d"], "", "a.b:load,c,d"),
        (["-O", "--preload", "b", "-X", "dev", "--preload", "a"], "a,c", "a,c,b"),
        ([], "kept", "kept"),
    ],
)
def test_preload_lists_add_up_in_order_and_without_doubles(python, words, before, after):
    code = "import os; print(os.environ['WARMFORK_PRELOAD'])"
    done = run([*by_module(python), *words, "-c", code], WARMFORK_PRELOAD=before)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{after}\n", "")


def test_each_option_sets_its_variable(python):
    given = {
        "--name": "web", "--orphans": "keep", "--audit": "off", "--spares": "3", "--on-preload-error": "warn",
        "--start-timeout": "7.5", "--huge-pages": "on",
    }  # fmt: skip
    code = "import os, json; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('WARMFORK_')}))"
    done = run([*by_module(python), *(word for pair in given.items() for word in pair), "--keep-default", "-c", code])
    seen = json.loads(done.stdout)
    assert seen.pop("WARMFORK_RUN") == seen.pop("WARMFORK_KEEP_DEFAULT") == "1"
    assert seen == {f"WARMFORK_{name[2:].replace('-', '_').upper()}": value for name, value in given.items()}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prelaod", "numpy", "x.py"], 'there is no option "--prelaod"'),
        (["--preload"], "--preload wants a module"),
        (["--preload", "", "x.py"], "--preload wants a module"),
        (["--preload", "no-name", "x.py"], 'not "no-name"'),
        (["--preload", "a:b:c", "x.py"], 'not "a:b:c"'),
        (["--preload", "app.py"], 'wants a module, and "app.py" is a file'),
        (["--preload", "./app", "x.py"], 'wants a module, and "./app" is a file'),
        (["--preload", "-m", "app"], '"-m" is an option'),
        (["--orphans", "eat", "x.py"], '--orphans is one of kill, keep, not "eat"'),
        (["--spares=65", "x.py"], '--spares is auto or a number from 0 to 64, not "65"'),
        (["--start-timeout", "soon", "x.py"], '--start-timeout is a number of seconds, not "soon"'),
        (["--start-timeout", "nan", "x.py"], '--start-timeout is a number of seconds, not "nan"'),
        (["--name"], "--name needs a value"),
        (["--verbose=1", "x.py"], "--verbose takes no value"),
        (["-S", "x.py"], "python -S runs no start-up hooks"),
        (["-BSm", "x"], "python -S runs no start-up hooks"),
    ],
)
def test_a_wrong_call_is_refused_with_a_hint_and_code_2(python, words, message):
    done = run([*by_module(python), *words])
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "hint: " in done.stderr


def test_values_of_x_and_w_are_not_taken_for_letters(python):
    done = run([*by_module(python), "-X", "S", "-WS::UserWarning", "-c", "import sys; print(sys._xoptions)"])
    assert (done.returncode, done.stdout) == (0, "{'S': True}\n")


def test_a_package_that_is_only_on_pythonpath_is_refused(python, tmp_path):
    """Without its .pth in site-packages the program would silently run on the stdlib's forkserver."""
    bare = tmp_path / "bare"
    base = run([python, "-c", "import sys; print(sys._base_executable)"]).stdout.strip()
    assert run([base, "-m", "venv", "--without-pip", str(bare)]).returncode == 0
    source = run([python, "-c", "import warmfork.api as d; print(d.__path__[0])"]).stdout.strip()
    done = run([*by_module(str(bare / "bin/python")), "-c", "print('ran')"], PYTHONPATH=str(Path(source).parents[1]))
    assert (done.returncode, done.stdout) == (2, "")
    assert "warmfork_startup.pth" in done.stderr
    assert "PYTHONPATH alone is not enough" in done.stderr


def test_the_interpreter_that_is_missing_is_named(python, tmp_path):
    code = (
        f"import sys; sys.executable = {str(tmp_path / 'gone')!r}; from warmfork.cli import main;"
        "sys.exit(main(['run', 'x.py']))"
    )
    done = run([python, "-c", code])
    assert done.returncode == 2
    assert f"could not execute the interpreter '{tmp_path / 'gone'}': No such file" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_from_outside_ends_the_program_as_it_ends_python(python, number):
    ends = []
    for command in ([python], by_module(python)):
        with subprocess.Popen(
            [*command, "-c", WAITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=make_environment()
        ) as process:
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(number)
            _, stderr = process.communicate(timeout=DEADLINE)
            ends.append((process.returncode, stderr.splitlines()[-1:]))
    assert ends[0] == ends[1]
    assert ends[0][0] == -number


def test_control_c_on_a_terminal_ends_the_program_as_it_ends_python(python, tmp_path):
    screens = []
    for command in ([python], by_module(python)):
        with Terminal([*command, "-c", WAITS], cwd=tmp_path, TERM="dumb") as terminal:
            terminal.read_until(b"ready\r\n")
            terminal.write(b"\x03")
            code, screen = terminal.finish()
            assert screen.startswith(b"ready\r\n^C")
            screens.append((code, screen.splitlines()[-1]))
    assert screens == [(-signal.SIGINT, b"KeyboardInterrupt")] * 2


def test_the_program_holds_the_terminal_that_python_would_hold(python, tmp_path):
    code = "import os; print([os.ttyname(fd) == os.ttyname(0) for fd in (1, 2)], os.tcgetpgrp(0) == os.getpid())"
    with Terminal([*by_module(python), "-c", code], cwd=tmp_path, TERM="dumb") as terminal:
        assert terminal.finish() == (0, b"[True, True] True\r\n")


def test_without_a_program_a_terminal_gets_help_and_code_2_and_no_prompt(python, tmp_path):
    with Terminal(by_module(python), cwd=tmp_path, TERM="dumb") as terminal:
        code, screen = terminal.finish()
    assert code == 2
    assert screen.startswith(b"usage: warmfork run") and b">>>" not in screen


def test_a_program_that_preload_has_taken_is_told(python, tmp_path):
    with Terminal([*by_module(python), "--preload", "app"], cwd=tmp_path, TERM="dumb") as terminal:
        code, screen = terminal.finish()
    assert code == 2
    assert screen == (
        b"warmfork: no program is named: which FILE is to be run?\r\n"
        b"hint: --preload has taken app; where that is the program, leave out --preload\r\n"
    )


def test_minus_i_is_the_same_interactive_python(python, tmp_path):
    screens = []
    for command in ([python, "-i"], [*by_module(python), "-i"]):
        with Terminal(command, cwd=tmp_path, TERM="dumb", PYTHON_BASIC_REPL="1", HOME=str(tmp_path)) as terminal:
            terminal.read_until(b">>> ")
            terminal.write(b"exit()\n")
            screens.append(terminal.finish())
    assert screens[0] == screens[1]
    assert screens[0][0] == 0


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["-O", "--help", "x.py"], ["-Oh"]])
def test_run_explains_itself_with_examples(python, words):
    done = run([*by_module(python), *words])
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: warmfork run" in done.stdout
    assert "warmfork run app.py --verbose" in done.stdout


def test_help_after_the_program_is_the_programs(python):
    done = run([*by_module(python), "-c", "import sys; print(sys.argv)", "--help", "-h"])
    assert done.stdout == "['-c', '--help', '-h']\n"


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_command_lists_its_commands(python, words):
    done = run([python, "-m", "warmfork", *words])
    assert (done.returncode, done.stderr) == (0, "")
    assert {"run", "ps", "top", "doctor", "preload", "completion"} == {
        line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")
    } - {"warmfork"}


def test_an_unknown_command_is_refused_with_the_known_ones(python):
    done = run([python, "-m", "warmfork", "rum"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        'warmfork: there is no command "rum"\n'
        "hint: the commands are run, ps, top, doctor, preload, completion; see warmfork --help\n"
    )


def test_the_version_is_that_of_the_installed_package(python):
    wanted = run([python, "-c", "import importlib.metadata as m; print('warmfork', m.version('warmfork'))"]).stdout
    assert run([python, "-m", "warmfork", "--version"]).stdout == wanted


def test_run_imports_nothing_that_costs_before_it_becomes_the_program(python):
    """The program waits for these imports; site and the codecs are there in any interpreter."""
    code = (
        "import __future__, os, sys; before = set(sys.modules)\n"
        "def execve(*_): print(*sorted(set(sys.modules) - before)); sys.exit()\n"
        "os.execve = execve\n"
        "from warmfork.cli import main; main(['run', '--preload', 'a', 'x.py'])"
    )
    done = run([python, "-c", code])
    assert done.stdout.split() == ["warmfork", "warmfork.cli", "warmfork.cli.command", "warmfork.cli.run"]


FORKSERVER = """\
import multiprocessing, subprocess, sys
def work(): print("child", flush=True)
if __name__ == "__main__":
    process = multiprocessing.get_context("forkserver").Process(target=work)
    process.start()
    process.join()
    print(process.exitcode, type(process._popen).__module__.partition(".")[0], flush=True)
    if len(sys.argv) == 1:
        subprocess.run([sys.executable, *sys.argv, "again"], check=True)
"""


def test_a_forkserver_process_of_the_program_and_of_its_subprocess_is_warmforks(python, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(FORKSERVER)
    done = run([*by_module(python), str(program)])
    assert (done.returncode, done.stdout, done.stderr) == (0, "child\n0 warmfork\n" * 2, "")


def test_the_report_is_told_where_nothing_can_be_imported_any_more(python, tmp_path):
    """The program's folder is gone, or its root another, by the time at which it ends."""
    code = "import sys; sys.path.clear(); sys.meta_path.clear(); sys.path_importer_cache.clear()"
    done = run([*by_module(python), "-v", "-c", code], cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "warmfork: no processes\n")
