"""What is promised of many at once: a program with fifty children is killed, a template with twenty (M4, M8, row 47)."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

import warmfork
from tests import leftovers, targets
from tests.running import run_meanwhile
from tests.signs import give, make_sign
from tests.support import TREE_DEADLINE, wait_until

CODES = (0, 1, 2, 7, 42, 99, 127, 128, 200, 255)
SIGNALS = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGBUS,
    signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGUSR1,
)  # fmt: skip

PROGRAM = """
    import signal, sys, warmfork
    from multiprocessing import shared_memory
    from tests.faults import test_promises

    if __name__ == "__main__":
        context = warmfork.get_context()
        locks = [context.Lock() for _ in range(20)]
        segments = [shared_memory.SharedMemory(create=True, size=4096) for _ in range(20)]
        for daemon, kind in ((True, "daemon"), (False, "kept")):
            for number in range(25):
                given = (sys.argv[1], kind, number < 5, context)
                context.Process(target=test_promises.live, args=given, daemon=daemon).start()
        signal.pause()
"""


def live(path: str, kind: str, has_child: bool, context: object) -> None:
    """Be a child of the program, some with a child of their own."""
    give(path, f"{kind} {os.getpid()}")
    if has_child and kind == "daemon":  # multiprocessing lets no daemon have a Process
        warmfork.Template().start(say_and_wait, (path, "child-of-daemon"))
    elif has_child:
        context.Process(target=say_and_wait, args=(path, "child-of-kept")).start()
    targets.wait()


def say_and_wait(path: str, kind: str) -> None:
    give(path, f"{kind} {os.getpid()}")
    targets.wait()


def list_mine(names: set[str]) -> set[str]:
    return leftovers.drop_strangers(leftovers.list_shared_memory() - names)


def test_of_a_program_with_fifty_children_that_is_killed_only_what_its_policy_keeps_is_left(
    tmp_path: Path, private_tmpdir: Path
):
    """M8, row 47: daemons and what they started go within two seconds; then, with the last that was kept, everything."""
    before, names, files = leftovers.list_descendants(), leftovers.list_shared_memory(), os.listdir(private_tmpdir)
    with make_sign(tmp_path) as born, run_meanwhile(PROGRAM, tmp_path, born.path, stderr=sys.stderr) as program:
        lines = [line.split() for line in born.wait(60, 60.0)]
        who = {kind: [int(pid) for said, pid in lines if said == kind] for kind, _ in lines}
        assert {kind: len(them) for kind, them in who.items()} == {
            "daemon": 25, "kept": 25, "child-of-daemon": 5, "child-of-kept": 5,
        }  # fmt: skip
        assert len(list_mine(names)) >= 40
        program.kill()
        program.wait(10)
        end = time.monotonic() + TREE_DEADLINE
        mortal = {key for key in leftovers.list_descendants() if key[0] in who["daemon"] + who["child-of-daemon"]}
        wait_until(
            lambda: not [key for key in mortal if leftovers.read_stat(key[0])],
            end - time.monotonic(),
            "daemons and their children are dead",
        )
        for pid in who["kept"] + who["child-of-kept"]:
            assert (leftovers.read_stat(pid) or "-")[0] in "SR", "it was to be kept"
        # Segments that nobody has mapped can be told from a stranger's in a /dev/shm of our own alone.
        assert len(list_mine(names)) >= (40 if leftovers.has_own_shm() else 20), "the living may use them"
        for pid in who["kept"] + who["child-of-kept"]:
            os.kill(pid, signal.SIGTERM)
        left = leftovers.wait_for_ends(before, time.monotonic() + TREE_DEADLINE)
        said = [f"{pid} ({state}): {leftovers.read_title(pid)}" for (pid, _), state in left.items()]
        leftovers.end(left)
        assert said == []
        assert list_mine(names) == set()
        assert os.listdir(private_tmpdir) == files


@pytest.mark.parametrize("stopped", [False, True], ids=["killed", "stopped and killed"])
def test_twenty_children_of_a_killed_template_end_in_twenty_ways_and_all_are_told(tmp_path: Path, stopped: bool):
    """M4: not one of them is 255 that is not."""
    with make_sign(tmp_path) as ready, make_sign(tmp_path) as go, warmfork.Template() as template:
        ends = [("os", "_exit", (code,)) for code in CODES]
        ends += [("tests.targets", "end_by", (int(number),)) for number in SIGNALS]
        children = [template.start(targets.sign_wait_and_call, (ready.path, go.path, *end)) for end in ends]
        ready.wait(len(children))
        pidfd = os.pidfd_open(template.pid)
        if stopped:
            os.kill(template.pid, signal.SIGSTOP)
        os.kill(template.pid, signal.SIGKILL)
        wait_until(lambda: targets.is_dead(pidfd))
        os.close(pidfd)
        assert [child.outcome for child in children] == [None] * len(children)
        for _ in children:
            give(go.path)
        outcomes = [child.wait(20) for child in children]
        assert [outcome.code for outcome in outcomes[: len(CODES)]] == list(CODES)
        assert [outcome.signal for outcome in outcomes[len(CODES) :]] == list(SIGNALS)
        assert all(child.usage is not None for child in children)
        assert template.start(targets.give, (1,)).result(20) == 1
