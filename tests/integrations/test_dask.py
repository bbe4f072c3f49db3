"""Dask's workers with an executor of warmfork: a task costs itself and not its worker. One cluster for all tests."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integrations.clusters import run_client, start_cluster

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="not installed: distributed (make test-integrations does)"
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, private_tmpdir: Path) -> Iterator[str]:
    with start_cluster(tmp_path_factory.mktemp("cluster")) as address:
        yield address


@pytest.fixture
def ask(cluster: str, tmp_path: Path) -> Callable[[str], None]:
    """Run a program with a `client` of the cluster. At its end the workers are those that were there at its begin."""

    def run(code: str) -> None:
        head = f"with Client({cluster!r}) as client:\n    pids = client.run(os.getpid)\n"
        body = textwrap.indent(textwrap.dedent(code), "    ")
        run_client(f"{head}{body}\n    assert client.run(os.getpid) == pids, 'a worker was started anew'", tmp_path)

    return run


def test_a_task_runs_in_a_process_of_its_own_below_its_worker(ask):
    ask(
        """
        with dask.annotate(executor="warmfork"):
            futures = client.map(lambda number: (number * 2, os.getpid()), range(8))
        answers = client.gather(futures)
        assert [number for number, _ in answers] == list(range(0, 16, 2))
        assert len({pid for _, pid in answers}) == 8, answers
        assert not {pid for _, pid in answers} & set(pids.values())
        inside = client.submit(os.getpid, pure=False).result()
        assert inside in pids.values(), "a task without the annotation runs in the worker, as before"
        """
    )


def test_tasks_pass_values_on_as_they_do_in_threads(ask):
    ask(
        """
        first = isolated(client, bytes, 3 << 20)
        second = isolated(client, len, first)
        third = client.submit(lambda size: size + 1, second)
        assert third.result() == (3 << 20) + 1
        with dask.annotate(executor="warmfork"):
            graph = dask.delayed(sum)([dask.delayed(pow)(2, number) for number in range(5)])
        assert client.compute(graph, optimize_graph=False).result() == 31
        """
    )


def test_a_collection_is_computed_in_processes_where_the_annotation_is_around_compute(ask):
    """Around the making of it, it is lost where Dask's optimiser fuses tasks."""
    ask(
        """
        import dask.bag
        bag = dask.bag.from_sequence(range(4), npartitions=2).map(lambda number: os.getpid())
        with dask.annotate(executor="warmfork"):
            assert not set(bag.compute()) & set(pids.values())
            annotated = dask.bag.from_sequence(range(4), npartitions=2).map(lambda number: os.getpid())
        assert not set(annotated.compute(optimize_graph=False)) & set(pids.values())
        """
    )


def test_a_crash_is_the_error_of_its_task_with_the_stack_and_of_no_other(ask):
    ask(
        """
        bad = isolated(client, crash)
        good = [isolated(client, pow, 2, number) for number in range(10)]
        assert client.gather(good) == [2**number for number in range(10)]
        error = bad.exception()
        assert isinstance(error, warmfork.WorkerDied), error
        assert error.outcome.signal == signal.SIGSEGV and "in crash" in error.stack, error
        assert str(error.task) == bad.key
        """
    )


def test_dask_runs_a_task_again_that_crashed_where_it_is_told_to(ask, tmp_path):
    ask(
        f"""
        def crash_once(path):
            if not read(path):
                write(path, "once")
                os._exit(1)
            return "second"
        assert isolated(client, crash_once, {str(tmp_path / "once")!r}, retries=1).result() == "second"
        """
    )


def test_a_task_that_hangs_is_ended_after_the_timeout(ask):
    ask(
        """
        client.register_plugin(WarmforkPlugin(name="quick", timeout=0.5))
        future = isolated(client, time.sleep, 600, executor="quick")
        error = future.exception(timeout=30)
        assert isinstance(error, warmfork.TaskTimeout) and error.timeout == 0.5, error
        assert isolated(client, pow, 2, 3, executor="quick").result() == 8
        client.unregister_worker_plugin("quick")
        """
    )


def test_a_task_that_holds_more_than_its_worker_may_is_ended_and_the_worker_is_not(ask):
    ask(
        """
        error = isolated(client, hold, 700 << 20).exception(timeout=60)
        assert isinstance(error, warmfork.LimitExceeded) and error.limit == "memory", error
        assert error.value < 500 << 20, "the worker's own part is the worker's"
        assert isolated(client, hold, 1 << 20).result()
        """
    )


