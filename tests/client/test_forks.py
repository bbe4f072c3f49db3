"""Clients that fork, daemonise, nest, or close what is not theirs (rows 36, 37, 38, M1, M9, M23)."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.running import ROOT, run_meanwhile
from tests.signs import give, make_sign
from tests.support import run_program, wait_until

ENV = {"PYTHONPATH": ROOT}


def test_a_forked_copy_of_a_client_starts_processes_and_so_does_its_parent(tmp_path: Path):
    """Row 36: in the stdlib every start in a forked child raises ChildProcessError. M23: the copy is a client of its own."""
    code = """
        import os, sys, warmfork
        from tests import targets
        with warmfork.Template() as template:
            mine = template.start(targets.wait)
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    child = template.start(targets.get_pids)
                    assert child.result(20)[1] == template.pid
                    assert template.start(targets.raise_error, (SystemExit(6),)).wait(20) == warmfork.Exited(6)
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert template.start(targets.give, (1,)).result(20) == 1
            assert mine.outcome is None
            mine.terminate()
            assert mine.wait(20) == warmfork.Signaled(15)
        print("done")
    """
    assert run_program(code, tmp_path, env=ENV).stdout == "done\n"


def test_a_process_of_the_fork_context_starts_processes_of_ours(tmp_path: Path):
    """Row 36, through multiprocessing."""
    code = """
        import multiprocessing, warmfork
        warmfork.install()

        def inner():
            print("inner", flush=True)

        def outer():
            process = multiprocessing.get_context("forkserver").Process(target=inner)
            process.start()
            process.join()
            raise SystemExit(process.exitcode + 3)

        if __name__ == "__main__":
            first = multiprocessing.get_context("forkserver").Process(target=inner)
            first.start()
            first.join()
            forked = multiprocessing.get_context("fork").Process(target=outer)
            forked.start()
            forked.join()
            print(forked.exitcode)
    """
    assert run_program(code, tmp_path).stdout == "inner\ninner\n3\n"


def test_a_fork_while_another_thread_starts_processes_leaves_the_copy_able_to(tmp_path: Path):
    """M23: the locks that the other thread held in the moment of the fork are replaced."""
    code = """
        import os, threading, warnings, warmfork
        from tests import targets
        warnings.simplefilter("ignore", DeprecationWarning)
        with warmfork.Template(preload=["tests.targets"]) as template:
            template.wait_ready()
            over = threading.Event()

            def start_often():
                while not over.is_set():
                    template.start(targets.give, (1,)).result(20)

            threads = [threading.Thread(target=start_often) for _ in range(2)]
            for thread in threads:
                thread.start()
            codes = []
            for _ in range(6):
                pid = os.fork()
                if pid == 0:
                    code = 1
                    try:
                        code = 0 if template.start(targets.give, (5,)).result(20) == 5 else 2
                    finally:
                        os._exit(code)
                codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            over.set()
            for thread in threads:
                thread.join()
        print(codes)
    """
    assert run_program(code, tmp_path, env=ENV).stdout == f"{[0] * 6}\n"


def test_a_fork_while_another_thread_has_a_lock_of_ours_leaves_the_copy_able_to_start(tmp_path: Path):
    """M23: nobody gives it back in the copy."""
    code = """
        import os, threading, warmfork
        from tests import targets

        template = warmfork.Template(spares=0)
        template.start(targets.give, (1,)).result(20)
        has_it, done = threading.Event(), threading.Event()

        def hold():
            with template._get_channel(20).lock:
                has_it.set()
                done.wait()

        threading.Thread(target=hold).start()
        has_it.wait()
        pid = os.fork()
        if pid == 0:
            os._exit(template.start(targets.give, (2,)).result(20))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        done.set()
    """
    assert run_program(code, tmp_path, env=ENV, timeout=30).stdout == "2\n"


def test_children_of_a_copy_that_a_c_library_has_forked_are_that_copy_s(tmp_path: Path):
    """M23: no handler of Python's runs at such a fork. The policy of its children goes by its death."""
    code = """
        import ctypes, os, sys, warmfork
        from tests import targets
        template = warmfork.Template(spares=0)
        template.start(targets.give, (1,)).result(20)
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            template.start(targets.sign_and_wait, (sys.argv[1],))
            sys.stdin.readline()
            os._exit(0)
        os.waitpid(pid, 0)
        print("it is dead", flush=True)
        sys.stdin.readline()
    """
    with make_sign(tmp_path) as sign, run_meanwhile(code, tmp_path, sign.path) as program:
        pidfd = os.pidfd_open(int(sign.wait()[0]))
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "it is dead\n"
        assert select.select([pidfd], [], [], 10)[0]
        os.close(pidfd)


