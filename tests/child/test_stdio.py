"""A child's stdout and stderr: the objects that the program's modules hold, over the files that its client has now."""

from __future__ import annotations

import os
import pty
import select
from pathlib import Path

import pytest

from tests.running import ROOT
from tests.support import run_program

UNBUFFERED = pytest.mark.parametrize("unbuffered", [None, "1"], ids=["buffered", "unbuffered"])
KINDS = pytest.mark.parametrize("kind", ["file", "pipe", "terminal"])


def run_into(kind: str, code: str, folder: Path, unbuffered: str | None, *arguments: str) -> str:
    """Run a program whose stdout is a file, a pipe or a terminal, and give what arrived there."""
    env = {"PYTHONUNBUFFERED": unbuffered, "PYTHONPATH": ROOT}
    if kind == "pipe":
        return run_program(code, folder, *arguments, env=env).stdout
    if kind == "file":
        path = folder / "out"
        with open(path, "w") as file:
            run_program(code, folder, *arguments, env=env, stdout=file)
        return path.read_text()
    ours, theirs = pty.openpty()
    try:
        run_program(code, folder, *arguments, env=env, stdout=theirs)
        os.close(theirs)
        theirs = -1
        found = b""
        while select.select([ours], [], [], 0)[0]:
            try:
                found += os.read(ours, 4096)
            except OSError:  # EIO: nobody has it open any longer
                break
        return found.decode().replace("\r\n", "\n")
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


HOLDERS = """
import functools, logging, sys
from sys import stdout
import warmfork

handler = logging.StreamHandler(sys.stdout)
log = logging.getLogger("of the program")
log.addHandler(handler)
say = functools.partial(print, file=sys.stdout)

def write(text, out=sys.stdout):
    out.write(text)

def work():
    print("by print")
    log.warning("by a handler")
    stdout.write("by an imported name\\n")
    write("by a default argument\\n")
    say("by a partial")
    print("by print again")
    print("in sys", file=sys.__stdout__)

if __name__ == "__main__":
    for spares in (0, 2):
        context = warmfork.get_context(spares=spares)
        for _ in range(2):
            process = context.Process(target=work)
            process.start()
            process.join()
"""

HELD = """\
by print
by a handler
by an imported name
by a default argument
by a partial
by print again
in sys
"""


@KINDS
@UNBUFFERED
def test_what_took_stdout_earlier_writes_to_it_and_in_order(tmp_path: Path, kind: str, unbuffered: str | None):
    assert run_into(kind, HOLDERS, tmp_path, unbuffered) == HELD * 4


KILLED = """
import os, signal, sys
import warmfork

if sys.argv[1] != "as it is":
    sys.stdout.reconfigure(line_buffering=True, encoding="latin-1", newline="\\r")

def work():
    print("a liné")
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    process = warmfork.get_context().Process(target=work)
    process.start()
    process.join()
"""


@KINDS
@UNBUFFERED
@pytest.mark.parametrize("how", ["as it is", "reconfigured"])
def test_a_line_of_a_child_that_is_killed_is_there_as_it_is_of_any_process(
    tmp_path: Path, kind: str, unbuffered: str | None, how: str
):
    """With what the script has set; and with what the interpreter chooses for such a file."""
    if how == "as it is":
        expected = "" if unbuffered is None and kind != "terminal" else "a liné\n"
        assert run_into(kind, KILLED, tmp_path, unbuffered, how) == expected
        return
    code = KILLED.replace("a liné", "a line").replace('newline="\\r"', 'newline="\\r\\n"')
    with open(tmp_path / "raw", "wb") as file:
        run_program(code, tmp_path, how, env={"PYTHONUNBUFFERED": unbuffered}, stdout=file)
    assert (tmp_path / "raw").read_bytes() == b"a line\r\n"


REPLACED = """
import codecs, io, sys
import warmfork

how = sys.argv[1]
if how == "log":
    sys.stdout = open("log", "a", buffering=1)
elif how == "wrapper":
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-16-le", line_buffering=True)
elif how == "writer":
    sys.stdout = codecs.getwriter("utf-16-le")(sys.stdout.buffer)
else:
    sys.stdout = io.StringIO()

def work():
    print("é")
    if how == "text":
        sys.__stdout__.write(repr(sys.stdout.getvalue()))

if __name__ == "__main__":
    process = warmfork.get_context().Process(target=work)
    process.start()
    process.join()
"""


