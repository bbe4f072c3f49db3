"""A tracker that is killed: the program has a successor, which carries on from the ledger, and from what the program hands
over (M20, M21)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.names.test_kept import read_kept
from tests.running import get_tracker
from tests.signs import give, make_sign
from tests.support import run_program, wait_until
from warmfork._client import launch
from warmfork._client.client import get_client
from warmfork._machine import fds
from warmfork._names.kept import KeptNames
from warmfork._tracker import book as book_
from warmfork._tracker.book import ROOM, Book
from warmfork._words import messages

STARTS = str(Path(warmfork.__file__).parent / "_tracker" / "start.py")


def kill_tracker() -> int:
    """Kill the tracker, and wait until it is dead. Gives the pid that it had."""
    if get_client().tree is None:
        get_client().ensure_door()
    pid = wait_until(get_tracker)
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: targets.is_dead(pidfd))
    os.close(pidfd)
    return pid


@contextmanager
def serve_template(**options: object) -> Iterator[warmfork.Template]:
    with warmfork.Template(**options) as template:
        assert template.start(targets.give, (1,)).result(20) == 1
        yield template


def test_the_program_has_a_successor_at_its_next_start_and_the_template_stays():
    with serve_template() as template:
        before, pid = kill_tracker(), template.pid
        template.start(targets.wait)
        wait_until(lambda: get_tracker() not in (0, before))
        assert template.start(os.getppid).result(20) == pid == template.pid
        assert template.generation == 1


def test_the_program_has_a_successor_while_it_waits_for_a_child(tmp_path: Path):
    with serve_template() as template, make_sign(tmp_path) as ready:
        child = template.start(targets.sign_and_wait, (ready.path,))
        ready.wait()
        waiter = threading.Thread(target=child.wait, args=(30,))
        waiter.start()
        before = kill_tracker()
        wait_until(lambda: get_tracker() not in (0, before))
        child.terminate()
        waiter.join(30)


def test_a_child_that_wants_a_template_of_its_own_waits_for_the_successor_that_the_program_has():
    with serve_template() as template:
        kill_tracker()
        child = template.start(start_another, (os.getpid(),))
        assert child.result(30) == 7
        assert get_tracker()


def start_another(_program: int) -> int:
    """Start a child of a template that this child is the first to want."""
    with warmfork.Template(name="another") as template:
        return template.start(targets.give, (7,)).result(20)


def test_a_child_whose_program_has_no_successor_roots_a_tree_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It would wait for ever at a door that nobody reads: the program waits for nobody, and starts nothing."""
    with serve_template() as template, make_sign(tmp_path) as ready, make_sign(tmp_path) as go:
        child = template.start(start_late, (ready.path, go.path))
        ready.wait()
        before = kill_tracker()
        give(go.path)
        (answer,) = ready.wait()
        assert answer == "7"
        assert get_tracker() == 0 != before, "the program has not looked"
        child.wait(20)


def start_late(ready: str, go: str) -> None:
    give(ready)
    with open(go) as fifo:
        fifo.readline()
    give(ready, str(start_another(0)))


def test_a_successor_hears_of_the_templates_that_the_program_knows_and_sees_their_deaths():
    with serve_template() as template:
        kill_tracker()
        assert template.start(targets.give, (1,)).result(20) == 1
        child, pid = template.start(targets.wait), template.pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: has_reported(f"(pid {pid}) died"))
        assert child.outcome is None, "its program lives"
        child.kill()
        assert child.wait(20) == warmfork.Signaled(9)


def has_reported(text: str) -> bool:
    """Has the tracker had this reported?"""
    return any(text in report.text for report in Book(get_client().tree.ledger.fileno()).reports)


def test_names_of_before_and_after_the_death_are_known_to_the_successor():
    with serve_template():
        before = SharedMemory(create=True, size=10)
        kill_tracker()
        after = SharedMemory(create=True, size=10)
        wait_until(get_tracker)
        try:
            names = {("shared_memory", before._name), ("shared_memory", after._name)}
            entries = wait_until(lambda: names <= (found := read_names()).keys() and found)
            assert entries["shared_memory", before._name].maker == os.getpid()
        finally:
            for each in (before, after):
                each.close()
                each.unlink()
        wait_until(lambda: not {before._name, after._name} & {name for _, name in read_names()})


def read_names() -> dict[tuple[str, str], object]:
    """The names of this process's tree, read as a successor would."""
    return read_kept(Book(get_client().tree.ledger.fileno())).entries


