"""Bad days: ^C, a terminal that goes away, no memory, programs that die in the middle of a start (rows 34, 42, 46, 47)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.programs import Terminal
from tests.running import ROOT, run_meanwhile
from tests.signs import make_sign
from tests.support import run_program, wait_until

ENV = {"PYTHONPATH": ROOT}


def test_ctrl_c_ends_program_and_children_with_one_traceback_each_and_no_helper_s(tmp_path: Path):
    """Row 42: noise or death of helpers on ^C. The children are in the foreground group, and take it like the program."""
    (tmp_path / "program.py").write_text(
        """
import os, sys, warmfork
from tests import signs, targets

if __name__ == "__main__":
    context = warmfork.get_context()
    processes = [context.Process(target=targets.wait, name=f"worker-{n}") for n in range(2)]
    for process in processes:
        process.start()
    try:
        print("ready", flush=True)
        for process in processes:
            process.join()
        print("joined", [process.exitcode for process in processes])
    except KeyboardInterrupt:
        for process in processes:
            process.join()
        print("interrupted", [process.exitcode for process in processes])
    again = context.Process(target=print, args=("and", "on"))
    again.start()
    again.join()
"""
    )
    with Terminal([sys.executable, "program.py"], tmp_path, PYTHONPATH=ROOT, NO_COLOR="1") as terminal:
        terminal.read_until(b"ready\r\n")
        terminal.write(b"\x03")
        terminal.read_until(b"and on")
        code, screen = terminal.finish()
    assert code == 0 and b"interrupted [1, 1]" in screen
    assert screen.count(b"Traceback") == screen.count(b"KeyboardInterrupt\r\n") == 2, screen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGINT])
def test_a_program_that_a_signal_ends_in_the_middle_of_many_starts_leaves_nothing(tmp_path: Path, number: int):
    """Row 47: everything that it owned is gone within 2 s. run_meanwhile() and conftest see to the proof."""
    code = """
        import sys, warmfork
        from tests import signs, targets
        template = warmfork.Template(preload=["tests.targets"])
        template.wait_ready()
        signs.give(sys.argv[1])
        while True:
            template.start(targets.wait)
    """
    with make_sign(tmp_path) as sign:
        for _ in range(3):
            with run_meanwhile(code, tmp_path, sign.path, stderr=subprocess.DEVNULL) as program:
                sign.wait()
                wait_until(lambda program=program: count_threads_and_children(program.pid) > 0)
                program.send_signal(number)
                assert program.wait(20) in (-number, 1)


def count_threads_and_children(pid: int) -> int:
    """How many children its template has by now."""
    found = 0
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        for template in Path(f"/proc/{child}/task/{child}/children").read_text().split():
            found += len(Path(f"/proc/{template}/task/{template}/children").read_text().split())
    return found


def test_a_program_killed_during_its_first_start_leaves_nothing(tmp_path: Path):
    """At any moment of it: tracker, template and child are on their way."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(0.05)\n")
    code = """
        import os, signal, sys, warmfork
        signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
        with warmfork.Template(preload=["slow"]) as template:
            template.start(os.getpid).result(20)
    """
    for delay in ("0.005", "0.01", "0.02", "0.03", "0.05", "0.08"):
        run_program(code, tmp_path, delay, expect=None)


def test_a_start_that_is_interrupted_leaves_no_child_behind_and_the_next_one_works(tmp_path: Path):
    """A KeyboardInterrupt may come at any line of a start."""
    code = """
        import os, signal, sys, warmfork
        from tests import targets

        class Alarm(Exception): pass

        def ring(*_):
            raise Alarm

        with warmfork.Template(preload=["tests.targets"]) as template:
            template.wait_ready()
            signal.signal(signal.SIGALRM, ring)
            rung = 0
            for number in range(200):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.00002 * (number % 50 + 1))
                    child = template.start(targets.give, (number,))
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except Alarm:
                    rung += 1
                    continue
                assert child.result(20) == number
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert template.start(targets.give, ("after",)).result(20) == "after"
            print(rung > 0)
    """
    done = run_program(code, tmp_path, env=ENV)
    assert done.stdout == "True\n"


def test_a_child_that_runs_out_of_memory_tells_and_the_next_one_works(tmp_path: Path):
    """The limit is the client's, set after the template was started (row 6); the template itself has none."""
    code = """
        import resource, warmfork
        from tests import targets
        with warmfork.Template(preload=["tests.targets"]) as template:
            template.wait_ready()
            soft, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (400 << 20, hard))
            try:
                template.start(targets.give_bytes, (1 << 30,)).result(20)
            except MemoryError:
                print("MemoryError")
            assert template.start(targets.give, (1,)).result(20) == 1
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
            print(len(template.start(targets.give_bytes, (1 << 20,)).result(20)) == 1 << 20)
    """
    assert run_program(code, tmp_path, env=ENV).stdout == "MemoryError\nTrue\n"


def test_a_closed_standard_output_does_not_stop_a_start(tmp_path: Path):
    """A broken pipe behind stdout, and streams that were set to None or closed."""
    code = """
        import os, sys, warmfork
        from tests import targets
        if __name__ == "__main__":
            context = warmfork.get_context()
            sys.stdout.close()
            for stream in (sys.stdout, None):
                sys.stdout = stream
                process = context.Process(target=targets.give, args=(1,))
                process.start()
                process.join()
                assert process.exitcode == 0
                with warmfork.Template() as template:
                    assert template.start(targets.give, (2,)).result(20) == 2
            print("done", file=sys.stderr)
    """
    assert run_program(code, tmp_path, env=ENV).stderr == "done\n"


def test_a_program_whose_output_nobody_reads_any_longer_still_starts_processes(tmp_path: Path):
    code = """
        import os, sys, warmfork
        from tests import targets
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.close(reader)
        os.close(writer)
        with warmfork.Template() as template:
            assert template.start(targets.give, (2,)).result(20) == 2
        print("done", file=sys.stderr)
        os._exit(0)
    """
    done = run_program(code, tmp_path, env=ENV)
    assert done.stderr == "done\n"


def test_a_program_that_changes_its_session_keeps_starting(tmp_path: Path):
    """The kernel lets a child not join a group of another session: it stays in the template's."""
    code = """
        import os, warmfork
        from tests import targets
        pid = os.fork()
        if pid:
            os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        with warmfork.Template() as template:
            template.start(targets.give, (1,)).result(20)
            os.setsid()
            assert template.start(targets.give, (2,)).result(20) == 2
        os._exit(0)
    """
    run_program(code, tmp_path, env=ENV)


def test_children_are_in_the_program_s_process_group_and_session(tmp_path: Path):
    """Row 42: ^C reaches them as it reaches the program."""
    with warmfork.Template() as template:
        state = template.start(targets.see_state).result(20)
        assert (state["group"], state["session"]) == (os.getpgrp(), os.getsid(0))


def test_a_thousand_starts_leave_no_fd_and_no_process(tmp_path: Path):
    code = """
        import os, warmfork
        from tests import targets

        def count():
            return len(os.listdir("/proc/self/fd"))

        if __name__ == "__main__":
            context = warmfork.get_context(preload=["tests.targets"])
            with warmfork.Template(preload=["tests.targets"]) as template:
                counts = []
                for _ in range(4):
                    for number in range(100):
                        template.start(targets.give, (number,)).result(20)
                        process = context.Process(target=targets.give, args=(number,))
                        process.start()
                        process.join()
                        process.close()
                    counts.append(count())
                print(max(counts[1:]) <= counts[0] + 8, counts)
    """
    assert run_program(code, tmp_path, env=ENV).stdout.startswith("True")
