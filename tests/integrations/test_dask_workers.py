"""Dask's worker processes themselves from a template, and what is left when workers, scheduler and program are killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import leftovers
from tests.integrations.clusters import run_client
from tests.support import make_environment, wait_until

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="not installed: distributed (make test-integrations does)"
)

PATIENCE = 15.0
"""Seconds that Dask's processes may take to notice that another is dead, and ours after them."""


def wait_for_ends(before: dict[leftovers.Identity, str]) -> None:
    left = leftovers.wait_for_ends(before, time.monotonic() + PATIENCE)
    titles = [leftovers.read_title(pid) for pid, _ in left]
    leftovers.end(left)
    assert not titles


def test_a_worker_is_a_fork_of_the_template_and_so_is_the_one_that_comes_in_its_place(tmp_path):
    """Killed while it runs a task: the task's process is gone, and the task is run by another worker."""
    run_client(
        f"""
warmfork.install(preload=["distributed"], spares=0)
dask.config.set({{"distributed.worker.multiprocessing-method": "forkserver"}})
path = {str(tmp_path / "pids")!r}

def note_and_sleep_once(path):
    first = not read(path)
    write(path, os.getpid())
    if first:
        time.sleep(600)
    return "second"

with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster:
    with Client(cluster) as client:
        pids = client.run(os.getpid)
        for pid in pids.values():
            assert "warmfork: template" in get_title(get_parent(pid)), get_title(get_parent(pid))
        client.register_plugin(WarmforkPlugin())
        future = isolated(client, note_and_sleep_once, path)
        task = int(wait_until(lambda: read(path), "the task does not begin"))
        (address,) = wait_until(lambda: client.processing(), "nobody runs it") and [
            address for address, keys in client.processing().items() if keys
        ]
        os.kill(pids[address], signal.SIGKILL)
        assert future.result(timeout=60) == "second"
        wait_until(lambda: is_gone(task), "the task of the dead worker lives")
        client.wait_for_workers(2, timeout=60)
        now = client.run(os.getpid)
        (new,) = set(now.values()) - set(pids.values())
        assert "warmfork: template" in get_title(get_parent(new)), get_title(get_parent(new))
        with dask.annotate(executor="warmfork"):
            found = [client.submit(os.getpid, pure=False, workers=[address]).result(timeout=60) for address in now]
        assert not set(found) & set(now.values()), "the plugin is there again"
""",
        tmp_path,
    )


def test_workers_and_tasks_are_gone_with_a_program_that_is_killed(tmp_path):
    before = leftovers.list_descendants()
    run_client(
        f"""
with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster:
    with Client(cluster) as client:
        client.register_plugin(WarmforkPlugin())
        path = {str(tmp_path / "pid")!r}
        future = isolated(client, note_and_sleep, path)
        wait_until(lambda: read(path), "the task does not begin")
        os.kill(os.getpid(), signal.SIGKILL)
""",
        tmp_path,
        expect=-9,
        leaves=True,
    )
    wait_for_ends(before)


def test_workers_of_the_command_line_come_from_a_template_and_end_with_their_scheduler(tmp_path: Path):
    """As on a cluster of machines: a scheduler, and `dask worker` by `warmfork run`."""
    before = leftovers.list_descendants()
    env = make_environment(
        {
            "DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver",
            "DASK_TEMPORARY_DIRECTORY": str(tmp_path),
            "DASK_DISTRIBUTED__DASHBOARD__LINK": "",
        }
    )
    told = tmp_path / "scheduler.json"
    warmfork = Path(sys.executable).with_name("warmfork")
    scheduler = ["-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    workers = ["--nworkers", "2", "--nthreads", "1", "--no-dashboard", "--memory-limit", "500MiB"]
    logs = [(tmp_path / "scheduler.log").open("w"), (tmp_path / "workers.log").open("w")]
    options = {"cwd": tmp_path, "env": env, "stdin": subprocess.DEVNULL}
    programs = []
    try:
        for command, log in (
            ([sys.executable, *scheduler, "--scheduler-file", str(told)], logs[0]),
            (
                [str(warmfork), "run", "--preload", "distributed", "-m", "dask", "worker", *workers,
                 "--scheduler-file", str(told)],
                logs[1],
            ),
        ):  # fmt: skip
            programs.append(subprocess.Popen(command, stdout=log, stderr=log, **options))
        run_client(
            f"""
wait_until(lambda: os.path.exists({str(told)!r}), "no scheduler", 60)
with Client(scheduler_file={str(told)!r}, timeout=60) as client:
    client.wait_for_workers(2, timeout=60)
    pids = client.run(os.getpid)
    for pid in pids.values():
        assert "warmfork: template" in get_title(get_parent(pid)), get_title(get_parent(pid))
    client.register_plugin(WarmforkPlugin())
    assert isinstance(isolated(client, crash).exception(timeout=60), warmfork.WorkerDied)
    assert isolated(client, pow, 2, 3).result(timeout=60) == 8
    assert client.run(os.getpid) == pids
""",
            tmp_path,
            leaves=True,
        )
        os.kill(programs[0].pid, signal.SIGKILL)
        wait_until(lambda: programs[1].poll() is not None, PATIENCE * 4, "the workers to end")
        wait_for_ends(before)
    finally:
        for log in logs:
            log.close()
        leftovers.end(set(leftovers.list_descendants()) - set(before))
        for program in programs:
            program.wait()
