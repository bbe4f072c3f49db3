"""Deaths with evidence: what a parent learns of a child that a fault, or a lack of memory, has killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmfork
from tests import crashing, targets
from tests.running import ROOT
from tests.signs import give, make_sign
from tests.support import run_program, wait_until

FAULTS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
ENV = {"PYTHONPATH": ROOT}


@pytest.fixture(params=[0, 2], ids=["forked", "spares"])
def template(request) -> Iterator[warmfork.Template]:
    with warmfork.Template(preload=["tests.targets", "tests.crashing"], spares=request.param) as made:
        yield made


@pytest.mark.parametrize("number", FAULTS)
def test_a_child_that_a_fault_kills_brings_its_python_stack(template, number):
    child = template.start(crashing.signal_self, (number,))
    with pytest.raises(warmfork.ChildError) as caught:
        child.result(20)
    outcome = child.outcome
    assert outcome == warmfork.Signaled(number) or outcome == warmfork.Signaled(number, True)
    assert "in signal_self" in outcome.stack and outcome.why == ""
    assert outcome.stack.rstrip() in str(caught.value)
    assert "warmfork/_child" not in outcome.stack, "the user's frames, and not the way to them"


def test_children_that_crash_at_once_have_each_their_own_stack(template, tmp_path: Path):
    with make_sign(tmp_path) as ready, make_sign(tmp_path) as go:
        calls = [("os", "abort", ()), ("os", "_exit", (3,)), ("tests.crashing", "signal_self", (signal.SIGSEGV,))]
        children = [template.start(targets.sign_wait_and_call, (ready.path, go.path, *calls[n % 3])) for n in range(9)]
        ready.wait(9)
        for _ in children:
            give(go.path)
        outcomes = [child.wait(20) for child in children]
    for number, outcome in enumerate(outcomes):
        if number % 3 == 1:
            assert outcome == warmfork.Exited(3)
        else:
            assert outcome.stack.count("Fatal Python error") == 1
            assert ("in signal_self" in outcome.stack) == (number % 3 == 2)


def test_a_thread_that_crashes_is_the_current_one_of_the_stack(template):
    child = template.start(crashing.crash_in_thread)
    assert child.wait(20).signal == signal.SIGABRT
    current, others = child.outcome.stack.split("Thread 0x", 1)
    assert "Current thread" in current and "in crash_here" in current and "in crash_in_thread" in others


def test_a_child_of_a_dead_template_brings_its_stack_as_well(tmp_path: Path):
    """The back of the board survives the template, and the tracker reads it."""
    with make_sign(tmp_path) as ready, make_sign(tmp_path) as go, warmfork.Template() as template:
        child = template.start(targets.sign_wait_and_call, (ready.path, go.path, "os", "abort", ()))
        ready.wait()
        os.kill(template.pid, signal.SIGKILL)
        give(go.path)
        assert child.wait(20).signal == signal.SIGABRT
        assert "in sign_wait_and_call" in child.outcome.stack
        assert child.usage is not None and child.usage.seconds is not None


def test_a_process_of_multiprocessing_brings_it_too(tmp_path: Path):
    context = warmfork.get_context()
    process = context.Process(target=crashing.signal_self, args=(signal.SIGSEGV,))
    process.start()
    process.join(20)
    assert process.exitcode == -signal.SIGSEGV
    child = warmfork.get_child(process)
    assert child.outcome == warmfork.Signaled(signal.SIGSEGV, child.outcome.core_dumped)
    assert "in signal_self" in child.outcome.stack and child.usage.user >= 0


def test_a_process_that_is_not_ours_has_no_handle_of_ours():
    import multiprocessing

    with pytest.raises(ValueError, match="was not started"):
        warmfork.get_child(warmfork.get_context().Process())
    other = multiprocessing.get_context("spawn").Process(target=targets.give, args=(1,))
    other.start()
    with pytest.raises(TypeError, match="not by warmfork"):
        warmfork.get_child(other)
    other.join(20)
    other.close()


def test_faulthandler_that_the_program_has_switched_on_writes_to_stderr_in_its_children_as_ever(tmp_path: Path):
    """-X faulthandler goes on to a forkserver and its children."""
    done = run_program(
        """
        import signal, warmfork
        from tests import crashing, targets
        with warmfork.Template() as template:
            child = template.start(crashing.signal_self, (signal.SIGSEGV,))
            assert child.wait(20).signal == signal.SIGSEGV
            assert child.outcome.stack == ""
        """,
        tmp_path,
        flags=["-X", "faulthandler"],
        env=ENV,
    )
    assert "Fatal Python error: Segmentation fault" in done.stderr and "in signal_self" in done.stderr


def test_a_child_s_own_handlers_and_what_its_parent_ignores_stay_what_they_are(template):
    assert template.start(crashing.take_own_abort).result(20) == [signal.SIGABRT]
    previous = signal.signal(signal.SIGFPE, signal.SIG_IGN)
    try:
        child = template.start(crashing.signal_self, (signal.SIGFPE,))
    finally:
        signal.signal(signal.SIGFPE, previous)
    assert child.wait(20) == warmfork.Exited(0)


def test_a_child_under_a_limit_of_file_size_dies_of_what_it_dies_of(template):
    child = template.start(crashing.crash_under_file_limit)
    assert child.wait(20).signal == signal.SIGSEGV


def test_a_kill_by_our_own_hand_needs_no_reason_and_one_by_another_s_is_told_as_that(template):
    ours = template.start(targets.wait)
    ours.kill()
    assert (ours.wait(20), ours.outcome.why) == (warmfork.Signaled(signal.SIGKILL), "")
    theirs = template.start(targets.wait)
    os.kill(theirs.pid, signal.SIGKILL)
    with pytest.raises(warmfork.ChildError, match="not sent by us"):
        theirs.result(20)
    ended = template.start(targets.wait)
    ended.terminate()
    assert (ended.wait(20), ended.outcome.why) == (warmfork.Signaled(signal.SIGTERM), "")


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of 96 MB."""
    made = make_cgroup(96 << 20)
    if made is None:
        pytest.skip("no cgroup with a memory controller can be made here")
    yield made
    wait_until(lambda: not (made / "cgroup.procs").read_text())
    made.rmdir()


