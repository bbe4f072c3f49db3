"""Modules of multiprocessing that a template has and has not run: what looks into them sees no difference."""

from __future__ import annotations

import ast
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from tests.running import ROOT
from tests.support import run_program
from warmfork.mp.child import postponed

ENV = {"PYTHONPATH": ROOT}

TELL = """
import os, sys
import warmfork

def name_types():
    return [type(sys.modules[name]).__name__ for name in ("signal", "multiprocessing.reduction")]

before = name_types() if __name__ == "__mp_main__" else []  # in the template
seen = []
os.register_at_fork(after_in_child=lambda: seen.append((name_types(), sorted(sys.modules))))

def start(target, context=None):
    process = (context or warmfork.get_context()).Process(target=target)
    process.start()
    process.join()
    assert process.exitcode == 0, process.exitcode
"""

DESCRIBE = """
import multiprocessing.process, multiprocessing.reduction, signal
print({
    "names": multiprocessing.process._exitcode_to_name,
    "order": list(multiprocessing.process._exitcode_to_name),
    "signal": sorted(vars(signal)),
    "reduction": sorted(vars(multiprocessing.reduction)),
    "SIGINT": repr(signal.SIGINT),
    "types": [type(signal).__name__, type(multiprocessing.reduction).__name__],
    "same": [
        multiprocessing.process.signal is signal,
        multiprocessing.context.reduction is multiprocessing.reduction is multiprocessing.reducer,
        multiprocessing.reduction.ForkingPickler.__module__,
    ],
    "loaders": [type(module.__loader__).__name__ for module in (signal, multiprocessing.reduction)],
    "specs": [module.__spec__.loader is module.__loader__ for module in (signal, multiprocessing.reduction)],
})
"""


def run(code: str, folder: Path) -> object:
    done = run_program(TELL + code, folder, env=ENV)
    return ast.literal_eval(done.stdout.splitlines()[-1])


def test_a_child_that_uses_them_finds_what_an_import_gives(tmp_path):
    plain = subprocess.run([sys.executable, "-c", DESCRIBE], capture_output=True, text=True, check=True)
    code = f"""
def describe():
    exec({DESCRIBE!r}, {{}})

if __name__ == "__main__":
    start(describe)
"""
    assert run(code, tmp_path) == ast.literal_eval(plain.stdout)


def test_a_first_child_is_forked_before_they_have_run(tmp_path):
    code = """
def tell():
    print([before, seen[0][0], name_types()])

if __name__ == "__main__":
    start(tell)
"""
    assert run(code, tmp_path) == [["Postponed", "Postponed"]] * 3


def test_a_template_that_is_idle_runs_them_for_its_later_children(tmp_path):
    code = """
def tell():
    os.write(1, repr(seen[0][0]).encode() + b"\\n")
    sys.exit(not all(name == "module" for name in seen[0][0]))

if __name__ == "__main__":
    import time
    context = warmfork.get_context()
    deadline = time.monotonic() + 30
    while True:
        process = context.Process(target=tell)
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert time.monotonic() < deadline
        time.sleep(0.005)  # a program that does something between two starts
"""
    assert run(code, tmp_path) == ["module", "module"]


def test_what_the_client_has_loaded_of_multiprocessing_is_loaded_once_in_the_template(tmp_path):
    """A worker of a Pool unpickles a queue and a lock: each worker imported what they need."""
    code = """
def tell():
    print(sorted({"multiprocessing.queues", "multiprocessing.synchronize", "multiprocessing.pool"} & set(seen[0][1])))

if __name__ == "__main__":
    import multiprocessing.queues, multiprocessing.synchronize
    start(tell)
"""
    assert run(code, tmp_path) == ["multiprocessing.queues", "multiprocessing.synchronize"]


def test_functions_of_a_program_in_no_file_go_through_a_queue_by_value():
    """Row 10: the pickler of queues is replaced in the child, once multiprocessing.reduction has run there."""
    code = """if True:
        import warmfork
        context = warmfork.get_context()
        def give(queue):
            queue.put(lambda: 42)
        queue = context.SimpleQueue()
        process = context.Process(target=give, args=(queue,))
        process.start()
        print(queue.get()())
        process.join()
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("42\n", "")


@pytest.fixture
def postpone(tmp_path, monkeypatch):
    """Gives a function that makes a postponed module of a source text."""
    monkeypatch.syspath_prepend(str(tmp_path))
    finder = postponed.Finder(("put_off",))
    sys.meta_path.insert(0, finder)

    def make(source: str) -> ModuleType:
        (tmp_path / "put_off.py").write_text(source)
        import put_off

        return put_off

    yield make
    sys.meta_path.remove(finder)
    sys.modules.pop("put_off", None)


def test_a_module_is_there_and_has_not_run(postpone):
    module = postpone("raise RuntimeError('it has run')")
    assert sys.modules["put_off"] is module
    assert (module.__name__, module.__spec__.name) == ("put_off", "put_off")
    assert "put_off.py" in repr(module)


def test_a_look_into_it_runs_it_once_and_it_is_a_module_like_any_other(postpone):
    module = postpone("import builtins\nbuiltins.put_off_runs = getattr(builtins, 'put_off_runs', 0) + 1\nx = 7\n")
    try:
        assert module.x == 7
        assert type(module) is ModuleType
        import builtins

        assert builtins.put_off_runs == 1
    finally:
        vars(builtins).pop("put_off_runs", None)


def test_an_attribute_that_is_set_before_it_has_run_is_not_lost(postpone):
    module = postpone("x = 7\n")
    module.x = 8
    assert module.x == 8


def test_dir_and_vars_show_what_it_has(postpone):
    module = postpone("x = 7\n")
    assert "x" in dir(module)
    assert vars(module)["x"] == 7


def test_a_module_that_fails_says_so_at_each_look_until_it_does_not(postpone, tmp_path):
    module = postpone("raise RuntimeError('on purpose')")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="on purpose"):
            _ = module.x
    (tmp_path / "put_off.py").write_text("x = 7  # mended\n")
    assert module.x == 7


def test_threads_that_look_at_once_all_see_it_complete(postpone):
    module = postpone("from threading import Event\nEvent().wait(0.05)\nx = 7\n")
    at_once = threading.Barrier(8)
    found: list[object] = []

    def look() -> None:
        at_once.wait()
        found.append(module.x)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [7] * 8
