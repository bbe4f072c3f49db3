"""Semaphores of trees that were killed to the last process: the next program removes them, and no others (M20)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.running import run_meanwhile
from tests.signs import make_sign
from tests.support import run_program, wait_until


def test_a_program_removes_at_its_end_what_dead_trees_have_left_and_nothing_of_the_living(tmp_path: Path):
    """M20: program, template and tracker were killed at one moment, and nobody was left to sweep."""
    namespace = os.stat("/proc/self/ns/pid").st_ino
    gone = subprocess.Popen(["true"])
    gone.wait()
    stems = {
        "dead": f"{namespace:x}.{gone.pid:x}.ab12",
        "living": f"{namespace:x}.{os.getpid():x}.ab12",
        "elsewhere": f"{namespace + 1:x}.{gone.pid:x}.ab12",
        "stdlib's": "abcd1234",
    }
    paths = {case: Path(f"/dev/shm/sem.mp-{stem}-xyz") for case, stem in stems.items()}
    for path in paths.values():
        path.write_text("x")
    try:
        run_program("import warmfork\nwith warmfork.Template() as t: t.start(int).result()", tmp_path)
        assert {case for case, path in paths.items() if path.exists()} == {"living", "elsewhere", "stdlib's"}
    finally:
        for path in paths.values():
            path.unlink(missing_ok=True)


def test_a_tree_whose_program_is_dead_keeps_its_names_while_its_tracker_lives(tmp_path: Path):
    """M8 and M20: it lives in its kept children."""
    code = """
        import multiprocessing, os, signal, sys, warmfork
        from tests import targets

        if __name__ == "__main__":
            context = warmfork.get_context()
            lock = context.Lock()
            context.Process(target=targets.sign_and_wait, args=(sys.argv[1],)).start()
            print(multiprocessing.current_process()._config["semprefix"], flush=True)
            signal.pause()
    """
    with make_sign(tmp_path) as ready, run_meanwhile(code, tmp_path, ready.path) as program:
        stem = program.stdout.readline().strip().lstrip("/")
        child = int(ready.wait()[0])
        program.kill()
        program.wait(10)

        def list_its() -> list[str]:
            return [name for name in os.listdir("/dev/shm") if stem in name]

        left = list_its()
        assert left
        run_program(
            "import warmfork\nwith warmfork.Template() as t: t.start(int).result()",
            tmp_path,
            name="other.py",
            leaves=True,
        )
        assert list_its() == left
        os.kill(child, 9)
        wait_until(lambda: not list_its())


@contextmanager
def hold_open(path: Path | str, flags: int = os.O_RDWR) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


END = "import warmfork\nwith warmfork.Template() as t: t.start(int).result()"


@pytest.mark.parametrize(
    "name", ["x-warmfork-ledger", "memfd:warmfork-ledger (deleted)", "warmfork-ledger-0123456789ab"]
)
def test_a_fifo_with_the_name_of_a_ledger_holds_up_no_tracker_at_its_end(tmp_path: Path, name: str):
    """Anybody may have one open: opening it again waits for a writer."""
    fifo = Path("/dev/shm") / name if name.startswith("warmfork") else tmp_path / name
    os.mkfifo(fifo)
    try:
        # O_PATH: there is no writer.
        with hold_open(fifo, os.O_PATH), a_dead_tree():
            if name.startswith("warmfork"):
                fifo.unlink()  # its link in /proc says "(deleted)", as a ledger's does
            run_program(END, tmp_path)
    finally:
        fifo.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "content", [b"\xff" * 64, (2**63 - 1).to_bytes(8, "little"), b"", b"\0" * 16 + b"\xff" * 8, b"\1" * 4096]
)
def test_a_file_with_the_name_of_a_ledger_may_say_anything(tmp_path: Path, content: bytes):
    fd = os.memfd_create("warmfork-ledger", os.MFD_CLOEXEC)
    try:
        os.pwrite(fd, content, 0)
        os.ftruncate(fd, max(len(content), 1 << 40))  # to be read to its end it would take all memory
        with a_dead_tree() as semaphore:
            run_program(END, tmp_path)
            assert not semaphore.exists()
    finally:
        os.close(fd)


@contextmanager
def a_dead_tree() -> Iterator[Path]:
    """A semaphore of one, so that a tracker has a reason to look for the ledgers of the living."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    path = Path(f"/dev/shm/sem.mp-{os.stat('/proc/self/ns/pid').st_ino:x}.{gone.pid:x}.cd34-xyz")
    path.write_text("x")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def test_names_of_a_program_that_daemonised_live_as_long_as_the_copy_that_goes_on(tmp_path: Path):
    """M8 and M23: the program is dead then, and has no child; the copy holds the door, and so the names."""
    code = """
        import os, select, warmfork
        from multiprocessing.shared_memory import SharedMemory
        from warmfork._client import launch
        from warmfork._client.client import get_client
        from warmfork._words import messages

        context = warmfork.get_context()
        lock, memory = context.Lock(), SharedMemory(create=True, size=10)
        program = os.getpid()
        if os.fork() == 0:
            select.select([os.pidfd_open(program)], [], []) if os.getppid() == program else None
            # Two answers: the tracker goes on after it has seen the death.
            answers = [launch.ask(get_client().door, messages.Ask(1, 1), 20) for _ in range(2)]
            print(None not in answers, os.path.exists("/dev/shm/" + memory.name), memory.name, flush=True)
        os._exit(0)
    """
    answered, is_there, name = run_program(code, tmp_path).stdout.split()
    assert (answered, is_there) == ("True", "True")
    wait_until(lambda: not os.path.exists(f"/dev/shm/{name}"))
