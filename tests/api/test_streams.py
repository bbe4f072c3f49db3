"""stdin, stdout and stderr of what start() starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmfork
from tests.running import list_spares
from tests.support import run_program, wait_until
from warmfork import DEVNULL, PIPE, STDOUT


@pytest.fixture(params=[0, 2], ids=["forked", "spare"])
def template(request) -> Iterator[warmfork.Template]:
    with warmfork.Template(preload=["tests.targets"], spares=request.param) as made:
        made.wait_ready(20)
        if request.param:
            made.start(int).result(20)
            wait_until(lambda: len(list_spares(made.pid)) == request.param)
        yield made


def echo() -> str:
    print("to stdout")
    print("to stderr", file=sys.stderr)
    return sys.stdin.read()


def ask() -> str:
    return input()


def test_pipes_are_files_of_the_child_as_with_popen(template):
    child = template.start(echo, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    with child.stdin as stdin, child.stdout as stdout, child.stderr as stderr:
        stdin.write(b"from stdin")
        stdin.close()
        assert stdout.read() == b"to stdout\n"
        assert stderr.read() == b"to stderr\n"
    assert child.result(20) == "from stdin"


def test_stderr_goes_where_stdout_goes(template):
    child = template.start(echo, stdout=PIPE, stderr=STDOUT)
    with child.stdout as stdout:
        assert sorted(stdout.read().splitlines()) == [b"to stderr", b"to stdout"]
    assert child.stderr is None
    assert child.result(20) == ""


def test_files_and_fds_and_devnull_are_taken(template, tmp_path):
    (tmp_path / "in").write_text("from a file")
    out = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    with open(tmp_path / "in") as file:
        assert template.start(echo, stdin=file, stdout=out, stderr=DEVNULL).result(20) == "from a file"
    os.close(out)
    assert (tmp_path / "out").read_bytes() == b"to stdout\n"


def test_a_child_without_stdin_is_told_how_to_have_one(template):
    with pytest.raises(EOFError) as caught:
        template.start(ask).result(20)
    assert "stdin=PIPE of start()" in "".join(getattr(caught.value, "__notes__", ()))
    with open(os.devnull) as nothing, pytest.raises(EOFError) as caught:
        template.start(ask, stdin=nothing).result(20)
    assert "stdin=PIPE" not in "".join(getattr(caught.value, "__notes__", ()))


def test_where_nothing_is_started_no_pipe_is_left(template):
    with pytest.raises(FileNotFoundError):
        template.start(echo, stdin=PIPE, stdout=PIPE, cwd="/no/such")
    with pytest.raises(TypeError):
        template.start(echo, stdin=PIPE, stdout="text")


HELD = """
import functools, sys
from sys import stdin
import warmfork

say = functools.partial(print, file=sys.stdout, end="")
buffer = sys.stdout.buffer

def read():
    return stdin.readline(), stdin is sys.stdin is sys.__stdin__, stdin.name, sys.stdin.buffer.seekable()

if __name__ == "__main__":
    from held import read

    with warmfork.Template(preload=["held"]) as template:
        with open("text", "w+") as file:
            file.write("of a file\\n")
            file.flush()
            file.seek(0)
            print(template.start(read, stdin=file).result(20))
        child = template.start(read, stdin=warmfork.PIPE)
        with child.stdin as ours:
            ours.write(b"of a pipe\\n")
        print(child.result(20))
        code = "import held, os; held.say('written'); os.kill(os.getpid(), 9)"
        print(template.run(code, capture_output=True).stdout)
        print(template.run("import held; held.buffer.write(b'flushed')", capture_output=True).stdout)
"""


@pytest.mark.parametrize("unbuffered", [None, "1"], ids=["buffered", "unbuffered"])
def test_what_has_taken_a_stream_in_the_preload_reads_and_writes_as_what_takes_it_later(
    tmp_path: Path, unbuffered: str | None
):
    """A captured stdout is written at once, by whatever name: a limit loses none of it."""
    done = run_program(HELD, tmp_path, name="held.py", env={"PYTHONUNBUFFERED": unbuffered})
    assert done.stdout.splitlines() == [
        "('of a file\\n', True, '<stdin>', True)",
        "('of a pipe\\n', True, '<stdin>', False)",
        "b'written'",
        "b'flushed'",
    ]


CLOSED = """
import os, sys
import warmfork
from warmfork import DEVNULL, PIPE, STDOUT

def work():
    print("to nobody", flush=True) if sys.stdout is not None else None
    print("to stderr", file=sys.stderr)
    os.write(1, b"to nobody")
    return sys.stdin.read(), sys.stdout is None

if __name__ == "__main__":
    data = open("data", "w")
    assert data.fileno() == 1
    with warmfork.Template() as template:
        for given in ({"stdin": DEVNULL}, {"stderr": STDOUT}):
            assert template.start(work, **given).result(20) == ("", True), given
        child = template.start(work, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
        with child.stdin as ours:
            ours.write(b"text")
        with child.stdout as ours:
            assert ours.read() == b"to nobody\\nto stderr\\nto nobody"
        assert child.result(20) == ("text", False)
        assert template.run("import sys; sys.stdout is None", input="text").result is True
        assert template.run("print('text')", capture_output=True).stdout == b"text\\n"
    data.write("of the program")
"""


def test_a_stdout_that_was_closed_when_the_program_began_is_no_stdout_of_a_child_with_other_streams(tmp_path: Path):
    (tmp_path / "closed.py").write_text(CLOSED)
    run_program(
        "import os, sys\nos.close(1)\nos.execv(sys.executable, [sys.executable, 'closed.py'])", tmp_path, stderr=None
    )
    assert (tmp_path / "data").read_text() == "of the program"


def test_no_pipe_of_ours_has_the_number_of_a_stream_that_the_program_has_closed(tmp_path: Path):
    code = """
        import os, sys
        import warmfork
        from warmfork import PIPE

        def work():
            print("text")
            return sys.stdin.read()

        if __name__ == "__main__":
            os.close(0)
            os.close(1)
            with warmfork.Template() as template:
                child = template.start(work, stdin=PIPE, stderr=PIPE)
                assert min(child.stdin.fileno(), child.stderr.fileno()) > 2
                with child.stdin as ours:
                    ours.write(b"in")
                with child.stderr as ours:
                    assert ours.read() == b""
                assert child.result(20) == "in"
                assert template.run("2", capture_output=True).stdout == b""
    """
    run_program(code, tmp_path)
