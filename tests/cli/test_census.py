"""The census finds real trees, in good days and bad ones."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.cli.looking import list_lines, list_tree, pick, run_ps, run_template, select
from tests.running import run_meanwhile
from tests.signs import make_sign
from tests.support import wait_until
from warmfork._machine import fds
from warmfork._words import board
from warmfork.cli import census, main, share

ROOT = Path(__file__).resolve().parents[2]


def start_nested(path: str) -> None:
    """Start a process, as a child, and wait until both are killed."""
    context = warmfork.get_context()
    inner = context.Process(target=targets.sign_and_wait, args=(path,), name="inner")
    inner.start()
    inner.join()


def test_a_template_and_its_child_are_shown_with_who_asked_for_them(tmp_path):
    with run_template(name="web") as template, make_sign(tmp_path) as sign:
        child = template.start(targets.sign_and_wait, (sign.path,), name="worker")
        sign.wait()
        found = list_tree(os.getpid())
        (program,) = select(found, role="program")
        (tracker,) = select(found, role="tracker")
        (shown,) = select(found, role="template")
        (worker,) = select(found, role="child")
        assert (program["pid"], program["parent"]) == (os.getpid(), None)
        assert tracker["parent"] == os.getpid() and tracker["title"] == f"warmfork: tracker {tracker['name']}"
        assert (shown["pid"], shown["parent"], shown["name"]) == (template.pid, tracker["pid"], "web")
        assert (shown["generation"], shown["starts"], shown["state"]) == (1, 1, "serving")
        assert (worker["pid"], worker["parent"], worker["template"]) == (child.pid, os.getpid(), template.pid)
        assert (worker["name"], worker["title"], worker["generation"]) == ("worker", "warmfork: worker web", 1)
        assert found == [program, tracker, shown, worker]
        for entry in found:
            assert 0 < entry["pss_mib"] <= entry["rss_mib"] and entry["age_s"] >= 0
            assert 0 < entry["uss_mib"] <= entry["pss_mib"] and entry["huge_mib"] >= 0
        assert worker["shared_mib"] > worker["uss_mib"], "it shares most of its memory with its template"
        assert worker["age_s"] <= shown["age_s"] <= tracker["age_s"] <= program["age_s"]


def test_starts_count_the_children_that_have_ended_too():
    with run_template() as template:
        for number in range(3):
            template.start(targets.give, (number,)).result(20)
        (shown,) = select(list_tree(os.getpid()), pid=template.pid)
        assert shown["starts"] == 3


def test_a_process_of_a_context_and_the_one_that_it_started_hang_below_one_another(tmp_path):
    context = warmfork.get_context(preload=["tests.targets"], name="app")
    with make_sign(tmp_path) as sign:
        outer = context.Process(target=start_nested, args=(sign.path,), name="outer")
        outer.start()
        inner = int(sign.wait()[0])
        found = list_tree(os.getpid())
        (shown_outer,) = select(found, pid=outer.pid)
        (shown_inner,) = select(found, pid=inner)
        assert (shown_outer["name"], shown_outer["parent"], shown_outer["role"]) == ("outer", os.getpid(), "child")
        assert (shown_inner["name"], shown_inner["parent"], shown_inner["role"]) == ("inner", outer.pid, "child")
        for entry in (shown_outer, shown_inner):
            assert select(found, pid=entry["template"], role="template")
        os.kill(inner, signal.SIGKILL)
        outer.join(20)
        outer.close()


def test_a_dead_template_is_shown_as_long_as_a_child_of_it_lives(tmp_path):
    with warmfork.Template(name="lost", preload=["tests.targets"], spares=0) as template, make_sign(tmp_path) as sign:
        child = template.start(targets.sign_and_wait, (sign.path,))
        sign.wait()
        dead = template.pid
        os.kill(dead, signal.SIGKILL)
        (shown,) = wait_until(lambda: select(list_tree(os.getpid()), pid=dead, state="dead"))
        assert (shown["name"], shown["role"], shown["starts"], shown["rss_mib"]) == ("lost", "template", 1, None)
        assert [item["item"] for item in shown["preload"]] == ["tests.targets"]
        (orphan,) = select(list_tree(os.getpid()), role="child")
        assert (orphan["pid"], orphan["parent"], orphan["template"]) == (child.pid, os.getpid(), dead)
        assert [" dead " in line for line in list_lines(dead, child.pid)] == [True, False]
        os.kill(child.pid, signal.SIGKILL)
        child.wait(20)
        wait_until(lambda: not Path(f"/proc/{child.pid}").exists())
        assert select(list_tree(os.getpid()), pid=dead) == []


def test_all_shows_templates_that_have_died_without_children(tmp_path):
    with warmfork.Template() as template:
        template.start(targets.give, (1,)).result(20)
        dead = template.pid
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{dead}").exists())
        assert select(list_tree(os.getpid()), pid=dead) == []
        (shown,) = select(list_tree(os.getpid(), "--all"), pid=dead)
        assert (shown["state"], shown["starts"]) == ("dead", 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose pids")
def test_a_stranger_with_the_pid_of_a_dead_orphan_is_not_shown(tmp_path):
    """Nobody strikes an orphan off the board of a template that is dead as well."""
    with warmfork.Template() as template, make_sign(tmp_path) as sign:
        children = [template.start(targets.sign_and_wait, (sign.path,)) for _ in range(2)]
        sign.wait(2)
        os.kill(template.pid, signal.SIGKILL)
        children[0].kill()
        children[0].wait(20)
        pid = children[0].pid
        wait_until(lambda: not Path(f"/proc/{pid}").exists())
        later = time.monotonic() + 0.1  # the kernel tells the start of a process in hundredths of a second
        wait_until(lambda: time.monotonic() > later)
        with start_as(pid):
            found = list_tree(os.getpid())
            assert select(found, pid=children[1].pid), "the board is still read"
            assert select(found, pid=pid) == []


@contextmanager
def start_as(pid: int) -> Iterator[None]:
    """Start a process that has this pid. Others may take it first: then it is not tried for ever."""
    for _ in range(100):
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        process = subprocess.Popen(["sleep", "1000"])
        try:
            if process.pid == pid:
                yield
                return
        finally:
            process.kill()
            process.wait(20)
    pytest.skip(f"others were always faster to take pid {pid}")


def test_strangers_with_such_names_are_not_shown(tmp_path):
    names = ["warmfork: tracker stranger", "warmfork: template stranger gen=1 [0 children]", "warmfork: job stranger"]
    commands = [["bash", "-c", f"exec -a {name!r} sleep 1000"] for name in names]
    commands.append(["tail", "-f", "/dev/null", "warmfork: tracker stranger", "/warmfork/_tracker/start.py"])
    strangers = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for command in commands]
    if os.geteuid() == 0:
        strangers.append(subprocess.Popen(commands[0], user=65534, group=65534, extra_groups=[]))
    try:
        for stranger in strangers:
            wait_until(lambda pid=stranger.pid: b"bash" not in Path(f"/proc/{pid}/cmdline").read_bytes())
        with run_template() as template:
            shown = {entry["pid"] for entry in json.loads(run_ps("--json").stdout)}
            assert template.pid in shown
            assert not shown & {stranger.pid for stranger in strangers}
    finally:
        for stranger in strangers:
            stranger.kill()
            stranger.wait(20)


PROGRAM = """
    import os, sys, threading, warmfork
    from tests import targets, signs

    if __name__ == "__main__":
        with warmfork.Template(name="own", spares=0) as template:
            child = template.start(targets.sign_and_wait, (sys.argv[1],))
            threading.Thread(target=lambda: (sys.stdin.read(), child.kill())).start()
            child.wait()  # and has a successor for its tracker meanwhile
