"""What becomes of children whose starter dies: the policy, by whoever is left to act on it (M5, M8, M22)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import warmfork
from tests import leftovers, targets
from tests.running import run_meanwhile
from tests.signs import make_sign
from tests.support import wait_until

STARTS_ONE = """
    import multiprocessing as mp, os, signal, sys, warmfork
    from tests import targets
    TARGET, ARGS = targets.sign_and_wait, tuple(sys.argv[1:])

    if __name__ == "__main__":
        {make}
        {before}
        print("ready", flush=True)
        signal.pause()
"""
MAKES = {
    "context": "p = warmfork.get_context(orphans={0!r}).Process(target=TARGET, args=ARGS); p.start()",
    "process": "p = warmfork.get_context().Process(target=TARGET, args=ARGS, orphans={0!r}); p.start()",
    "template": "t = warmfork.Template(orphans={0!r}); p = t.start(TARGET, ARGS)",
    "start": "t = warmfork.Template(); p = t.start(TARGET, ARGS, orphans={0!r})",
    "install": "warmfork.install(orphans={0!r}); c = mp.get_context('forkserver'); "
    "p = c.Process(target=TARGET, args=ARGS); p.start()",
}


@pytest.mark.parametrize("template", ["lives", "is dead"])
@pytest.mark.parametrize("policy", ["kill", "keep"])
@pytest.mark.parametrize("door", MAKES)
def test_a_program_that_is_killed_takes_its_children_along_or_leaves_them(tmp_path, door, policy, template):
    code = STARTS_ONE.format(make=MAKES[door].format(policy), before="print(os.getpid(), flush=True)")
    before = leftovers.list_descendants()
    with make_sign(tmp_path) as sign, run_meanwhile(code, tmp_path, sign.path) as program:
        child = int(sign.wait()[0])
        pidfd = os.pidfd_open(child)
        if template == "is dead":
            parent = read_parent(child)
            assert leftovers.read_title(parent).startswith("warmfork: template")
            os.kill(parent, signal.SIGKILL)
            wait_until(lambda: "tracker" in leftovers.read_title(read_parent(child)))
        program.kill()
        program.wait(10)
        if policy == "kill":
            wait_until(lambda: targets.is_dead(pidfd), 2)
        else:
            wait_until(lambda: not [pid for pid, _ in leftovers.list_descendants() if is_template(pid)], 2)
            assert not targets.is_dead(pidfd)
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        wait_until(lambda: not leftovers.wait_for_ends(before, 0), 4)


def read_parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_template(pid: int) -> bool:
    return leftovers.read_title(pid).startswith("warmfork: template")


def test_a_child_that_ignores_sigterm_is_killed_after_a_grace(tmp_path):
    code = STARTS_ONE.format(
        make="t = warmfork.Template(); signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "p = t.start(targets.sign_and_wait, (sys.argv[1],))",
        before="",
    )
    with make_sign(tmp_path) as sign, run_meanwhile(code, tmp_path, sign.path) as program:
        pidfd = os.pidfd_open(int(sign.wait()[0]))
        program.kill()
        program.wait(10)
        wait_until(lambda: targets.is_dead(pidfd), 2)
        os.close(pidfd)


def test_an_orphan_that_has_closed_all_its_files_and_ignores_sigterm_is_killed_after_a_grace(tmp_path):
    """Nothing but that is left to do then: the tracker stays for it."""
    code = """
        import os, signal, sys, warmfork
        from tests import signs, targets

        def stay(path):
            os.closerange(3, 1024)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signs.give(path)
            while True:
                signal.pause()

        template = warmfork.Template()
        child = template.start(stay, (sys.argv[1],))
        sys.stdin.readline()
        pidfd = os.pidfd_open(template.pid)
        os.kill(template.pid, signal.SIGKILL)
        while not targets.is_dead(pidfd): pass
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with make_sign(tmp_path) as sign, run_meanwhile(code, tmp_path, sign.path) as program:
        pidfd = os.pidfd_open(int(sign.wait()[0]))
        program.stdin.write("\n")
        program.stdin.flush()
        program.wait(10)
        wait_until(lambda: targets.is_dead(pidfd), 2)
        os.close(pidfd)


def test_the_children_of_a_dead_template_go_with_the_child_that_started_them(tmp_path):
    """M5: their client is no main program, and nobody but the tracker is left to see its death."""
    code = """
        import signal, sys, warmfork
        from tests import signs, targets

        def middle(path):
            own = warmfork.get_context(name="inner", orphans="kill")
            process = own.Process(target=targets.sign_and_wait, args=(path,))
            process.start()
            signs.give(path)
            signal.pause()

        if __name__ == "__main__":
            process = warmfork.get_context(name="outer").Process(target=middle, args=(sys.argv[1],))
            process.start()
            sys.stdin.read()
    """
    with make_sign(tmp_path) as sign, run_meanwhile(code, tmp_path, sign.path) as program:
        one, other = map(int, sign.wait(2))
        inner = one if "inner" in leftovers.read_title(one) else other
        middle = other if inner == one else one
        pidfd = os.pidfd_open(inner)
        template = read_parent(inner)
        os.kill(template, signal.SIGKILL)
        wait_until(lambda: "tracker" in leftovers.read_title(read_parent(inner)))
        assert not targets.is_dead(pidfd)
        os.kill(middle, signal.SIGKILL)
        wait_until(lambda: targets.is_dead(pidfd), 3)
        os.close(pidfd)
        program.communicate(timeout=20)


