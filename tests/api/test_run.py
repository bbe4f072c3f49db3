"""Template.run(): what comes back, and what code that means no good can't do."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys

import pytest

import warmfork
from tests import targets
from tests.support import wait_until
from warmfork._machine import pids


def as_python_does(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


# -- results


def test_the_result_is_the_last_expression_or_the_variable_of_that_name(template):
    assert template.run("x = 20\nx + 1").result == 21
    assert template.run("result = {'a': [1, (2.5, None), b'x', {3}]}").result == {"a": [1, (2.5, None), b"x", {3}]}
    assert template.run("result = 5\nNone").result == 5
    assert template.run("pass").result is None


def test_a_function_gives_what_it_returns(template):
    assert template.run(targets.give, ({"a": 1},)).result == {"a": 1}
    assert template.run(targets.give, kwargs={"value": 7}).result == 7


def test_the_facts_are_the_kernels(template):
    done = template.run("result = bytearray(30_000_000)[0]")
    assert done.outcome == warmfork.Exited(0)
    assert 0 < done.duration < 60
    assert done.peak_memory > 30_000_000
    assert done.cpu >= 0


def test_the_snippets_result_runs_no_code_in_the_program(template):
    """N57: a result with __reduce__ gave the program's own pid. Now only data comes back."""
    code = "import os\nclass P:\n    def __reduce__(self): return os.getpid, ()\nresult = P()"
    with pytest.raises(warmfork.ResultError, match=r"result is no data, but a __main__.P"):
        _ = template.run(code).result


def test_a_pickle_in_place_of_data_is_not_unpickled(template):
    """N57: whoever writes to the stream by himself can't have a pickle read, whatever he calls it."""
    code = f"""
import os, socket
from warmfork._tasks.frames import Reply
for number in map(int, os.listdir("/proc/self/fd")):
    try:
        s = socket.socket(fileno=os.dup(number))
        if s.type == socket.SOCK_STREAM:
            s.sendall(Reply(0, b"P", {pickle.dumps(os.getpid)!r}, None).encode())
    except OSError:
        pass
os._exit(0)
"""
    done = template.run(code)
    assert done.outcome == warmfork.Exited(0)
    with pytest.raises(warmfork.ResultError):
        _ = done.result


def test_objects_come_back_where_the_code_is_trusted(template):
    """N62: a class of the snippet's `__main__` comes by value, so it does not meet the program's of the same name."""
    done = template.run("class Point:\n    x = 3\nresult = Point()", trust=True)
    assert done.result.x == 3
    assert template.run(targets.give, (range(3),), trust=True).result == range(3)
    with pytest.raises(warmfork.ResultError, match="can't be pickled"):
        _ = template.run("import threading\nthreading.Lock()", trust=True).result


def test_what_a_child_writes_to_its_feed_is_no_verdict(template):
    """N58: a child wrote "it returned 42" to its own feed, left by os._exit(3), and the program believed it."""
    code = """
import os, socket
from warmfork._words import messages, wire
for number in map(int, os.listdir("/proc/self/fd")):
    try:
        s = socket.socket(fileno=os.dup(number))
        s.send(wire.encode(messages.Returned(0, 0, b"")))
        s.send(b"nonsense")
    except OSError:
        pass
os._exit(3)
"""
    done = template.run(code)
    assert done.outcome == warmfork.Exited(3)
    with pytest.raises(warmfork.ResultError):
        _ = done.result
    with pytest.raises(warmfork.RunError, match="Exited"):
        template.run(code, check=True)


def test_a_result_of_2_gb_is_refused_in_the_child(template):
    done = template.run("result = bytes(2 << 30)")  # of which no page is touched
    with pytest.raises(warmfork.ResultError, match="too many"):
        _ = done.result


def test_who_sends_a_result_without_end_is_heard_no_longer(template):
    """N57: the program's memory is not for whoever writes to the stream by himself."""
    code = """
import os, socket
for number in map(int, os.listdir("/proc/self/fd")):
    try:
        s = socket.socket(fileno=os.dup(number))
        if s.type == socket.SOCK_STREAM:
            s.sendall(b"R" + (2 << 30).to_bytes(8, "little"))
            for _ in range(100): s.sendall(bytes(1 << 20))
    except BrokenPipeError:
        print("refused")
    except OSError:
        pass
"""
    done = template.run(code, capture_output=True)
    assert done.stdout == b"refused\n"
    with pytest.raises(warmfork.ResultError):
        _ = done.result


def test_a_result_nested_10_000_deep_is_refused_by_name(template):
    done = template.run("result = []\nfor _ in range(10_000): result = [result]")
    with pytest.raises(warmfork.ResultError, match="nested too deep"):
        _ = done.result


