"""The server loop: a fork that fails, a client that talks nonsense or sits still, an idle tree (rows 29 to 33, M16)."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import socket
import sys
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.running import ROOT, get_tracker
from tests.support import run_program, wait_until
from warmfork._client import launch
from warmfork._client.client import get_client
from warmfork._machine import fds, memfds, sockets
from warmfork._words import messages, wire

ENV = {"PYTHONPATH": ROOT}


@pytest.mark.parametrize("number", ["EAGAIN", "ENOMEM"])
def test_a_fork_that_fails_is_an_error_of_that_start_and_the_template_serves_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str
):
    """Row 29: in the stdlib it kills the server, and every running child is reported as 255."""
    (tmp_path / "fails_to_fork.py").write_text(
        f"""
import errno, os
from warmfork._template import forking
real, left = forking.fork, [2]
def fork():
    if left[0]:
        left[0] -= 1
        raise OSError(errno.{number}, os.strerror(errno.{number}))
    return real()
def later():
    forking.fork = fork
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    # Its own spares try once more, so that the count would not be ours: none here.
    with warmfork.Template(preload=["fails_to_fork:later"], spares=0) as template:
        for _ in range(2):
            with pytest.raises(warmfork.StartError, match="fork") as caught:
                template.start(targets.give, (1,))
            assert os.strerror(getattr(errno, number)) in str(caught.value)
        assert template.start(targets.give, (1,)).result(20) == 1
        assert template.generation == 1


def test_a_real_limit_of_processes_is_an_error_of_that_start_and_the_others_run_on(tmp_path: Path):
    """Row 29, with RLIMIT_NPROC, which does not hold for root."""
    if os.geteuid() != 0:
        pytest.skip("needs a user id of its own")
    code = """
        import os, resource, signal, sys, warmfork
        from tests import targets
        os.setgroups([])
        os.setresgid(54321, 54321, 54321)
        os.setresuid(54321, 54321, 54321)
        if not os.access(os.__file__, os.R_OK):
            sys.exit("unreachable")
        with warmfork.Template(spares=0) as template:
            first = template.start(targets.wait)
            # Two helpers, the child and we ourselves: no more.
            resource.setrlimit(resource.RLIMIT_NPROC, (4, 100))
            resource.prlimit(template.pid, resource.RLIMIT_NPROC, (4, 100))
            kept, errors = [], []
            for _ in range(3):
                try:
                    kept.append(template.start(targets.wait))
                except warmfork.StartError as error:
                    errors.append(error)
            print(len(errors) >= 2, errors[0])
            resource.prlimit(template.pid, resource.RLIMIT_NPROC, (100, 100))
            assert template.start(targets.give, (1,)).result(20) == 1
            assert first.outcome is None and template.generation == 1
            first.terminate()
            assert first.wait(20) == warmfork.Signaled(15)
    """
    os.chmod(tmp_path, 0o777)
    done = run_program(code, tmp_path, env=ENV, expect=None)
    if done.stderr == "unreachable\n":
        pytest.skip("this interpreter is in a folder that other users can't enter")
    assert done.code == 0, done.stderr
    assert done.stdout.startswith("True could not start a process: fork: Resource temporarily unavailable")


def test_a_client_that_is_out_of_fds_gets_an_error_and_the_others_notice_nothing(tmp_path: Path):
    """Row 30 and M10: 15 children and a limit of 40 killed the server, and all 15 read 255."""
    code = """
        import os, resource, warmfork
        from tests import targets
        with warmfork.Template(spares=0) as template:
            children = [template.start(targets.wait) for _ in range(3)]
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 400), hard))
            hoard = []
            while len(hoard) < 1000:
                try:
                    hoard.append(os.dup(0))
                except OSError:
                    break
            errors = []
            for _ in range(3):
                try:
                    template.start(targets.give, (1,))
                except OSError as error:
                    errors.append(error)
            assert len(errors) == 3, errors
            print(errors[0])
            for fd in hoard:
                os.close(fd)
            assert template.start(targets.give, (2,)).result(20) == 2
            assert [child.outcome for child in children] == [None] * 3 and template.generation == 1
            for child in children:
                child.terminate()
            assert {child.wait(20) for child in children} == {warmfork.Signaled(15)}
    """
    done = run_program(code, tmp_path, env=ENV)
    assert "out of fds" in done.stdout or "Too many open files" in done.stdout


def say_hello(template: warmfork.Template) -> sockets.socket:
    """Another channel to this template, as a second client would have it: its Welcome is read."""
    channel = launch.say_hello(get_client().ensure_door(), template._get_spec(), False)
    assert fds.wait_readable(channel.fileno(), 10)
    got = sockets.receive(channel)
    fds.close_all(got.fds)
    assert isinstance(wire.decode(got.data), messages.Welcome)
    return channel


