"""`warmfork top` on a terminal of its own, and without one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests import targets
from tests.cli.looking import run_template
from tests.programs import Terminal, run
from tests.signs import make_sign
from warmfork.cli.command import BadUsage
from warmfork.cli.top import View, main, read_interval

TOP = [sys.executable, "-m", "warmfork", "top"]


def open_top(folder: Path, *words: str) -> Terminal:
    return Terminal([*TOP, "--interval", "0.2", *words], cwd=folder, TERM="xterm", LINES="", COLUMNS="")


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_q_and_control_c_end_it_and_the_terminal_is_as_before(key, tmp_path):
    with run_template(), open_top(tmp_path) as terminal:
        before = termios.tcgetattr(terminal.slave)
        terminal.read_until(b"quit: q")
        assert termios.tcgetattr(terminal.slave) != before
        terminal.write(key)
        code, screen = terminal.finish()
        assert code == 0 and b"Traceback" not in screen
        assert screen.endswith(b"\x1b[?25h\x1b[?1049l"), "the cursor is back, and the screen that was there"
        assert termios.tcgetattr(terminal.slave) == before


def test_a_signal_that_ends_it_leaves_the_terminal_as_before(tmp_path):
    with run_template(), open_top(tmp_path) as terminal:
        before = termios.tcgetattr(terminal.slave)
        terminal.read_until(b"quit: q")
        terminal.process.send_signal(signal.SIGTERM)
        code, screen = terminal.finish()
        assert code == 128 + signal.SIGTERM and screen.endswith(b"\x1b[?1049l")
        assert termios.tcgetattr(terminal.slave) == before


def test_a_marked_process_is_ended_after_a_question(tmp_path):
    with run_template() as template, make_sign(tmp_path) as sign:
        child = template.start(targets.sign_and_wait, (sign.path,), name="victim")
        sign.wait()
        view = View("age")
        view.look()
        view.marked = child.pid
        assert view.press("k") and f"End child {child.pid} (victim" in view.tell()
        view.press("n")
        assert "nothing" in view.tell() and child.is_running()
        view.press("k")
        view.press("y")
        assert f"{child.pid} was sent SIGTERM" in view.tell()
        assert child.wait(20).signal == signal.SIGTERM
        assert "has ended already" in view.end(child.pid)


def test_a_process_that_has_the_pid_of_another_is_not_ended():
    with subprocess.Popen(["sleep", "100"]) as stranger:
        view = View("age")
        view._born = {stranger.pid: 1}
        assert "has ended already" in view.end(stranger.pid)
        assert stranger.poll() is None
        stranger.kill()


def test_keys_come_one_by_one_and_arrows_move_the_mark(tmp_path):
    with run_template(name="web") as template, open_top(tmp_path) as terminal:
        terminal.read_until(b"quit: q")
        terminal.write(b"m")
        terminal.read_until(b"by memory")
        terminal.write(b"\x1b[B" * 200 + b"k")
        terminal.read_until(b"y/n")
        terminal.write(b"nq")
        code, screen = terminal.finish()
        assert code == 0 and str(template.pid).encode() in screen
        assert template.start(targets.give, (1,)).result(20) == 1


@pytest.mark.parametrize("order", ["memory", "cpu", "age", "starts"])
def test_siblings_are_sorted(order, tmp_path):
    with run_template() as template, make_sign(tmp_path) as sign:
        for _ in range(3):
            template.start(targets.sign_and_wait, (sign.path,))
        sign.wait(3)
        view = View(order)
        view.look()
        view.look()
        children = [record for record, _ in view.found if record.template == template.pid]
        assert len(children) == 3
        weights = [view.weigh(record) for record in children]
        assert weights == sorted(weights)


def test_once_prints_one_table_with_percents_and_needs_no_terminal():
    with run_template(name="web") as template:
        done = run([*TOP, "--once", "--interval", "0.2"])
        assert (done.returncode, done.stderr) == (0, "")
        assert "CPU%" in done.stdout.splitlines()[0]
        (line,) = re.findall(rf"^.*template +{template.pid} .*$", done.stdout, re.MULTILINE)
        assert line.endswith(" web") and "\x1b" not in done.stdout


def test_without_a_terminal_it_names_what_does_without_one():
    done = run(TOP)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "warmfork: warmfork top needs a terminal\nhint: warmfork top --once prints one look, warmfork ps the table\n"
    )


@pytest.mark.parametrize("text", ["0", "x", "nan", "-1", "1e9"])
def test_an_interval_that_is_none_is_refused(text):
    with pytest.raises(BadUsage, match="--interval is a number of seconds"):
        read_interval(text)


def test_where_nothing_runs_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 2**31 - 7)
    assert main(["--once", "--interval", "0.1"]) == 0
    assert capsys.readouterr().out == "nothing of warmfork runs\n"
