"""A program with an audit hook that forbids ctypes (sys.addaudithook), by which system calls are made that Python lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.running import ROOT
from tests.support import run_program

HOOK = """
    import sys, warmfork
    from tests import targets

    def hook(event, arguments):
        if event.startswith(sys.argv[1]):
            raise RuntimeError(f"not here: {event}")
"""


@pytest.mark.parametrize("event", ["ctypes.", "ctypes.dlsym", "ctypes.call_function"])
def test_what_is_forbidden_is_done_without(tmp_path: Path, event: str):
    code = f"""{HOOK}
    sys.addaudithook(hook)
    with warmfork.Template(["tests.targets"]) as template:
        for argument in (b"x", bytes(3_000_000)):
            print(len(template.start(targets.give, (argument,)).result(20)))
        print(template.run("1 + 1").result)
    with warmfork.Executor(1) as executor:
        print(executor.submit(pow, 2, 3).result(20))
    """
    done = run_program(code, tmp_path, event, env={"PYTHONPATH": ROOT})
    assert done.stdout.split() == ["1", "3000000", "2", "8"]