NONSENSE = {
    "garbage": b"\xff garbage",
    "empty_tag": b"\0",
    "half": wire.encode(messages.Spawn(1, 1, "half"))[:-3],
    "too_long": wire.encode(messages.Spawn(1, 1, "long")) + b"!",
    "illegal": wire.encode(messages.Sealed(1)),
    "huge": b"\x20" * 60_000,
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_on_a_channel_costs_its_sender_that_channel_and_nobody_else_anything(kind: str):
    """Rows 31 and 33."""
    with warmfork.Template(spares=0) as template:
        running = template.start(targets.wait)
        channel = say_hello(template)
        channel.send(NONSENSE[kind])
        assert fds.wait_readable(channel.fileno(), 10)
        got = channel.recv(10, socket.MSG_DONTWAIT)
        assert got == b"", "the template has closed it"
        channel.close()
        assert template.start(targets.give, (1,)).result(20) == 1
        assert running.outcome is None and template.generation == 1
        running.kill()
        running.wait(20)


def test_a_client_that_sits_still_or_vanishes_half_way_holds_nobody_up():
    """Row 32: in the stdlib one silent connection blocks every start()."""
    with warmfork.Template(spares=0) as template:
        silent = [say_hello(template) for _ in range(3)]
        asked = say_hello(template)
        asked.send(wire.encode(messages.Spawn(1, 1, "never fed")))
        assert fds.wait_readable(asked.fileno(), 10)
        assert template.start(targets.give, (1,)).result(20) == 1
        for channel in (*silent, asked):
            channel.close()
        assert template.start(targets.give, (2,)).result(20) == 2
        # The child that was never fed has left: nobody holds the other end of its feed.
        wait_until(lambda: not list_children(template.pid), what="a child that nobody wants is gone")


def list_children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_nonsense_at_the_door_costs_its_sender_the_message_and_nobody_else_anything():
    with warmfork.Template(spares=0) as template:
        template.wait_ready()
        door = get_client().ensure_door()
        ours, theirs = sockets.make_pair()
        for data, passed in (
            (b"\xff garbage", ()),
            (wire.encode(messages.Hello(os.getpid(), 0, 3)), ()),
            (wire.encode(messages.Hello(os.getpid(), 0, 0)), (theirs.fileno(), 0, 0, 0)),
            (wire.encode(messages.Ask(1, 1))[:-1], (theirs.fileno(),)),
            (wire.encode(messages.Sealed(3)), (theirs.fileno(),)),
            (wire.encode(messages.GiveUp()), (0, theirs.fileno())),
            (wire.encode(messages.Register("semaphore", "/never-was"))[:5], ()),
        ):
            sockets.send(door, data, passed)
        ours.close()
        theirs.close()
        with warmfork.Template(name="after-it", spares=0) as other:
            assert other.start(targets.give, (1,)).result(20) == 1
        assert template.start(targets.give, (2,)).result(20) == 2


def test_a_hello_with_somebody_else_s_pidfd_is_refused():
    """M1: the kernel vouches for the sender, not the message."""
    with warmfork.Template(spares=0) as template:
        child = template.start(targets.wait)
        spec = memfds.make_memory("spec", wire.encode(template._get_spec(), largest=1 << 30))
        ours, theirs = sockets.make_pair()
        door = get_client().ensure_door()
        message = wire.encode(messages.Hello(child.pid, 0, 0))
        sockets.send(door, message, (theirs.fileno(), child.fileno(), spec, door.fileno()))
        theirs.close()
        os.close(spec)
        assert fds.wait_readable(ours.fileno(), 10)
        answer = wire.decode(sockets.receive(ours).data)
        ours.close()
        assert isinstance(answer, messages.Refused) and "pidfd" in answer.why
        child.kill()
        child.wait(20)


def test_a_client_that_reads_nothing_does_not_hold_the_template_up():
    """M16: a bounded outbox, and no blocking send: the others are served."""
    with warmfork.Template(spares=0) as template:
        deaf = say_hello(template)
        for number in range(1, 120):
            deaf.send(wire.encode(messages.Spawn(number, 1, f"deaf-{number}")))
        assert template.start(targets.give, (1,)).result(30) == 1
        deaf.close()
        wait_until(lambda: not list_children(template.pid), 30, "children that nobody feeds are gone")
        assert template.start(targets.give, (2,)).result(30) == 2


def read_switches(pid: int) -> int:
    """How often this process was given the processor so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("voluntary_ctxt", "nonvoluntary_ctxt")))


def test_an_idle_tree_wakes_up_not_once_a_second():
    """With children alive and nothing to do: template, tracker and children wake zero times, and memory is flat."""
    with warmfork.Template(preload=["json"], spares=1) as template:
        children = [template.start(targets.wait) for _ in range(3)]
        tracker = get_tracker()
        watched = [template.pid, tracker, *(child.pid for child in children)]
        timer = select.poll()

        def is_quiet() -> bool:
            before = [read_switches(pid) for pid in watched]
            timer.poll(300)
            return before == [read_switches(pid) for pid in watched]

        wait_until(is_quiet, 20, "what it does when it finds time is over")
        before, memory = [read_switches(pid) for pid in watched], [read_memory(pid) for pid in watched[:2]]
        timer.poll(1500)
        assert before == [read_switches(pid) for pid in watched]
        grown = [read_memory(pid) - then for pid, then in zip(watched, memory, strict=False)]
        assert max(grown) * resource.getpagesize() < 1 << 18, grown  # the kernel's count is not exact to the page
        for child in children:
            child.kill()
            assert child.wait(20) == warmfork.Signaled(signal.SIGKILL)


def read_memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def has_warmed_up() -> bool:
    return "warmfork._idle.pretouch" in sys.modules


def has_rehearsed() -> bool:
    return "warmfork._idle.rehearsal" in sys.modules


def test_a_template_s_memory_is_flat_over_hundreds_of_children():
    with warmfork.Template(preload=["tests.targets"], spares=1) as template:

        def start(count: int) -> int:
            for _ in range(count):
                template.start(int).wait(20)
            return read_memory(template.pid)

        # What it loads when it is first idle is no growth.
        wait_until(lambda: template.start(has_warmed_up).result(20), 20.0, "its warm-up")
        warm = start(150)
        grown = start(450) - warm
        assert grown * resource.getpagesize() < 1 << 19
