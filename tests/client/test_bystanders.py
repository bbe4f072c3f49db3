"""Programs that do things to processes by themselves: reap all of them, handle SIGCHLD, are PID 1, are traced, are patched.
(Forking, closing all fds and daemonising are in test_forks.py.)"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import ROOT
from tests.support import make_environment, run_program

ENV = {"PYTHONPATH": ROOT}

USE = """
        import os, signal, warmfork
        from tests import targets

        def use(context):
            with warmfork.Template(preload=["tests.targets"]) as template:
                for number in range(5):
                    child = template.start(os._exit, (number,))
                    assert child.wait(20) == warmfork.Exited(number), child.outcome
                    assert template.start(targets.give, (number,)).result(20) == number
                killed = template.start(targets.wait)
                killed.kill()
                assert killed.wait(20) == warmfork.Signaled(9)
                assert template.generation == 1
            for number in (0, 3):
                process = context.Process(target=os._exit, args=(number,))
                process.start()
                process.join(20)
                assert process.exitcode == number, process.exitcode
"""


def test_a_program_that_reaps_all_its_children_at_any_time_is_told_the_truth(tmp_path: Path):
    """Row 35: once somebody has reaped the stdlib's server, every start raises ChildProcessError."""
    code = f"""
        import threading
        {USE}
        def reap():
            while not over.is_set():
                try:
                    if os.waitpid(-1, os.WNOHANG)[0] == 0:
                        over.wait(0.0005)
                except ChildProcessError:
                    over.wait(0.0005)

        if __name__ == "__main__":
            over = threading.Event()
            reaper = threading.Thread(target=reap)
            reaper.start()
            try:
                use(warmfork.get_context())
            finally:
                over.set()
                reaper.join()
    """
    run_program(code, tmp_path, env=ENV)


def test_a_program_with_its_own_sigchld_handler_keeps_it_and_its_own_children_are_its_own(tmp_path: Path):
    code = f"""
        import subprocess
        {USE}
        if __name__ == "__main__":
            reaped = []

            def handle(number, frame):
                try:
                    while (found := os.waitpid(-1, os.WNOHANG))[0]:
                        reaped.append(found[0])
                except ChildProcessError:
                    pass

            signal.signal(signal.SIGCHLD, handle)
            use(warmfork.get_context())
            assert signal.getsignal(signal.SIGCHLD) is handle
            own = os.spawnlp(os.P_NOWAIT, "true", "true")
            while own not in reaped:
                signal.sigtimedwait([], 0.01)
    """
    run_program(code, tmp_path, env=ENV)


def test_a_program_that_ignores_sigchld_is_told_the_truth(tmp_path: Path):
    """M14: its own children are reaped by the kernel, and nobody has a status of them. Ours are not its."""
    code = f"""
        {USE}
        if __name__ == "__main__":
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            use(warmfork.get_context())
    """
    run_program(code, tmp_path, env=ENV)


def test_a_subreaper_that_reaps_what_comes_is_told_the_truth(tmp_path: Path):
    code = f"""
        import ctypes
        {USE}
        if __name__ == "__main__":
            assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
            signal.signal(signal.SIGCHLD, lambda *_: reap())

            def reap():
                try:
                    while os.waitpid(-1, os.WNOHANG)[0]:
                        pass
                except ChildProcessError:
                    pass

            use(warmfork.get_context())
    """
    run_program(code, tmp_path, env=ENV)


def can_unshare() -> bool:
    """May we make a pid namespace?"""
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="no pid namespace can be made here")
def test_a_program_that_is_pid_1_is_told_the_truth(tmp_path: Path):
    """As in a container without an init: orphans are its children, and many signals do nothing to it."""
    code = f"""
        {USE}
        if __name__ == "__main__":
            assert os.getpid() == 1
            use(warmfork.get_context())
            print("done")
    """
    assert run_under(["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"], code, tmp_path) == "done\n"


def run_under(command: list[str], code: str, folder: Path) -> str:
    """Run a program text under another program, and give what it printed."""
    import textwrap

    (folder / "program.py").write_text(textwrap.dedent(code))
    done = subprocess.run(
        [*command, sys.executable, "program.py"],
        cwd=folder,
        env=make_environment(ENV),
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def can_trace() -> bool:
    """Is there a tracer, and may it?"""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_trace(), reason="no strace here, or it may not trace")
def test_a_program_under_a_debugger_is_told_the_truth(tmp_path: Path):
    """Every process of the tree stops at every signal, and is slow."""
    code = f"""
        {USE}
        if __name__ == "__main__":
            use(warmfork.get_context())
            print("done")
    """
    tracer = ["strace", "-f", "-qq", "-e", "trace=none", "-o", str(tmp_path / "trace")]
    assert run_under(tracer, code, tmp_path) == "done\n"
    assert "killed by SIGKILL" in (tmp_path / "trace").read_text()


def test_a_program_under_gevent_is_told_the_truth(tmp_path: Path):
    pytest.importorskip("gevent", reason="gevent is not installed")
    code = f"""
        from gevent import monkey
        monkey.patch_all()
        {USE}
        if __name__ == "__main__":
            use(warmfork.get_context())
    """
    run_program(code, tmp_path, env=ENV)


def test_a_program_with_an_asyncio_child_watcher_is_told_the_truth_and_so_is_asyncio(tmp_path: Path):
    code = f"""
        import asyncio
        {USE}
        async def main():
            loop = asyncio.get_running_loop()
            own = await asyncio.create_subprocess_exec("sh", "-c", "sleep 0.2; exit 7")
            await loop.run_in_executor(None, use, warmfork.get_context())
            assert await own.wait() == 7
            child_context = warmfork.get_context()
            process = child_context.Process(target=os._exit, args=(4,))
            process.start()
            done = asyncio.Event()
            loop.add_reader(process.sentinel, done.set)
            await asyncio.wait_for(done.wait(), 20)
            loop.remove_reader(process.sentinel)
            process.join(20)
            assert process.exitcode == 4

        if __name__ == "__main__":
            asyncio.run(main())
    """
    run_program(code, tmp_path, env=ENV)
