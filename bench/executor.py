"""warmfork.Executor beside the executors and pools that people use: each in a process of its own, alternating, medians.

python bench/executor.py [--rounds 3] [--cases submit,trip,...]

The processor time beside the clock is that of all processes: this one, workers, templates and helpers.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
import operator
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from statistics import median
from types import SimpleNamespace

import warmfork
from warmfork._machine import tree

TASKS = 10_000
ITEMS = 200_000
LIBRARIES = ["numpy", *(["pandas"] if find_spec("pandas") else [])]


def count_ns() -> int:
    """Count the processor time of this process and of all below it, threads included, in ns."""
    total = 0
    for pid in (os.getpid(), *tree.list_descendants(os.getpid())):
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/schedstat", "rb") as file:
                    total += int(file.read().split()[0])
        except OSError:
            continue
    return total


class Timed:
    """The clock and the processor time of a block."""

    def __enter__(self) -> Timed:
        self.cpu, self.clock = count_ns(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.clock = time.perf_counter() - self.clock
        self.cpu = (count_ns() - self.cpu) / 1e9


# -- what is compared: each gives an object with submit()


@contextmanager
def open_warmfork(workers: int = 2, **options: object) -> Iterator[warmfork.Executor]:
    with warmfork.Executor(workers, **options) as executor:
        executor.warm()
        yield executor


@contextmanager
def open_ppe(workers: int = 2, method: str = "fork") -> Iterator[concurrent.futures.Executor]:
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as executor:
        list(executor.map(time.sleep, [0.05] * workers))
        yield executor


class PoolAsExecutor:
    """multiprocessing.Pool, with the few names that the cases use."""

    def __init__(self, pool: multiprocessing.pool.Pool) -> None:
        self.pool = pool

    def submit(self, fn: Callable[..., object], *args: object) -> multiprocessing.pool.AsyncResult:
        result = self.pool.apply_async(fn, args)
        result.result = result.get
        return result


@contextmanager
def open_pool(workers: int = 2) -> Iterator[PoolAsExecutor]:
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        pool.map(time.sleep, [0.05] * workers)
        yield PoolAsExecutor(pool)


@contextmanager
def open_loky(workers: int = 2) -> Iterator[concurrent.futures.Executor]:
    import loky

    with loky.ProcessPoolExecutor(workers) as executor:
        list(executor.map(time.sleep, [0.05] * workers))
        yield executor


@contextmanager
def open_pebble(workers: int = 2) -> Iterator[object]:
    import pebble

    with pebble.ProcessPool(workers) as pool:
        for future in [pool.submit(time.sleep, None, 0.05) for _ in range(workers)]:
            future.result()
        submit = pool.submit
        pool.submit = lambda fn, *args: submit(fn, None, *args)
        yield pool


class ParallelAsExecutor:
    """joblib.Parallel, with the few names that the cases use. It has no submit(): a call of it is a batch."""

    def __init__(self, parallel: object, delayed: Callable[..., object]) -> None:
        self.parallel, self.delayed = parallel, delayed

    def submit(self, fn: Callable[..., object], *args: object) -> SimpleNamespace:
        (value,) = self.parallel([self.delayed(fn)(*args)])
        return SimpleNamespace(result=lambda: value)

    def run(self, fn: Callable[..., object], items: Iterable[object]) -> list[object]:
        return self.parallel(self.delayed(fn)(item) for item in items)


@contextmanager
def open_joblib(workers: int = 2) -> Iterator[ParallelAsExecutor]:
    import joblib

    with joblib.Parallel(workers) as parallel:
        made = ParallelAsExecutor(parallel, joblib.delayed)
        made.run(time.sleep, [0.05] * workers)
        yield made


OPENERS = {
    "warmfork": open_warmfork, "PPE": open_ppe, "Pool": open_pool, "loky": open_loky, "pebble": open_pebble,
    "joblib": open_joblib,
}  # fmt: skip


def run_all(executor: object, fn: Callable[..., object], items: Iterable[object]) -> list[object]:
    """Submit all, then take the results."""
    if isinstance(executor, ParallelAsExecutor):
        return executor.run(fn, items)
    return [future.result() for future in [executor.submit(fn, item) for item in items]]


# -- the cases


def run_submit(name: str) -> dict[str, float]:
    """Submit no-ops, then take their results."""
    with OPENERS[name]() as executor:
        run_all(executor, operator.neg, range(500))
        with Timed() as timed:
            run_all(executor, operator.neg, range(TASKS))
    return {"value": TASKS / timed.clock, "cpu": timed.cpu / TASKS * 1e6}


def run_trip(name: str) -> dict[str, float]:
    """One task after the other."""
    with OPENERS[name]() as executor:
        times = []
        with Timed() as timed:
            for number in range(600):
                began = time.perf_counter()
                executor.submit(operator.neg, number).result()
                times.append(time.perf_counter() - began)
    return {"value": median(times) * 1e6, "cpu": timed.cpu / 600 * 1e6}


def run_map(name: str) -> dict[str, float]:
    """A map of no-ops: ours and joblib with automatic slices, the others with the best of four sizes."""
    best, cpu = 0.0, 0.0
    with OPENERS[name]() as executor:
        for size in (None,) if name in ("warmfork", "joblib") else (100, 1000, 5000, 25_000):
            for _ in range(2):
                with Timed() as timed:
                    if name == "warmfork":
                        found = list(executor.map(operator.neg, range(ITEMS)))
                    elif name == "joblib":
                        found = executor.run(operator.neg, range(ITEMS))
                    elif name == "Pool":
                        found = executor.pool.map(operator.neg, range(ITEMS), size)
                    else:
                        found = list(executor.map(operator.neg, range(ITEMS), chunksize=size))
                assert found[-1] == 1 - ITEMS
                if ITEMS / timed.clock > best:
                    best, cpu = ITEMS / timed.clock, timed.cpu / ITEMS * 1e6
    return {"value": best, "cpu": cpu}


def run_fresh(name: str) -> dict[str, float]:
    """A fresh process for each task, large libraries imported, two at a time."""
    count = 150
    if name == "warmfork":
        with warmfork.Executor(2, preload=LIBRARIES, tasks_per_worker=1) as executor:
            executor.warm()
            return time_fresh(executor, count)
    if name == "bare fork":
        import gc

        for library in LIBRARIES:
            __import__(library)
        gc.collect()
        gc.freeze()
        began, living = time.perf_counter(), 0
        for _ in range(count):
            if living == 2:
                os.wait()
                living -= 1
            if os.fork() == 0:
                operator.neg(1)
                os._exit(0)
            living += 1
        for _ in range(living):
            os.wait()
        return {"value": count / (time.perf_counter() - began), "cpu": 0.0}
    if name == "Pool":
        for library in LIBRARIES:
            __import__(library)
        with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
            return time_fresh(PoolAsExecutor(pool), count)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=1) as executor:
        executor.submit(operator.neg, 1).result()
        return time_fresh(executor, count // 5)


def time_fresh(executor: object, count: int) -> dict[str, float]:
    """Time tasks that are all submitted at once."""
    [future.result() for future in [executor.submit(operator.neg, number) for number in range(10)]]
    with Timed() as timed:
        for future in [executor.submit(operator.neg, number) for number in range(count)]:
            future.result()
    return {"value": count / timed.clock, "cpu": timed.cpu / count * 1e6}


def run_array(name: str) -> dict[str, float]:
    """An array of 100 MB as an argument."""
    import numpy

    array = numpy.ones(12_500_000)
    with OPENERS[name]() as executor:
        times = []
        with Timed() as timed:
            for _ in range(4):
                began = time.perf_counter()
                assert executor.submit(len, array).result() == len(array)
                times.append(time.perf_counter() - began)
    return {"value": median(times) * 1000, "cpu": timed.cpu / 4 * 1e6}


def run_shared(name: str) -> dict[str, float]:
    """The same array of 100 MB again, where it can be shared: by share_readonly(), or joblib's files. The first is not
    counted."""
    import numpy

    array = numpy.ones(12_500_000)
    given = warmfork.share_readonly(array) if name == "warmfork" else array
    with OPENERS[name]() as executor:
        times = []
        executor.submit(len, given).result()
        with Timed() as timed:
            for _ in range(9):
                began = time.perf_counter()
                assert executor.submit(len, given).result() == len(array)
                times.append(time.perf_counter() - began)
    return {"value": median(times) * 1000, "cpu": timed.cpu / 9 * 1e6}


def run_crash(name: str) -> dict[str, float]:
    """Tasks of 1 ms, and each hundredth ends its process."""
    rates = []
    with warmfork.Executor(2) as executor:
        executor.warm()
        for every in (0, 100):
            began = time.perf_counter()
            futures = [
                executor.submit(os._exit, 1) if every and number % every == 50 else executor.submit(time.sleep, 0.001)
                for number in range(2000)
            ]
            died = sum(isinstance(future.exception(), warmfork.WorkerDied) for future in futures)
            rates.append((2000 - died) / (time.perf_counter() - began))
            assert died == (2000 // every if every else 0)
    return {"value": rates[1] / rates[0], "cpu": 0.0}


def run_ready(name: str) -> dict[str, float]:
    """From nothing to the first results of 8 workers, large libraries preloaded."""
    began = time.perf_counter()
    if name == "warmfork":
        with warmfork.Executor(8, preload=LIBRARIES) as executor:
            list(executor.map(operator.neg, range(8), chunksize=1))
            return {"value": (time.perf_counter() - began) * 1000, "cpu": 0.0}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    with concurrent.futures.ProcessPoolExecutor(8, mp_context=context) as executor:
        list(executor.map(operator.neg, range(8)))
        return {"value": (time.perf_counter() - began) * 1000, "cpu": 0.0}


Goal = tuple[str, float]
"""A peer, and how many times its value ours is to be at least (or at most, where less is better)."""

CASES: dict[str, tuple[Callable[[str], dict[str, float]], str, bool, tuple[str, ...], tuple[Goal, ...]]] = {
    "submit": (run_submit, "tasks/s", True, tuple(OPENERS), (("PPE", 3.0), ("Pool", 1.3))),
    "trip": (run_trip, "us", False, tuple(OPENERS), (("PPE", 0.5), ("Pool", 1.0))),
    "map": (run_map, "items/s", True, ("warmfork", "PPE", "Pool", "joblib"), (("Pool", 1.0),)),
    "fresh": (
        run_fresh, "tasks/s", True, ("warmfork", "bare fork", "Pool", "PPE"),
        (("bare fork", 0.85), ("Pool", 1.6), ("PPE", 5.0)),
    ),
    # joblib writes a large array to a file once, so it is in the second of these rows only.
    "array": (
        run_array, "ms", False, ("warmfork", "PPE", "Pool", "loky", "pebble"),
        (("PPE", 1 / 6), ("Pool", 1 / 6), ("loky", 1 / 6), ("pebble", 1 / 6)),
    ),
    "shared": (
        run_shared, "ms", False, tuple(OPENERS),
        (("PPE", 1 / 50), ("Pool", 1 / 50), ("loky", 1 / 50), ("pebble", 1 / 50), ("joblib", 1.0)),
    ),
    "crash": (run_crash, "of the rate without", True, ("warmfork",), ()),
    "ready": (run_ready, "ms", False, ("warmfork", "PPE"), (("PPE", 0.5),)),
}  # fmt: skip


def measure(case: str, name: str) -> dict[str, float] | None:
    """Run one case for one contender, in a process of its own. None: it is not installed."""
    if name in ("loky", "pebble", "joblib") and find_spec(name) is None:
        return None
    done = subprocess.run([sys.executable, __file__, "--one", case, name], capture_output=True, text=True)
    if done.returncode:
        print(f"{case} {name} failed:\n{done.stderr}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def compare(case: str, rounds: int) -> None:
    """Run a case for all, alternating, and print the medians."""
    _, unit, more, names, goals = CASES[case]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            one = measure(case, name)
            if one is not None:
                found[name].append(one)
    values = {name: median(one["value"] for one in ones) for name, ones in found.items() if ones}
    print(f"\n{case}: {CASES[case][0].__doc__}")
    for name, value in values.items():
        cpu = median(one["cpu"] for one in found[name])
        spread = f"{min(o['value'] for o in found[name]):,.4g} to {max(o['value'] for o in found[name]):,.4g}"
        said = f"{cpu:10.1f} us of processor each" if cpu else ""
        print(f"  {name:10} {value:12,.4g} {unit:10} ({spread}) {said}")
    for peer, goal in goals:
        if peer in values and "warmfork" in values:
            factor = values["warmfork"] / values[peer]
            met = factor >= goal if more else factor <= goal
            print(
                f"  goal: {'>=' if more else '<='} {goal:.2g} x {peer}: {factor:.2f} x, {'met' if met else 'NOT MET'}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--one", nargs=2)
    given = parser.parse_args()
    if given.one:
        case, name = given.one
        print(json.dumps(CASES[case][0](name)))
        return
    load = os.getloadavg()[0]
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, load {load:.1f}, {given.rounds} rounds")
    for case in given.cases.split(","):
        compare(case, given.rounds)


if __name__ == "__main__":
    main()
