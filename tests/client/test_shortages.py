"""Limits of open files, of processes and of the size of files, around a first, a second and a nested start: nothing hangs,
nothing is left, the error says what to raise, and with enough of it the next start works.

tests/faults/failing.py has each call fail alone; here all fail from some point on, in Python's own imports too.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from tests.running import ROOT
from tests.support import run_program
from warmfork._machine import calls

CELLS = """
    import os, resource, signal, sys, time
    import warmfork
    from tests import targets
    from tests.leftovers import list_descendants

    what, where = getattr(resource, sys.argv[1]), sys.argv[2]
    begun = resource.getrlimit(what)

    def limit_tree(soft):
        resource.setrlimit(what, (soft, begun[1]))
        if what == resource.RLIMIT_NPROC:  # of which the helpers have what the program has
            for pid, _ in list_descendants():
                resource.prlimit(pid, what, (soft, begun[1]))

    def try_one(start, limit):
        limit_tree(limit)
        began = time.monotonic()
        try:
            child = start()
        except (OSError, ImportError) as error:
            said = str(error)
        else:
            said = "started"
        limit_tree(begun[0])
        if said == "started":
            try:
                assert child.result(20) == 7
            except warmfork.ChildError as error:  # it has the limit of who started it, and could do nothing
                said = str(error)
        assert time.monotonic() - began < 20, "it took long"
        return said

    def nest(limit):
        with warmfork.Template(spares=0) as template:
            said = try_one(lambda: template.start(targets.give, (7,)), limit)
            assert template.start(targets.give, (8,)).result(20) == 8, "it does not work afterwards"
        return said

    def try_cell(limit):
        with warmfork.Template(spares=0) as template:
            if where == "nested":
                return template.start(nest, (limit,)).result(40)
            if where == "second":
                template.start(targets.give, (1,)).result(20)
            said = try_one(lambda: template.start(targets.give, (7,)), limit)
            assert template.start(targets.give, (8,)).result(20) == 8, "it does not work afterwards"
        return said

    for limit in map(int, sys.argv[3:]):
        if os.fork() == 0:
            signal.alarm(50)
            print(limit, " ".join(try_cell(limit).split()), flush=True)
            sys.exit()
        assert os.wait()[1] == 0, limit
"""


def run_cells(folder: Path, what: str, where: str, limits: tuple[int, ...], **options: object) -> dict[int, str]:
    """Run these; what each start said, by its limit."""
    done = run_program(CELLS, folder, what, where, *map(str, limits), env={"PYTHONPATH": ROOT}, timeout=110, **options)
    return {int(limit): said for limit, _, said in (line.partition(" ") for line in done.stdout.splitlines())}


@pytest.mark.parametrize(
    ("where", "limits"),
    [("first", (4, 9, 15, 17, 32)), ("second", (3, 5, 7, 9)), ("nested", (4, 10, 12, 24))],
)
def test_a_start_without_enough_open_files_says_so_and_the_next_one_works(
    tmp_path: Path, where: str, limits: tuple[int, ...]
):
    found = run_cells(tmp_path, "RLIMIT_NOFILE", where, limits)
    assert list(found) == list(limits)
    assert found[limits[-1]] == "started" and found[limits[0]] != "started", "these limits try nothing"
    for said in found.values():
        assert said == "started" or (
            "Too many open files" in said and (HINT in said or ".so" in said or WITHOUT in said)
        ), said


HINT = "raise the limit of open files (ulimit -n)"
WITHOUT = "ended without a result"  # the child, which has the limit of who started it


@pytest.mark.parametrize("limit", [14, 16, 19])
def test_a_hard_limit_of_open_files_that_is_too_low_for_the_helpers_leaves_none_of_them(tmp_path: Path, limit: int):
    """They raise theirs to it. Whether it is enough depends on the Python: what is left, and for how long, does not."""
    code = """
        import resource, sys, warmfork
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)
        for _ in range(2):
            try:
                print(warmfork.Template(spares=0, start_timeout=20).start(int).result(20))
            except (OSError, ImportError, warmfork.StartError) as error:
                print(*str(error).split())
    """
    for said in run_program(code, tmp_path, str(limit), timeout=60).stdout.splitlines():
        assert said == "0" or "Too many open files" in said or "out of files" in said, said


def drop_root() -> None:
    """Become a user that has nobody else's processes, and may read what root may: root's Python is where others can't
    look."""
    calls.call("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    user = 100_000 + os.getpid()
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    bit = 1 << CAP_DAC_READ_SEARCH
    calls.call("capset", struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", bit, bit, bit, 0, 0, 0))
    calls.call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH, 0, 0)


PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH = 8, 47, 2, 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user that has no other processes")
@pytest.mark.parametrize(("where", "limits"), [("first", (2, 3, 4, 9)), ("second", (2, 9))])
def test_a_start_without_enough_processes_says_so_and_the_next_one_works(
    tmp_path: Path, where: str, limits: tuple[int, ...]
):
    """The limit of processes is that of a user; root has none. A nested start is a fork of the template as a second is."""
    os.chmod(tmp_path, 0o777)
    found = run_cells(tmp_path, "RLIMIT_NPROC", where, limits, preexec_fn=drop_root)
    assert list(found) == list(limits)
    assert found[limits[-1]] == "started" and found[limits[0]] != "started", "these limits try nothing"
    for said in found.values():
        assert said == "started" or ("Resource temporarily unavailable" in said and "ulimit -u" in said), said


@pytest.mark.parametrize("limit", [0, 100, 4096, 1_000_000])
def test_a_first_start_under_a_low_hard_limit_of_the_size_of_files_says_what_to_raise(tmp_path: Path, limit: int):
    code = """
        import resource, sys, warmfork
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
        for _ in range(2):
            try:
                warmfork.Template().start(int)
            except warmfork.StartError as error:
                print(*str(error).split())
    """
    done = run_program(code, tmp_path, str(limit))
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and done.stderr == ""
    assert all("ulimit -f" in line and "sys.executable" not in line for line in lines), lines
