"""What a fork does not survive is found before the first child is forked (COMPAT 8, rows 22 and 23)."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.running import ROOT
from tests.support import run_program
from warmfork._words.allowed import ALLOWED, NAMES

THREADS = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True, name='the-pump').start()\n"
INTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
made = interpreters.create()
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "pumps.py").write_text(THREADS)
    (tmp_path / "two_interpreters.py").write_text(INTERPRETER)
    (tmp_path / "one_again.py").write_text(INTERPRETER + "interpreters.destroy(made)\n")
    return tmp_path


@pytest.mark.parametrize("audit", ["refuse", "warn", "off"])
def test_a_live_subinterpreter_is_refused_whatever_the_policy(modules: Path, audit: str):
    """COMPAT 8: the child hangs on 3.11 and 3.12, aborts on 3.13, segfaults on 3.14 and 3.15."""
    with warmfork.Template(preload=["two_interpreters"], audit=audit) as template:
        with pytest.raises(warmfork.AuditError, match="1 live subinterpreter") as caught:
            template.start(targets.give, (1,))
        assert len(caught.value.findings) == 1 and "hint" in str(caught.value)


def test_a_subinterpreter_that_was_destroyed_is_no_finding(modules: Path):
    """COMPAT 8."""
    with warmfork.Template(preload=["one_again"], audit="refuse") as template:
        assert template.start(targets.give, (1,)).result(20) == 1


def test_threads_are_refused_where_the_policy_says_so(modules: Path):
    """Row 22."""
    with warmfork.Template(preload=["pumps"], audit="refuse") as template:
        with pytest.raises(warmfork.AuditError, match=r'"pumps" left 1 thread\(s\) running: the-pump'):
            template.start(targets.give, (1,))


def test_threads_are_not_mentioned_where_the_audit_is_off(modules: Path, caplog: pytest.LogCaptureFixture):
    with warmfork.Template(preload=["pumps"], audit="off") as template:
        assert template.start(targets.give, (1,)).result(20) == 1
    assert caplog.text == ""


def test_threads_of_a_library_that_stops_them_when_it_forks_are_no_finding(caplog: pytest.LogCaptureFixture):
    """OpenBLAS starts its threads with the import of numpy and has a handler that ends them at a fork."""
    pytest.importorskip("numpy")
    with warmfork.Template(preload=["numpy"], audit="refuse") as template:
        assert template.start(targets.multiply_matrices).result(60) == 64.0
    assert caplog.text == ""


SOCKETS = {
    "listens": "import socket\ns = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n",
    "connects": "import os, socket\nb = socket.create_connection(('127.0.0.1', int(os.environ['PORT'])))\n",
    "reaches_out": "import os, socket\nc = socket.socket(socket.AF_UNIX); c.connect(os.environ['PEER'])\n",
}


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("listens", r'"listens" left a listening socket \(127.0.0.1 port \d+\) open'),
        ("connects", r'"connects" left a connected socket \(127.0.0.1 port \d+\) open'),
        ("reaches_out", r'"reaches_out" left a connected socket \(/.*peer\) open'),
    ],
)
def test_sockets_that_children_would_share_are_refused_with_their_module(modules, monkeypatch, name, finding):
    (modules / f"{name}.py").write_text(SOCKETS[name])
    peer = socket.socket(socket.AF_UNIX)
    peer.bind(str(modules / "peer"))
    peer.listen()
    server = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setenv("PEER", str(modules / "peer"))
    monkeypatch.setenv("PORT", str(server.getsockname()[1]))
    with peer, server, warmfork.Template(preload=["tests.targets", name], audit="refuse") as template:
        with pytest.raises(warmfork.AuditError, match=finding) as caught:
            template.start(targets.give, (1,))
        assert len(caught.value.findings) == 1


def test_sockets_are_logged_where_the_policy_is_to_warn(modules, caplog):
    (modules / "listens.py").write_text(SOCKETS["listens"])
    with warmfork.Template(preload=["listens"], audit="warn") as template:
        assert template.start(targets.give, (1,)).result(20) == 1
    assert '"listens" left a listening socket' in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "pair = socket.socketpair()\n",
        "lone = socket.socket()\n",
        "told = socket.socket(type=socket.SOCK_DGRAM); told.connect(('127.0.0.1', 9))\n",
    ],
)
def test_sockets_that_do_no_harm_are_no_finding(modules, caplog, text):
    (modules / "quiet.py").write_text("import socket\n" + text)
    with warmfork.Template(preload=["quiet"], audit="refuse") as template:
        assert template.start(targets.give, (1,)).result(20) == 1
    assert caplog.text == ""


LOCKS = """\
import threading
free, free_again = threading.Lock(), threading.RLock()
class Holder:
    def __init__(self):
        self.inner = threading.KIND()
        self.inner.acquire()
