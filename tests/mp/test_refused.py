"""Bad days: calls that a filter refuses are done without. It is noticed, logged once, and costs speed only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.filters import can_refuse
from tests.leftovers import drop_strangers, list_shared_memory
from tests.running import ROOT
from tests.support import run_program

pytestmark = pytest.mark.skipif(
    not can_refuse(), reason="the numbers of this machine's system calls are not known here"
)

PROGRAM = """
import logging, sys
from tests import crowd, filters, large, targets
from warmfork._machine import fds

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    filters.refuse(*sys.argv[1:])
    import warmfork
    data = bytes(range(256)) * 8000
    with warmfork.Template(preload=["tests.large"]) as template:
        for _ in range(3):
            assert template.start(large.digest, (data,)).result(30) == large.digest(data)
            assert template.start(targets.give, (data,)).result(30) == data
        assert template.start(targets.give, (data[:40_000],)).result(30) == data[:40_000]
    context = warmfork.get_context(preload=["tests.large"])
    for _ in range(3):
        process = context.Process(target=large.check, args=(data, large.digest(data)))
        process.start()
        process.join(30)
        assert process.exitcode == 0, process.exitcode
    queue = context.Queue()
    processes = [context.Process(target=queue.put, args=(n,)) for n in range(4)]
    context.start_many(processes)
    assert sorted(queue.get(timeout=30) for _ in range(4)) == [0, 1, 2, 3]
    for process in processes:
        process.join()
    print("all is well")
"""

MEMFDS = "this kernel, or a filter, gives no memfds: files without names are used instead"
WRITES = "large arguments are sent to children through their socket, which is slower: [Errno 1] Operation not permitted"


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (["process_vm_writev"], [WRITES]),
        (["memfd_create"], [MEMFDS]),
        (["madvise"], []),
        (["close_range"], []),
        (["process_vm_writev", "memfd_create", "madvise"], [MEMFDS, WRITES]),
    ],
    ids=["writing", "memfds", "huge pages", "closing", "all of them"],
)
def test_a_call_that_a_filter_refuses_is_done_without(tmp_path: Path, refused: list[str], said: list[str]):
    """M24: EPERM is what old container runtimes say for a call that they do not know."""
    before = list_shared_memory()
    done = run_program(PROGRAM, tmp_path, *refused, env={"PYTHONPATH": ROOT})
    assert done.stdout == "all is well\n"
    lines = done.stderr.splitlines()
    assert [sum(line.startswith(text) for line in lines) for text in said] == [1] * len(said), done.stderr
    assert "Traceback" not in done.stderr
    if "madvise" not in refused:  # that has others speak as well
        assert len(lines) == len(said), done.stderr
    # Others of this machine have semaphores there; a file that should have had no name has one with ours in it.
    left = list_shared_memory() - before
    assert not drop_strangers(left) and not any("warmfork" in name for name in left)


def test_ps_sees_a_tree_whose_boards_are_files(tmp_path: Path):
    code = """
    import json, subprocess, sys
    from tests import filters
    if __name__ == "__main__":
        filters.refuse("memfd_create")
        import warmfork
        with warmfork.Template(name="filtered") as template:
            template.wait_ready()
            said = subprocess.run([sys.executable, "-m", "warmfork", "ps", "--json"], capture_output=True, check=True)
            print(template.pid, said.stdout.decode())
    """
    pid, _, said = run_program(code, tmp_path, env={"PYTHONPATH": ROOT}).stdout.partition(" ")
    assert f'"pid": {pid}' in said and '"generation": 1' in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its root directory")
@pytest.mark.parametrize("way", ["context", "installed", "many"])
def test_a_child_that_has_changed_its_root_directory_is_refused_by_name(tmp_path: Path, way: str):
    """It was a bare ImportError: what starts processes is loaded at the first start, and could not be found."""
    code = """
        import multiprocessing, os, sys, warmfork

        if sys.argv[1] == "installed":
            warmfork.install()
            context = multiprocessing.get_context("forkserver")
        else:
            context = warmfork.get_context()

        def nothing(): pass

        def change_root():
            os.chroot("/proc")
            try:
                if sys.argv[1] == "many":
                    context.start_many([context.Process(target=nothing)])
                else:
                    context.Process(target=nothing).start()
            except warmfork.Refused as error:
                sys.stdout.write(error.difference)

        if __name__ == "__main__":
            process = context.Process(target=change_root)
            process.start()
            process.join()
    """
    done = run_program(code, tmp_path, way)
    assert done.stdout.startswith("root directory: this process's has no /"), done.stderr
