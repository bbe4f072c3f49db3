from __future__ import annotations

import os
import signal

import pytest

from tests.support import run_forked
from warmfork._machine import signals


def test_every_signal_of_this_system_is_in_the_list():
    assert set(signals.ALL) == {int(number) for number in signal.valid_signals()}
    assert signals.CHILD_DIED == signal.SIGCHLD
    assert (signals.SIG_DFL, signals.SIG_IGN) == (signal.SIG_DFL, signal.SIG_IGN)


def test_helpers_take_no_signal_of_the_terminal_but_die_of_a_fault():
    """M22: they end by pidfd, not by what is sent to the group."""
    terminal = {"INT", "QUIT", "TERM", "HUP", "TSTP", "TTIN", "TTOU", "USR1", "USR2", "ALRM", "PIPE", "CONT"}
    faults = {"ILL", "TRAP", "ABRT", "BUS", "FPE", "SEGV", "SYS", "CHLD"}
    assert {getattr(signal, f"SIG{name}") for name in terminal} <= set(signals.HELPERS_BLOCK)
    assert {getattr(signal, f"SIG{name}") for name in faults}.isdisjoint(signals.HELPERS_BLOCK)


def test_setting_the_mask_replaces_it():
    def change() -> list[object]:
        signals.set_mask((signal.SIGUSR1, signal.SIGTERM))
        before = signals.get_mask()
        signals.set_mask((signal.SIGHUP,))
        return [before, signals.get_mask()]

    expected = tuple(sorted(map(int, (signal.SIGUSR1, signal.SIGTERM))))
    assert run_forked(change) == [expected, (int(signal.SIGHUP),)]


def test_a_mask_is_told_as_plain_numbers():
    """What is fed to a child is written by marshal, which takes no enum."""

    def look() -> list[type]:
        signals.set_mask((signal.SIGUSR1,))
        return [*map(type, signals.get_mask()), *map(type, signals.list_ignored())]

    assert set(run_forked(look)) == {int}


def test_signals_that_are_ignored_are_listed_and_those_that_are_handled_are_not():
    def look() -> set[int]:
        signals.set_disposition(signal.SIGUSR1, signals.SIG_IGN)
        signals.set_disposition(signal.SIGUSR2, print)
        signals.set_disposition(signal.SIGTERM, signals.SIG_DFL)
        return {signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM} & set(signals.list_ignored())

    assert run_forked(look) == {signal.SIGUSR1}


@pytest.mark.parametrize("number", signals.FORCED)
def test_what_can_be_neither_blocked_nor_ignored_is_not(number):
    def try_it() -> bool:
        signals.set_mask((number,))
        with pytest.raises(OSError):
            signals.set_disposition(number, signals.SIG_IGN)
        return number in signals.get_mask()

    assert run_forked(try_it) is False


def test_a_blocked_signal_waits_until_it_is_unblocked():
    def wait() -> list[str]:
        seen = []
        signals.set_disposition(signal.SIGUSR1, lambda number, frame: seen.append("taken"))
        signals.set_mask((signal.SIGUSR1,))
        os.kill(os.getpid(), signal.SIGUSR1)
        seen.append("blocked")
        signals.set_mask(())
        seen.append("unblocked")
        return seen

    assert run_forked(wait) == ["blocked", "taken", "unblocked"]
