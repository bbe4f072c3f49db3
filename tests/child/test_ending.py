"""The end of a child: what it must not touch."""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import warmfork
from tests import ends
from tests.running import ROOT
from tests.support import run_forked, run_program, wait_until
from warmfork._child import ending
from warmfork._machine import calls


class Unsearched(dict):
    """Modules by name, for whoever asks for one; nobody is to go through them all."""

    def __iter__(self):
        raise AssertionError("each name in sys.modules was looked at, which copies its page of the template's memory")

    keys = values = items = __iter__


@pytest.mark.parametrize("loaded", [False, True])
def test_whether_a_gpu_may_be_open_is_asked_without_going_through_all_modules(monkeypatch, loaded):
    """It took a child 1.1 ms where scikit-learn was preloaded."""
    asked = []
    modules = Unsearched(sys.modules)
    for name in ending.GPU_MODULES:
        dict.pop(modules, name, None)
    if loaded:
        dict.__setitem__(modules, ending.GPU_MODULES[-1], None)
    monkeypatch.setattr(ending.fds, "list_gpus", lambda: asked.append(1) or ["/dev/nvidia0"])
    monkeypatch.setattr(sys, "modules", modules)
    found = ending.has_gpu()
    monkeypatch.undo()
    assert found is loaded
    assert len(asked) == loaded, "the open files are looked at only where it could be"


def start_thread(folder: str) -> None:
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def change_root(folder: str) -> None:
    os.chroot(folder)


def change_user(folder: str) -> None:
    os.setresuid(65534, 65534, 65534)


def change_groups(folder: str) -> None:
    os.setgroups([65534])


def leave_namespace(folder: str) -> None:
    calls.call("unshare", 0x04000000)  # CLONE_NEWUTS


def leave_namespace_for_children(folder: str) -> None:
    calls.call("unshare", 0x20000000)  # CLONE_NEWPID


def map_file(folder: str) -> mmap.mmap:
    with open(f"{folder}/mapped", "wb+") as file:
        file.truncate(4096)
        return mmap.mmap(file.fileno(), 4096)


def begin_session(folder: str) -> None:
    os.setsid()


def do_nothing(folder: str) -> None:
    return


def change_folder(folder: str) -> None:
    os.chdir(folder)


def change_group(folder: str) -> None:
    os.setpgid(0, 0)


def map_memory(folder: str) -> list[mmap.mmap]:
    found = [mmap.mmap(-1, 1 << 20), mmap.mmap(-1, 4096, mmap.MAP_PRIVATE)]
    fd = os.memfd_create("any")
    os.ftruncate(fd, 4096)
    return [*found, mmap.mmap(fd, 4096)]


def ask(deed: Callable[[str], object], folder: str) -> int:
    """In a copy of a template that noted its home: do something, and ask whether a helper may be made. 1: yes."""
    ending._make_helper = lambda: 0
    ending.note_home()
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            ending.note_mapped(0)
            kept = deed(folder)
            code = int(ending.may_outlive())
            if code and (os.getcwd() != "/" or os.getpgrp() != ending._group):
                code = 3
            del kept
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


NEEDS_ROOT = (change_root, change_user, change_groups, leave_namespace, leave_namespace_for_children)
FORBID = (start_thread, map_file, begin_session, *NEEDS_ROOT)


@pytest.mark.parametrize("deed", FORBID, ids=lambda deed: deed.__name__)
def test_nothing_takes_over_the_memory_of_a_child_that_holds_more_than_memory(deed, tmp_path: Path):
    if deed in NEEDS_ROOT and os.getuid():
        pytest.skip("needs root")
    assert run_forked(ask, deed, str(tmp_path)) == 0


@pytest.mark.parametrize("deed", [do_nothing, change_folder, change_group, map_memory], ids=lambda deed: deed.__name__)
def test_where_it_holds_nothing_else_or_can_give_it_up_it_is_taken_over(deed, tmp_path: Path):
    """Its working directory and its process group are the template's at its end."""
    assert run_forked(ask, deed, str(tmp_path)) == 1