holder = Holder()
held = threading.KIND()
held.acquire()
"""


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_held_locks_are_refused_with_their_module(modules, kind):
    (modules / "holds.py").write_text(LOCKS.replace("KIND", kind))
    with warmfork.Template(preload=["holds"], audit="refuse") as template:
        with pytest.raises(warmfork.AuditError) as caught:
            template.start(targets.give, (1,))
    assert caught.value.findings == (
        '"holds" holds the lock held: it stays held in every child',
        '"holds" holds the lock inner: it stays held in every child',
    )


def test_the_standard_library_holds_no_locks_and_no_sockets(caplog):
    preload = ["asyncio", "logging.handlers", "concurrent.futures", "queue", "multiprocessing.pool", "http.client"]
    with warmfork.Template(preload=preload, audit="refuse") as template:
        assert template.start(targets.give, (1,)).result(20) == 1
    assert caplog.text == ""


def test_each_thing_that_is_allowed_says_of_which_library_since_when_why_and_who_says_so():
    for each in ALLOWED:
        assert each.project and each.version[0].isdigit() and each.reason and each.source
    assert "jemalloc_bg_thd" in NAMES


@pytest.mark.parametrize("module", ["numpy", "pumps"])
def test_warnings_as_errors_do_not_disturb_a_template_with_threads(modules: Path, module: str):
    """COMPAT 8: 3.15 raises from os.fork() although the child exists, and counts native threads too.

    In the child the filters are the program's again.
    """
    pytest.importorskip("numpy")
    code = f"""
        import sys, warnings, warmfork
        from tests import targets
        with warmfork.Template(preload=[{module!r}]) as template:
            for number in range(3):
                assert template.start(targets.give, (number,)).result(20) == number
            child = template.start(warnings.warn, ("to be an error",))
            try:
                child.result(20)
            except UserWarning as error:
                print("raised:", error)
    """
    env = {"PYTHONPATH": f"{ROOT}:{modules}"}
    done = run_program(code, modules, flags=["-W", "error"], env=env)
    assert done.stdout == "raised: to be an error\n"
    assert "DeprecationWarning" not in done.stderr


def test_faulthandler_in_a_child_writes_to_the_child_s_own_stderr(tmp_path: Path):
    """COMPAT 8: its stderr was put there after the preload that enabled it."""
    code = """
        import signal, warmfork
        from tests import targets
        with warmfork.Template(preload=["faulthandler:enable"]) as template:
            print(template.start(targets.end_by_fault).wait(20).signal == signal.SIGSEGV)
    """
    done = run_program(code, tmp_path, env={"PYTHONPATH": ROOT})
    assert done.stdout == "True\n"
    assert "Segmentation fault" in done.stderr and "end_by_fault" in done.stderr


@pytest.mark.skipif(sys.version_info < (3, 14), reason="remote debugging came with 3.14")
def test_a_helper_can_be_told_not_to_take_remote_code(tmp_path: Path):
    """COMPAT 8: the option of the program holds for its template too."""
    code = """
        import sys, warmfork
        from tests import targets
        with warmfork.Template() as template:
            print(template.start(targets.see_options).result(20))
    """
    flags = ["-X", "disable-remote-debug"]
    assert "disable-remote-debug" in run_program(code, tmp_path, flags=flags, env={"PYTHONPATH": ROOT}).stdout


def test_the_options_of_the_interpreter_hold_in_template_and_children(tmp_path: Path):
    code = """
        import sys, warmfork
        from tests import targets
        with warmfork.Template() as template:
            print(template.start(targets.see_flags).result(20) == targets.see_flags())
    """
    for flags in (["-O"], ["-X", "dev"], ["-X", "utf8=0"], ["-W", "ignore"], ["-B", "-u"]):
        assert run_program(code, tmp_path, flags=flags, env={"PYTHONPATH": ROOT}).stdout == "True\n", flags


GPU = """
import os
from warmfork._machine import fds
fds.GPU_DEVICES = (os.path.dirname(__file__) + "/dev",)
opened = os.open(os.path.dirname(__file__) + "/dev0", os.O_RDONLY)
"""


@pytest.mark.parametrize("audit", ["refuse", "warn"])
def test_a_preload_that_opens_a_gpu_device_is_reported(modules: Path, caplog: pytest.LogCaptureFixture, audit: str):
    """Row 23: CUDA can't be used in a forked child. A file of ours stands for the device."""
    (modules / "dev0").touch()
    (modules / "opens_gpu.py").write_text(GPU)
    finding = f"open GPU devices: {modules}/dev0: CUDA can't be used in a forked child"
    with warmfork.Template(preload=["opens_gpu"], audit=audit) as template:
        if audit == "refuse":
            with pytest.raises(warmfork.AuditError) as caught:
                template.start(targets.give, (1,))
            assert caught.value.findings == (finding,)
        else:
            assert template.start(targets.give, (1,)).result(20) == 1
            assert finding in caplog.text


def test_the_page_lists_what_is_allowed():
    page = Path(ROOT, "docs", "freshness.md").read_text()
    for each in ALLOWED:
        assert f"| {each.project} | {each.version} | {each.reason} | `{each.source}` |" in page
