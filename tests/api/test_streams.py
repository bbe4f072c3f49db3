"""stdin, stdout and stderr of what start() starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

import warmfork
from tests.running import list_spares
from tests.support import wait_until
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