@pytest.mark.parametrize("spares", [0, 2])
def test_the_memory_of_a_child_that_has_nothing_preloaded_is_taken_over_too(spares):
    """From its template's first idle moment on. Nothing is mapped between its birth and its function that it did not know
    of: to list that takes 0.7 ms."""
    where = "__import__('sys').modules['warmfork._child.ending']"  # to import a module anew may map memory
    look = f"[setattr(end, 'list_mapped', None) or end._make_helper and end.may_outlive() for end in [{where}]][0]"
    with warmfork.Template(preload=[], spares=spares) as template:
        wait_until(lambda: template.start(eval, (look,)).result(20), 30)


def test_what_a_child_does_at_its_ends_is_rehearsed_and_its_streams_stay_as_they_are(tmp_path: Path):
    """A pipe is no file: were the template's stdout fitted to another kind of file, each child would have to fit it anew."""
    code = """
        import warmfork
        from tests import ends
        from tests.support import wait_until

        if __name__ == "__main__":
            with warmfork.Template(preload=["tests.ends:note_stdout"]) as template:
                found = wait_until(lambda: template.start(ends.see_rehearsed).result(20), 30)
            assert all(found.values()), found
            print("done")
    """
    # Where stdout has no buffer there is nothing to be fitted.
    assert run_program(code, tmp_path, env={"PYTHONPATH": ROOT, "PYTHONUNBUFFERED": None}).stdout == "done\n"


def test_a_child_without_proc_ends_as_any_other(tmp_path: Path):
    if os.getuid():
        pytest.skip("needs root")
    code = """
        import os, warmfork
        from tests import ends

        if __name__ == "__main__":
            with warmfork.Template(preload=["tests.ends:always_have_a_helper"]) as template:
                assert template.start(os.chroot, (os.getcwd(),)).wait(20) == warmfork.Exited(0)
            print("done")
    """
    assert run_program(code, tmp_path, env={"PYTHONPATH": ROOT}).stdout == "done\n"


def test_what_a_child_has_locked_or_listens_on_is_free_when_it_is_known_to_be_dead(tmp_path: Path):
    """Its memory may be there for a millisecond more."""
    path = str(tmp_path / "locked")
    with warmfork.Template(preload=["tests.ends:always_have_a_helper"]) as template:
        for _ in range(20):
            child = template.start(ends.lock_and_listen, (path,))
            port, helper = child.result(20)
            child.wait(20)
            with socket.socket() as server, open(path, "w") as file:
                server.bind(("127.0.0.1", port))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert helper, "no helper was to be made: this test shows nothing"


def test_a_stream_whose_flush_fails_anyhow_costs_neither_exit_handlers_nor_the_end(tmp_path: Path, capfd):
    """The interpreter was finalised in its place, and ran what was the template's."""
    with warmfork.Template(preload=["tests.ends"]) as template:
        child = template.start(ends.leave_with_unflushable, (str(tmp_path / "note"),))
        assert child.wait(20) == warmfork.Exited(1)
    assert (tmp_path / "note").read_text() == "done"
    said = capfd.readouterr().err
    assert said.count("KeyError: 'the buffer'") == 1 and "start.py" not in said


@pytest.mark.parametrize("argument", ["why", ends.Untold()], ids=["text", "untold"])
def test_without_stderr_a_child_that_leaves_runs_its_exit_handlers_all_the_same(tmp_path: Path, argument: object):
    with warmfork.Template(preload=["tests.ends"]) as template:
        child = template.start(ends.leave_without_stderr, (str(tmp_path / "note"), argument))
        assert child.wait(20) == warmfork.Exited(1)
        with pytest.raises(warmfork.ChildError, match=r"sys\.exit"):
            child.result(20)
    assert (tmp_path / "note").read_text() == "done"


def test_a_thread_that_an_exit_handler_has_started_is_counted_before_files_are_closed(tmp_path: Path):
    """It is no thread of Python's, so only the kernel knows of it. What closes all files is for a child that is alone."""
    code = """
        import os, warmfork
        from tests import ends

        if __name__ == "__main__":
            with warmfork.Template(preload=["tests.ends:always_have_a_helper", "tests.ends"]) as template:
                for deed in ("alone", "thread"):
                    reader, writer = os.pipe()
                    child = template.start(getattr(ends, "end_" + deed), (1,), stdout=writer)
                    os.close(writer)
                    assert child.wait(20) == warmfork.Exited(0), child.outcome
                    print(deed, os.read(reader, 10))
    """
    done = run_program(code, tmp_path, env={"PYTHONPATH": ROOT})
    assert done.stdout == "alone b'1'\nthread b'0'\n"