# -- as python -c would


def test_no_future_import_of_ours_reaches_the_code(template):
    """N60: compile() inherits the __future__ imports of the file that calls it, and annotations became strings."""
    assert template.run("class A:\n    x: int\nA.__annotations__['x'] is int").result is True
    assert template.run("from __future__ import annotations\nclass A:\n    x: int\nA.__annotations__").result == {
        "x": "int"
    }


def test_a_traceback_has_the_codes_lines_and_none_of_our_frames(template):
    """N61: without an entry in linecache there are no lines, and our frames stood on top."""
    done = template.run("def f():\n    return 1 / 0\n\nf()", capture_output=True, text=True)
    assert done.error.type == "ZeroDivisionError"
    assert done.error.message == "division by zero"
    assert done.error.traceback == done.stderr
    assert "return 1 / 0" in done.stderr
    assert done.stderr.count("File ") == 2
    assert "warmfork" not in done.stderr
    assert done.outcome == warmfork.Exited(1)


def test_the_codes_own_tracebacks_have_lines_too(template):
    """N61, where the code prints it, and in a template that had linecache not loaded."""
    code = "import traceback\ntry:\n    1 / 0\nexcept Exception:\n    result = traceback.format_exc()"
    assert "1 / 0" in template.run(code).result
    with warmfork.Template(spares=0) as bare:
        assert "1 / 0" in bare.run(code).result


def test_the_module_is_what_python_c_has(template):
    """N62: a fresh `__main__`, the one in sys.modules, without __file__; argv is ["-c"]."""
    code = "import sys, builtins\nprint(sorted(globals()), __name__, __spec__, __builtins__ is builtins, sys.argv)\n"
    code += "assert sys.modules['__main__'].__dict__ is globals()"
    done = template.run(code, capture_output=True, text=True)
    assert done.ok()
    assert done.stdout == as_python_does(code).stdout


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit('text')",
        "raise SystemExit",
        "raise SystemExit(7)",
        "import os; os._exit(5)",
        "def f(:",
        "x = 1\x00",
        "raise KeyboardInterrupt",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    ],
)
def test_an_end_is_the_one_that_python_c_has(template, code):
    done = template.run(code, capture_output=True, text=True)
    outcome = done.outcome
    code_ = outcome.code if isinstance(outcome, warmfork.Exited) else -outcome.signal
    if "\x00" in code:  # no command line can have it
        assert code_ == 1
        assert "null bytes" in done.stderr
    else:
        there = as_python_does(code)
        assert code_ == there.returncode
        assert done.stderr.splitlines()[-1:] == there.stderr.splitlines()[-1:]
    assert not done.ok() or done.result is None


def test_an_encoding_cookie_is_heeded_in_bytes_and_not_in_text(template):
    code = "# -*- coding: latin-1 -*-\n'é'"
    assert template.run(code.encode("latin-1")).result == "é"
    assert template.run(code).result == "é"
    assert template.run("# coding: nonsense\n'é'".encode()).error.type == "SyntaxError"


def test_10_000_levels_of_nesting_in_the_code_end_that_child_and_no_other(template):
    done = template.run("(" * 10_000 + ")" * 10_000, capture_output=True)
    assert not done.ok()
    done = template.run("-" * 100_000 + "1", capture_output=True)
    assert not done.ok() or done.result == 1
    assert template.run("1").result == 1


def test_code_of_100_mb_runs(template):
    assert template.run("x = 3\n#" + "x" * 100_000_000 + "\nx").result == 3


# -- streams


def test_output_is_captured_as_subprocess_does(template):
    done = template.run("import sys; print('out'); print('err', file=sys.stderr)", capture_output=True)
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    done = template.run("import sys; print('out'); print('err', file=sys.stderr)", stdout=warmfork.PIPE,
                        stderr=warmfork.STDOUT, text=True)  # fmt: skip
    assert (done.stdout, done.stderr) == ("out\nerr\n", None)
    assert template.run("print(1)", stdout=warmfork.DEVNULL).stdout is None
    assert (warmfork.PIPE, warmfork.STDOUT, warmfork.DEVNULL) == (
        subprocess.PIPE,
        subprocess.STDOUT,
        subprocess.DEVNULL,
    )


def test_output_goes_into_a_file_that_is_given(template, tmp_path):
    with open(tmp_path / "out", "wb") as file:
        template.run("print('to a file')", stdout=file)
    assert (tmp_path / "out").read_bytes() == b"to a file\n"


