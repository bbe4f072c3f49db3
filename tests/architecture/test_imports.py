"""What is loaded where. Each module that a template has is inherited by every child, and costs the first start."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import run_program

NEVER = {
    "socket", "selectors", "dataclasses", "typing", "inspect", "multiprocessing", "subprocess", "logging", "ctypes",
    "json", "threading", "tempfile", "random", "signal", "enum", "collections", "contextlib", "functools", "re",
    "traceback", "weakref", "ast", "asyncio", "concurrent", "importlib.metadata", "setproctitle", "psutil", "rich",
    "cloudpickle", "tblib", "warmfork._client", "warmfork.mp.shared.names", "warmfork.api.template",
}  # fmt: skip
"""What a bare template does without, by name, so that nobody adds it to the list below by the way."""

NEEDS = {
    # Python's, each an extension of a few hundred KiB or less
    "__future__", "_collections", "_ctypes", "_socket", "_struct", "faulthandler", "fcntl", "gc", "itertools", "mmap",
    "resource", "select", "setproctitle._setproctitle", "types", "_types",
    # ours
    "warmfork", "warmfork._child", "warmfork._child.birth", "warmfork._child.ending", "warmfork._child.reseeding",
    "warmfork._child.stdio",
    "warmfork._machine", "warmfork._machine.calls", "warmfork._machine.pending_kills", "warmfork._machine.fds",
    "warmfork._machine.loop", "warmfork._machine.memfds", "warmfork._machine.memory", "warmfork._machine.pids",
    "warmfork._machine.role", "warmfork._machine.signals", "warmfork._machine.sockets",
    "warmfork._machine.stacks", "warmfork._machine.state", "warmfork._machine.syscalls",
    "warmfork._machine.titles", "warmfork._template",
    "warmfork._template.births", "warmfork._template.children", "warmfork._template.state",
    "warmfork._template.clients", "warmfork._template.deaths", "warmfork._template.forking",
    "warmfork._idle", "warmfork._idle.idle",
    "warmfork._template.main", "warmfork._template.preload", "warmfork._template.seal", "warmfork._template.server",
    "warmfork._template.spares", "warmfork._tracker",
    "warmfork._tracker.files", "warmfork._tracker.first", "warmfork._tracker.main", "warmfork._words",
    "warmfork._words.board", "warmfork._words.feed",
    "warmfork._words.messages", "warmfork._words.protocol", "warmfork._words.spec", "warmfork._words.wire",
    # waits for the moment at which something of multiprocessing's gets a name
    "warmfork.mp", "warmfork.mp.shared", "warmfork.mp.shared.watching", "warmfork.startup",
    # what run() needs in a child, where there is a preload list that takes longer than these (1 ms)
    "warmfork._tasks", "warmfork._tasks.run", "warmfork._tasks.snippet", "warmfork._tasks.frames", "warmfork._tasks.values",
    "atexit",
}  # fmt: skip
"""What a bare template has loaded when it forks its first child, over what a bare interpreter has."""

PICKLE = {
    "_compat_pickle", "_functools", "_pickle", "atexit", "copyreg", "warmfork._tasks.call",
    "warmfork._words.buffers",
}  # fmt: skip
"""What a child loads besides, to unpickle its call, and a template to rehearse that: not pickle, which brings re."""

PROBE = """\
import os, sys
seen = []
# In the child, before anything else of it runs: what is loaded then was loaded in the template.
os.register_at_fork(after_in_child=lambda: seen.append(sorted(sys.modules)))
def tell():
    return seen[0], sorted(sys.modules)
"""


def get_bare(more: str = "sys") -> set[str]:
    """What a bare interpreter of this installation has loaded, or one that has imported more."""
    code = f"import {more}, sys; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ast.literal_eval(done.stdout))


def get_functools() -> set[str]:
    """What comes with functools, of which _pickle takes one class."""
    return get_bare("functools") - get_bare()


def find_never(loaded: set[str]) -> set[str]:
    return loaded & NEVER


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What is loaded in a first template, a second one (which is started by exec), and their children."""
    folder: Path = tmp_path_factory.mktemp("seen")
    (folder / "probe.py").write_text(PROBE)
    done = run_program(
        """\
        import time
        import warmfork
        if __name__ == "__main__":
            import probe
            found = {}
            with warmfork.Template(preload=["probe"]) as first, warmfork.Template(preload=["probe"]) as second:
                for name, template in (("first", first), ("second", second)):
                    found[name], found[name + " child"] = template.start(probe.tell).result(60)
                deadline = time.monotonic() + 30
                while "warmfork._idle.rehearsal" not in found.get("rehearsed", ()):
                    found["rehearsed"], found["rehearsed child"] = first.start(probe.tell).result(60)
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"no rehearsal: {found}")
            print(found)
        """,
        folder,
    )
    bare = get_bare()
    return {name: set(modules) - bare - {"probe"} for name, modules in ast.literal_eval(done.stdout).items()}


