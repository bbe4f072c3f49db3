"""Names in /dev/shm: removed for those who left them, told who that was, and never taken from the living
(rows 60 to 69, M7, M20)."""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.running import ROOT, run_meanwhile
from tests.signs import make_sign
from tests.support import run_program, wait_until

ENV = {"PYTHONPATH": ROOT}
MAKES = """
    import multiprocessing, os, warmfork
    from multiprocessing.shared_memory import SharedMemory

    if __name__ == "__main__":
        context = warmfork.get_context()
        kept = [context.Lock(), context.Semaphore(2), context.Queue()]
        memory = SharedMemory(create=True, size=100)
        {then}
"""


STEMS = "print('stems', multiprocessing.current_process()._config['semprefix'], memory.name, flush=True)"
"""Has a program say how the names begin that it makes."""


def list_left(stdout: str) -> list[str]:
    """What there is in /dev/shm of a program that said its stems."""
    lines = [line for line in stdout.splitlines() if line.startswith("stems ")]
    assert lines, "it said no stems"
    stems = [stem.lstrip("/") for line in lines for stem in line.split()[1:]]
    return [name for name in os.listdir("/dev/shm") if any(stem in name for stem in stems)]


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "os._exit(0)"])
def test_what_a_program_left_is_removed_when_it_is_killed_and_the_report_says_who_made_it(tmp_path: Path, end: str):
    """Row 60: "leaked semaphore objects" without a word about whose. The first line is the stdlib's, for who greps it."""
    then = f"{STEMS}; print(os.getpid(), flush=True); {end}"
    done = run_program(MAKES.format(then=then), tmp_path, env=ENV, expect=None)
    assert list_left(done.stdout) == []
    pid = done.stdout.split()[-1]
    lines = done.stderr.splitlines()
    assert any("There appear to be" in line and "leaked shared_memory objects" in line for line in lines), lines
    # By its command line, or by its bare name where it was gone before the tracker could look.
    assert re.search(rf"1 of them made by pid {pid} \((\S+ {tmp_path}/program.py|program)\)", done.stderr), lines
    assert "Traceback" not in done.stderr and "Errno" not in done.stderr


def test_nothing_is_said_of_what_was_cleaned_up(tmp_path: Path):
    """Rows 61, 63 and 64: no KeyError noise, no zombie, no "leaked" where nothing was."""
    code = f"""
        import multiprocessing, warmfork
        from multiprocessing.shared_memory import SharedMemory
        from tests import targets

        def attach(name):
            memory = SharedMemory(name)
            memory.buf[0] += 1
            memory.close()

        if __name__ == "__main__":
            context = warmfork.get_context()
            memory = SharedMemory(create=True, size=10)
            {STEMS}
            for _ in range(3):
                process = context.Process(target=attach, args=(memory.name,))
                process.start()
                process.join()
            print(memory.buf[0])
            memory.close()
            memory.unlink()
            with context.Pool(2) as pool:
                pool.map(abs, range(4))
            with context.Manager() as manager:
                manager.list([1]).append(2)
            queue = context.Queue()
            queue.put(1)
            queue.get()
            queue.close()
            queue.join_thread()
            lock, event, barrier = context.Lock(), context.Event(), context.Barrier(1)
            value, array = context.Value("i"), context.Array("d", 3)
    """
    done = run_program(code, tmp_path, env=ENV)
    assert (done.stdout.splitlines()[1:], done.stderr) == (["3"], "")
    assert list_left(done.stdout) == []


def test_a_segment_that_a_child_created_and_returned_outlives_the_child(tmp_path: Path):
    """M7: with "the last holder's death removes the name", the parent would get FileNotFoundError."""
    code = """
        import warmfork
        from multiprocessing.shared_memory import SharedMemory

        def make():
            memory = SharedMemory(create=True, size=10)
            memory.buf[:4] = b"seen"
            memory.close()
            return memory.name

        if __name__ == "__main__":
            with warmfork.Template() as template:
                child = template.start(make)
                name = child.result(20)
                assert child.wait(20) == warmfork.Exited(0)
            memory = SharedMemory(name)
            print(bytes(memory.buf[:4]))
            memory.close()
            memory.unlink()
    """
    done = run_program(code, tmp_path)
    assert (done.stdout, done.stderr) == ("b'seen'\n", "")