def test_input_arrives_and_output_comes_meanwhile(template):
    """N63: whoever writes all of the input before reading hangs as soon as both pipes are full."""
    data = b"0123456789abcdef" * 100_000
    done = template.run(
        "import sys\nfor part in iter(lambda: sys.stdin.buffer.read(1 << 16), b''): sys.stdout.buffer.write(part)",
        input=data,
        capture_output=True,
        output_limit=len(data),
    )
    assert done.stdout == data
    assert template.run("input() + input()", input="a\nb\n").result == "ab"


def test_input_that_nobody_reads_is_no_error(template):
    assert template.run("1", input=bytes(1 << 20)).result == 1


def test_binary_output_is_not_touched(template):
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)))"
    assert template.run(code, capture_output=True).stdout == bytes(range(256))
    assert "\ufffd" in template.run(code, capture_output=True, text=True).stdout


def test_what_comes_above_the_default_is_dropped_and_counted(template):
    """N63: the program's memory is not the child's to fill."""
    done = template.run("print('x' * 3_000_000)", capture_output=True)
    assert len(done.stdout) == 1 << 20
    assert done.dropped == 3_000_001 - (1 << 20)
    assert done.ok()


def test_output_is_told_as_it_comes(template):
    seen = []
    done = template.run(
        "import sys; print('a'); print('b', file=sys.stderr)", on_output=lambda *said: seen.append(said)
    )
    assert (
        sorted(seen) == [("stderr", b"b\n"), ("stdout", b"a\n")]
        or b"".join(data for name, data in seen if name == "stdout") == b"a\n"
    )
    assert done.stdout == b"a\n"


def test_what_on_output_raises_ends_the_child_and_comes_through(template):
    def refuse(name, data):
        raise LookupError(name)

    with pytest.raises(LookupError, match="stdout"):
        template.run("print(1)\nwhile True: pass", on_output=refuse)


def test_a_grandchild_that_holds_stdout_does_not_make_it_hang_and_is_ended(template):
    """N63: subprocess's classic: run() waited for the end of a pipe that a daemon had. N38: the daemon is ended too."""
    code = """
import os, signal
told, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(tell, b"%d" % os.getpid())
        signal.pause()
    os._exit(0)
int(os.read(told, 20))
"""
    done = template.run(code, capture_output=True)
    assert done.outcome == warmfork.Exited(0)
    wait_until(lambda: pids.read_stat(done.result)[:1] in ([], [b"Z"]), what="the end of the daemon")


def test_a_daemon_that_writes_for_ever_does_not_make_it_hang(template):
    """N63: what is in the pipe at the child's end is read, and no more."""
    code = "import os\nif os.fork() == 0:\n    while True: os.write(1, b'x' * 65_536)\nos._exit(0)"
    assert template.run(code, capture_output=True).outcome == warmfork.Exited(0)


def test_a_daemon_of_a_child_that_left_without_a_word_is_ended(template):
    """N38: os._exit() runs nothing of ours in the child, so what it left in its session is found from outside."""
    code = "import os, signal\npid = os.fork()\nif pid == 0: signal.pause()\nprint(pid, flush=True)\nos._exit(0)"
    pid = int(template.run(code, capture_output=True).stdout)
    wait_until(lambda: pids.read_stat(pid)[:1] in ([], [b"Z"]), what="the end of the daemon")


def test_a_child_without_stdin_is_told_how_to_have_one(template):
    done = template.run("input()", capture_output=True, text=True)
    assert done.error.type == "EOFError"
    assert 'hint: this process has no stdin; give it one: input="..."' in done.stderr
    assert "hint" in template.run("breakpoint()", capture_output=True, text=True).stderr
    assert "hint" not in template.run("input()", input="", capture_output=True, text=True).stderr


# -- options


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": "1"}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"colour": 1}, TypeError),
        ({"stdin": warmfork.PIPE}, ValueError),
        ({"stdout": "file"}, TypeError),
        ({"stdout": -7}, ValueError),
        ({"stdout": 999_999}, OSError),
        ({"stdout": io.StringIO()}, OSError),
        ({"input": b"", "stdin": warmfork.DEVNULL}, ValueError),
        ({"capture_output": True, "stdout": warmfork.PIPE}, ValueError),
        ({"env": "maximal"}, ValueError),
        ({"cwd": "/no/such"}, FileNotFoundError),
        ({"rlimits": {"speed": 1}}, ValueError),
        ({"args": (1,)}, TypeError),
    ],
)
def test_bad_options_are_refused_before_anything_is_started(template, options, error):
    with pytest.raises(error):
        template.run("1", **options)
