"""The template's loop: an error of one costs that one, no child stays in it, and it ends where nobody ever came."""

from __future__ import annotations

import logging
import os
import resource
import signal
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.running import ROOT
from tests.support import run_forked, run_program, wait_until
from tests.template.test_server import list_children, say_hello
from tests.template.test_spares import have_a_spare
from warmfork._machine import fds, memfds, memory, sockets
from warmfork._template import main
from warmfork._tracker import files, templates
from warmfork._tracker.files import LOG_SIZE
from warmfork._words import messages, wire


def fail_for_some() -> None:
    """Preloaded: a name makes the template's own code fail, as a bug of ours would."""
    from warmfork._template.children import Children

    fork = Children.fork

    def fork_or_fail(self, client, wanted):  # type: ignore[no-untyped-def]
        if wanted.name == "bug":
            raise RuntimeError("a bug of ours")
        fork(self, client, wanted)

    Children.fork = fork_or_fail


def test_an_error_in_a_handler_costs_the_client_that_caused_it_and_is_reported(caplog: pytest.LogCaptureFixture):
    with warmfork.Template(preload=[f"{__name__}:fail_for_some"], spares=0) as template:
        running = template.start(targets.wait)
        pid = template.pid
        channel = say_hello(template)
        channel.send(wire.encode(messages.Spawn(1, 1, "bug")))
        assert fds.wait_readable(channel.fileno(), 10)
        got = channel.recv(60_000)
        assert got == b"" or isinstance(wire.decode(got), messages.Noted)
        channel.close()
        assert template.start(targets.give, (1,)).result(20) == 1
        assert template.pid == pid and running.outcome is None
        running.kill()
        running.wait(20)
    assert "RuntimeError: a bug of ours" in caplog.text and "fork_or_fail" in caplog.text


def fill_the_log() -> None:
    """Preloaded: whatever the template may write to stderr is written by what runs before each fork."""
    os.register_at_fork(before=lambda: os.fstat(2).st_size == LOG_SIZE and os.pwrite(2, b"x" * LOG_SIZE, 0))
    os.register_at_fork(before=lambda: os.fstat(2).st_size == LOG_SIZE and os.lseek(2, 0, os.SEEK_END))
    fail_for_some()


def test_a_template_whose_log_is_full_goes_on_after_an_error(caplog: pytest.LogCaptureFixture):
    with warmfork.Template(preload=[f"{__name__}:fill_the_log"], spares=0) as template:
        assert template.start(targets.give, (1,)).result(20) == 1
        pid = template.pid
        channel = say_hello(template)
        channel.send(wire.encode(messages.Spawn(1, 1, "bug")))
        wait_until(lambda: template.start(targets.give, (2,)).result(20) == 2 and "a bug of ours" in caplog.text)
        assert template.pid == pid
        channel.close()


def fail_to_reap() -> None:
    """Preloaded: telling of a death by SIGTERM fails."""
    from warmfork._template.deaths import Deaths

    tell = Deaths.tell

    def tell_or_fail(self, client, pid, status, usage):  # type: ignore[no-untyped-def]
        if status == signal.SIGTERM:
            raise RuntimeError("can't tell")
        tell(self, client, pid, status, usage)

    Deaths.tell = tell_or_fail


def test_a_death_that_can_not_be_told_costs_no_other():
    """Two at the same time, and the one that is reaped first can't be told."""
    with warmfork.Template(preload=[f"{__name__}:fail_to_reap"], spares=0) as template:
        second, first = (template.start(targets.wait) for _ in range(2))
        pid = template.pid
        pidfds = [os.pidfd_open(child.pid) for child in (first, second)]
        os.kill(pid, signal.SIGSTOP)
        for pidfd, number in zip(pidfds, (signal.SIGTERM, signal.SIGKILL), strict=True):
            signal.pidfd_send_signal(pidfd, number)
            assert fds.wait_readable(pidfd, 10)
        os.kill(pid, signal.SIGCONT)
        fds.close_all(pidfds)
        wait_until(lambda: not list_children(pid), what="both are reaped")
        assert second.wait(5) == warmfork.Signaled(signal.SIGKILL)
        assert template.start(targets.raise_error, (SystemExit(7),)).wait(20) == warmfork.Exited(7)
        assert template.pid == pid


def fail_in_children() -> None:
    """Preloaded: a child fails right after its fork, before it is a birth."""
    from warmfork._template import children

    class Birth(children.Birth):
        def __init__(self, *given: object) -> None:
            raise RuntimeError("no birth")

    children.Birth = Birth


def test_a_child_that_fails_right_after_its_fork_is_gone_and_not_a_second_template():
    with warmfork.Template(preload=[f"{__name__}:fail_in_children"], spares=0) as template:
        for _ in range(3):
            with pytest.raises(warmfork.WarmforkError):
                template.start(targets.give, (1,)).result(20)
        wait_until(lambda: not list_children(template.pid), what="no process is left of them")


