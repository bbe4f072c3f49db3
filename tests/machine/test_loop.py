"""The loop of a supervisor: what happens on an fd is handled by whoever watches it."""

from __future__ import annotations

import os

import pytest

from tests.support import run_forked
from warmfork._machine.loop import REPORTS, Loop


def test_what_happened_on_a_closed_fd_is_not_taken_to_have_happened_on_the_one_that_has_its_number_now():
    """Both were told of in one poll. A living program was taken for dead that way, whose pidfd had the number of the
    control socket of a template that was dead."""
    loop = Loop(pytest.fail)
    pipes = [os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) for _ in range(2)]
    handled: list[str] = []
    later: list[int] = []

    def replace(mine: tuple[int, int], other: tuple[int, int]) -> None:
        handled.append("first")
        os.read(mine[0], 1)
        loop.forget(other[0])
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.dup2(reader, other[0])  # another file, of the same number
        os.close(reader)
        later.append(writer)
        loop.watch(other[0], lambda events: handled.append("the other"))

    for mine, other in (pipes, reversed(pipes)):
        loop.watch(mine[0], lambda events, mine=mine, other=other: replace(mine, other))
        os.write(mine[1], b"x")
    loop.turn(5)
    assert handled == ["first"]
    os.write(later[0], b"x")
    loop.turn(5)
    assert handled == ["first", "the other"], "it is watched"
    for fd in (*later, *pipes[0], *pipes[1]):
        os.close(fd)
    loop.poller.close()


def test_what_a_handler_raises_costs_whoever_caused_it_and_the_loop_goes_on():
    said: list[str] = []
    loop = Loop(said.append)
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    dropped: list[int] = []

    def fail(events: int) -> None:
        raise ZeroDivisionError("this one")

    loop.watch(reader, fail, drop=lambda: dropped.append(1))
    os.write(writer, b"x")
    for _ in range(REPORTS + 5):
        assert loop.turn(5)
    assert len(dropped) == REPORTS + 5
    assert len(said) == REPORTS, "whoever can cause one can cause a million"
    assert "Traceback" in said[0] and "this one" in said[0]
    loop.forget(reader)
    loop.poller.close()
    os.close(reader)
    os.close(writer)


def test_an_error_is_reported_though_nothing_can_be_loaded_any_longer(monkeypatch: pytest.MonkeyPatch):
    """A tracker that was out of files died of the import of what was to say so."""
    import sys

    said: list[str] = []
    loop = Loop(said.append)
    monkeypatch.setitem(sys.modules, "traceback", None)
    loop.tell(ZeroDivisionError("this one"))
    assert said == ["ZeroDivisionError('this one')"]
    loop.poller.close()


def test_an_fd_that_a_fork_has_too_is_not_told_of_once_it_is_closed_here():
    """M11: epoll watches the file, and goes on for as long as anybody has it (44,965 events in 50 ms)."""
    loop = Loop(pytest.fail)
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    copy = os.dup(reader)  # as a fork has one
    loop.watch(reader, lambda events: None)
    os.write(writer, b"x")
    assert loop.turn(5)
    loop.forget(reader)
    os.close(reader)
    assert not loop.turn(0)
    for fd in (copy, writer):
        os.close(fd)
    loop.poller.close()


def test_what_is_raised_in_a_forked_copy_is_not_for_the_loop_to_report():
    """A child that fails would go on as a second supervisor."""
    reported: list[str] = []
    loop = Loop(reported.append)

    def fail() -> None:
        raise RuntimeError("in the copy")

    def guard() -> list[str]:
        with pytest.raises(RuntimeError, match="in the copy"):
            loop.guard(fail, lambda: reported.append("dropped"))
        return reported

    assert run_forked(guard) == []
    loop.guard(fail, None)
    assert len(reported) == 1 and "in the copy" in reported[0]
    loop.poller.close()
