"""What is the template's own must not overwrite what the preload set: children have that."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.running import ROOT
from tests.support import run_program
from warmfork._machine import state


def set_up(name: str) -> str:
    return f"{__name__}:{name}"


def switch_off() -> None:
    gc.disable()


def set_thresholds() -> None:
    gc.set_threshold(12_345, 6, 7)


def see_collector() -> tuple[bool, int]:
    return gc.isenabled(), gc.get_threshold()[0]


def test_the_collector_is_as_the_preload_left_it():
    with warmfork.Template(spares=1) as template:
        for _ in range(3):
            assert template.start(see_collector).result(20) == (True, gc.get_threshold()[0])
    with warmfork.Template(preload=[set_up("switch_off")], spares=1) as template:
        for _ in range(3):
            assert template.start(see_collector).result(20) == (False, gc.get_threshold()[0])
    with warmfork.Template(preload=[set_up("set_thresholds")]) as template:
        assert template.start(see_collector).result(20) == (True, 12_345)


class Tells:
    """An object in a cycle: only the collector ends it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.me = self

    def __del__(self) -> None:
        with open(self.path, "a") as file:
            file.write(f"{os.getpid()}\n")


def make_garbage() -> None:
    Tells(os.environ["TELLS"])


@pytest.mark.parametrize("bare", [True, False])
def test_what_the_user_s_objects_do_when_they_end_is_not_done_in_a_template_that_serves(tmp_path: Path, bare: bool):
    """Collecting its garbage would run it, at a moment that nobody chose."""
    path = tmp_path / "told"
    code = f"""
        import os, sys, warmfork
        from tests import targets
        from tests.template.test_given_back import make_garbage
        from tests.template.test_server import has_warmed_up
        from tests.support import wait_until
        preload = [] if {bare} else ["tests.template.test_given_back:make_garbage"]
        if {bare} and __name__ != "__main__":
            make_garbage()
        def has_warmed(queue):
            queue.put(has_warmed_up())
        if __name__ == "__main__":
            context = warmfork.get_context()
            context.set_forkserver_preload(preload)
            queue = context.SimpleQueue()
            def look():
                process = context.Process(target=has_warmed, args=(queue,))
                process.start()
                process.join()
                return queue.get()
            wait_until(look, 20.0, "its warm-up")
            print(context.template_pid, flush=True)
            assert not os.path.exists({str(path)!r}) or str(context.template_pid) not in open({str(path)!r}).read()
    """
    run_program(code, tmp_path, env={"PYTHONPATH": ROOT, "TELLS": str(path)})


HANDLED: list[int] = []


def handle_children() -> None:
    signal.signal(signal.SIGCHLD, lambda number, frame: HANDLED.append(number))


def count_handled() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return len(HANDLED)


def test_a_handler_of_sigchld_that_the_preload_set_is_the_child_s():
    with warmfork.Template(preload=[set_up("handle_children")], spares=1) as template:
        for _ in range(3):
            assert template.start(count_handled).result(20) == 1
    with warmfork.Template() as template:
        assert template.start(count_handled).result(20) == 0


WAKEUP: list[int] = []


def set_wakeup() -> None:
    WAKEUP.extend(os.pipe2(os.O_NONBLOCK))
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.set_wakeup_fd(WAKEUP[1])


def see_wakeup() -> tuple[bool, bytes]:
    signal.raise_signal(signal.SIGUSR1)
    return signal.set_wakeup_fd(-1) == WAKEUP[1], os.read(WAKEUP[0], 10)


def test_a_wakeup_fd_that_the_preload_set_is_the_child_s():
    with warmfork.Template(preload=[set_up("set_wakeup")], spares=1) as template:
        for _ in range(3):
            assert template.start(see_wakeup).result(20) == (True, bytes([signal.SIGUSR1]))


def ignore_children() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def test_a_program_that_ignores_sigchld_has_templates_that_do_not(tmp_path: Path):
    """M14: exec hands that on. What a preload starts would have no status, and the audit would blame the preload."""
    (tmp_path / "waits.py").write_text(
        "import os\nassert os.waitpid(os.spawnlp(os.P_NOWAIT, 'true', 'true'), 0)[1] == 0\n"
    )
    code = """
        import signal, warmfork
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        for how in ("by fork", "by exec"):
            with warmfork.Template(preload=["waits"], audit="refuse", name=how) as template:
                print(template.start(signal.getsignal, (signal.SIGCHLD,)).result(20).name)
    """
    assert run_program(code, tmp_path, env={"PYTHONPATH": ROOT}).stdout == "SIG_IGN\n" * 2


def test_a_preload_that_ignores_sigchld_is_a_finding_and_children_are_still_reaped(caplog: pytest.LogCaptureFixture):
    preload = [set_up("ignore_children"), "tests.template.test_audit_threads:leave_thread"]
    with warmfork.Template(preload=preload, spares=0) as template:
        assert template.start(targets.raise_error, (SystemExit(7),)).wait(20) == warmfork.Exited(7)
    assert "SIGCHLD is ignored" in caplog.text
    with warmfork.Template(preload=preload[:1], audit="refuse") as template:
        with pytest.raises(warmfork.AuditError, match="SIGCHLD"):
            template.start(targets.give, (1,))