def test_a_program_that_daemonises_after_its_first_start_goes_on_starting(tmp_path: Path):
    """M23: the template must not die with the first pid, or a new tree takes over."""
    code = """
        import os, sys, warmfork
        from tests import signs, targets
        template = warmfork.Template()
        template.start(targets.give, (1,)).result(20)
        if os.fork():
            os._exit(0)
        os.setsid()
        if os.fork():
            os._exit(0)
        try:
            for number in range(5):
                assert template.start(targets.give, (number,)).result(20) == number
            signs.give(sys.argv[1], "daemon done")
        except BaseException as error:
            signs.give(sys.argv[1], repr(error))
        os._exit(0)
    """
    with make_sign(tmp_path) as sign:
        run_program(code, tmp_path, sign.path, env=ENV, leaves=True)
        assert sign.wait() == ["daemon done"]


def test_nested_children_come_from_the_template_of_the_root():
    """Row 37: each level has a server of its own in the stdlib."""
    context = warmfork.get_context()
    queue = context.SimpleQueue()
    process = context.Process(target=targets.nest, args=(context, queue, 3))
    process.start()
    process.join(30)
    assert process.exitcode == 0
    parents = {queue.get() for _ in range(4)}
    assert len(parents) == 1
    process.close()
    queue.close()


def test_a_child_may_use_the_installed_forkserver_and_shares_the_template(tmp_path: Path):
    code = """
        import multiprocessing, os, warmfork

        def inner():
            print(os.getppid(), flush=True)

        def outer():
            print(os.getppid(), flush=True)
            for start in (multiprocessing.Process, multiprocessing.get_context("forkserver").Process):
                process = start(target=inner)
                process.start()
                process.join()
                assert process.exitcode == 0

        if __name__ == "__main__":
            warmfork.install()
            multiprocessing.set_start_method("forkserver")
            process = multiprocessing.Process(target=outer)
            process.start()
            process.join()
    """
    parents = run_program(code, tmp_path).stdout.split()
    assert len(parents) == 3 and len(set(parents)) == 1


def test_a_child_s_template_is_a_client_of_the_same_tree(tmp_path: Path):
    code = """
        import os, warmfork

        def list_children():
            return open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()

        def make_one():
            with warmfork.Template(name="inner") as template:
                return template.start(os.getpid).result(20) != os.getpid(), list_children()

        if __name__ == "__main__":
            with warmfork.Template() as template:
                print(template.start(make_one).result(30), len(list_children()))
    """
    assert run_program(code, tmp_path, env=ENV).stdout == "(True, []) 1\n", "no second tracker"


@pytest.mark.parametrize("first", ["start()", "lock()", "fork(start)", "fork(lock)"])
def test_a_program_that_closes_all_its_fds_goes_on_and_nothing_of_ours_lands_in_what_has_their_numbers(
    tmp_path: Path, first: str
):
    """M9: a cached number may be somebody else's socket by now. Nothing is said there, nothing of it is closed, and no child
    is given it."""
    code = f"""
        import os, socket, sys, warmfork
        from tests import targets
        template, context = warmfork.Template(spares=0), warmfork.get_context()
        template.start(targets.give, (1,)).result(20)
        kept = context.Lock()
        os.closerange(3, 1024)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        numbers = range(theirs.fileno(), 300)
        for number in numbers:
            os.dup2(theirs.fileno(), number)
        itself = os.readlink("/proc/self/fd/299")

        def start():
            assert itself not in template.start(targets.list_fds).result(20).values(), "a child has it"

        def lock():
            with context.Lock():
                pass

        def fork(action):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    action()
                    check()
                    code = 0
                except BaseException:
                    sys.excepthook(*sys.exc_info())
                finally:
                    os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0

        def check():
            try:
                raise AssertionError(f"somebody has sent {{ours.recv(1000, socket.MSG_DONTWAIT)!r}}")
            except BlockingIOError:
                pass
            for number in numbers:
                assert os.readlink(f"/proc/self/fd/{{number}}") == itself

        {first}
        start()
        lock()
        template.stop()
        check()
        print("done")
    """
    done = run_program(code, tmp_path, env=ENV, leaves=True, timeout=30)
    assert done.stdout == "done\n", done.stderr