def test_a_client_that_wants_no_spare_is_given_none_again_before_its_next_start(tmp_path: Path):
    """One that is out of fds can't have the fds of a spare, and closes what it got: forking for it again and again would
    never end."""
    with warmfork.Template(spares=1) as template:
        have_a_spare(template)
        other = say_hello(template)
        assert fds.wait_readable(other.fileno(), 10)
        got = sockets.receive(other)
        assert isinstance(wire.decode(got.data), messages.Spawned)
        fds.close_all(got.fds)
        spare = wire.decode(got.data).pid
        assert fds.wait_readable(other.fileno(), 10)
        left = wire.decode(sockets.receive(other).data)
        assert isinstance(left, messages.Exited) and (left.pid, left.status) == (spare, 0)
        assert not fds.wait_readable(other.fileno(), 0.3)
        other.send(wire.encode(messages.Spawn(5, 1, "asked for")))
        assert fds.wait_readable(other.fileno(), 10)
        with sockets.receive(other) as got:
            assert wire.decode(got.data).request == 5
        other.close()


def see_limit() -> tuple[tuple[int, int], tuple[int, int]]:
    return resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_NOFILE)


def test_a_template_may_open_as_many_files_as_it_is_allowed_and_its_children_as_many_as_their_client(tmp_path: Path):
    code = """
        import resource, warmfork
        from tests.template.test_loop import see_limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 400))
        with warmfork.Template(spares=1) as template:
            for _ in range(3):
                assert template.start(see_limit).result(20) == ((400, 400), (64, 400))
    """
    run_program(code, tmp_path, env={"PYTHONPATH": ROOT})


def launch_alone(*preload: str) -> tuple[templates.TemplateRecord, int]:
    """A template that nobody ever says hello to: its tracker is this process, and sends it no client. Gives the ledger
    too."""
    with warmfork.Template(preload=list(preload), spares=0, name="alone") as template:
        spec = template._get_spec()
    ledger, door = os.memfd_create("ledger"), sockets.make_pair()
    assert memory.lock(ledger), "so that we are its tracker"
    record = templates.exec_template((), spec, 1, 0, [], ledger)
    spec_fd = memfds.make_memory("spec", wire.encode(spec, largest=1 << 30))
    templates.launch(
        record, (spec_fd, record.board.fileno(), record.log.fileno(), door[0].fileno(), record.stacks.fileno())
    )
    os.close(spec_fd)
    for end in door:
        end.close()
    return record, ledger


def shorten_loneliness() -> None:
    from warmfork._template import server

    server.LONELY = 0.2


def test_a_template_that_never_had_a_client_ends():
    record, ledger = launch_alone(f"{__name__}:shorten_loneliness")
    try:
        pidfd = os.pidfd_open(record.pid)
        assert fds.wait_readable(pidfd, 20), "it waits for ever for somebody who is dead"
        os.close(pidfd)
    finally:
        os.kill(record.pid, signal.SIGKILL)
        assert os.waitpid(record.pid, 0)[1] == 0
        record.control.close()
        for owner in (record.board, record.log, record.stacks):
            owner.close()
        os.close(ledger)


def test_a_template_that_refuses_survives_that_its_first_client_is_gone():
    """It died of a BrokenPipeError, and the others had no answer."""

    def refuse() -> list[messages.Message]:
        gone, theirs = sockets.make_pair()
        gone.close()
        main.answer_client(theirs.detach(), messages.Unsafe(("a finding",)))
        main.answer_client(os.open(os.devnull, os.O_RDONLY), messages.Unsafe(("a finding",)))
        ours, theirs = sockets.make_pair()
        main.answer_client(theirs.detach(), messages.Unsafe(("a finding",)))
        return wire.decode(sockets.receive(ours).data).findings

    assert run_forked(refuse) == ("a finding",)


def hang_when_thrown_away() -> None:
    """Preloaded: the throw-away child that records what a birth touches hangs."""
    import time

    from warmfork._idle import pretouch, rehearsal

    pretouch.DEADLINE = 1.0
    rehearsal.live = lambda *_: time.sleep(60)


def test_a_throw_away_child_that_hangs_holds_nobody_up(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "warmfork")
    with warmfork.Template(preload=[f"{__name__}:hang_when_thrown_away"], spares=1) as template:

        def is_told() -> bool:
            assert template.start(targets.give, (1,)).result(0.9) == 1, "quicker than the throw-away child's deadline"
            return "without pretouch" in caplog.text

        wait_until(is_told, 20.0, "word of it")
        wait_until(
            lambda: len(list_children(template.pid)) <= 1, what="it was ended and reaped: a spare is all there is"
        )


def test_an_environment_of_any_letters_and_length_is_welcome(monkeypatch: pytest.MonkeyPatch):
    """Letters were counted, and bytes sent: 25,000 Chinese ones killed every template."""
    for text in ("漢" * 25_000, "😀" * 16_000, "x" * 55_000):
        monkeypatch.setenv("LONG", text)
        with warmfork.Template(spares=0) as template:
            assert template.start(os.environ.get, ("LONG",)).result(20) == text


def test_a_name_of_any_length_is_as_good_as_a_short_one():
    for spares in (0, 1):
        with warmfork.Template(spares=spares) as template:
            for name in ("n" * 70_000, "漢" * 30_000):
                if spares:
                    have_a_spare(template)
                assert template.start(targets.give, (1,), name=name).result(20) == 1


def test_a_board_has_one_writer():
    """The fd that an mmap object keeps is no way to write to it either."""

    def look() -> list[bool]:
        ledger = os.memfd_create("ledger")
        board = files.make_board(ledger)
        mapping, number = memory.map_shared_by(board, os.fstat(board).st_size)
        same = os.fstat(number).st_ino == os.fstat(board).st_ino
        mapping.close()
        return [same, fds.is_open(number)]

    assert run_forked(look) == [True, False], "it is the fd that is closed with the mapping"
