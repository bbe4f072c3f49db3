"""`__main__`: run once in the template for all children, or by each child where that can't be; and never without a guard
(rows 12 to 16 and 27)."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.running import ROOT
from tests.support import make_environment, run_program

ENV = {"PYTHONPATH": ROOT}

INSTALLED = "import multiprocessing, warmfork; warmfork.install(); context = multiprocessing.get_context('forkserver')"
OWN = "import multiprocessing, warmfork; context = warmfork.get_context()"
DOORS = pytest.mark.parametrize("door", [OWN, INSTALLED], ids=["get_context", "install"])


@DOORS
def test_main_is_run_once_in_the_template_and_not_in_each_child(tmp_path: Path, door: str):
    """Row 12."""
    code = f"""
        import os
        {door}
        with open("runs", "a") as file:
            file.write(f"{{os.getpid()}} {{__name__}}\\n")

        def work():
            print("works in", __name__, os.getppid())

        if __name__ == "__main__":
            for _ in range(3):
                process = context.Process(target=work)
                process.start()
                process.join()
                assert process.exitcode == 0
            print("program", os.getpid())
    """
    done = run_program(code, tmp_path)
    runs = [line.split() for line in (tmp_path / "runs").read_text().splitlines()]
    assert [name for _, name in runs] == ["__main__", "__mp_main__"]
    template = runs[1][0]
    assert done.stdout.splitlines() == [f"works in __mp_main__ {template}"] * 3 + [f"program {runs[0][0]}"]
    assert done.stderr == ""


@DOORS
def test_a_class_attribute_that_the_guard_changes_is_unchanged_in_the_child(tmp_path: Path, door: str):
    """The child of a clean process has what the module defines, not what the program made of it since."""
    code = f"""
        {door}

        class Value:
            number = 777

        def show():
            print(Value.number)

        if __name__ == "__main__":
            Value.number = 999
            process = context.Process(target=show)
            process.start()
            process.join()
    """
    assert run_program(code, tmp_path).stdout == "777\n"


def test_main_sees_the_arguments_of_the_program_when_the_template_runs_it(tmp_path: Path):
    """Rows 14 and 15: no argv, or one that was too long for a command line."""
    code = f"""
        import sys
        {OWN}
        SEEN = list(sys.argv)

        def show():
            print(__name__, len(SEEN), sum(map(len, SEEN[1:])), SEEN == sys.argv)

        if __name__ == "__main__":
            process = context.Process(target=show)
            process.start()
            process.join()
    """
    arguments = ["x" * 120_000] * 8
    assert run_program(code, tmp_path, *arguments).stdout == "__mp_main__ 9 960000 True\n"


def test_main_can_tell_that_it_is_run_in_a_helper_and_not_in_the_main_program(tmp_path: Path):
    """Row 13: an application that saw "MainProcess" started a second server."""
    code = f"""
        {OWN}
        NAME = multiprocessing.current_process().name
        PARENT = multiprocessing.parent_process()

        def show():
            print(NAME != "MainProcess", PARENT is not None)

        if __name__ == "__main__":
            process = context.Process(target=show)
            process.start()
            process.join()
    """
    assert run_program(code, tmp_path).stdout == "True True\n"


def test_a_main_that_raises_in_the_template_is_run_by_each_child_and_the_reason_is_logged(tmp_path: Path):
    code = f"""
        {OWN}
        if multiprocessing.current_process().name == "ForkServerProcess":
            raise LookupError("not in a template")

        def show():
            print("child of", __name__)

        if __name__ == "__main__":
            for _ in range(2):
                process = context.Process(target=show)
                process.start()
                process.join()
                assert process.exitcode == 0
    """
    done = run_program(code, tmp_path)
    assert done.stdout == "child of __mp_main__\n" * 2
    assert done.stderr.count("LookupError: not in a template") == 1
    assert "each child imports it itself" in done.stderr


def test_a_main_that_leaves_a_thread_is_run_by_each_child_and_the_thread_is_named(tmp_path: Path):
    code = f"""
        import threading
        {OWN}
        if __name__ == "__mp_main__":
            threading.Thread(target=threading.Event().wait, daemon=True, name="the-pump").start()

        def show():
            print(threading.active_count())

        if __name__ == "__main__":
            for _ in range(2):
                process = context.Process(target=show)
                process.start()
                process.join()
                assert process.exitcode == 0
    """
    done = run_program(code, tmp_path)
    assert done.stdout == "2\n2\n", "each child has the thread that its own import started"
    assert done.stderr.count("the-pump") == 1 and "each child imports it itself" in done.stderr


def test_what_main_prints_outside_its_guard_is_printed_by_program_and_template_once_each(tmp_path: Path):
    """Row 25."""
    code = f"""
        {OWN}
        print("hello from", __name__)

        if __name__ == "__main__":
            for _ in range(3):
                process = context.Process(target=int)
                process.start()
                process.join()
    """
    assert run_program(code, tmp_path).stdout == "hello from __main__\nhello from __mp_main__\n"


@pytest.mark.parametrize(("name", "flag"), [("module_of_mine", "module_of_mine"), ("__main__", "package_of_mine")])
def test_a_program_that_is_run_with_m_has_children(tmp_path: Path, name: str, flag: str):
    folder = tmp_path if name == flag else tmp_path / flag
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(
        f"{OWN}\n\ndef show(): print('worked')\n\nif __name__ == '__main__':\n"
        "    process = context.Process(target=show)\n    process.start()\n    process.join()\n"
    )
    start = f"import runpy, sys; sys.argv = ['x']; runpy.run_module({flag!r}, run_name='__main__', alter_sys=True)"
    del start
    done = run_program("", tmp_path, name="unused.py", flags=["-m", flag])
    assert done.stdout == "worked\n", done.stderr


NO_GUARD = {
    "process": "p = context.Process(target=int); p.start(); p.join()",
    "pool": "context.Pool(2).map(abs, [1, 2])",
    "executor": "from concurrent.futures import ProcessPoolExecutor as E; list(E(2, mp_context=context).map(abs, [1]))",
    "manager": "context.Manager()",
}


@DOORS
@pytest.mark.parametrize("kind", NO_GUARD)
def test_a_program_without_a_main_guard_fails_with_a_clear_error_and_starts_no_child(
    tmp_path: Path, door: str, kind: str
):
    """Row 27: it hangs, or its Pool repopulates for ever. Here: four lines, which name the place."""
    code = f"""
        import os
        {door}
        with open("runs", "a") as file:
            file.write("run\\n")
        {NO_GUARD[kind]}
        print("not reached")
    """
    done = run_program(code, tmp_path, expect=1, timeout=30)
    assert done.stdout == ""
    said = done.stderr[done.stderr.index("RuntimeError: ") :].splitlines()
    assert said[0].startswith(f"RuntimeError: {tmp_path}/program.py, line ") and len(said) == 4
    assert said[2].strip() == 'if __name__ == "__main__":'
    assert (tmp_path / "runs").read_text() == "run\n" * 2


@DOORS
def test_a_program_may_ask_for_a_preload_outside_its_guard(tmp_path: Path, door: str):
    """It is run in the template as well, where the same call must do no harm."""
    code = f"""
        {door}
        context.set_forkserver_preload(["colorsys"])

        def show():
            import sys
            print("colorsys" in sys.modules, multiprocessing.current_process().name)

        if __name__ == "__main__":
            process = context.Process(target=show, name="mine")
            process.start()
            process.join()
    """
    done = run_program(code, tmp_path)
    assert (done.stdout, done.stderr) == ("True mine\n", "")


def test_a_main_that_no_child_can_import_tells_so_on_stderr_and_in_the_exit_code(tmp_path: Path):
    code = f"""
        {OWN}
        if __name__ != "__main__":
            raise OSError("only as main")
        process = context.Process(target=int)
        process.start()
        process.join()
        print(process.exitcode)
    """
    done = run_program(code, tmp_path)
    assert done.stdout == "1\n"
    assert "OSError: only as main" in done.stderr and "program.py" in done.stderr


@pytest.mark.skipif(sys.version_info < (3, 14), reason="the default start method since 3.14")
def test_the_default_start_method_is_ours_once_installed(tmp_path: Path):
    code = """
        import multiprocessing, os, warmfork

        def show():
            print(open(f"/proc/{os.getppid()}/cmdline").read().startswith("warmfork: template"))

        if __name__ == "__main__":
            warmfork.install()
            process = multiprocessing.Process(target=show)
            process.start()
            process.join()
    """
    assert run_program(code, tmp_path).stdout == "True\n"


SLOW = """
import sys, time, warmfork
if __name__ != "__main__":
    time.sleep(2)