def test_what_a_task_leaks_is_gone_with_it(ask):
    """Three times what the worker may have, one after the other."""
    ask(
        """
        address = list(pids)[0]
        for _ in range(7):
            with dask.annotate(executor="warmfork"):
                client.submit(hold, 200 << 20, pure=False, workers=[address]).result(timeout=60)
        """
    )


def test_the_memory_of_tasks_is_the_worker_s_for_the_scheduler(ask, tmp_path):
    ask(
        f"""
        def hold_and_sleep(path):
            kept = bytearray(200 << 20)
            note_and_sleep(path)
        path = {str(tmp_path / "pid")!r}
        future = isolated(client, hold_and_sleep, path)
        pid = int(wait_until(lambda: read(path), "the task does not begin"))
        def find():
            metrics = [one["metrics"] for one in client.scheduler_info(n_workers=-1)["workers"].values()]
            return [one for one in metrics if min(one["memory"], one["warmfork"]["memory"]) > 200 << 20]
        found = wait_until(find, "the scheduler is not told")
        assert found[0]["warmfork"]["running"][0]["pid"] == pid
        future.cancel()
        wait_until(lambda: is_gone(pid), "it lives")
        wait_until(lambda: not find(), "the scheduler is not told of its end")
        """
    )


def test_a_task_that_is_cancelled_is_ended_and_its_place_is_free(ask, tmp_path):
    ask(
        f"""
        paths = [{str(tmp_path)!r} + f"/{{number}}" for number in range(2)]
        futures = [isolated(client, note_and_sleep, path) for path in paths]
        found = [int(wait_until(lambda: read(path), "the tasks do not begin")) for path in paths]
        client.cancel(futures)
        assert isolated(client, pow, 2, 3).result(timeout=30) == 8
        for pid in found:
            wait_until(lambda: is_gone(pid), "it lives")
        """
    )


def test_an_error_arrives_as_what_it_is_and_one_that_cannot_be_pickled_as_its_text(ask):
    ask(
        """
        def ask_for_worker():
            from distributed import get_worker
            return get_worker()
        error = isolated(client, int, "x").exception()
        assert type(error) is ValueError and "invalid literal" in str(error), repr(error)
        error = isolated(client, ask_for_worker).exception()
        assert "No worker found" in str(error), repr(error)
        error = isolated(client, lambda: (number for number in ())).exception()
        assert isinstance(error, warmfork.ResultError) and "generator" in str(error), repr(error)
        """
    )


def test_processes_are_used_again_where_the_plugin_says_so_and_have_its_preload(ask):
    ask(
        """
        client.register_plugin(WarmforkPlugin(["wave"], name="kept", tasks_per_worker=None))
        address = list(pids)[0]
        def look():
            return os.getpid(), "wave" in sys.modules
        with dask.annotate(executor="kept"):
            found = {client.submit(look, pure=False, workers=[address]).result() for _ in range(5)}
        assert len(found) == 1 and found.pop()[1] is True
        client.unregister_worker_plugin("kept")
        """
    )


def test_a_plugin_that_is_taken_away_takes_its_processes_along(ask, tmp_path):
    ask(
        f"""
        client.register_plugin(WarmforkPlugin(name="other"))
        path = {str(tmp_path / "pid")!r}
        future = isolated(client, note_and_sleep, path, executor="other")
        pid = int(wait_until(lambda: read(path), "the task does not begin"))
        client.unregister_worker_plugin("other")
        wait_until(lambda: is_gone(pid), "it lives")
        error = future.exception(timeout=30)
        assert "Invalid executor 'other'" in str(error), repr(error)
        metrics = [one["metrics"] for one in client.scheduler_info(n_workers=-1)["workers"].values()]
        client.register_plugin(WarmforkPlugin(name="other"))
        assert isolated(client, pow, 2, 3, executor="other").result() == 8
        client.unregister_worker_plugin("other")
        """
    )


def test_a_preload_that_fails_is_told_where_the_plugin_is_registered(ask):
    ask(
        """
        try:
            client.register_plugin(WarmforkPlugin(["no_such_module"], name="bad"))
        except warmfork.PreloadError as error:
            assert error.module == "no_such_module"
        else:
            raise AssertionError("nothing was raised")
        client.unregister_worker_plugin("bad")
        try:
            client.register_plugin(WarmforkPlugin(name="default"))
        except ValueError as error:
            assert "give the plugin another name=" in str(error), error
        else:
            raise AssertionError("nothing was raised")
        client.unregister_worker_plugin("default")
        assert client.submit(pow, 2, 4).result() == 16, "the executor of that name is Dask's, and stays"
        """
    )
