"""The stack that a fault leaves in its file: one's own place, nobody else's, and nothing of what is the
user's is taken."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal

import pytest

from tests.support import fork, run_forked
from warmfork._machine import memfds, stacks


@pytest.fixture
def back():
    """A file for stacks."""
    fd = memfds.make_memory("stacks")
    yield fd
    os.close(fd)


def enable(back: int) -> bool:
    """Switch it on in a forked copy of this process, where pytest has switched it on already."""
    faulthandler.disable()
    return stacks.enable(back)


def crash_forked(number: int, *before) -> int:
    """Fork a process that takes its own place, does something, and dies of a signal. Gives its pid."""
    pid = fork()
    if pid == 0:
        stacks.take_own()
        for call in before:
            call()
        os.kill(os.getpid(), number)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] & 0x7F == number
    return pid


def test_the_signals_are_those_that_faulthandler_handles():
    assert stacks.FATAL == (signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV)


@pytest.mark.parametrize("number", stacks.FATAL)
def test_a_process_that_a_fault_kills_leaves_its_stack_and_reading_it_frees_the_memory(back, number):
    def look():
        assert enable(back)
        pid = crash_forked(number)
        taken = os.fstat(back).st_blocks
        return stacks.read(back, pid), stacks.read(back, pid), taken, os.fstat(back).st_blocks

    stack, again, taken, left = run_forked(look)
    assert stack.startswith("Fatal Python error") and "in crash_forked" in stack
    assert (again, left) == ("", 0) and taken > 0


def test_two_that_crash_at_once_do_not_touch_each_other_s_stack(back):
    def look():
        assert enable(back)
        reader, writer = os.pipe()
        pids = []
        for number in range(4):
            pid = os.fork()
            if pid == 0:
                stacks.take_own()
                [first, second, third, fourth][number](reader)
            pids.append(pid)
        os.write(writer, b"1234")
        for pid in pids:
            os.waitpid(pid, 0)
        return [stacks.read(back, pid) for pid in pids]

    found = run_forked(look)
    for stack, name in zip(found, ("first", "second", "third", "fourth"), strict=True):
        assert stack.count("Fatal Python error") == 1 and f" in {name}\n" in stack
        assert sum(f" in {other}\n" in stack for other in ("first", "second", "third", "fourth")) == 1


def first(reader: int) -> None:
    os.read(reader, 1)
    os.abort()


def second(reader: int) -> None:
    os.read(reader, 1)
    os.abort()


def third(reader: int) -> None:
    os.read(reader, 1)
    os.abort()


def fourth(reader: int) -> None:
    os.read(reader, 1)
    os.abort()


def test_the_largest_stack_there_is_fits_in_its_room():
    """faulthandler stops after 100 frames of each of 100 threads, and after 500 characters of each name."""
    line = len('  File "", line 2147483647 in \n') + 2 * 500 * len("\\U0010ffff")
    assert 100 * (100 * line + 200) > stacks.ROOM, "names of characters that are all escaped could get further"
    assert 100 * (100 * (line - 2 * 500 * 9) + 200) < stacks.ROOM, "those of plain characters can't"
    assert (1 << 22) * stacks.ROOM < 1 << 47, "and so for every pid that Linux gives"


def test_faulthandler_that_somebody_has_switched_on_stays_theirs(back):
    def look():
        mine = memfds.make_memory("mine")
        faulthandler.enable(mine)
        enabled = stacks.enable(back)
        pid = crash_forked(signal.SIGSEGV)
        return enabled, stacks.read(back, pid), memfds.read_all(mine)

    enabled, stack, mine = run_forked(look)
    assert (enabled, stack) == (False, "") and b"Segmentation fault" in mine


def test_who_switches_it_on_later_has_it_write_where_they_want(back):
    def look():
        assert enable(back)
        mine = memfds.make_memory("mine")
        pid = crash_forked(signal.SIGSEGV, lambda: faulthandler.enable(mine))
        return stacks.read(back, pid), memfds.read_all(mine)

    stack, mine = run_forked(look)
    assert stack == "" and b"Segmentation fault" in mine


def test_handlers_that_were_set_before_stay(back):
    def look():
        taken = []
        signal.signal(signal.SIGABRT, lambda number, frame: taken.append(number))
        signal.signal(signal.SIGFPE, signal.SIG_IGN)
        assert enable(back)
        os.kill(os.getpid(), signal.SIGABRT)
        os.kill(os.getpid(), signal.SIGFPE)
        return taken, os.fstat(back).st_blocks

    assert run_forked(look) == ([signal.SIGABRT], 0)


def test_a_limit_of_the_size_of_files_leaves_no_stack_and_the_signal_stays_what_it_is(back):
    """A write beyond it would be answered with SIGXFSZ."""

    def look():
        assert enable(back)

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
            stacks.disable()

        pid = crash_forked(signal.SIGSEGV, limit)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        faulthandler.disable()
        return stacks.read(back, pid), stacks.enable(back)

    assert run_forked(look) == ("", False)


def test_a_process_that_has_closed_all_fds_does_not_write_to_the_file_that_has_the_number_now(back):
    """M9: in a forked copy, the number is looked at before it is moved."""

    def look():
        assert enable(back)
        os.close(back)
        victim = os.open(os.devnull, os.O_RDONLY)
        os.dup2(victim, back)
        stacks.take_own()
        stacks.disable()
        return os.readlink(f"/proc/self/fd/{back}")

    assert run_forked(look) == os.devnull


def test_our_own_frames_are_left_out_where_there_are_others():
    own = f'  File "{stacks.__file__}", line 1 in ours\n'
    other = '  File "/app/main.py", line 2 in theirs\n'
    assert stacks.leave_out_own("Fatal\n\n" + other + own + "\nExtension modules: x\n") == (
        "Fatal\n\n" + other + "\nExtension modules: x\n"
    )
    assert stacks.leave_out_own("Fatal\n" + own) == "Fatal\n" + own