"""


def test_after_its_tracker_a_template_has_the_successor_above_it(tmp_path):
    with make_sign(tmp_path) as sign, run_meanwhile(PROGRAM, tmp_path, sign.path) as program:
        child = int(sign.wait()[0])
        (tracker,) = select(list_tree(program.pid), role="tracker")
        os.kill(tracker["pid"], signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{tracker['pid']}/fd/3").exists())
        wait_until(lambda: select(list_tree(program.pid), role="tracker"))
        found = list_tree(program.pid)
        (successor,) = select(found, role="tracker")
        (kept,) = select(found, pid=child)
        (template,) = select(found, pid=kept["template"])
        assert (template["name"], template["role"], template["state"]) == ("own", "template", "serving")
        assert (template["parent"], kept["parent"]) == (successor["pid"], program.pid)
        assert successor["pid"] != tracker["pid"]
        program.communicate(timeout=20)
        assert program.returncode == 0


def test_a_child_that_lost_its_template_and_tracker_is_still_found(tmp_path):
    with make_sign(tmp_path) as sign, run_meanwhile(PROGRAM, tmp_path, sign.path) as program:
        child = int(sign.wait()[0])
        found = list_tree(program.pid)
        (template,) = select(found, role="template")
        (tracker,) = select(found, role="tracker")
        os.kill(program.pid, signal.SIGSTOP)  # or it would have a successor
        for entry in (template, tracker):
            os.kill(entry["pid"], signal.SIGKILL)
            wait_until(lambda pid=entry["pid"]: not os.path.exists(f"/proc/{pid}/fd/3"))  # no Path: a zombie refuses
        (lost,) = select(json.loads(run_ps("--json").stdout), pid=child)
        assert (lost["role"], lost["title"]) == ("child", "warmfork: sign_and_wait-1 own")
        assert (lost["parent"], lost["template"]) == (program.pid, template["pid"]), "its program holds the board"
        os.kill(child, signal.SIGKILL)
        os.kill(program.pid, signal.SIGCONT)
        program.communicate(timeout=20)


def test_the_tree_of_a_program_that_is_dead_has_no_program(tmp_path):
    code = """
        import os, sys, warmfork
        from tests import targets

        if __name__ == "__main__":
            process = warmfork.get_context(name="left").Process(target=targets.sign_and_wait, args=(sys.argv[1],))
            process.start()
            sys.stdin.read()
            os._exit(0)
    """
    with make_sign(tmp_path) as sign, run_meanwhile(code, tmp_path, sign.path) as program:
        child = int(sign.wait()[0])
        program.stdin.close()
        program.wait(20)
        found = json.loads(run_ps("--json").stdout)
        (left,) = select(found, pid=child)
        (template,) = select(found, pid=left["template"])
        (tracker,) = select(found, pid=template["parent"])
        assert (tracker["role"], tracker["parent"], left["parent"]) == ("tracker", None, program.pid)
        parent = int(Path(f"/proc/{tracker['pid']}/stat").read_text().rpartition(")")[2].split()[1])
        assert parent == os.getpid(), "we have adopted it, and are not the program that it was started by"
        os.kill(child, signal.SIGKILL)


def test_where_files_and_memory_of_others_can_not_be_read_titles_have_to_do(tmp_path, monkeypatch, capsys):
    with run_template(name="dim") as template, make_sign(tmp_path) as sign:
        child = template.start(targets.sign_and_wait, (sign.path,), name="worker")
        sign.wait()
        wait_until(lambda: "gen=1 [1 child]" in Path(f"/proc/{template.pid}/cmdline").read_text())
        monkeypatch.setattr(fds, "list_files", lambda pid: None)
        monkeypatch.setattr(share, "read_share", lambda pid: None)
        assert main(["ps", "--json"]) == 0
        found = pick(json.loads(capsys.readouterr().out), os.getpid())
        assert [entry["role"] for entry in found] == ["program", "tracker", "template", "child"]
        assert (found[2]["pid"], found[2]["name"], found[2]["generation"]) == (template.pid, "dim", 1)
        assert (found[3]["pid"], found[3]["template"], found[3]["parent"]) == (child.pid, template.pid, None)
        sizes = ("pss_mib", "uss_mib", "shared_mib", "huge_mib")
        assert {entry[size] for entry in found for size in sizes} == {None}
        assert found[2]["starts"] is None and found[2]["preload"] is None
        assert main(["ps"]) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if f" {template.pid} " in line]
        assert re.search(
            rf"└─template +{template.pid} +{found[1]['pid']} +serving +1 +\S+ +\S+ +[\d.]+M +- +- +- dim", line
        )


def hold_board(data: bytes) -> int:
    """Give an fd on a board with this in it, which a process of ours is then said to hold."""
    fd = os.memfd_create("warmfork-board-0123456789abcdef", os.MFD_CLOEXEC)
    os.truncate(fd, board.SIZE)
    os.pwrite(fd, data, 0)
    return fd


ODD = [0, 1, -1, -(2**63), 2**63 - 1, 2**31, os.getpid()]


@pytest.mark.parametrize("odd", ODD)
def test_a_board_with_any_numbers_and_names_on_it_breaks_nothing(odd, monkeypatch, capsys):
    head = board.HEAD.pack(board.MAGIC, board.VERSION, odd, odd, odd, odd, odd, odd, odd)
    report = "\n".join([f"nan\t{odd}\ta", "inf\t1\tb", "1\t" + "9" * 400 + "\tc", "\t\t", "1.5\t1\t\x1b[2J\u202e"])
    rows = b"".join(
        board.SLOT.pack(pid, odd, odd, odd, since, odd, b"\xff\x1b[31m\n" * 10)
        for pid in (odd, os.getpid(), os.getppid(), 1)
        for since in (odd, 1)
    )
    encoded = report.encode()
    size = (2**64 - 1 if odd < 0 else len(encoded)).to_bytes(8, "little")
    data = bytearray(board.SLOTS_AT) + rows
    data[: len(head)] = head
    data[board.REPORT_AT : board.REPORT_AT + 8 + len(encoded)] = size + encoded
    with run_template() as template:
        fd = hold_board(bytes(data))
        files = fds.list_files
        target = os.readlink(f"/proc/self/fd/{fd}")
        read = census.read_file
        monkeypatch.setattr(fds, "list_files", lambda pid: {**(files(pid) or {}), 99: target})
        monkeypatch.setattr(
            census, "read_file", lambda pid, at, known: read(*((os.getpid(), fd) if at == 99 else (pid, at)), known)
        )
        try:
            for words in (["ps", "--json", "--all"], ["ps", "--all"]):
                assert main(words) == 0
                out, err = capsys.readouterr()
                assert str(template.pid) in out and not err
                assert all(letter.isprintable() or letter == "\n" for letter in out)
        finally:
            os.close(fd)


def test_a_board_that_was_cut_short_or_is_no_file_is_not_read(tmp_path):
    fd = hold_board(b"")
    os.mkfifo(tmp_path / "fifo")
    fifo = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)  # to open it again would block
    try:
        assert census.read_file(os.getpid(), fd, {}) is not None
        os.truncate(fd, board.SIZE - 1)
        assert census.read_file(os.getpid(), fd, {}) is None
        assert census.read_file(os.getpid(), fifo, {}) is None
    finally:
        os.close(fd)
        os.close(fifo)


@pytest.mark.parametrize(
    ("title", "parts"),
    [
        ("warmfork: tracker a b", ("tracker", "a b", None)),
        ("warmfork: template web gen=12 [3 children]", ("template", "web", 12)),
        ("warmfork: template a gen=1 [x] gen=2 [serving]", ("template", "a gen=1 [x]", 2)),
        ("warmfork: template web gen=" + "9" * 5000 + " [x]", ("template", "web gen=" + "9" * 5000 + " [x]", None)),
        ("warmfork: worker web", ("", None, None)),
        ("tracker web", ("", None, None)),
        ("warmfork: tracker", ("", None, None)),
    ],
)
def test_a_title_is_taken_apart_whatever_it_says(title, parts):
    assert census.split_title(title) == parts


def test_a_very_long_title_takes_no_time():
    before = time.process_time()
    census.split_title("warmfork: template " + " gen=1 [" * 250_000)
    assert time.process_time() - before < 1


def test_a_ledger_with_any_place_in_it_names_nobody(monkeypatch):
    fd = os.memfd_create("ledger")
    try:
        os.pwrite(fd, b"\xff" * 64, 0)
        opened = open
        monkeypatch.setattr("builtins.open", lambda path, *a, **k: opened(f"/proc/self/fd/{fd}", *a, **k))
        assert census.read_root(os.getpid()) is None
    finally:
        os.close(fd)


def test_processes_that_come_and_go_meanwhile_are_no_error():
    """Starts and ends, hundreds a second, while it looks."""
    stop = threading.Event()
    started = []

    def start_many(template: warmfork.Template) -> None:
        while not stop.is_set():
            template.start(targets.give, (1,)).result(20)
            started.append(1)

    with run_template() as template:
        starter = threading.Thread(target=start_many, args=(template,))
        starter.start()
        try:
            for _ in range(8):
                before = len(started)
                found = list_tree(os.getpid(), "--all")
                assert select(found, pid=template.pid, role="template", state="serving")
                assert {entry["parent"] for entry in select(found, role="child")} <= {os.getpid()}
                assert run_ps().stdout.count("\n") >= 4
                wait_until(lambda before=before: len(started) > before)
        finally:
            stop.set()
            starter.join(20)