@pytest.mark.parametrize("name", ["first", "second"])
def test_a_bare_template_has_loaded_only_what_it_needs(seen, name):
    assert seen[name] - NEEDS == set()
    assert find_never(seen[name]) == set()


def test_the_list_of_what_a_template_needs_has_nothing_that_it_does_not(seen):
    assert NEEDS - seen["first"] - get_bare() <= {"types", "_types"}, "these two vary with the version of Python"


def test_a_template_that_has_rehearsed_a_birth_has_what_its_children_need_and_no_more(seen):
    # These are loaded when it has nothing else to do.
    idle = {
        "warmfork._idle.rehearsal",
        "warmfork._idle.pretouch",
        "warmfork._idle.pressure",
        "warmfork._machine.evidence",
        "warmfork._machine.spilled",
        "warmfork._child.large",
    }
    assert seen["rehearsed"] - NEEDS - PICKLE - get_functools() - idle == set()


@pytest.mark.parametrize("name", ["first child", "second child"])
def test_a_child_loads_pickle_on_its_way_to_the_function_and_no_more(seen, name):
    assert seen[name] - NEEDS - PICKLE - get_functools() == set()


def test_a_child_of_a_template_that_has_rehearsed_loads_nothing(seen):
    assert seen["rehearsed child"] == seen["rehearsed"]


def test_a_template_of_a_context_has_what_a_process_needs_of_multiprocessing_and_no_more(tmp_path):
    """Its main module is run in it, as __mp_main__, so that one imports nothing but warmfork."""
    done = run_program(
        """\
        import os, sys
        seen = []
        os.register_at_fork(after_in_child=lambda: seen.append(sorted(sys.modules)))
        def tell():
            print(seen[0])
        if __name__ == "__main__":
            import warmfork
            process = warmfork.get_context().Process(target=tell)
            process.start()
            process.join()
            sys.exit(process.exitcode)
        """,
        tmp_path,
    )
    own = set(ast.literal_eval(done.stdout)) - get_bare() - NEEDS - {"__mp_main__"}
    needed = get_bare("multiprocessing.context, multiprocessing.util")
    assert {name for name in own if not name.startswith(("warmfork.", "multiprocessing"))} <= needed
    assert {name for name in own if name.startswith("multiprocessing")} == {
        f"multiprocessing{name}" for name in ("", ".context", ".process", ".reduction", ".util")
    }
    assert {name for name in own if name.startswith("warmfork.")} == {
        f"warmfork.{name}"
        for name in (
            "mp.child",
            "mp.child.bootstrap",
            "mp.child.main_module",
            "mp.shared.carried",
            "mp.shared.installed",
            "mp.shared.names",
            "mp.shared.patching",
            "_words.errors",
            "mp.shared.process",
            "mp.shared.root",
            "mp.shared.stdlib",
            "_words.times",
        )
    }


def test_importing_warmfork_loads_nothing_but_itself(tmp_path):
    done = run_program(
        """\
        import sys
        before = set(sys.modules)
        import warmfork
        print(sorted(set(sys.modules) - before))
        """,
        tmp_path,
    )
    assert set(ast.literal_eval(done.stdout)) - {"__future__"} == {"warmfork"}


def test_a_template_and_what_it_gives_are_had_without_typing(tmp_path):
    """Which takes 4 ms, and a program's first start would wait for it. Child and Completed are generic all the same."""
    done = run_program(
        """\
        import sys
        before = set(sys.modules)
        import warmfork
        warmfork.Template, warmfork.Child, warmfork.Completed
        print(sorted(set(sys.modules) - before))
        """,
        tmp_path,
    )
    assert "typing" not in ast.literal_eval(done.stdout)


def test_the_errors_are_had_without_the_client(tmp_path):
    """A program that only catches them pays for nothing else."""
    done = run_program(
        """\
        import sys
        import warmfork
        before = set(sys.modules)
        warmfork.PreloadError, warmfork.Exited
        print(sorted(set(sys.modules) - before))
        """,
        tmp_path,
    )
    assert ast.literal_eval(done.stdout) == ["warmfork._words", "warmfork._words.errors", "warmfork._words.outcome"]
