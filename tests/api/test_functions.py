"""Functions that no module has: typed at a prompt, in a notebook, in -c; lambdas and nested ones (rows 8 and 10)."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.programs import Terminal
from tests.support import make_environment, run_program

OWN = "import warmfork; context = warmfork.get_context()"
INSTALLED = "import multiprocessing, warmfork; warmfork.install(); context = multiprocessing.get_context('forkserver')"
DOORS = pytest.mark.parametrize("door", [OWN, INSTALLED], ids=["get_context", "install"])

TYPED = """
{door}
factor = 3
class Point:
    def __init__(self, x):
        self.x = x
def scale(point):
    return Point(point.x * factor)
def show(point):
    print("child has", scale(point).x, flush=True)
process = context.Process(target=show, args=(Point(7),))
process.start()
process.join()
print(process.exitcode, flush=True)
with context.Pool(2) as pool:
    print([point.x for point in pool.map(scale, [Point(1), Point(2)])], flush=True)
    print(pool.map(lambda number: number + factor, [1, 2]), flush=True)
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(1, mp_context=context) as executor:
    print(executor.submit(scale, Point(5)).result().x, flush=True)
with warmfork.Template() as template:
    print(template.start(scale, (Point(6),)).result(30).x, flush=True)
"""
SAYS = "child has 21\n0\n[3, 6]\n[4, 5]\n15\n18\n"


@DOORS
def test_a_program_given_with_c_starts_its_functions(tmp_path: Path, door: str):
    """No guard needed: there is no file that a child could run again."""
    done = subprocess.run(
        [sys.executable, "-c", TYPED.format(door=door)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=make_environment(),
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == (SAYS, "")


@DOORS
def test_a_program_on_stdin_starts_its_functions(tmp_path: Path, door: str):
    """COMPAT 6: in the stdlib the child exits with 1, and on 3.14 the server dies."""
    done = subprocess.run(
        [sys.executable],
        input=TYPED.format(door=door),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=make_environment(),
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == (SAYS, "")


@DOORS
def test_cells_of_a_notebook_start_their_functions(tmp_path: Path, door: str):
    """Row 10: code that was compiled from a string, in a __main__ whose file is the kernel's launcher."""
    code = f"""
        source = {TYPED.format(door=door)!r}
        if __name__ == "__main__":
            del __file__
            exec(compile(source, "<ipython-input-1-abcdef>", "exec"), globals())
    """
    done = run_program(code, tmp_path)
    assert (done.stdout, done.stderr) == (SAYS, "")


@DOORS
def test_what_is_typed_at_the_prompt_starts(tmp_path: Path, door: str):
    """Row 10: "Can't get attribute 'f' on <module '__main__' (built-in)>", and a Pool that respawns for ever."""
    lines = [
        *door.split("; "),
        "def double(number): return 2 * number",
        "",
        "def show(number): print('child', 'has', double(number))",
        "",
        "process = context.Process(target=show, args=(21,))",
        "process.start(); process.join(); print('code', process.exitcode)",
        "with context.Pool(1) as pool: print('pool', pool.map(double, [4, 5]))",
        "",
        "print('the', 'end')",
        "raise SystemExit(5)",
    ]
    with Terminal([sys.executable, "-q"], tmp_path, PYTHON_BASIC_REPL="1", TERM="dumb") as terminal:
        terminal.read_until(b">>> ")
        for line in lines:
            terminal.write(line.encode() + b"\n")
        terminal.read_until(b"the end")
        code, screen = terminal.finish()
    assert code == 5
    assert b"child has 42" in screen and b"code 0" in screen and b"pool [8, 10]" in screen, screen


def test_a_script_s_own_functions_go_by_name_and_are_those_of_the_template(tmp_path: Path):
    """Plain pickle where plain pickle does: cloudpickle is 20 times dearer."""
    code = f"""
        import os, sys
        {OWN}
        IMPORTED_BY = os.getpid()

        def show():
            print(IMPORTED_BY == os.getppid(), "cloudpickle" in sys.modules)

        if __name__ == "__main__":
            process = context.Process(target=show)
            process.start()
            process.join()
            print("cloudpickle" in sys.modules)
    """
    assert run_program(code, tmp_path).stdout == "True False\nFalse\n"


def test_lambdas_nested_functions_partials_and_bound_methods_start_in_a_script_too(tmp_path: Path):
    """Row 8."""
    code = f"""
        import functools
        {OWN}

        class Adder:
            def __init__(self, number):
                self.number = number

            def add(self, queue, number):
                queue.put(self.number + number)

        def make(number):
            def nested(queue, other):
                queue.put(number * other)
            return nested

        if __name__ == "__main__":
            queue = context.SimpleQueue()
            for target in (
                lambda queue, number: queue.put(number),
                make(10),
                Adder(100).add,
                functools.partial(make(1000), other=2),
                functools.partial(lambda queue, number: queue.put(-number), number=1),
            ):
                args = (queue,) if isinstance(target, functools.partial) else (queue, 1)
                process = context.Process(target=target, args=args)
                process.start()
                process.join()
                assert process.exitcode == 0, target
                print(queue.get())
    """
    assert run_program(code, tmp_path).stdout.split() == ["1", "10", "101", "2000", "-1"]


PATHS = [
    (lambda: ([1, {"deep": [0, targets.Stubborn()]}],), r"\[0\]\[1\]\['deep'\]\[1\]"),
    (lambda: (targets.Holder(targets.Holder(targets.Stubborn())),), r"\[0\]\.part\.part"),
    (lambda: (functools.partial(print, targets.Stubborn()),), r"\[0\]\.args\[0\]"),
    (lambda: (7, targets.Stubborn()), r"\[1\]"),
]


@pytest.mark.parametrize(("make", "path"), PATHS, ids=["containers", "attributes", "partial", "itself"])
@pytest.mark.parametrize("door", ["context", "template"])
def test_what_can_not_be_pickled_is_named_by_its_path(make, path: str, door: str):
    """Row 8, and "the error names the attribute path": the class says little where it is five levels down."""
    if door == "context":
        process = warmfork.get_context().Process(target=targets.give, args=make())
        with pytest.raises(TypeError, match=rf"a Stubborn stays where it is \(at \S+\._args{path}\)"):
            process.start()
        assert process.pid is None
        return
    with warmfork.Template() as template:
        with pytest.raises(TypeError, match=rf"a Stubborn stays where it is \(at tuple\[1\]{path}\)"):
            template.start(targets.give, make())
        assert template.start(targets.give, (1,)).result(20) == 1


def test_an_error_of_an_object_s_own_pickling_comes_through_as_it_is():
    class Refuses:
        def __reduce__(self):
            raise ZeroDivisionError("not today")

    process = warmfork.get_context().Process(target=targets.give, args=(Refuses(),))
    with pytest.raises(ZeroDivisionError, match="not today"):
        process.start()


def test_a_lock_of_threading_is_refused_with_pickle_s_words_and_the_path():
    with warmfork.Template() as template:
        with pytest.raises(TypeError, match=r"cannot pickle '_thread.lock' object \(at tuple\[2\]\['value'\]\)"):
            template.start(targets.give, kwargs={"value": threading.Lock()})
