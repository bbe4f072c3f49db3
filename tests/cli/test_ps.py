"""`warmfork ps`: its table, its JSON, its words."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

import warmfork
from tests import targets
from tests.cli.looking import list_lines, list_tree, run_ps, run_template, select
from tests.signs import make_sign
from tests.support import wait_until
from warmfork.cli import main, table


def test_spares_are_said_to_be_spare_until_they_are_needed(tmp_path):
    with run_template(name="web", spares=1) as template, make_sign(tmp_path) as sign:
        template.start(targets.give, (1,)).result(20)
        (spare,) = wait_until(lambda: select(list_tree(os.getpid()), template=template.pid, state="spare"))
        assert (spare["role"], spare["title"], spare["parent"]) == ("child", "warmfork: spare web", os.getpid())
        (line,) = list_lines(spare["pid"])
        assert line.rstrip().endswith("M        spare web")
        child = template.start(targets.sign_and_wait, (sign.path,), name="needed")
        sign.wait()
        assert child.pid == spare["pid"]
        (needed,) = select(list_tree(os.getpid()), pid=child.pid)
        assert (needed["state"], needed["title"]) == ("running", "warmfork: needed web")


def start_sibling(context: Any, path: str) -> None:
    """Start a process from the template that we are from, and wait until it is dead."""
    inner = context.Process(target=targets.sign_and_wait, args=(path,))
    inner.start()
    inner.join()


def test_a_child_is_drawn_below_the_child_that_asked_for_it(tmp_path):
    context = warmfork.get_context(name="app")
    with make_sign(tmp_path) as sign:
        outer = context.Process(target=start_sibling, args=(context, sign.path))
        outer.start()
        inner = int(sign.wait()[0])
        above, below = list_lines(outer.pid, inner)
        assert str(outer.pid) in above and str(inner) in below
        assert below.index("└─") == above.index("└─") + 2
        os.kill(inner, signal.SIGKILL)
        outer.join(20)
        outer.close()


@pytest.fixture
def heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that takes 40 MiB and a twentieth of a second."""
    (tmp_path / "heavy_module.py").write_text(
        "import time\nheld = b'x' * (40 << 20)\nstart = time.monotonic()\nwhile time.monotonic() < start + 0.05: pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "heavy_module"


def test_each_preloaded_module_is_shown_with_milliseconds_and_mib(heavy):
    with run_template(preload=["tests.targets", heavy]) as template:
        (shown,) = select(list_tree(os.getpid()), pid=template.pid)
        small, large = shown["preload"]
        assert (small["item"], large["item"]) == ("tests.targets", heavy)
        assert 50 <= large["ms"] < 60_000 and 39 < large["mib"] < 60
        assert small["mib"] < 20
        line = f"{large['ms']:.1f} {large['mib']:.1f} {heavy}".split()
        assert line in [line.split() for line in run_ps().stdout.splitlines()]


def test_help_says_all_fields_of_the_json_and_no_others():
    with run_template():
        entry = list_tree(os.getpid())[0]
    text = run_ps("--help").stdout
    fields = text[text.index("The fields of --json") : text.index("Exit codes")]
    said = re.findall(r"^  ([a-z_]+(?:, [a-z_]+)*)  ", fields, re.MULTILINE)
    assert sorted(", ".join(said).split(", ")) == sorted(entry)


@pytest.mark.parametrize("ascii_only", [False, True])
def test_siblings_hang_on_one_line(monkeypatch, ascii_only):
    monkeypatch.setattr(table, "is_ascii", lambda: ascii_only)
    drawn = table.draw_branches([0, 1, 2, 3, 3, 2, 1, 0, 1])
    expected = ["", "├─", "│ ├─", "│ │ ├─", "│ │ └─", "│ └─", "└─", "", "└─"]
    if ascii_only:
        expected = [
            branch.replace("├", "|").replace("│", "|").replace("└", "`").replace("─", "-") for branch in expected
        ]
    assert drawn == expected


def test_the_table_fits_80_columns_and_ugly_names_do_nothing_to_it(tmp_path):
    name = "a [red]name[/red]\x1b[31m that is\nmuch too long for " + "any " * 30 + "table"
    with run_template(name=name) as template, make_sign(tmp_path) as sign:
        child = template.start(targets.sign_and_wait, (sign.path,), name="é\x07\r" + "w" * 200)
        sign.wait()
        for width in (20, 50, 80, 200):
            text = run_ps(COLUMNS=str(width)).stdout
            assert max(map(cell_len, text.splitlines())) <= width
        text = run_ps(COLUMNS="80").stdout
        assert all(letter.isprintable() or letter == "\n" for letter in text)
        lines = list_lines(template.pid, child.pid, COLUMNS="80")
        assert len(lines) == 2 and lines[1].endswith("…")
        assert "a [red]na" in lines[0] and " é??w" in lines[1], "what can't be printed is no part of a name"
        wide = list_lines(template.pid)
        assert "a [red]name[/red]?[31m that is?much too long for any any" in wide[0]
        ascii_only = run_ps(PYTHONIOENCODING="ascii").stdout
        assert ascii_only.isascii() and re.search(rf"`-child +{child.pid} ", ascii_only)


def test_a_pipe_has_all_columns_and_whole_titles():
    with run_template(name="n" * 300) as template:
        head, *_ = run_ps().stdout.splitlines()
        assert {"ROLE", "PID", "PARENT", "STATE", "GEN", "AGE", "CPU", "RSS", "USS", "PSS", "STARTS"} < {*head.split()}
        (line,) = list_lines(template.pid)
        assert "n" * 190 in line, "as much as a name may have"
        (program,) = list_lines(os.getpid())
        assert " ".join(Path("/proc/self/cmdline").read_text().split("\0")[1:4]).strip() in program
        assert f"{Path(sys.executable).parent}/python" not in program


@pytest.mark.parametrize(("width", "columns"), [(50, 5), (80, 8), (200, 12)])
def test_narrow_terminals_show_the_columns_that_matter_and_never_half_a_number(width, columns):
    with run_template(name="web") as template:
        text = run_ps(COLUMNS=str(width)).stdout
        head = text.splitlines()[0].split()
        assert len(head) >= columns and {"ROLE", "PID", "STATE", "CPU", "TITLE"} <= {*head}
        assert any(line.split()[:2] == ["└─template", str(template.pid)] for line in text.splitlines())


def test_cpu_is_what_a_process_has_computed():
    with run_template() as template:
        child = template.start(burn)
        wait_until(lambda: select(list_tree(os.getpid()), pid=child.pid)[0]["cpu_s"] >= 0.2)
        child.kill()
        child.wait(20)


def burn() -> None:
    while True:
        pass


def test_a_full_disk_is_told_in_one_line():
    for words in (["ps"], ["ps", "--json"], ["--help"], ["run", "--help"], ["completion", "bash"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "warmfork", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == 1
        assert done.stderr == (
            "warmfork: could not write the output: No space left on device\nhint: is the disk full?\n"
        )


def test_a_reader_that_leaves_early_costs_no_traceback():
    with run_template():
        done = subprocess.run(
            ["sh", "-c", '"$0" -m warmfork ps --json | true; "$0" -m warmfork ps | true', sys.executable],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_stranger_that_has_a_fifo_where_a_tracker_has_its_ledger_holds_nobody_up(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    fifo = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)  # to open it again would block: nobody writes
    with socket.socket() as door:
        command = f"exec 3<&{door.fileno()} 4<&{fifo}; exec -a 'warmfork: tracker stranger' sleep 1000"
        stranger = subprocess.Popen(["bash", "-c", command], pass_fds=(door.fileno(), fifo))
    os.close(fifo)
    try:
        wait_until(lambda: b"bash" not in Path(f"/proc/{stranger.pid}/cmdline").read_bytes())
        (shown,) = select(json.loads(run_ps("--json").stdout), pid=stranger.pid)
        assert (shown["role"], shown["parent"]) == ("tracker", None)
    finally:
        stranger.kill()
        stranger.wait(20)


def test_what_is_stopped_is_said_to_be(tmp_path):
    with run_template() as template, make_sign(tmp_path) as sign:
        child = template.start(targets.sign_and_wait, (sign.path,))
        sign.wait()
        for pid in (child.pid, template.pid):
            os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: all(is_stopped(pid) for pid in (child.pid, template.pid)))
            found = list_tree(os.getpid())
            assert [entry["pid"] for entry in select(found, state="stopped")] == [template.pid, child.pid]
            assert [" stopped " in line for line in list_lines(template.pid, child.pid)] == [True, True]
        finally:
            os.kill(template.pid, signal.SIGCONT)
            os.kill(child.pid, signal.SIGCONT)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_template_that_preloads_says_so(tmp_path, monkeypatch):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    (tmp_path / "slow_module.py").write_text(f"open({str(gate)!r}).read()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with warmfork.Template(preload=["slow_module"], name="slow") as template:
        starter = threading.Thread(target=template.wait_ready)
        starter.start()
        fd = os.open(gate, os.O_WRONLY)  # opens when the module does
        try:
            (shown,) = select(list_tree(os.getpid()), name="slow")
            assert (shown["state"], shown["starts"], shown["preload"]) == ("preloading", 0, [])
            assert shown["title"] == "warmfork: template slow gen=1 [preloading]"
        finally:
            os.close(fd)
            starter.join(20)
        (shown,) = select(list_tree(os.getpid()), name="slow")
        assert shown["state"] == "serving" and [item["item"] for item in shown["preload"]] == ["slow_module"]


def test_a_user_who_has_none_is_told_so(monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 2**31 - 7)
    assert main(["ps"]) == 0
    assert capsys.readouterr() == ("nothing of warmfork runs\n", "")
    assert main(["ps", "--json"]) == 0
    assert capsys.readouterr() == ("[]\n", "")


def test_a_wrong_call_is_refused_with_a_hint_and_code_2():
    done = run_ps("--jason", code=2)
    assert done.stdout == ""
    assert done.stderr == (
        'warmfork: warmfork ps takes no "--jason"\nhint: it takes --json, --all, --help; see warmfork ps --help\n'
    )


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_has_examples(word):
    text = run_ps(word).stdout
    assert text.startswith("usage: warmfork ps [--json] [--all]\n") and "\n  warmfork ps | grep nightly\n" in text
    assert max(map(len, text.splitlines())) <= 80
