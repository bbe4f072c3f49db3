"""A child shuts the door that all its siblings share: the program is heard all the same, and so are later children."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.attacks import attackers
from tests.cli.looking import list_tree, select
from tests.running import get_tracker
from tests.support import run_forked, wait_until
from tests.tracker.test_succession import kill_tracker, read_names
from warmfork._client import launch
from warmfork._client.client import get_client
from warmfork._machine import pids, role

HOWS = {"reading": socket.SHUT_RD, "writing": socket.SHUT_WR, "both": socket.SHUT_RDWR}
USERS = [
    pytest.param(True, id="of another user", marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can")),
    pytest.param(False, id="of the same user"),
]


def shut(how: int, other_user: bool) -> None:
    if other_user:
        attackers.become_nobody()
    with socket.socket(fileno=os.dup(role.get_door())) as door:
        door.shutdown(how)


def get_cpu(pid: int) -> int:
    return sum(map(int, pids.read_stat(pid)[11:13]))


def start_nested() -> tuple[int, int]:
    """Start a process from here. Gives the parent of its template, and what it was asked for."""
    with warmfork.Template(name="nested") as template:
        value = template.start(targets.give, (5,)).result(20)
        return read_parent(template.pid), value


def read_parent(pid: int) -> int:
    return int(pids.read_stat(pid)[1])


@pytest.mark.parametrize("other_user", USERS)
@pytest.mark.parametrize("how", HOWS)
def test_a_child_that_shuts_the_door_harms_neither_the_program_nor_later_children(
    tmp_path: Path, how: str, other_user: bool, caplog: pytest.LogCaptureFixture
):
    for name in ("kept", "tracked"):
        (tmp_path / name).write_text("x")
    warmfork.track(tmp_path / "kept", "file")
    with warmfork.Template(["tests.attacks.test_shut_door"], spares=0) as template:
        tracker = wait_until(get_tracker)
        for _ in range(2):
            template.start(shut, (HOWS[how], other_user)).result(20)
            warmfork.untrack(tmp_path / "kept", "file")  # by the first that it may say
            warmfork.track(tmp_path / "tracked", "file")
            assert template.start(start_nested).result(20) == (tracker, 5)
            assert ("file", str(tmp_path / "kept")) not in read_names()
            assert ("file", str(tmp_path / "tracked")) in read_names()
            warmfork.untrack(tmp_path / "tracked", "file")
            warmfork.track(tmp_path / "kept", "file")
        assert launch.ask_fate(get_client().ensure_door(), 1, 1, 20) is None  # it has read all
        before = get_cpu(tracker)
        assert not wait(0.3)
        assert get_cpu(tracker) - before < 10, "in ticks: it does not spin"
        assert (get_tracker(), template.generation) == (tracker, 1)
        get_client().log_reports()
        assert sum("was shut down by one of them" in text for text in caplog.messages) == (0 if how == "reading" else 2)
    warmfork.untrack(tmp_path / "kept", "file")


def wait(seconds: float) -> bool:
    import select

    return bool(select.select((), (), (), seconds)[0])


def test_a_successor_of_the_tracker_has_the_new_door_too():
    with warmfork.Template(["tests.attacks.test_shut_door"], spares=0) as template:
        template.start(shut, (socket.SHUT_WR, False)).result(20)
        assert template.start(start_nested).result(20)[1] == 5
        before = kill_tracker()
        assert template.start(start_nested).result(20)[1] == 5
        tracker = wait_until(get_tracker)
        assert tracker != before
        template.start(shut, (socket.SHUT_RDWR, False)).result(20)
        assert template.start(start_nested).result(20) == (tracker, 5)


def test_ps_knows_a_tracker_that_has_a_new_door():
    """It knows a tracker by where its door is."""
    with warmfork.Template(["tests.attacks.test_shut_door"], spares=0) as template:
        template.start(shut, (socket.SHUT_RDWR, False)).result(20)
        assert template.start(start_nested).result(20) == (get_tracker(), 5)
        (shown,) = select(list_tree(os.getpid()), role="tracker")
        assert (shown["pid"], shown["parent"]) == (get_tracker(), os.getpid())
        assert select(list_tree(os.getpid()), pid=template.pid)[0]["parent"] == get_tracker()


def test_only_the_program_has_the_socket_by_which_it_says_so():
    with warmfork.Template(["tests.attacks.test_shut_door"], spares=0) as template:
        template.wait_ready()
        ends = [fd.fileno() for fd in (get_client().tree.own, get_client().tree.own_receiver)]
        names = {os.readlink(f"/proc/self/fd/{fd}") for fd in ends}
        for pid in (template.pid, template.start(targets.wait).pid):
            assert not names & set(list_files(pid))
        assert os.readlink(f"/proc/self/fd/{ends[0]}") not in list_files(get_tracker())
        assert run_forked(lambda: os.readlink(f"/proc/self/fd/{ends[0]}") if is_there(ends[0]) else "") not in names


def is_there(fd: int) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def list_files(pid: int) -> list[str]:
    from warmfork._machine import fds

    return list((fds.list_files(pid) or {}).values())


def say_door() -> None:
    """Hand the tracker a door of one's own, by the one that one has."""
    from warmfork._machine import sockets
    from warmfork._words import messages, wire

    _ours, theirs = sockets.make_pair()
    door = sockets.adopt_socket(os.dup(role.get_door()))
    sockets.send_within(door, wire.encode(messages.Door()), (theirs.fileno(),))


def test_a_door_is_believed_from_the_program_only():
    with warmfork.Template(["tests.attacks.test_shut_door"], spares=0) as template:
        template.start(say_door).result(20)
        assert template.start(start_nested).result(20) == (get_tracker(), 5)