def add_variables() -> None:
    os.environ.setdefault("PRELOAD_SETTINGS", "preload")
    os.environ["PRELOAD_CHANGES"] = "preload"


def see_variables() -> tuple[str | None, str | None]:
    return os.environ.get("PRELOAD_SETTINGS"), os.environ.get("PRELOAD_CHANGES")


def test_a_variable_that_the_preload_added_stays_where_the_client_has_no_word_of_its_own(monkeypatch):
    monkeypatch.setenv("PRELOAD_CHANGES", "client")
    with warmfork.Template(preload=[set_up("add_variables")], spares=1) as template:
        assert template.start(see_variables).result(20) == ("preload", "client")
        monkeypatch.setenv("UNRELATED", "makes the whole environment be said")
        for _ in range(2):
            assert template.start(see_variables).result(20) == ("preload", "client")
        monkeypatch.setenv("PRELOAD_SETTINGS", "client")
        assert template.start(see_variables).result(20) == ("client", "client")


def test_a_removed_variable_of_the_client_does_not_come_back(monkeypatch):
    monkeypatch.setattr(state, "_new", {})
    monkeypatch.setenv("SECRET", "x")
    state.keep_new({**state.get_environment()})
    assert state._new == {}


def stay_enabled() -> None:
    faulthandler.enable(open(os.environ["CRASHES"], "w"))  # noqa: SIM115


def test_a_faulthandler_that_the_preload_switched_on_stays_the_user_s(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CRASHES", str(tmp_path / "crashes"))
    with warmfork.Template(preload=[set_up("stay_enabled")]) as template:
        assert template.start(targets.end_by_fault).wait(20).signal == signal.SIGSEGV
    assert "end_by_fault" in (tmp_path / "crashes").read_text()


BEATS = """
import os
def beat():
    with open(os.environ["BEATS"], "a") as file:
        file.write(f"{os.getpid()}\\n")
os.register_at_fork(after_in_child=beat)
"""


@pytest.mark.parametrize("spares", ["auto", 2])
def test_functions_that_user_code_has_called_after_forks_run_in_started_processes_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, spares
):
    (tmp_path / "beats.py").write_text(BEATS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BEATS", str(tmp_path / "beaten"))
    started = set()
    caplog.set_level(logging.INFO, "warmfork")
    with warmfork.Template(preload=["beats"], spares=spares) as template:
        for _ in range(5):
            child = template.start(targets.give, (1,))
            started.add(child.pid)
            child.result(20)
        # A bare template would have forked its throw-away child, and spares, by the time that these are over.
        from tests.support import wait_until
        from tests.template.test_server import has_rehearsed

        def look() -> bool:
            child = template.start(has_rehearsed)
            started.add(child.pid)
            return child.result(20)

        wait_until(look, 20.0, "its warm-up")
    beaten = set(map(int, (tmp_path / "beaten").read_text().split()))
    assert beaten == started
    assert "beats has functions that run after a fork" in caplog.text


def test_a_copy_of_python_s_own_function_after_forks_costs_no_spares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """joblib brings it along, and scikit-learn brings joblib: a start took five times as long."""
    folder = tmp_path / "carried" / "loky" / "backend"
    folder.mkdir(parents=True)
    code = "import os\ndef forget():\n    pass\nos.register_at_fork(after_in_child=forget)\n"
    (folder / "stdlib_py314_resource_tracker.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    caplog.set_level(logging.INFO, "warmfork")
    with warmfork.Template(preload=["carried.loky.backend.stdlib_py314_resource_tracker"], spares=1) as template:
        assert template.start(targets.give, (1,)).result(20) == 1
    assert "without spares" not in caplog.text


def test_python_s_own_functions_after_forks_cost_no_spares(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "warmfork")
    preload = ["logging", "random", "threading", "concurrent.futures.thread", "asyncio", "multiprocessing.util"]
    with warmfork.Template(preload=preload, spares=1) as template:
        assert template.start(targets.give, (1,)).result(20) == 1
    assert "without spares" not in caplog.text


def test_what_the_main_module_made_is_removed_once_and_nothing_is_reported_as_left(tmp_path: Path):
    """Rehearsal must not take the template for a new process, which forgets its finalizers: module-level locks and queues
    were reported as leaked at each clean end."""
    code = """
        import os, warmfork
        from tests.support import wait_until
        from tests.template.test_server import has_rehearsed
        context = warmfork.get_context()
        lock, queue = context.Lock(), context.Queue()
        def look(answers):
            with lock:
                answers.put(has_rehearsed())
        if __name__ == "__main__":
            answers = context.SimpleQueue()
            def is_warm():
                process = context.Process(target=look, args=(answers,))
                process.start()
                process.join()
                return answers.get()
            wait_until(is_warm, 20.0, "its warm-up")
            is_warm()
    """
    done = run_program(code, tmp_path, env={"PYTHONPATH": ROOT})
    assert "leaked" not in done.stderr


def set_timer() -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)


def test_a_timer_of_the_preload_is_stopped_and_said(caplog: pytest.LogCaptureFixture):
    """It would wake an idle template for ever (M14)."""
    with caplog.at_level(logging.INFO, "warmfork"), warmfork.Template(preload=[set_up("set_timer")]) as template:
        assert template.start(targets.give, (1,)).result(20) == 1
    assert "setitimer" in caplog.text
