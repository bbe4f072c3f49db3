"""Names are removed by the tracker, with its rights: nobody has it remove what he may not remove himself."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.running import ROOT
from tests.support import run_program, wait_until
from tests.tracker.test_succession import read_names
from warmfork._client import launch
from warmfork._client.client import get_client
from warmfork._words import messages

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to give up")


def drop_capabilities() -> None:
    libc = ctypes.CDLL(None)
    for number in range(41):
        libc.prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP
    assert libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), bytes(24)) == 0


def give_up_privileges() -> None:
    assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0


def filter_calls() -> None:
    allow = (ctypes.c_uint64 * 1)(0x7FFF0000 << 32 | 0x06)
    program = (ctypes.c_uint64 * 2)(1, ctypes.addressof(allow))
    give_up_privileges()
    assert ctypes.CDLL(None).prctl(22, 2, ctypes.byref(program), 0, 0) == 0


def track_all(change: Callable[[], None] | None, folder: str) -> None:
    """Track what is there, each as it can be, and end; after one that is one's own, which is no reason to be believed."""
    warmfork.track(f"{folder}/own", "file", scope="process")
    if change is not None:
        change()
    warmfork.track(f"{folder}/file", "file", scope="process")
    warmfork.track(f"{folder}/for the tree", "file", scope="tree")
    warmfork.track(f"{folder}/folder", "folder", scope="process")
    os._exit(0)


@pytest.mark.parametrize(
    "change", [pytest.param(drop_capabilities, marks=root_only), give_up_privileges, filter_calls, None]
)
def test_who_has_given_up_rights_has_no_file_removed_and_that_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[], None] | None
):
    for name in ("own", "file", "for the tree"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder").mkdir()
    with warmfork.Template(["tests.attacks.test_deputy"], spares=0) as template:
        pid = template.start(targets.give, (1,)).pid
        child = template.start(track_all, (change, str(tmp_path)))
        pid = child.pid
        child.wait(20)
        wait_until(lambda: not (tmp_path / "own").exists())
        template.start(targets.give, (2,)).result(20)
        entry = ("file", str(tmp_path / "for the tree"))
        if change is None:
            wait_until(lambda: os.listdir(tmp_path) == ["for the tree"])
            assert entry in read_names(), "though it has ended at once"
            warmfork.untrack(tmp_path / "for the tree", "file")
            return
        get_client().log_reports()
        assert sorted(os.listdir(tmp_path)) == ["file", "folder", "for the tree"]
        assert entry not in read_names()
        (said,) = [text for text in caplog.messages if "may not have files removed" in text]
        assert f"pid {pid} " in said and repr(str(tmp_path / "file")) in said


def leave_root() -> None:
    os.chroot("/proc")


def leave_mounts() -> None:
    assert ctypes.CDLL(None).unshare(0x00020000) == 0  # CLONE_NEWNS


@pytest.fixture
def segment() -> Iterator[SharedMemory]:
    made = SharedMemory(create=True, size=10)
    yield made
    made.close()
    made.unlink()


def hold_name(change: Callable[[], None] | None, kind: str, name: str) -> None:
    """Hold a name, and end."""
    if change is not None:
        change()
    get_client().hold(kind, name)
    os._exit(0)


@pytest.mark.parametrize(
    "change",
    [
        give_up_privileges,
        filter_calls,
        pytest.param(leave_root, marks=root_only),
        pytest.param(leave_mounts, marks=root_only),
    ],
)
def test_who_has_given_up_rights_has_no_shared_memory_removed_and_that_is_logged(
    segment: SharedMemory, caplog: pytest.LogCaptureFixture, change: Callable[[], None]
):
    with warmfork.Template(["tests.attacks.test_deputy"], spares=0) as template:
        child = template.start(hold_name, (change, "shared_memory", segment.name))
        child.wait(20)
        template.start(targets.give, (2,)).result(20)
        get_client().log_reports()
    assert ("shared_memory", segment.name) not in read_names()
    assert [text for text in caplog.messages if f"pid {child.pid} " in text and "may not have files removed" in text]
    assert os.path.exists(f"/dev/shm/{segment.name}")


def test_shared_memory_of_a_child_that_has_all_its_rights_is_removed_though_it_ends_at_once():
    name = SharedMemory(create=True, size=10).name
    with warmfork.Template(["tests.attacks.test_deputy"], spares=0) as template:
        template.start(hold_name, (None, "shared_memory", name)).wait(20)
        wait_until(lambda: not os.path.exists(f"/dev/shm/{name}"))


def test_a_lock_of_a_child_that_has_given_up_rights_is_known_and_a_stranger_s_semaphore_is_not(tmp_path: Path):
    program = """
        import multiprocessing
        import warmfork
        from tests.attacks.test_deputy import give_up_privileges
        from tests.support import wait_until
        from tests.tracker.test_succession import read_names
        from warmfork._client.client import get_client
        from warmfork._words import messages

        def register(names):
            give_up_privileges()
            for name in names:
                get_client().register("semaphore", name)

        if __name__ == "__main__":
            context = warmfork.get_context()
            ours = multiprocessing.current_process()._config["semprefix"]
            process = context.Process(target=register, args=(["/mp-strange-x", f"{ours}-x"],))
            process.start()
            process.join()
            wait_until(lambda: ("semaphore", f"{ours}-x") in read_names())
            print(sorted(name.replace(ours, "ours") for _, name in read_names()))
            get_client().tell(messages.Unregister("semaphore", f"{ours}-x"))
    """
    done = run_program(program, tmp_path, env={"PYTHONPATH": ROOT})
    assert done.stdout.splitlines()[-1] == "['ours-x']"


def sweep_all() -> object:
    """Have all names of the tree removed."""
    return launch.ask(get_client().ensure_door(), messages.Sweep(), 5.0)


def test_a_child_can_not_have_the_names_of_others_removed(tmp_path: Path):
    path = tmp_path / "kept"
    path.write_text("x")
    warmfork.track(path, "file")
    with warmfork.Template(["tests.attacks.test_deputy"], spares=0) as template:
        assert template.start(sweep_all).result(20) is None, "at once"
    assert path.exists() and ("file", str(path)) in read_names()
    warmfork.untrack(path, "file")