def test_children_live_on_when_their_client_closes_its_fds_and_end_when_it_dies(tmp_path: Path):
    """M1: the end of a channel is a hint to look, and no death; death is a pidfd."""
    code = """
        import os, sys, warmfork
        from tests import signs, targets
        template = warmfork.Template()
        child = template.start(targets.sign_and_wait, (sys.argv[1],))
        os.closerange(3, 1024)
        sys.stdin.readline()
        os._exit(0)
    """
    with make_sign(tmp_path) as sign, run_meanwhile(code, tmp_path, sign.path) as program:
        pidfd = os.pidfd_open(int(sign.wait()[0]))
        assert not select.select([pidfd], [], [], 0.5)[0], "it lives"
        program.stdin.write("\n")
        program.stdin.flush()
        dead = select.select([pidfd], [], [], 10)[0]
        os.close(pidfd)
        assert dead


def test_a_client_that_becomes_another_program_leaves_no_helper_and_no_child(tmp_path: Path):
    """M1: exec keeps the pid and its pidfd; with each restart of a reloader, a template would be left."""
    code = """
        import os, sys, warmfork
        from tests import signs, targets
        template = warmfork.Template()
        child = template.start(targets.sign_and_wait, (sys.argv[1],))
        with open(sys.argv[2]) as fifo:
            fifo.readline()
        os.execv("/bin/sleep", ["sleep", "100"])
    """
    with make_sign(tmp_path) as sign, make_sign(tmp_path) as go:
        with run_meanwhile(code, tmp_path, sign.path, go.path) as program:
            child = int(sign.wait()[0])
            template = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
            tracker = int(Path(f"/proc/{template}/stat").read_text().rpartition(")")[2].split()[1])
            fds = [os.pidfd_open(pid) for pid in (child, template, tracker)]
            give(go.path)
            try:
                wait_until(lambda: all(targets.is_dead(fd) for fd in fds), 5, "child, template and tracker are gone")
                assert program.poll() is None
            finally:
                for fd in fds:
                    os.close(fd)


def test_a_missing_interpreter_is_a_clear_error(tmp_path: Path):
    """Row 38: an exec error that nobody reads becomes ConnectionRefusedError in the stdlib."""
    for executable, words in (("", "sys.executable is not set"), ("/no/such/python", "/no/such/python: No such file")):
        code = f"""
            import sys, warmfork
            sys.executable = {executable!r}
            for name in ("lock", "template"):
                try:
                    with warmfork.Template() as template:
                        template.start(print)
                except warmfork.StartError as error:
                    print(error)
        """
        done = run_program(code, tmp_path)
        assert done.stdout.count(words) == 2, done


def test_set_executable_says_which_interpreter_becomes_the_template(tmp_path: Path):
    """Row 38, and multiprocessing's own way to say it."""
    code = """
        import multiprocessing, sys, warmfork
        if __name__ == "__main__":
            context = warmfork.get_context()
            context.set_executable("/no/such/python")
            try:
                context.Process(target=print).start()
            except warmfork.StartError as error:
                print(error)
            context.set_executable(sys.executable)
            process = context.Process(target=print, args=("now it does",))
            process.start()
            process.join()
    """
    done = run_program(code, tmp_path)
    assert "/no/such/python" in done.stdout and done.stdout.endswith("now it does\n")