def test_a_program_without_a_template_starts_a_successor_at_its_next_call():
    """M21: both died."""
    with warmfork.Template() as template:
        child = template.start(targets.wait)
        kill_both(template.pid)
        assert get_tracker() == 0
        assert child.outcome is None, "it lives, and nobody says anything else"
        assert template.start(targets.give, (3,)).result(20) == 3
        assert get_tracker() > 0
        child.kill()
        assert child.wait(20) in (warmfork.Signaled(9), warmfork.Lost("its template died before it could tell"))


def test_the_program_has_a_successor_when_it_tracks_something_no_longer(tmp_path: Path):
    """M21: whatever it says to the tracker is said to one that lives."""
    (tmp_path / "file").touch()
    warmfork.track(tmp_path / "file", "file")
    before = kill_tracker()
    warmfork.untrack(tmp_path / "file", "file")
    wait_until(lambda: get_tracker() not in (0, before))
    wait_until(lambda: ("file", str(tmp_path / "file")) not in read_names())


@pytest.mark.parametrize("end", ["raise SystemExit", "os.kill(os.getpid(), 9)"])
def test_what_was_tracked_goes_with_the_program_though_its_tracker_was_killed_before(tmp_path: Path, end: str):
    """M21: the program looks at its end, too. Where it has no time for that, it must have looked when it last said
    something."""
    code = f"""
        import os, warmfork
        from warmfork._client.client import get_client
        from warmfork._machine import fds

        for name in ("before", "after"):
            os.mknod(name)
            warmfork.track(name, "file")
            if {end!r} == "raise SystemExit" or name == "before":
                tree = get_client().tree
                os.kill(tree.tracker, 9)
                assert fds.wait_readable(tree.pidfd.fileno(), 20)
        {end}
    """
    run_program(code, tmp_path, expect=None)
    wait_until(lambda: not {"before", "after"} & set(os.listdir(tmp_path)), 2.0)


def test_a_copy_that_is_left_alone_roots_a_tree_of_its_own_whatever_it_does_first(tmp_path: Path):
    """M23: the program is dead, its tracker too, and nobody hears what is said at the door."""
    code = """
        import os, select, warmfork
        from warmfork._client.client import get_client
        from warmfork._machine import fds

        context = warmfork.get_context()
        kept = context.Lock()
        tree, program = get_client().tree, os.pidfd_open(os.getpid())
        tracker = os.pidfd_open(tree.tracker)
        pid = tree.tracker
        if os.fork() == 0:
            fds.wait_readable(program, None)
            os.kill(pid, 9)
            fds.wait_readable(tracker, None)
            with context.Lock():
                print("done", get_client().tree.tracker != pid, flush=True)
        os._exit(0)
    """
    assert run_program(code, tmp_path).stdout == "done True\n"


def kill_both(template: int) -> None:
    """Kill the tracker and this template, so that neither sees the other's death."""
    pidfd = os.pidfd_open(template)
    os.kill(template, signal.SIGSTOP)
    kill_tracker()
    os.kill(template, signal.SIGKILL)
    wait_until(lambda: targets.is_dead(pidfd))
    os.close(pidfd)


def test_threads_that_wait_for_one_child_have_one_outcome_though_the_first_closes_the_handle():
    """It takes its time when nobody but the kernel can tell: the handle was closed under those who still asked."""
    told: list[object] = []

    def wait_and_close(child: warmfork.Child) -> None:
        try:
            told.append(child.wait(20))
        except BaseException as error:
            told.append(error)
        child.close()

    with warmfork.Template() as template:
        child = template.start(targets.wait)
        threads = [threading.Thread(target=wait_and_close, args=(child,)) for _ in range(8)]
        kill_both(template.pid)
        for thread in threads:
            thread.start()
        child.kill()
        for thread in threads:
            thread.join(30)
    assert told == [told[0]] * 8
    assert told[0] in (warmfork.Signaled(9), warmfork.Lost("its template died before it could tell"))


def test_a_hello_that_no_tracker_has_read_is_served_by_the_successor():
    first = warmfork.Template()
    with first:
        first.wait_ready()
        tracker = get_tracker()
        os.kill(tracker, signal.SIGSTOP)
        with warmfork.Template() as template:
            answers: list[object] = []
            thread = threading.Thread(target=lambda: answers.append(template.start(targets.give, (5,)).result(30)))
            thread.start()
            wait_until(lambda: has_unread(get_client().tree.receiver.fileno()))
            os.kill(tracker, signal.SIGKILL)
            thread.join(30)
            assert answers == [5]


def has_unread(fd: int) -> bool:
    import select

    return bool(select.select([fd], [], [], 0)[0])


