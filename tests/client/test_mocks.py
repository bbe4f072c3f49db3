"""Functions of the standard library that a program's tests replace around a first start: ours are the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import run_program

PROGRAM = """
    import contextlib, os, sys, time
    from unittest import mock

    import warmfork

    def start_all():
        with warmfork.Template(start_timeout=20) as template:
            found = [template.start(len, ("ab",)).result(20) for _ in range(2)]
            sleeper = template.start(time.sleep, (60,))
            try:
                sleeper.wait(0.05)
            except TimeoutError:
                found.append("late")
            sleeper.terminate()
            found.append(int(sleeper.wait(20).signal))
        process = warmfork.get_context().Process(target=int)
        process.start()
        process.join()
        return [*found, process.exitcode]

    @contextlib.contextmanager
    def freeze():
        '''As freezegun does: in each module that has a function of these, another in its place.'''
        real = {getattr(time, name): lambda: 1e9 for name in ("time", "monotonic", "perf_counter", "monotonic_ns")}
        changed = []
        for module in list(sys.modules.values()):
            for name, value in list(vars(module).items()):
                if type(value) is type(time.time) and value in real:
                    changed.append((module, name, value))
                    setattr(module, name, real[value])
        yield
        for module, name, value in changed:
            setattr(module, name, value)

    WAYS = {
        "getpid": mock.patch("os.getpid", return_value=1),
        "stat": mock.patch("os.stat", side_effect=FileNotFoundError(2, "mocked")),
        "time": mock.patch("time.time", return_value=1e9),
        "freeze": freeze(),
    }

    if __name__ == "__main__":
        with WAYS[sys.argv[1]]:
            print(start_all())
        print(start_all())
"""


@pytest.mark.parametrize("way", ["getpid", "stat", "time", "freeze"])
def test_mocks_around_the_first_start_change_nothing_then_nor_later(tmp_path: Path, way: str):
    done = run_program(PROGRAM, tmp_path, way, timeout=100)
    assert done.stdout == "[2, 2, 'late', 15, 0]\n" * 2, done.stderr
    assert done.stderr == ""
