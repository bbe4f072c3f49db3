"""Where no template can be had, processes are started by spawn: with one warning that names the reason, and they work."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.support import run_program
from warmfork._machine import platform

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can change its group")

CHANGED = """
import ctypes, os, warnings
import warmfork

def work(lock, queue):
    with lock:
        queue.put((os.getpid(), os.getppid()))

if __name__ == "__main__":
    context = warmfork.get_context()
    lock, queue = context.Lock(), context.Queue()
    process = context.Process(target=work, args=(lock, queue))
    process.start()
    queue.get(timeout=20)
    process.join()
    assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS, for good
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            process = context.Process(target=work, args=(lock, queue))
            process.start()
            assert queue.get(timeout=20) == (process.pid, os.getpid())
            process.join()
            assert process.exitcode == 0
        many = [context.Process(target=work, args=(lock, queue)) for _ in range(2)]
        context.start_many(many)
        for process in many:
            process.join()
            assert process.exitcode == 0
    said = [str(one.message) for one in caught if issubclass(one.category, RuntimeWarning)]
    print(len(said), said[0].splitlines()[0])
"""


def test_a_program_that_gave_up_rights_after_its_first_start_goes_on_by_spawn(tmp_path: Path):
    done = run_program(CHANGED, tmp_path)
    assert done.stdout.startswith("1 processes are started by spawn, which is slower: no process was started: ")


OTHER_GROUP = """
import os
import warmfork

def work(lock, queue):
    with lock:
        queue.put((os.getgid(), os.getppid() != os.getpid()))

if __name__ == "__main__":
    context = warmfork.get_context()
    lock, queue = context.Lock(), context.Queue()
    os.setgid(65534)
    process = context.Process(target=work, args=(lock, queue))
    process.start()
    print(queue.get(timeout=20), warmfork.get_child(process).pid == process.pid)
    process.join()
"""


@needs_root
def test_a_program_that_became_another_group_after_its_first_lock_has_a_tree_of_its_own(tmp_path: Path):
    assert run_program(OTHER_GROUP, tmp_path).stdout == "(65534, True) True\n"


def test_a_platform_that_is_not_ours_is_warned_of_and_processes_are_spawned(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(platform, "_checked", False)
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    context = warmfork.get_context()
    process = context.Process(target=targets.give, args=(5,))
    with pytest.warns(RuntimeWarning, match="started by spawn, which is slower: .*free-threaded"):
        process.start()
    process.join(20)
    assert process.exitcode == 0


TEMPLATE_THAT_DIES = """
import os, warnings
import warmfork

def work():
    pass

if __name__ == "__main__":
    context = warmfork.get_context(start_timeout=20)
    from warmfork.mp.client.config import Prepared
    from warmfork._words.errors import StartError

    def get_channel(self, live=False):
        raise StartError({step!r}, "as a test wants it")

    Prepared.get_channel = get_channel
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        codes = []
        for _ in range(2):
            process = context.Process(target=work)
            try:
                process.start()
            except StartError as error:
                codes.append(error.step)
                continue
            process.join()
            codes.append(process.exitcode)
    print(codes, sum(issubclass(one.category, RuntimeWarning) for one in caught))
"""


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("template", "[0, 0] 1"),
        ("launch", "[0, 0] 1"),
        ("fork", "['fork', 'fork'] 0"),
        ("preload", "['preload', 'preload'] 0"),
    ],
)
def test_the_first_death_and_the_last_are_alike_and_a_limit_is_no_lack_of_a_template(
    tmp_path: Path, step: str, said: str
):
    done = run_program(TEMPLATE_THAT_DIES.replace("{step!r}", repr(step)), tmp_path)
    assert done.stdout == f"{said}\n"


def test_a_preload_that_fails_is_no_reason_to_spawn():
    process = warmfork.get_context(preload=["no_such_module_anywhere"]).Process(target=targets.give, args=(5,))
    with pytest.raises(warmfork.PreloadError):
        process.start()
