"""What executors do on a bad day, each in a process of its own: the first rows of the table in docs/executor.md.

python bench/features.py [warmfork PPE Pool loky pebble joblib]
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import warmfork

PATIENCE = 10.0


def work(number: int) -> int:
    time.sleep(0.02)
    return number


def die(_number: int = 0) -> None:
    os._exit(3)


def sleep_long(_number: int = 0) -> None:
    time.sleep(60)


def open_pool() -> Any:
    pool = multiprocessing.get_context("fork").Pool(2)

    def submit(fn: Callable[..., object], *args: object) -> SimpleNamespace:
        got = pool.apply_async(fn, args)
        return SimpleNamespace(result=got.get)

    return SimpleNamespace(submit=submit)


def open_loky() -> Any:
    import loky

    return loky.ProcessPoolExecutor(2)


def open_pebble() -> Any:
    import pebble

    pool = pebble.ProcessPool(2)
    return SimpleNamespace(submit=lambda fn, *args, timeout=None: pool.schedule(fn, args, timeout=timeout))


OPENERS: dict[str, Callable[[], Any]] = {
    "warmfork": lambda: warmfork.Executor(2),
    "PPE": lambda: concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")),
    "Pool": open_pool,
    "loky": open_loky,
    "pebble": open_pebble,
}


def ask(future: Any, patience: float = PATIENCE) -> str:
    """What became of it, in a word."""
    try:
        future.result(patience)
    except BaseException as error:
        return type(error).__name__
    return "done"


def count(words: list[str]) -> str:
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


def probe_crash(name: str) -> str:
    """20 tasks, and one between them whose process ends."""
    if name == "joblib":
        import joblib

        calls = [joblib.delayed(die if number == 10 else work)(number) for number in range(21)]
        try:
            return count(["done"] * len(joblib.Parallel(2)(calls)))
        except BaseException as error:
            return f"all of the batch: {type(error).__name__}"
    executor = OPENERS[name]()
    executor.submit(work, 0).result()
    before = [executor.submit(work, number) for number in range(10)]
    dead = executor.submit(die)
    futures = before + [executor.submit(work, number) for number in range(10)]
    return f"itself: {ask(dead, 3)}; the others: {count([ask(future) for future in futures])}"


def probe_cancel(name: str) -> str:
    """cancel() of a task that runs."""
    executor = OPENERS[name]()
    future = executor.submit(sleep_long)
    if not hasattr(future, "cancel"):
        return "there is none"
    until = time.monotonic() + PATIENCE
    while not future.running() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.2)  # "running" may mean that it stands in a queue
    return f"cancel() gave {future.cancel()}"


def probe_limit(name: str) -> str:
    """A task that may run for 0.5 s and wants 60, and another behind it."""
    executor = OPENERS[name]()
    if name == "warmfork":
        late = executor.with_options(timeout=0.5).submit(sleep_long)
    elif name == "pebble":
        late = executor.submit(sleep_long, timeout=0.5)
    else:
        return "there is none for each task"
    return f"itself: {ask(late)}; another: {ask(executor.submit(work, 1))}"


PROBES = {"crash": probe_crash, "cancel": probe_cancel, "limit": probe_limit}


def main(names: list[str]) -> None:
    if names[:1] == ["--one"]:
        print(PROBES[names[1]](names[2]), flush=True)
        os._exit(0)  # whatever a pool would wait for
    for probe, run in PROBES.items():
        print(f"{probe}: {run.__doc__}")
        for name in names or [*OPENERS, *(["joblib"] if probe == "crash" else [])]:
            if name in ("loky", "pebble", "joblib") and find_spec(name) is None:
                continue
            with tempfile.TemporaryFile("w+") as said:  # no pipe: a pool's processes would hold that open
                command = [sys.executable, __file__, "--one", probe, name]
                one = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
                one.wait(120)
                with suppress(ProcessLookupError):
                    os.killpg(one.pid, signal.SIGKILL)  # what is left of a pool
                said.seek(0)
                print(f"  {name:10} {said.read().strip().splitlines()[-1]}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
