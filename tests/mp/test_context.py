"""The context door: multiprocessing's own interface, with processes that are forks of a template of its own."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import time
from multiprocessing import connection
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.running import ROOT, run_meanwhile, start
from tests.signs import give, make_sign
from tests.support import run_program, wait_until
from warmfork.mp.client.context import Context

ENV = {"PYTHONPATH": ROOT}


@pytest.mark.parametrize(
    ("argument", "code"),
    [(0, 0), (3, 3), (None, 0), (-1, 255), (257, 1), (2**40, 255), (-(2**70), 255), ("a message", 1)],
    ids=str,
)
def test_the_exit_code_is_what_the_process_left_with(context: Context, argument: object, code: int, capfd):
    process = start(context, sys.exit, argument)
    process.join(20)
    assert process.exitcode == code
    assert capfd.readouterr().err == ("a message\n" if argument == "a message" else "")
    process.close()


def test_an_exception_is_exit_code_1_and_a_traceback_with_the_process_s_name(context: Context, capfd):
    process = start(context, targets.raise_error, ValueError("on purpose"), name="careless")
    process.join(20)
    assert process.exitcode == 1
    err = capfd.readouterr().err
    assert err.startswith("Process careless:\nTraceback") and err.endswith("ValueError: on purpose\n")
    process.close()


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_process_that_is_ended_by_a_signal_has_its_negative_number(context: Context, end: str):
    """Row 43."""
    process = start(context, targets.wait)
    assert process.is_alive() and process.exitcode is None
    getattr(process, end)()
    process.join(20)
    assert process.exitcode == {"terminate": -signal.SIGTERM, "kill": -signal.SIGKILL}[end]
    assert not process.is_alive()
    process.close()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="Process.interrupt() came with 3.14")
def test_a_process_that_is_interrupted_raises_keyboard_interrupt(context: Context, tmp_path: Path, capfd):
    with make_sign(tmp_path) as sign:
        process = start(context, targets.sign_and_wait, sign.path)
        sign.wait()
        process.interrupt()
        process.join(20)
    assert process.exitcode == 1 and "KeyboardInterrupt" in capfd.readouterr().err
    process.close()


def test_the_sentinel_works_in_connection_wait_and_the_exit_code_is_known_with_it(context: Context):
    process = start(context, os._exit, 9)
    assert connection.wait([process.sentinel], 20) == [process.sentinel]
    assert process.exitcode == 9
    process.close()


def test_join_times_out_and_the_process_runs_on(context: Context):
    process = start(context, targets.wait)
    process.join(0.02)
    assert process.exitcode is None and process.is_alive()
    process.kill()
    process.join(20)
    process.close()


def test_start_twice_use_after_close_and_close_while_alive_are_errors(context: Context):
    process = start(context, targets.wait)
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        process.start()
    with pytest.raises(ValueError, match="still running"):
        process.close()
    process.kill()
    process.join(20)
    process.close()
    for use in (process.start, process.join, process.is_alive, lambda: process.exitcode, process.kill):
        with pytest.raises(ValueError, match="process object is closed"):
            use()
    process.close()  # twice: nothing


def test_a_process_object_of_another_process_is_refused(context: Context):
    process = context.Process(target=targets.give, args=(1,))
    process._parent_pid = os.getpid() + 1
    with pytest.raises(AssertionError, match="can only start a process object created by current process"):
        process.start()


def test_what_a_process_sees_of_itself_is_what_its_parent_called_it(context: Context):
    reader, writer = context.Pipe(False)
    process = start(context, targets.send_identity, writer, name="my-name", daemon=True)
    writer.close()
    seen = reader.recv()
    process.join(20)
    assert seen == {
        "name": "my-name",
        "daemon": True,
        "pid": process.pid,
        "parent": (os.getpid(), multiprocessing.current_process().name),
        "authkey": bytes(multiprocessing.current_process().authkey),
        "start_method": "forkserver",
        "children": [],
    }
    reader.close()
    process.close()


def test_a_daemon_may_not_have_children(context: Context):
    reader, writer = context.Pipe(False)
    process = start(context, targets.start_in_daemon, context, writer, daemon=True)
    writer.close()
    assert reader.recv() == "AssertionError: daemonic processes are not allowed to have children"
    process.join(20)
    assert process.exitcode == 0
    reader.close()
    process.close()


def test_parent_process_tells_of_the_parent_s_death(tmp_path: Path):
    """Rows 47 and 48: getppid() is the template; parent_process() is the one that called start()."""
    code = """
        import multiprocessing, os, sys, warmfork
        from tests import signs

        def watch(path):
            parent = multiprocessing.parent_process()
            signs.give(path, f"{parent.pid} {parent.is_alive()}")
            parent.join()
            signs.give(path, f"dead {parent.is_alive()}")

        if __name__ == "__main__":
            process = warmfork.get_context().Process(target=watch, args=(sys.argv[1],))
            process.start()
            print(os.getpid(), flush=True)
            with open(sys.argv[2]) as fifo:
                fifo.readline()
            os.kill(os.getpid(), 9)
    """
    with make_sign(tmp_path) as sign, make_sign(tmp_path) as go:
        with run_meanwhile(code, tmp_path, sign.path, go.path) as program:
            assert program.stdout is not None
            pid = program.stdout.readline().strip()
            assert sign.wait() == [f"{pid} True"]
            give(go.path)
            assert sign.wait() == ["dead False"]


def test_each_context_has_its_own_template_and_preload():
    """Row 20: one global list, over which libraries fight."""
    one, two = warmfork.get_context(preload=["colorsys"]), warmfork.get_context(preload=["wave"])
    seen = []
    for context in (one, two):
        reader, writer = context.Pipe(False)
        process = start(context, targets.send_modules, writer)
        writer.close()
        names = reader.recv()
        seen.append(("colorsys" in names, "wave" in names))
        process.join(20)
        process.close()
        reader.close()
    assert seen == [(True, False), (False, True)]
    assert one.template_pid != two.template_pid


def test_a_preload_that_is_set_after_the_start_is_there_in_the_next_generation(context: Context):
    """Row 19: in the stdlib it does nothing, and says nothing."""
    reader, writer = context.Pipe(False)
    first = start(context, targets.send_modules, writer)
    assert "colorsys" not in reader.recv()
    runs_on = start(context, targets.wait)
    context.set_forkserver_preload(["colorsys"])
    second = start(context, targets.send_modules, writer)
    assert "colorsys" in reader.recv()
    assert runs_on.is_alive()
    runs_on.kill()
    for process in (first, second, runs_on):
        process.join(20)
        process.close()
    assert context.template_pid is not None
    reader.close()
    writer.close()


def test_a_failing_preload_is_a_preload_error_at_the_start_and_nothing_was_started(tmp_path, monkeypatch, capfd):
    (tmp_path / "fails_at_once.py").write_text("raise OSError('no such device')")
    monkeypatch.syspath_prepend(tmp_path)
    context = warmfork.get_context(preload=["fails_at_once"])
    process = context.Process(target=targets.give, args=(1,))
    with pytest.raises(warmfork.PreloadError, match="no such device"):
        process.start()
    assert process.pid is None and process.exitcode is None
    with pytest.raises(warmfork.PreloadError, match="fails_at_once"):
        context.Pool(2)
    with pytest.raises(warmfork.PreloadError, match="fails_at_once"):
        context.wait_ready()


def test_wait_ready_starts_the_template_ahead(context: Context):
    """Row 28: a synchronous wish; users call private functions for it."""
    assert context.template_pid is None
    context.wait_ready()
    pid = context.template_pid
    assert pid is not None
    process = start(context, targets.give, 1)
    process.join(20)
    process.close()
    assert context.template_pid == pid


def test_the_context_is_a_context_of_multiprocessing_in_every_way_that_libraries_ask(context: Context):
    """Rows 9 and 69: by its type, its name, its picklability."""
    assert isinstance(context, multiprocessing.context.BaseContext)
    assert context.get_start_method() == "forkserver"
    assert context.get_context() is context
    assert context.Process is context.Process and issubclass(context.Process, multiprocessing.process.BaseProcess)
    again = pickle.loads(pickle.dumps(context))
    assert type(again) is Context and again._get_prepared().options.preload == ("tests.targets",)
    with pytest.raises(ValueError, match=r"(?i)cannot set start method of concrete context"):
        context.set_start_method("spawn")
    assert context.cpu_count() == multiprocessing.cpu_count()
    assert context.reducer is multiprocessing.reduction


def test_a_subclass_of_process_runs_its_own_run(context: Context):
    process = targets.make_subclass(context)(7)
    process.start()
    process.join(20)
    assert process.exitcode == 7
    process.close()


def test_using_a_context_does_not_pin_the_start_method_of_the_program(tmp_path: Path):
    """Row 75."""
    code = """
        import multiprocessing, warmfork
        if __name__ == "__main__":
            process = warmfork.get_context().Process(target=int)
            process.start()
            process.join()
            multiprocessing.set_start_method("spawn")
            print(multiprocessing.get_start_method())
    """
    assert run_program(code, tmp_path).stdout == "spawn\n"


def test_daemons_are_ended_and_others_joined_when_the_program_ends(tmp_path: Path):
    code = """
        import sys, warmfork
        from tests import signs, targets

        def finish(path):
            import select
            select.select([], [], [], 0.3)
            signs.give(path, "finished")

        if __name__ == "__main__":
            context = warmfork.get_context()
            context.Process(target=targets.wait, daemon=True).start()
            context.Process(target=finish, args=(sys.argv[1],)).start()
    """
    with make_sign(tmp_path) as sign:
        run_program(code, tmp_path, sign.path, env=ENV)
        assert sign.wait(timeout=0.1) == ["finished"]


def test_daemons_die_with_a_killed_program_and_others_live_on(tmp_path: Path):
    """Row 47: the default of multiprocessing for a Process that is no daemon is to outlive its parent."""
    code = """
        import os, sys, warmfork
        from tests import targets
        if __name__ == "__main__":
            context = warmfork.get_context()
            for daemon in (True, False):
                context.Process(target=targets.sign_and_wait, args=(sys.argv[1],), daemon=daemon, name=str(daemon)).start()
            sys.stdin.readline()
            os.kill(os.getpid(), 9)
    """
    with make_sign(tmp_path) as sign, run_meanwhile(code, tmp_path, sign.path) as program:
        fds = {}
        for pid in map(int, sign.wait(2)):
            name = Path(f"/proc/{pid}/cmdline").read_text().split()[1]
            fds[name] = pid, os.pidfd_open(pid)
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
        program.wait(20)
        wait_until(lambda: targets.is_dead(fds["True"][1]))
        assert not targets.is_dead(fds["False"][1])
        os.kill(fds["False"][0], 9)
        for _, fd in fds.values():
            os.close(fd)


def test_the_log_of_multiprocessing_reaches_the_child(context: Context, capfd):
    logger = multiprocessing.log_to_stderr(logging.INFO)
    try:
        process = start(context, targets.give, 1)
        process.join(20)
        process.close()
    finally:
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
        multiprocessing.util._log_to_stderr = False
        multiprocessing.util._logger = None
    err = capfd.readouterr().err
    assert "child process calling self.run()" in err and "process exiting with exitcode 0" in err


def test_exit_handlers_and_finalizers_of_a_child_run_and_its_streams_are_flushed(context: Context, capfd):
    process = start(context, targets.print_at_exit)
    process.join(20)
    assert process.exitcode == 0
    # multiprocessing's children run exit handlers since 3.13.
    handler = "[handler]" if sys.version_info >= (3, 13) else ""
    assert sorted(capfd.readouterr().out.split("]")) == sorted(f"[buffer][finalizer]{handler}".split("]"))
    process.close()


def test_a_start_does_not_wait_for_its_child_to_be_ready(context: Context, tmp_path: Path):
    """Row 46: workers that take seconds to start must start side by side."""
    context.wait_ready()
    with make_sign(tmp_path) as sign:
        began = time.monotonic()
        processes = [start(context, targets.Late(sign.path, bytes(1_000_000)).give) for _ in range(3)]
        spent = time.monotonic() - began
        with open(sign.path, "w") as fifo:
            fifo.write("go\n" * 3)
            fifo.flush()
            for process in processes:
                process.kill()
                process.join(20)
                process.close()
    assert spent < 5, "none of them could end before the line above"
