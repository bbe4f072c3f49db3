"""What a process may do, as it is asked at each start and as the kernel says it; and who may be served by whom."""

from __future__ import annotations

import os

import pytest

from tests.support import fork, run_forked
from warmfork._machine import calls, rights

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its users, groups and root")


def drop_user() -> None:
    os.seteuid(65534)


def drop_group() -> None:
    os.setegid(65534)


def join_group() -> None:
    os.setgroups([4242])


def change_root() -> None:
    os.chroot("/proc")


def give_up_privileges() -> None:
    calls.call("prctl", 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS


def drop_capabilities() -> None:
    calls.call("capset", (0x20080522).to_bytes(4, "little") + bytes(4), bytes(24))


CHANGES = [
    pytest.param(drop_user, "user ids", marks=root_only),
    pytest.param(drop_group, "group ids", marks=root_only),
    pytest.param(join_group, "groups", marks=root_only),
    pytest.param(change_root, "root directory", marks=root_only),
    (give_up_privileges, "no_new_privs"),
]


def test_nothing_differs_where_nothing_has_changed():
    assert rights.take() == rights.take()
    assert rights.find_difference(rights.take(), rights.take()) == ""
    me = rights.read(os.getpid())
    assert rights.read("self") == me and rights.compare(me, me, me) == ""


SEEN_BY_ITSELF = [*CHANGES, pytest.param(drop_capabilities, "capabilities", marks=root_only)]


@pytest.mark.parametrize(("change", "name"), SEEN_BY_ITSELF)
def test_each_change_is_seen_and_named_by_the_process_itself(change, name):
    def look():
        before = rights.take()
        change()
        return rights.find_difference(rights.take(), before)

    difference = run_forked(look)
    assert difference.startswith(f"{name}: ") and ", not " in difference


@pytest.mark.parametrize(("change", "name"), CHANGES)
def test_each_change_is_seen_by_who_asks_the_kernel(change, name):
    reader, writer = os.pipe()
    go, come = os.pipe()
    pid = fork()
    if pid == 0:
        os.close(come)
        change()
        os.write(writer, b"!")
        os.read(go, 1)
        os._exit(0)
    try:
        os.read(reader, 1)
        me = rights.read("self")
        seen = rights.compare(rights.read(pid), me, me)
    finally:
        for fd in (reader, writer, come, go):
            os.close(fd)
        os.waitpid(pid, 0)
    assert seen.startswith(f"{name}: ")


def test_of_a_process_that_is_dead_nothing_is_known_and_nothing_said():
    pid = fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert rights.read(pid) == {}


BASE = {"user ids": "5\t5\t5\t5", "seccomp": "0", "capabilities": "000f", "cgroup": "0::/a", "root directory": "1:2"}


@pytest.mark.parametrize(
    ("asker", "server", "tree", "refused"),
    [
        ({}, {}, {}, ""),
        ({"seccomp": "2"}, {}, {}, "seccomp: 2, not 0"),
        (
            {"cgroup": "0::/b", "root directory": "3:4"},
            {},
            {},
            "cgroup: 0::/b, not 0::/a; root directory: 3:4, not 1:2",
        ),
        # A preload has confined the template: its children are as it is, and the program is as the tree.
        ({"seccomp": "2"}, {"seccomp": "2"}, {}, ""),
        ({}, {"seccomp": "2", "user ids": "7\t7\t7\t7"}, {}, ""),
        ({"capabilities": "ff0f"}, {}, {}, ""),
        ({"capabilities": "0001"}, {}, {}, "capabilities: 0001, not 000f"),
    ],
)
def test_who_has_less_is_refused_with_all_differences_and_who_has_as_much_is_served(asker, server, tree, refused):
    assert rights.compare({**BASE, **asker}, {**BASE, **server}, {**BASE, **tree}) == refused


def test_root_may_not_have_fewer_capabilities_either():
    """One with SECBIT_NOROOT, which nobody else sees, gets none by exec, and got children that had all of them."""
    asker = {**BASE, "user ids": "0\t0\t0\t0", "capabilities": "0001"}
    other = {**BASE, "user ids": "0\t0\t0\t0"}
    assert rights.compare(asker, other, other) == "capabilities: 0001, not 000f"


def test_what_can_not_be_seen_of_an_asker_is_a_difference():
    """A child in a network namespace of its own that was not dumpable got a sibling in the host's."""
    server = {"user ids": "0", "net namespace": "net:[1]"}
    assert rights.compare({"user ids": "0"}, server, server).startswith("net namespace: can't be seen")
    assert rights.compare({"user ids": "0"}, {"user ids": "0"}, server).startswith("net namespace: can't be seen")
    assert rights.compare(server, {"user ids": "0"}, server) == ""


@pytest.mark.parametrize("name", rights.OVER_FILES)
def test_who_has_less_over_files_than_we_is_told_apart_and_who_is_elsewhere_is_not(name, monkeypatch):
    mine = rights.read("self")
    other = {**mine, "root directory": "1:2", "mnt namespace": "another", "cgroup": "0::/another"}
    monkeypatch.setattr(rights, "read", lambda pid: mine if pid == "self" else other)
    assert rights.find_less_over_files(5, False) == ""
    assert rights.find_less_over_files(5, True).startswith("root directory: ")
    other[name] = "0" if "capab" in name else "another"
    if name == "capabilities":
        mine[name] = "1"
    assert rights.find_less_over_files(5, False).startswith(f"{name}: ")
    other.clear()
    assert "can't be seen" in rights.find_less_over_files(5, False)