@UNBUFFERED
@pytest.mark.parametrize("how", ["log", "wrapper", "writer", "text"])
def test_a_stream_that_the_script_has_put_in_its_place_stays(tmp_path: Path, unbuffered: str | None, how: str):
    with open(tmp_path / "out", "wb") as file:
        run_program(REPLACED, tmp_path, how, env={"PYTHONUNBUFFERED": unbuffered, "PYTHONUTF8": "1"}, stdout=file)
    out = (tmp_path / "out").read_bytes()
    if how == "log":
        assert ((tmp_path / "log").read_text(), out) == ("é\n", b"")
    else:
        assert out == ("'é\\n'".encode() if how == "text" else "é\n".encode("utf-16-le"))


@UNBUFFERED
def test_what_a_preload_printed_is_there_once(tmp_path: Path, unbuffered: str | None):
    """Also through a stream that is in nobody's place in sys any longer."""
    code = """
        import io, sys
        import warmfork

        if __name__ != "__main__":
            print("of the preload")
            sys.stdout = io.StringIO()

        if __name__ == "__main__":
            for _ in range(3):
                process = warmfork.get_context().Process(target=int)
                process.start()
                process.join()
    """
    with open(tmp_path / "out", "w") as file:
        run_program(code, tmp_path, env={"PYTHONUNBUFFERED": unbuffered}, stdout=file)
    assert (tmp_path / "out").read_text() == "of the preload\n"


@UNBUFFERED
def test_whether_stdout_can_seek_and_flushes_lines_is_asked_of_the_file_that_it_has_now(
    tmp_path: Path, unbuffered: str | None
):
    code = """
        import os, pty, sys
        import warmfork

        def look():
            print("text")
            seeks = sys.stdout.buffer.seekable(), sys.stdout.seekable()
            return seeks, sys.stdout.line_buffering, sys.stdout.name, sys.stdout.buffer is sys.__stdout__.buffer

        if __name__ == "__main__":
            saved = os.dup(1)
            found = []
            with warmfork.Template() as template:
                template.start(look).result()
                ours, theirs = pty.openpty()
                for fd in (os.open("file", os.O_WRONLY | os.O_CREAT), theirs, saved):
                    os.dup2(fd, 1)
                    found.append(template.start(look).result())
                assert os.read(ours, 100) == b"text\\r\\n"
            os.dup2(saved, 1)
            print(found)
    """
    out = run_program(code, tmp_path, env={"PYTHONUNBUFFERED": unbuffered}).stdout
    by_line = unbuffered is None
    file, terminal, pipe = eval(out.replace("text\n", ""))
    assert terminal == ((False, False), by_line, "<stdout>", True)
    assert pipe == ((False, False), False, "<stdout>", True)
    assert file == ((by_line, by_line), False, "<stdout>", True), (
        "what has no buffer keeps the file that it was made for"
    )
    assert (tmp_path / "file").read_text() == "text\n"


CLOSED = """
import os, sys
import warmfork

def work():
    print("to nobody")
    print("to nobody", file=sys.stderr)
    os.write({number}, b"to nobody")
    with open("seen", "a") as file:
        print(sys.{name}, sys.__{name}__, os.readlink("/proc/self/fd/{number}"), file=file)

if __name__ == "__main__":
    data = open("data", "w")
    assert data.fileno() == {number}, data.fileno()
    process = warmfork.get_context().Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == 0
    with warmfork.Template() as template:
        template.start(work).result(20)
    data.write("of the program")
"""


@UNBUFFERED
@pytest.mark.parametrize("number", [1, 2])
def test_a_stream_that_was_closed_when_the_program_began_is_none_in_children(
    tmp_path: Path, number: int, unbuffered: str | None
):
    """The program's first file has its number, and nobody else writes into that."""
    code = CLOSED.format(number=number, name={1: "stdout", 2: "stderr"}[number])
    (tmp_path / "closed.py").write_text(code)
    starter = f"""
        import os, sys
        os.close({number})
        os.execv(sys.executable, [sys.executable, "closed.py"])
    """
    run_program(starter, tmp_path, env={"PYTHONUNBUFFERED": unbuffered})
    assert (tmp_path / "data").read_text() == "of the program"
    assert (tmp_path / "seen").read_text() == "None None /dev/null\n" * 2
