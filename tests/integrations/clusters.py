"""A Dask cluster of two worker processes, in a program of its own, and programs that use it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import leftovers
from tests.support import Done, make_environment, run_program, wait_until

CLUSTER = """\
import sys
import dask
from dask.distributed import Client, LocalCluster
from warmfork.integrations.dask import WarmforkPlugin

if __name__ == "__main__":
    dask.config.set({"distributed.worker.memory.spill": False, "distributed.comm.timeouts.connect": "60s"})
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1", memory_limit="500 MiB"
    ) as cluster:
        with Client(cluster) as client:
            client.register_plugin(WarmforkPlugin())
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""

PRELUDE = """\
import os, signal, sys, time
import dask
from dask.distributed import Client, LocalCluster
import warmfork
from warmfork.integrations.dask import WarmforkPlugin

def isolated(client, fn, *args, executor="warmfork", **options):
    with dask.annotate(executor=executor):
        return client.submit(fn, *args, pure=False, **options)

def wait_until(predicate, what, seconds=30):
    until = time.monotonic() + seconds
    while not (answer := predicate()):
        assert time.monotonic() < until, what
        time.sleep(0.02)
    return answer

def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return True

def read(path):
    '''What a task has written to a file, in full lines.'''
    try:
        with open(path) as file:
            text = file.read()
    except FileNotFoundError:
        return ""
    return text if text.endswith("\\n") else ""

def write(path, value):
    with open(path, "a") as file:
        file.write(f"{value}\\n")

def note_and_sleep(path):
    write(path, os.getpid())
    time.sleep(600)

def crash():
    os.kill(os.getpid(), signal.SIGSEGV)

def hold(size):
    '''For as long as the process lives: the function's globals come with it, and go with it.'''
    vars(sys).setdefault("kept", []).append(bytearray(size))
    return os.getpid()

def get_parent(pid):
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])

def get_title(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().replace(b"\\0", b" ").decode()

"""


@contextmanager
def start_cluster(folder: Path) -> Iterator[str]:
    """Start one, and give its address."""
    path = folder / "cluster.py"
    path.write_text(CLUSTER)
    log = folder / "cluster.log"
    before = leftovers.list_descendants()
    with log.open("w") as errors:
        program = subprocess.Popen(
            [sys.executable, str(path)], cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=errors, env=make_environment({"DASK_TEMPORARY_DIRECTORY": str(folder)}),
        )  # fmt: skip
    try:
        address = program.stdout.readline().strip()
        assert address.startswith("tcp://127.0.0.1"), log.read_text()
        yield address
        program.stdin.close()
        assert wait_until(lambda: program.poll() is not None, 60) and program.returncode == 0, log.read_text()
    finally:
        program.stdin.close()
        program.stdout.close()
        leftovers.end(set(leftovers.list_descendants()) - set(before))
        program.wait()


def run_client(code: str, folder: Path, *arguments: str, **options: object) -> Done:
    """Run a program with what PRELUDE has."""
    body = "\n".join(f"    {line}" for line in code.splitlines())
    text = f"{PRELUDE}\ndef main():\n{body}\n\nif __name__ == '__main__':\n    main()\n"
    env = {"DASK_TEMPORARY_DIRECTORY": str(folder), "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL": "false"}
    return run_program(text, folder, *arguments, env=env, timeout=75, **options)
