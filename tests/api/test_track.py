"""track(): names that are removed for the dead, at their death or at the end of the tree."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import warmfork
from tests import leftovers, targets
from tests.running import run_meanwhile
from tests.support import run_program, wait_until


def hold(path: str, scope: str) -> None:
    warmfork.track(path, "folder", scope=scope)
    signal.pause()


def make_folder(folder: Path, name: str) -> Path:
    path = folder / name
    (path / "inside").mkdir(parents=True)
    (path / "inside" / "file").write_text("x")
    return path


def test_what_a_process_tracks_for_itself_goes_with_it_and_that_is_reported(tmp_path: Path, caplog):
    path = make_folder(tmp_path, "own")
    with warmfork.Template() as template:
        child = template.start(hold, (str(path), "process"), name="holder")
        wait_until(lambda: is_held(path))
        child.kill()
        child.wait(20)
        wait_until(lambda: not path.exists())
        template.start(targets.give, (1,)).result(20)
    from warmfork._client.client import get_client

    get_client().log_reports()
    (text,) = [record.getMessage() for record in caplog.records if str(path) in record.getMessage()]
    assert f"pid {child.pid} (warmfork: holder" in text and "Signaled(signal=SIGKILL" in text


def is_held(path: Path) -> bool:
    from tests.tracker.test_succession import read_names

    return ("folder", str(path)) in read_names()


def test_of_several_holders_the_last_takes_the_name_along(tmp_path: Path):
    """A live holder never loses a name (row 62)."""
    path = make_folder(tmp_path, "shared")
    with warmfork.Template() as template:
        children = [template.start(hold, (str(path), "process")) for _ in range(2)]

        def count() -> int:
            from tests.tracker.test_succession import read_names

            entry = read_names().get(("folder", str(path)))
            return len(entry.holders) if entry is not None else 0

        wait_until(lambda: count() == 2)
        children[0].kill()
        wait_until(lambda: count() == 1)
        assert path.exists()
        children[1].kill()
        wait_until(lambda: not path.exists())


def test_what_a_child_tracks_for_the_tree_stays_when_the_child_dies(tmp_path: Path):
    """M7: it made it for others."""
    path = tmp_path / "file"
    path.write_text("x")
    with warmfork.Template() as template:
        template.start(warmfork.track, (str(path), "file")).result(20)
        template.start(targets.give, (1,)).result(20)
        assert path.exists()
    warmfork.untrack(path, "file")
    assert path.exists()


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "os._exit(0)", "pass"])
def test_what_is_tracked_for_the_tree_goes_with_the_program(tmp_path: Path, end: str):
    kept = tmp_path / "kept"
    kept.write_text("x")
    path = make_folder(tmp_path, "own")
    code = f"""
        import os, warmfork
        warmfork.track({str(path)!r}, "folder")
        warmfork.track({str(kept)!r}, "file")
        warmfork.track("/tmp/nothing-of-this-name", "file")
        warmfork.untrack({str(kept)!r}, "file")
        print("ready", flush=True)
        {end}
    """
    done = run_program(code, tmp_path, expect=None)
    assert not path.exists() and kept.exists()
    assert "leaked folder objects" in done.stderr and str(path) in done.stderr
    assert "nothing-of-this" not in done.stderr


def test_a_file_in_a_folder_that_does_not_exist_can_not_be_tracked(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        warmfork.track(tmp_path / "nowhere" / "file", "file")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_tracked_is_removed_where_it_is_and_not_what_has_its_path_later(tmp_path: Path, kind: str):
    """Its folder is moved, and another is there in its place: the tracker has an fd of the one that was meant."""
    code = f"""
        import os, warmfork
        for path in ("place", "elsewhere"):
            os.mkdir(path)
        os.{"mkdir" if kind == "folder" else "mknod"}("place/it")
        warmfork.track("place/it", {kind!r})
        os.rename("place", "moved")
        os.rename("elsewhere", "place")
        os.{"mkdir" if kind == "folder" else "mknod"}("place/it")
    """
    run_program(code, tmp_path, expect=None)
    assert not (tmp_path / "moved" / "it").exists()
    assert (tmp_path / "place" / "it").exists()


def test_a_successor_removes_nothing_from_a_folder_that_has_the_path_of_another(tmp_path: Path):
    """It has no fd of the folder, only its path, and which one was meant."""
    code = """
        import os, signal, warmfork
        from warmfork._client.client import get_client
        for path in ("place", "elsewhere", "same"):
            os.mkdir(path)
            os.mknod(f"{path}/it")
        warmfork.track("place/it", "file")
        warmfork.track("same/it", "file")
        client = get_client()
        pidfd = os.pidfd_open(client.tree.tracker)
        with warmfork.Template() as template:  # both were heard of when that serves
            template.start(int).result()
        os.kill(client.tree.tracker, signal.SIGKILL)
        client.tree.pidfd.fileno(), __import__("select").select([pidfd], [], [])
        os.rename("place", "moved")
        os.rename("elsewhere", "place")
    """
    done = run_program(code, tmp_path, expect=None)
    assert (tmp_path / "moved" / "it").exists() and (tmp_path / "place" / "it").exists()
    assert not (tmp_path / "same" / "it").exists()
    assert "this folder is another by now" in done.stderr


def test_the_temporary_folder_of_multiprocessing_goes_with_a_program_that_is_killed(tmp_path: Path):
    """Row 60: /tmp/pymp-* is left by the stdlib."""
    code = """
        import os, signal, warmfork

        if __name__ == "__main__":
            manager = warmfork.get_context(orphans="kill").Manager()
            numbers = manager.list([1, 2])
            print(os.path.dirname(manager.address), flush=True)
            signal.pause()
    """
    before = leftovers.list_descendants()
    with run_meanwhile(code, tmp_path) as program:
        folder = Path(program.stdout.readline().strip())
        assert folder.name.startswith("pymp-") and folder.exists()
        program.kill()
        program.wait(10)
    wait_until(lambda: not folder.exists() and not leftovers.wait_for_ends(before, 0), 4)


def test_the_temporary_folder_of_a_worker_that_is_terminated_goes_without_a_word(tmp_path: Path):
    """The program has lost nothing: a DataLoader with persistent workers ends so, each time."""
    code = """
        import time, warmfork
        from multiprocessing import util

        def work(queue):
            queue.put(util.get_temp_dir())
            time.sleep(600)

        if __name__ == "__main__":
            context = warmfork.get_context()
            queue = context.SimpleQueue()
            context.Process(target=work, args=(queue,), daemon=True).start()
            print(queue.get())
    """
    done = run_program(code, tmp_path)
    assert not Path(done.stdout.strip()).exists() and "pymp-" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("x", "socket"), ValueError),
        (("", "file"), ValueError),
        (("a\0b", "file"), ValueError),
        ((b"x", "file"), TypeError),
        ((5, "file"), TypeError),
    ],
)
def test_what_cannot_be_tracked_is_refused(arguments, error):
    with pytest.raises(error):
        warmfork.track(*arguments)
    with pytest.raises(ValueError, match="scope"):
        warmfork.track("x", "file", scope="thread")
