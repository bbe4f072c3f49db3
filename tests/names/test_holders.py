"""What dead holders leave is put aside at once: whoever holds its name from then on loses nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.attacks.test_boards import make_loop
from tests.names.test_kept import read_kept
from warmfork._machine import fds, sockets
from warmfork._names import folders as folders_
from warmfork._names import removing
from warmfork._names.folders import Folders
from warmfork._names.holders import Holders
from warmfork._names.kept import KeptNames
from warmfork._tracker.book import Book
from warmfork._words import messages

DEAD, LIVING = 1 << 22, os.getpid()
"""Pids. Nobody looks whether the dead is."""


class Scene:
    """Holders whose sweeper waits until it is told to sweep."""

    def __init__(self, folder: Path) -> None:
        self.fd = os.memfd_create("ledger")
        self.folder = folder
        self.book = Book(self.fd)
        self.jobs: list[tuple[Callable[[], list[str]], Callable[[list[str]], None]]] = []
        sweeper = SimpleNamespace(run=lambda work, kept, done: self.jobs.append((work, done)))
        self.kept = read_kept(self.book)
        self.holders = Holders(make_loop(), self.book, self.kept, Folders(self.kept), sweeper)

    def hold(self, kind: str, name: str, pid: int) -> None:
        identity = fds.identify(fd := os.open(self.folder, os.O_PATH))
        os.close(fd)
        self.book.write(messages.NameHeld(kind, str(self.folder / name), pid, 5, "title", *identity))

    def sweep(self) -> None:
        while self.jobs:
            work, done = self.jobs.pop()
            done(work())

    def list_names(self) -> list[str]:
        """List what is in the ledger, as its last writer left it and as a successor reads it."""
        names = sorted(os.path.basename(name) for _, name in self.kept.entries)
        assert sorted(os.path.basename(name) for _, name in read_kept(Book(self.fd)).entries) == names
        return names


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    os.close(made.fd)


def test_who_holds_a_name_says_so_by_a_pidfd_on_itself(scene: Scene):
    """Else its death would be another's, or never come."""
    parent = os.pidfd_open(os.getppid())
    message = messages.Track("file", str(scene.folder / "name"))
    for passed in ([], [parent]):
        with sockets.Received(b"", passed, os.getpid(), False) as got:
            with pytest.raises(ValueError, match="the pidfd is not on its sender"):
                scene.holders.hold(message, got, "title")
    assert scene.list_names() == []


@pytest.mark.parametrize("name", ["/tmp/x/..", "/tmp/x/.", "/tmp/x/", "..", "/tmp/x\0"])
def test_what_is_no_name_in_a_folder_is_not_tracked_there(scene: Scene, name: str):
    """Removing it would remove the folder, or the one above."""
    folder = os.open(scene.folder, os.O_PATH | os.O_DIRECTORY)
    with (
        sockets.Received(b"", [folder], os.getpid(), False) as got,
        pytest.raises(ValueError, match="nothing in a folder"),
    ):
        scene.holders.folders.keep("folder", name, got)


@pytest.mark.parametrize("flags", [os.O_RDONLY | os.O_DIRECTORY, os.O_PATH, os.O_RDONLY])
def test_what_was_not_opened_as_a_folder_only_to_be_named_is_none(scene: Scene, flags: int):
    """What it is can be told without asking its file system, which may never answer."""
    folder = os.open(scene.folder, flags)
    with (
        sockets.Received(b"", [folder], os.getpid(), False) as got,
        pytest.raises(ValueError, match="no folder that was"),
    ):
        scene.holders.folders.keep("file", "/tmp/x", got)


def make(path: Path, kind: str, text: str) -> None:
    if kind == "folder":
        path.mkdir()
        path /= "inside"
    path.write_text(text)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_who_makes_and_holds_a_name_while_the_dead_one_s_is_swept_keeps_it(scene: Scene, kind: str):
    path = scene.folder / "name"
    make(path, kind, "the dead one's")
    scene.hold(kind, "name", DEAD)
    scene.holders.bury(DEAD, 0)
    assert not path.exists()
    make(path, kind, "the living one's")
    scene.hold(kind, "name", LIVING)
    scene.sweep()
    assert os.listdir(scene.folder) == ["name"] == scene.list_names()
    assert (path / "inside" if kind == "folder" else path).read_text() == "the living one's"
    assert scene.kept.list_held(LIVING) and not scene.kept.list_held(DEAD)
    assert f"left: {kind} {str(path)!r}" in scene.book.reports[-1].text


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_was_put_aside_is_in_the_ledger_until_it_is_removed(scene: Scene, kind: str):
    """A tracker that dies meanwhile has a successor, which removes it."""
    make(scene.folder / "name", kind, "x")
    scene.hold(kind, "name", DEAD)
    scene.holders.bury(DEAD, 0)
    assert scene.list_names() == os.listdir(scene.folder) != ["name"]
    scene.sweep()
    assert scene.list_names() == os.listdir(scene.folder) == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_something_else_than_was_tracked_stays_where_it_is(scene: Scene, kind: str):
    make(scene.folder / "name", {"file": "folder", "folder": "file"}[kind], "x")
    scene.hold(kind, "name", DEAD)
    scene.hold(kind, "gone", DEAD)
    scene.holders.bury(DEAD, 0)
    scene.sweep()
    assert os.listdir(scene.folder) == ["name"]
    assert scene.list_names() == []
    assert str(scene.folder / "name") in scene.book.reports[-1].text


def test_what_can_not_be_renamed_is_swept_all_the_same(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    make(scene.folder / "name", "file", "x")
    scene.hold("file", "name", DEAD)
    monkeypatch.setattr(os, "rename", refuse)
    scene.holders.bury(DEAD, 0)
    scene.sweep()
    assert scene.list_names() == os.listdir(scene.folder) == []


def test_files_in_more_folders_than_may_be_kept_open_are_removed_as_others_are(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(folders_, "MOST", 3)
    monkeypatch.setattr(folders_, "PRUNE_FROM", 2)
    kept = KeptNames()
    folders = Folders(kept)
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "file").write_text("x")
        opened = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        with sockets.Received(b"", [opened], 5, False) as got:
            identity = folders.keep("file", f"{folder}/file", got)
        kept.take(messages.Entered("file", f"{folder}/file", 5, "title", *identity))
    assert len(folders.list_fds()) == 3
    for entry in kept.entries.values():
        assert removing.remove(entry, folders) == removing.REMOVED
    kept.entries.clear()
    folders.prune()
    assert folders.list_fds() == []
