"""The handle where nobody else knows, and where threads meet (M4)."""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path

import pytest

import warmfork
from tests import ends, targets
from tests.running import ROOT
from tests.signs import make_sign
from tests.support import run_program, wait_until
from warmfork._client.handle import Child
from warmfork._client.link import Link
from warmfork._machine import fds, sockets
from warmfork._words import messages, wire
from warmfork._words.children import Answer, Record

KERNEL = tuple(int(part) for part in os.uname().release.split(".")[:2])


@pytest.mark.skipif(KERNEL < (6, 15), reason="PIDFD_INFO_EXIT came with Linux 6.15")
def test_the_clean_exit_of_an_orphan_is_told_however_late_its_new_parent_reaps_it(tmp_path: Path):
    """M4: template and tracker are dead, and PID 1 takes its time. A zombie shows no 0, so 0 was called lost."""
    code = """
        import os, signal, sys, threading, time, warmfork
        from tests import targets
        from warmfork._machine import fds, pids
        pids.become_subreaper()
        with warmfork.Template() as template:
            child = template.start(targets.sign_wait_and_call, (sys.argv[1], sys.argv[2], "os", "_exit", (0,)))
            tracker = int(open(f"/proc/{template.pid}/stat").read().rpartition(")")[2].split()[1])
            open(sys.argv[1]).readline()
            # Stopped first, so that none of them does anything about the other's death.
            for pid in (template.pid, tracker):
                os.kill(pid, signal.SIGSTOP)
            helpers = [os.pidfd_open(template.pid), os.pidfd_open(tracker)]
            for pid in (template.pid, tracker):
                os.kill(pid, signal.SIGKILL)
            for pidfd in helpers:
                fds.wait_readable(pidfd, None)
            with open(sys.argv[2], "w") as go:
                go.write("\\n")
            fds.wait_readable(child.fileno(), None)
            reaper = threading.Timer(0.3, os.waitpid, (child.pid, 0))
            reaper.start()
            print(child.wait(20))
            reaper.join()
    """
    with make_sign(tmp_path) as ready, make_sign(tmp_path) as go:
        done = run_program(code, tmp_path, ready.path, go.path, env={"PYTHONPATH": ROOT})
    assert done.stdout == "Exited(code=0)\n", done.stderr


def test_the_tracker_is_asked_when_the_template_is_dead_and_not_when_its_channel_is_at_its_end(tmp_path: Path):
    """M4: a channel ends a moment before the children have the tracker as their parent, who alone tells what they used."""
    with warmfork.Template(spares=0) as template, make_sign(tmp_path) as ready, make_sign(tmp_path) as go:
        child = template.start(targets.sign_wait_and_call, (ready.path, go.path, "os", "_exit", (7,)))
        ready.wait()
        os.kill(template.pid, signal.SIGSTOP)
        with open(go.path, "w") as fifo:
            fifo.write("go\n")
        wait_until(lambda: targets.is_dead(child.fileno()))
        child._channel.end()
        killer = threading.Timer(0.2, os.kill, (child._channel.pid, signal.SIGKILL))
        killer.start()
        assert child.wait(20) == warmfork.Exited(7)
        killer.join()
        assert child.usage is not None


def test_a_start_asks_for_the_outcome_of_nobody_else_s_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Another thread may be about to, or may close the handle at this moment: it is that thread's to ask."""
    with warmfork.Template(spares=0) as template, make_sign(tmp_path) as ready:
        dead = template.start(targets.give, (1,))
        running = template.start(targets.sign_and_wait, (ready.path,))
        ready.wait()
        wait_until(lambda: targets.is_dead(dead.fileno()))
        settled: list[Child] = []
        settle = Child._settle
        monkeypatch.setattr(Child, "_settle", lambda child: (settled.append(child), settle(child))[1])
        assert template.start(targets.give, (2,)).result(20) == 2
        assert dead not in settled and running not in settled
        assert not dead.is_running() and running.is_running()
        assert dead.result(20) == 1
    assert running.outcome == warmfork.Signaled(signal.SIGTERM), "stop() ends it"
    running.close()
    assert not running.is_running()


def test_threads_that_close_their_handles_while_others_start_meet_no_error():
    errors: list[BaseException] = []

    def start_and_close(template: warmfork.Template) -> None:
        try:
            for number in range(40):
                child = template.start(targets.give, (number,))
                assert child.result(20) == number
                child.close()
        except BaseException as error:
            errors.append(error)

    with warmfork.Template() as template:
        threads = [threading.Thread(target=start_and_close, args=(template,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert errors == []


def test_open_files_that_a_child_sends_before_its_last_word_are_closed():
    """Each stayed open in the program for good."""
    with warmfork.Template(preload=["tests.ends"], spares=0) as template:
        template.start(len, ([],)).result(20)
        before = len(fds.list_fds())
        child = template.start(abs, (ends.Spraying(50),))
        child.wait(20)
        with pytest.raises(warmfork.ChildError):
            child.result(20)  # its Became was ours, so the real one is nonsense
        child.close()
        assert len(fds.list_fds()) == before


def test_a_child_says_once_where_it_wants_what_is_large_and_is_not_listened_to_for_ever():
    """Whoever starts something reads what others of its children say, and there was no end to it."""
    link = Link(os.getpid(), replies=True)
    link.feed, theirs = sockets.make_pair()
    for _ in range(3):
        sockets.send(theirs, wire.encode(messages.BuffersAt(b"")))
    link.read()
    assert link.is_birth_over() and link.state == "ended"
    link.close()
    theirs.close()


def test_files_of_a_child_that_did_not_arrive_are_a_start_error_with_its_number_and_a_hint():
    answer = Answer(Record(os.getpid()), None, [])
    with pytest.raises(warmfork.StartError, match="hint: raise the limit of open files") as caught:
        Child._from_answer(None, answer, None)
    assert isinstance(caught.value, OSError) and caught.value.errno == errno.EMFILE


def test_what_outlives_the_modules_at_the_interpreter_s_end_says_nothing(tmp_path: Path):
    program = """
        import builtins
        import os
        import sys
        import warmfork
        from warmfork._client import fd_list
        from warmfork._machine import fds

        def see(one):
            '''What is open, when the names of its module are gone, as those of modules are at the end.'''
            path = f"/proc/self/fd/{one.fileno() if hasattr(one, 'fileno') else one[0]}"
            before = os.path.exists(path)
            names = vars(sys.modules[type(one).__module__])
            known = dict(names)
            names.clear()
            del one
            names.update(known)
            return before, os.path.exists(path)

        if __name__ == "__main__":
            template = builtins.template = warmfork.Template(spares=1)
            builtins.child = template.start(pow, (2, 3))
            session = builtins.session = template.session()
            print(session.__enter__().run("1").result)
            print(see(fd_list.Owned([os.dup(0)])))
            print(see(fds.Fd(os.dup(0))), flush=True)
    """
    done = run_program(program, tmp_path, env={"PYTHONPATH": ROOT})
    assert done.stdout.splitlines() == ["1", "(True, False)", "(True, False)"]
    assert done.stderr == ""