def work():
    print("child", flush=True)

if __name__ == "__main__":
    context = warmfork.get_context(start_timeout=0.7)
    for _ in range(2):
        process = context.Process(target=work)
        process.start()
        process.join()
        assert process.exitcode == 0
"""


def test_a_main_module_that_takes_longer_than_a_template_may_is_left_to_the_children(tmp_path: Path):
    done = run_program(SLOW, tmp_path)
    assert done.stdout == "child\n" * 2
    assert done.stderr.count("__main__ is not preloaded, each child imports it itself: not ready after 0.7 s") == 1


TYPED = """
import warmfork

def work(number):
    print("child", number, flush=True)
    return number

if __name__ == "__main__":
    context = warmfork.get_context()
    process = context.Process(target=work, args=(1,))
    process.start()
    process.join()
    with context.Pool(1) as pool:
        print(pool.map(work, [2]))
"""


@pytest.mark.parametrize("how", ["{python} - < {file}", "{python} /dev/stdin < {file}", "{python} <(cat {file})"])
def test_a_main_module_that_is_in_no_file_travels_by_value(tmp_path: Path, how: str):
    """A file that is a pipe, or that is another one in the child, can't be run again."""
    (tmp_path / "program.py").write_text(TYPED)
    command = how.format(python=sys.executable, file=tmp_path / "program.py")
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False, env=make_environment()
    )
    assert (done.stdout, done.returncode) == ("child 1\nchild 2\n[2]\n", 0), done.stderr