@pytest.mark.parametrize("spares", [0, 2])
def test_a_tracker_that_is_killed_again_and_again_costs_no_start(spares):
    with serve_template(spares=spares) as template:
        for number in range(8):
            kill_tracker()
            assert template.start(targets.give, (number,)).result(20) == number
            wait_until(get_tracker)
        assert template.generation == 1


def test_a_tracker_that_is_killed_while_the_template_preloads_costs_nothing(tmp_path: Path, monkeypatch):
    (tmp_path / "slow_preload.py").write_text(
        "import os\nopen(os.environ['READY'], 'w').write('x\\n')\nopen(os.environ['GO']).readline()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with make_sign(tmp_path) as ready, make_sign(tmp_path) as go:
        monkeypatch.setenv("READY", ready.path)
        monkeypatch.setenv("GO", go.path)
        with warmfork.Template(preload=["slow_preload"]) as template:
            answers: list[object] = []
            thread = threading.Thread(target=lambda: answers.append(template.start(targets.give, (5,)).result(30)))
            thread.start()
            ready.wait()
            kill_tracker()
            give(go.path)
            thread.join(30)
            assert answers == [5]
            assert template.generation == 1


def test_of_two_successors_one_leaves(tmp_path: Path):
    with serve_template():
        tree = get_client().tree
        holder = wait_until(get_tracker)
        extra = subprocess.Popen(
            [
                sys.executable,
                "-c",
                (
                    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
                    "os.execv(sys.executable, [sys.executable, sys.argv[3]])"
                ),
                str(tree.receiver.fileno()),
                str(tree.ledger.fileno()),
                STARTS,
            ],
            pass_fds=(tree.receiver.fileno(), tree.ledger.fileno()),
        )
        assert extra.wait(20) == 0
        assert get_tracker() == holder


def test_a_ledger_takes_no_more_room_than_what_counts(tmp_path: Path):
    """A program may make and remove a million locks."""
    fd = os.memfd_create("ledger")
    try:
        book = Book(fd)
        book.give(KeptNames())
        book.write(messages.Root(5, 6, "app", "prefix"))
        book.write(messages.Entered("semaphore", "/kept", 5, "app", 0, 0))
        book.report(30, "something happened")
        for number in range(40_000):
            book.write(messages.Entered("semaphore", f"/mp-{number}", 5, "a program of this name", 0, 0))
            book.write(messages.Dropped("semaphore", f"/mp-{number}", 0))
        again = Book(fd)
        assert list(read_kept(again).entries) == [("semaphore", "/kept")]
        assert again.root == book.root
        assert [report.text for report in again.reports] == ["something happened"]
        assert os.fstat(fd).st_size > 2 * ROOM
        assert os.fstat(fd).st_blocks * 512 < ROOM + (1 << 16)
    finally:
        os.close(fd)


def test_a_ledger_of_many_names_is_written_anew_ever_less_often(monkeypatch: pytest.MonkeyPatch):
    """All of them were written again with each MiB more: whoever registered a million held the tracker up for minutes."""
    monkeypatch.setattr(book_, "ROOM", 1000)
    fd = os.memfd_create("ledger")
    try:
        book = Book(fd)
        book.give(KeptNames())
        book.write(messages.Root(5, 6, "app", "prefix"))
        compact, times = book.compact, []
        monkeypatch.setattr(book, "compact", lambda: times.append(compact()))
        for number in range(5_000):
            book.write(messages.Entered("semaphore", f"/mp-{number}", 5, "a program of this name", 0, 0))
        assert 1 < len(times) < 15
        assert len(read_kept(Book(fd)).entries) == 5_000
    finally:
        os.close(fd)


def test_a_report_is_read_once_however_often_the_ledger_is_written_anew_and_whoever_does_it():
    fd = os.memfd_create("ledger")
    try:
        book = Book(fd)
        book.write(messages.Root(5, 6, "app", "prefix"))
        reader = launch.Tree.__new__(launch.Tree)
        reader.ledger, reader.read, reader.size, reader.heard = fds.Fd(fd), 0, 0, 0
        book.report(30, "first")
        assert [report.text for report in reader.take_reports()] == ["first"]
        book.report(30, "second")
        for _ in range(3):
            book.compact()
            assert [report.text for report in reader.take_reports()] in (["second"], [])
        successor = Book(fd)
        successor.compact()
        successor.report(30, "third")
        successor.compact()
        assert [report.text for report in reader.take_reports()] == ["third"]
    finally:
        reader.ledger.close()