def make_cgroup(size: int) -> Path | None:
    """Make a cgroup below our own, with this limit of memory. None where we may not."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        mounts = ["/sys/fs/cgroup/memory"] if "memory" in controllers.split(",") else []
        mounts += ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] if not controllers else []
        for mount in mounts:
            parent = Path(mount + path)
            made = parent / f"warmfork-test-{os.getpid()}"
            try:
                made.mkdir()
            except OSError:
                continue
            for name in ("memory.limit_in_bytes", "memory.max"):
                try:
                    (made / name).write_text(str(size))
                except OSError:
                    continue
                for swap in ("memory.memsw.limit_in_bytes", "memory.swap.max"):
                    try:
                        (made / swap).write_text(str(size if "memsw" in swap else 0))
                    except OSError:
                        continue
                return made
            made.rmdir()
    return None


def test_a_child_that_is_killed_for_memory_is_told_as_that(cgroup: Path, tmp_path: Path):
    done = run_program(
        """
        import os, signal, sys, warmfork
        open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
        from tests import crashing, targets
        with warmfork.Template(preload=["tests.targets", "tests.crashing"]) as template:
            assert template.start(targets.give, (1,)).result(20) == 1
            child = template.start(targets.wait)
            os.kill(child.pid, signal.SIGKILL)
            print(child.wait(20).why)
            child = template.start(crashing.take_memory, (1 << 30,))
            print(child.wait(50).signal, child.outcome.why)
            assert template.start(targets.give, (2,)).result(20) == 2
        """,
        tmp_path,
        str(cgroup),
        env=ENV,
    )
    killed, starved = done.stdout.splitlines()
    assert killed.startswith("not sent by us")
    assert starved.startswith("9 killed for memory") and "its cgroup" in starved and str(cgroup) in starved


def test_run_time_counts_from_the_hand_over_of_a_spare_and_not_from_its_fork(template):
    """M25: a spare may have waited for long."""
    template.start(targets.give, (1,)).result(20)
    time.sleep(0.5)  # not to wait for something: the spare is to have an age that would show
    began = time.monotonic()
    child = template.start(crashing.run_for, (0.1,))
    child.wait(20)
    took = time.monotonic() - began
    assert 0.1 <= child.usage.seconds <= took
    assert child.usage.peak_rss > 1 << 20
