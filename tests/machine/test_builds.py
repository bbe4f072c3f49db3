"""Other builds of Python than the one that runs the tests, real ones and likenesses: without the newer system calls, and
without a close_range() in the C library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest
import tblib

from tests.running import ROOT
from tests.support import run_program

PROGRAM = """
import time
import warmfork

def double(x):
    return x * 2

if __name__ == "__main__":
    with warmfork.Template(start_timeout=20) as template:
        results = [template.start(len, (b"x" * size,)).result(20) for size in (1, 3_000_000)]
        sleeper = template.start(time.sleep, (60,))
        sleeper.terminate()
        print(results, sleeper.wait(20).signal, flush=True)
    context = warmfork.get_context()
    with context.Pool(2) as pool:
        print(pool.map(double, range(4)))
"""
SAID = "[1, 3000000] 15\n[0, 2, 4, 6]\n"

BUNDLED = Path("/usr/lib/google-cloud-sdk/platform/bundledpythonunix/bin/python3")
"""A Python that Google's Cloud SDK brings: built for an old C library, as python-build-standalone's are."""


@pytest.mark.skipif(not BUNDLED.exists(), reason="Google's Cloud SDK is not installed here")
def test_a_python_that_was_built_for_an_old_c_library_starts_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = "import os, signal, fcntl; print(*(hasattr(*p) for p in ((os, 'pidfd_open'), (os, 'memfd_create'))))"
    assert subprocess.check_output([BUNDLED, "-c", asked], text=True) == "False False\n", (
        "it is no such build any longer"
    )
    for module in (cloudpickle, tblib):  # pure Python, so those of this Python do
        (tmp_path / module.__name__).symlink_to(Path(module.__file__).parent)
    monkeypatch.setattr(sys, "executable", str(BUNDLED))
    done = run_program(PROGRAM, tmp_path, env={"PYTHONPATH": f"{ROOT}/src:{tmp_path}"}, timeout=100)
    assert (done.stdout, done.stderr) == (SAID, "")


SHIM = """
#include <errno.h>
#include <unistd.h>
int close_range(unsigned a, unsigned b, int f) { errno = ENOSYS; return -1; }
void closefrom(int low) { for (long i = low; i < (1L << 30); i++) close((int) i); }
"""


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_a_c_library_without_close_range_costs_no_time(tmp_path: Path):
    """os.closerange() goes through 2**30 numbers there, which takes minutes."""
    (tmp_path / "shim.c").write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "shim.so", tmp_path / "shim.c"], check=True)
    done = run_program(PROGRAM, tmp_path, env={"LD_PRELOAD": str(tmp_path / "shim.so")}, timeout=30)
    assert (done.stdout, done.stderr) == (SAID, "")


HIDING = """
import _signal, fcntl, os, signal

for module, names in (
    (os, "pidfd_open memfd_create MFD_CLOEXEC MFD_ALLOW_SEALING P_PIDFD"),
    (_signal, "pidfd_send_signal"),
    (signal, "pidfd_send_signal"),
    (fcntl, "F_ADD_SEALS F_GET_SEALS F_SEAL_SEAL F_SEAL_SHRINK F_SEAL_GROW F_SEAL_WRITE"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)

def sched_getscheduler(pid):
    raise OSError(38, "Function not implemented")  # as musl has it

def closerange(first, last, real=os.closerange):
    if last - first > 1_000_000:
        raise SystemExit(f"a loop from {first} to {last}")
    real(first, last)

def pthread_sigmask(how, numbers, real=_signal.pthread_sigmask):
    if 34 in (numbers := list(numbers)):
        raise SystemExit("musl keeps signal 34, and Python warns of it")
    return real(how, numbers)

kept = _signal.valid_signals() - {34}
_signal.valid_signals, _signal.pthread_sigmask = lambda: kept, pthread_sigmask
os.sched_getscheduler, os.closerange = sched_getscheduler, closerange
"""


def test_a_python_without_the_wrappers_makes_the_calls_by_number(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(HIDING)
    done = run_program(PROGRAM, tmp_path, env={"PYTHONPATH": str(tmp_path)}, timeout=60)
    assert (done.stdout, done.stderr) == (SAID, "")


def test_a_python_without_the_wrappers_ends_what_a_child_of_a_dead_program_has_started(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(HIDING)
    code = """
        import os, subprocess, time, warmfork

        def start_sleeper():
            subprocess.Popen(["setsid", "sleep", "1000"])
            with open("begun", "w") as fifo:
                fifo.write("!")
            time.sleep(1000)

        if __name__ == "__main__":
            os.mkfifo("begun")
            template = warmfork.Template(orphans="kill")
            template.start(start_sleeper)
            open("begun").read()
            os.kill(os.getpid(), 9)
    """
    run_program(code, tmp_path, env={"PYTHONPATH": str(tmp_path)}, expect=-9)  # which looks for what is left


SETTINGS = """
import os, signal, socket, sys
{settings}
"""

READER = "reader, writer = os.pipe(); os.set_blocking(writer, False)"


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        (("-X", "dev", "-W", "error", "-bb"), ""),
        ((), "socket.setdefaulttimeout(0.001)"),
        ((), "socket.setdefaulttimeout(0)"),
        ((), "sys.setswitchinterval(1e-6)"),
        ((), "os.umask(0o777)"),
        ((), "signal.signal(10, print); signal.siginterrupt(10, True)"),
        ((), f"{READER}; signal.set_wakeup_fd(writer)"),
    ],
    ids=["warnings", "time-out", "non-blocking", "switches", "umask", "siginterrupt", "wakeup fd"],
)
def test_settings_of_the_whole_program_do_not_reach_what_is_ours(tmp_path: Path, flags: tuple[str, ...], settings: str):
    program, said = PROGRAM, SAID
    if "umask" in settings and os.geteuid() != 0:
        # A semaphore that is made so can't be opened by who made it: no Pool has its locks then, the stdlib's neither.
        program, said = PROGRAM.partition("    context =")[0], SAID.partition("\n")[0] + "\n"
    done = run_program(SETTINGS.format(settings=settings) + program, tmp_path, flags=flags, timeout=60)
    assert (done.stdout, done.stderr) == (said, "")