IMPORTS = """
import multiprocessing, os, sys
import seen

if __name__ == "__main__":
    import warmfork
    other = multiprocessing.get_context({first!r}).Process(target=seen.nothing)
    other.start()
    other.join()
    context = warmfork.get_context(preload=["seen"])
    lock, queue = context.Lock(), context.Queue()
    for _ in range(2):
        process = context.Process(target=seen.tell, args=(lock, queue))
        process.start()
        print(queue.get(timeout=20), flush=True)
        process.join()
"""

SEEN = """
import os, sys
before = set()
os.register_at_fork(before=lambda: before.update(sys.modules))
def nothing():
    pass
def tell(lock, queue):
    new = sorted(set(sys.modules) - before)
    with lock:
        queue.put([name for name in new if not name.startswith("warmfork._child")])
"""


@pytest.mark.parametrize("first", ["spawn", "forkserver"])
def test_children_of_a_program_that_has_used_the_stdlib_s_methods_import_nothing_for_it(tmp_path: Path, first: str):
    (tmp_path / "seen.py").write_text(SEEN)
    done = run_program(IMPORTS.replace("{first!r}", repr(first)), tmp_path)
    assert done.stdout == "[]\n[]\n"


WITH_POOL = f"""\
{OWN}
import elsewhere
class Point:
    def __init__(self, x): self.x = x
def move(point): return Point(point.x + 1)
if __name__ == "__main__":
    with context.Pool(1) as pool:
        moved = pool.map(move, [Point(1), Point(2)])
        assert all(type(point) is Point for point in moved)
        refused = False
        try:
            pool.apply(elsewhere.unnamed)
        except Exception as error:
            refused = "lambda" in str(error)
        print([point.x for point in moved], pool.apply(lambda: 7), refused)
"""


@pytest.mark.parametrize("form", ["package", "folder", "zip"])
def test_what_the_main_module_of_a_package_folder_or_zip_defines_goes_to_a_pool(tmp_path: Path, form: str):
    """No process imports such a module again: the workers died of what they could not find, and were replaced for ever."""
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "__main__.py").write_text(WITH_POOL)
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "tool.zip", "w") as archive:
            archive.writestr("__main__.py", WITH_POOL)
    (tmp_path / "elsewhere.py").write_text("unnamed = lambda: 1\n")
    words = {"package": ["-m", "tool"], "folder": ["tool"], "zip": ["tool.zip"]}[form]
    env = {"PYTHONPATH": str(tmp_path)}
    done = run_program("", tmp_path, name="unused.py", flags=words, env=env, timeout=20)
    assert (done.stdout, done.stderr) == ("[2, 3] 7 True\n", "")