def test_a_successor_knows_the_children_of_templates_that_died_before_it(tmp_path):
    """Template and tracker killed, and then the program: it has handed the dead template's board to the next tracker, and
    with it the children that were to end with the program (M5, M21)."""
    code = """
        import signal, sys, warmfork
        from tests import signs, targets

        if __name__ == "__main__":
            context = warmfork.get_context(name="dies")
            started = [
                context.Process(target=targets.sign_and_wait, args=(sys.argv[1],), daemon=daemon)
                for daemon in (True, False)
            ]
            for process in started: process.start()
            pids = [process.pid for process in started]
            print(*pids, context.template_pid, flush=True)
            sys.stdin.readline()
            kept = context.Lock()
            print(flush=True)
            signal.pause()
    """
    with make_sign(tmp_path) as sign, run_meanwhile(code, tmp_path, sign.path) as program:
        daemon, kept, template = map(int, program.stdout.readline().split())
        sign.wait(2)
        tracker = read_parent(template)
        pidfds = [os.pidfd_open(pid) for pid in (daemon, kept)]
        helpers = [os.pidfd_open(pid) for pid in (template, tracker)]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pidfd in helpers:
                signal.pidfd_send_signal(pidfd, number)
        wait_until(lambda: all(map(targets.is_dead, helpers)))
        print(file=program.stdin, flush=True)
        program.stdout.readline()
        wait_until(lambda: find_successors(program.pid))
        program.kill()
        program.wait(10)
        wait_until(lambda: targets.is_dead(pidfds[0]), 2)
        assert not targets.is_dead(pidfds[1]), "it was to be kept"
        signal.pidfd_send_signal(pidfds[1], signal.SIGKILL)
        for pidfd in (*pidfds, *helpers):
            os.close(pidfd)


def find_successors(parent: int) -> list[int]:
    """The trackers that this process has started."""
    return [pid for pid in leftovers.list_children(parent) if leftovers.read_title(pid).startswith("warmfork: tracker")]


def test_an_orphan_policy_is_one_of_two_words(monkeypatch):
    for call in (
        lambda: warmfork.get_context(orphans="adopt"),
        lambda: warmfork.Template(orphans="adopt"),
        lambda: warmfork.get_context().Process(orphans="adopt"),
    ):
        with pytest.raises(ValueError, match="'kill', 'keep'"):
            call()
    monkeypatch.setenv("WARMFORK_ORPHANS", "adopt")
    with pytest.raises(ValueError, match="WARMFORK_ORPHANS"):
        warmfork.Template()


WHOLE = """
    import os, signal, sys, warmfork
    from multiprocessing.shared_memory import SharedMemory
    from tests import signs, targets

    def start_others(path):
        own = warmfork.get_context()
        for _ in range(2):
            own.Process(target=targets.sign_and_wait, args=(path,), orphans={policy!r}).start()
        targets.sign_and_wait(path)

    if __name__ == "__main__":
        context = warmfork.get_context(orphans={policy!r})
        segments = [SharedMemory(create=True, size=100) for _ in range(20)]
        locks = [context.Lock() for _ in range(20)]
        manager = context.Manager()
        for number in range(50):
            target = start_others if number >= 45 else targets.sign_and_wait
            context.Process(target=target, args=(sys.argv[1],), daemon=number < 25).start()
        import multiprocessing
        print(manager.address, manager._process.pid, multiprocessing.current_process()._config["semprefix"],
              *(segment.name for segment in segments), flush=True)
        signal.pause()
"""


@pytest.mark.parametrize("policy", ["kill", None])
def test_what_remains_of_a_big_program_that_is_killed_is_what_the_policy_says(tmp_path: Path, policy):
    """25 daemons and 25 others, 5 of them with children of their own; 20 segments, 20 locks, a manager."""
    before = leftovers.list_descendants()
    with make_sign(tmp_path) as sign:
        with run_meanwhile(WHOLE.format(policy=policy), tmp_path, sign.path) as program:
            address, manager, stem, *segments = program.stdout.readline().split()
            pids = {int(manager), *map(int, sign.wait(60, 60))}
            pidfds = {pid: os.pidfd_open(pid) for pid in pids}
            names = [name for name in os.listdir("/dev/shm") if stem.lstrip("/") in name or name in segments]
            assert len([name for name in names if name in segments]) == 20
            assert Path(address).exists()
            program.kill()
            program.wait(10)
        kept = 0 if policy == "kill" else 25 + 10 + 1
        wait_until(lambda: sum(not targets.is_dead(fd) for fd in pidfds.values()) == kept, 2.5)
        if kept:
            assert all(Path("/dev/shm", name).exists() for name in segments), "M8: a living holder keeps its names"
            for fd in pidfds.values():
                try:
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        for fd in pidfds.values():
            os.close(fd)
        wait_until(lambda: not leftovers.wait_for_ends(before, 0), 4)
        left = [name for name in os.listdir("/dev/shm") if stem.lstrip("/") in name or name in segments]
        assert left == [] and not Path(address).parent.exists()


def test_twenty_children_of_a_killed_template_have_their_own_twenty_endings(tmp_path: Path):
    signals = (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGUSR1, signal.SIGABRT)
    with make_sign(tmp_path) as ready, make_sign(tmp_path) as go, warmfork.Template() as template:
        codes = range(1, 16)
        children = [
            template.start(targets.sign_wait_and_call, (ready.path, go.path, "os", "_exit", (code,))) for code in codes
        ]
        killed = [template.start(targets.sign_and_wait, (ready.path,)) for _ in signals]
        ready.wait(20)
        os.kill(template.pid, signal.SIGKILL)
        wait_until(lambda: "tracker" in leftovers.read_title(read_parent(children[0].pid)))
        from tests.signs import give

        for _ in codes:
            give(go.path)
        for child, number in zip(killed, signals, strict=True):
            child.send_signal(number)
        assert {child.wait(20).code for child in children} == set(codes)
        for child, number in zip(killed, signals, strict=True):
            assert child.wait(20).signal == number
