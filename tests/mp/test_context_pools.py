"""The context door: pools, executors, managers, queues and shared values of a context with its own template."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

from tests import targets
from tests.running import ROOT, start
from warmfork.mp.client.context import Context

ENV = {"PYTHONPATH": ROOT}


def test_a_pool_maps_replaces_its_workers_and_brings_exceptions_back(context: Context):
    with context.Pool(2, maxtasksperchild=3) as pool:
        assert pool.map(abs, range(-20, 0), chunksize=1) == list(range(20, 0, -1))
        with pytest.raises(ZeroDivisionError):
            pool.apply(divmod, (1, 0))
        assert list(pool.imap_unordered(abs, [-1])) == [1]
        assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
        parents = set(pool.map(targets.get_parent, range(8), chunksize=1))
        assert parents == {context.template_pid}
    pool.join()


def test_the_workers_of_an_executor_are_children_of_the_template(context: Context):
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        assert list(executor.map(abs, [-1, -2, -3])) == [1, 2, 3]
        assert executor.submit(targets.get_parent, 0).result(20) == context.template_pid
        assert isinstance(executor.submit(divmod, 1, 0).exception(20), ZeroDivisionError)


def test_a_killed_worker_of_an_executor_breaks_it_as_ever(context: Context):
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        with pytest.raises(BrokenProcessPool):
            executor.submit(targets.end_by, signal.SIGKILL).result(20)


def test_max_tasks_per_child_gives_fresh_workers(context: Context):
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as executor:
        assert len({executor.submit(os.getpid).result(20) for _ in range(3)}) == 3


def test_a_manager_serves_children(context: Context):
    with context.Manager() as manager:
        shared = manager.dict(start=1)
        process = start(context, targets.set_item, shared, "child", 2)
        process.join(20)
        assert dict(shared) == {"start": 1, "child": 2}
        process.close()


def test_synchronisation_primitives_and_shared_values_work_across_processes(context: Context):
    value, lock, event = context.Value("i", 0), context.Lock(), context.Event()
    semaphore, barrier, condition = context.Semaphore(1), context.Barrier(3), context.Condition()
    array = context.Array("i", 3)
    processes = [
        start(context, targets.count_together, value, lock, event, semaphore, barrier, condition, array, index)
        for index in range(3)
    ]
    event.set()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
        process.close()
    assert value.value == 300 and list(array) == [0, 1, 2]


def test_queues_carry_objects_both_ways(context: Context):
    for make in (context.Queue, context.JoinableQueue, context.SimpleQueue):
        forth, back = make(), make()
        process = start(context, targets.echo, forth, back)
        forth.put({"number": 1, "bytes": bytes(100_000)})
        assert back.get() == {"number": 1, "bytes": bytes(100_000)}
        forth.put(None)
        process.join(20)
        assert process.exitcode == 0
        process.close()
        for queue in (forth, back):
            queue.close()
            if hasattr(queue, "join_thread"):
                queue.join_thread()