def test_what_a_child_left_is_removed_with_the_program_and_the_child_is_named(tmp_path: Path):
    """Row 60."""
    code = f"""
        import multiprocessing, os, warmfork
        from multiprocessing.shared_memory import SharedMemory
        from warmfork._client import launch
        from warmfork._client.client import get_client

        def leave():
            memory = SharedMemory(create=True, size=10)
            {STEMS}
            print(os.getpid(), flush=True)
            launch.ask_fate(get_client().ensure_door(), 1, 1, 10)  # its answer says that all before it was read
            os._exit(0)

        if __name__ == "__main__":
            context = warmfork.get_context()
            process = context.Process(target=leave, name="careless")
            process.start()
            process.join()
    """
    done = run_program(code, tmp_path)
    assert list_left(done.stdout) == []
    assert "leaked shared_memory" in done.stderr
    assert f"made by pid {done.stdout.split()[-1]} (warmfork: careless program)" in done.stderr


def test_a_lock_that_is_dropped_right_after_start_is_there_when_the_child_unpickles_it():
    """Row 68: SemLock._rebuild raises FileNotFoundError where the lock was collected first."""
    context = warmfork.get_context(preload=["tests.targets"])
    processes = [context.Process(target=targets.use_lock, args=(context.Lock(),)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
        assert process.exitcode == 0
        process.close()


def test_a_lock_is_there_for_a_child_that_is_slow_to_unpickle_it(tmp_path: Path):
    """Row 68, with the child held back: what was pickled stays alive in the client until the child has it."""
    context = warmfork.get_context(preload=["tests.targets"])
    with make_sign(tmp_path) as sign:
        process = context.Process(target=targets.use_lock, args=(targets.Late(sign.path, 1), context.Lock()))
        process.start()
        gc.collect()
        with open(sign.path, "w") as fifo:
            fifo.write("go\n")
        process.join(20)
        assert process.exitcode == 0
        process.close()


def test_a_child_uses_a_lock_whose_maker_has_died(tmp_path: Path):
    """Row 68 and M7: a name that a process of the tree made lives until the tree ends."""
    code = """
        import os, warmfork

        def use(lock):
            with lock:
                os.write(1, b"locked\\n")  # in one piece: the other process writes at the same time

        def pass_on(context):
            process = context.Process(target=use, args=(context.Lock(),))
            process.start()
            os._exit(0)

        if __name__ == "__main__":
            context = warmfork.get_context()
            process = context.Process(target=pass_on, args=(context,))
            process.start()
            process.join()
            os.write(1, f"{process.exitcode}\\n".encode())
    """
    done = run_program(code, tmp_path)
    assert sorted(done.stdout.splitlines()) == ["0", "locked"] and "Traceback" not in done.stderr


def test_a_name_that_is_unregistered_twice_or_by_another_process_is_no_error(tmp_path: Path):
    """Row 61: 768 KeyError tracebacks from one program; 12 for each of its saves."""
    code = """
        import warmfork
        from multiprocessing import resource_tracker
        from multiprocessing.shared_memory import SharedMemory

        def unlink(name):
            memory = SharedMemory(name)
            memory.close()
            memory.unlink()

        if __name__ == "__main__":
            context = warmfork.get_context()
            memory = SharedMemory(create=True, size=10)
            process = context.Process(target=unlink, args=(memory.name,))
            process.start()
            process.join()
            memory.close()
            resource_tracker.unregister("/" + memory.name, "shared_memory")
            resource_tracker.unregister("/never-was", "semaphore")
    """
    assert run_program(code, tmp_path).stderr == ""


def test_a_semaphore_that_was_made_and_never_registered_is_removed_at_the_end(tmp_path: Path):
    """M20: killed between sem_open() and register()."""
    code = """
        import os, warmfork
        from multiprocessing import resource_tracker, synchronize

        if __name__ == "__main__":
            context = warmfork.get_context()
            lock = context.Lock()
            synchronize.register = lambda name, kind: None
            resource_tracker.register = lambda name, kind: None
            unknown = context.Lock()
            print("stems", unknown._semlock.name, flush=True)
            os.kill(os.getpid(), 9)
    """
    done = run_program(code, tmp_path, expect=-9)
    assert "/mp-" in done.stdout
    wait_until(lambda: not list_left(done.stdout))


def test_a_living_program_keeps_its_names_when_children_and_template_die(tmp_path: Path):
    """Row 62: a tracker that removes what another process still uses."""
    code = """
        import os, sys, warmfork
        from multiprocessing.shared_memory import SharedMemory
        from tests import targets

        def attach_and_die(name):
            SharedMemory(name)
            os._exit(0)

        if __name__ == "__main__":
            memory = SharedMemory(create=True, size=10)
            context = warmfork.get_context()
            memory2 = SharedMemory(create=True, size=10)
            process = context.Process(target=attach_and_die, args=(memory2.name,))
            process.start()
            process.join()
            os.kill(context.template_pid, 9)
            process = context.Process(target=attach_and_die, args=(memory2.name,))
            process.start()
            process.join()
            print(process.exitcode, os.path.exists("/dev/shm/" + memory2.name))
            for each in (memory, memory2):
                each.close()
                each.unlink()
    """
    done = run_program(code, tmp_path, env=ENV)
    assert done.stdout == "0 True\n"
    assert [line[:24] for line in done.stderr.splitlines()] == ["template program gen=1 ("], "its death is logged"


def test_an_over_long_name_is_refused_at_the_call(tmp_path: Path):
    code = """
        import warmfork
        from multiprocessing import resource_tracker
        context = warmfork.get_context()
        for name in ("/" + "x" * 499, "/" + "é" * 200):
            try:
                resource_tracker.register(name, "semaphore")
            except ValueError as error:
                print(str(error)[:13])
    """
    assert run_program(code, tmp_path).stdout == "name too long\n" * 2


def test_a_lock_of_the_fork_context_is_still_refused_with_multiprocessing_s_words():
    """Row 69."""
    context = warmfork.get_context()
    lock = multiprocessing.get_context("fork").Lock()
    if not (hasattr(lock, "is_fork_ctx") or hasattr(lock, "_is_fork_ctx")):
        pytest.skip("this Python, which is older than the check, refuses no such lock")
    process = context.Process(target=targets.use_lock, args=(lock,))
    with pytest.raises(RuntimeError, match="A SemLock created in a fork context"):
        process.start()


def test_processes_of_the_spawn_context_and_of_ours_share_names_without_noise(tmp_path: Path):
    """M19 and row 67: two trackers in one program. What the one has removed is no loss of the other's."""
    code = """
        import multiprocessing, warmfork
        from multiprocessing.shared_memory import SharedMemory
        from tests.names.test_kept import read_kept
        from warmfork._client.client import get_client
        from warmfork._tracker.book import Book

        def attach(name):
            memory = SharedMemory(name)
            memory.buf[0] += 1
            memory.close()

        if __name__ == "__main__":
            memory = SharedMemory(create=True, size=10)
            for context in (warmfork.get_context(), multiprocessing.get_context("spawn"), warmfork.get_context()):
                process = context.Process(target=attach, args=(memory.name,))
                process.start()
                process.join()
                assert process.exitcode == 0
            assert read_kept(Book(get_client().tree.ledger.fileno())).mixed, "the tracker knows that there is another"
            print(memory.buf[0])
            memory.close()
            memory.unlink()
    """
    done = run_program(code, tmp_path, env=ENV)
    assert (done.stdout, done.stderr) == ("3\n", "")


def test_names_of_a_kept_child_live_as_long_as_it_does(tmp_path: Path):
    """M8: with children that are kept, the tracker and its names stay until the last of them is dead."""
    code = f"""
        import multiprocessing, os, signal, sys, warmfork
        from multiprocessing.shared_memory import SharedMemory
        from tests import signs, targets

        def stay(name, ready, go):
            memory = SharedMemory(name)
            signs.give(ready)
            with open(go) as fifo:
                fifo.readline()
            signs.give(ready, str(os.path.exists("/dev/shm/" + name)))

        if __name__ == "__main__":
            context = warmfork.get_context()
            memory = SharedMemory(create=True, size=10)
            {STEMS}
            process = context.Process(target=stay, args=(memory.name, sys.argv[1], sys.argv[2]))
            process.start()
            signal.pause()
    """
    with make_sign(tmp_path) as ready, make_sign(tmp_path) as go:
        with run_meanwhile(code, tmp_path, ready.path, go.path) as program:
            said = program.stdout.readline()
            pid = int(ready.wait()[0])
            pidfd = os.pidfd_open(pid)
            program.kill()
            program.wait(10)
        # The template goes at once: when the child's parent has changed, all has been done that its death has done.
        wait_until(lambda: "template" not in read_title_of_parent(pid))
        assert list_left(said)
        with open(go.path, "w") as fifo:
            fifo.write("go\n")
        assert ready.wait() == ["True"]
        wait_until(lambda: targets.is_dead(pidfd))
        os.close(pidfd)
        wait_until(lambda: not list_left(said))


def read_title_of_parent(pid: int) -> str:
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    try:
        return Path(f"/proc/{parent}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "template"
