"""joblib's Parallel with warmfork's workers. Each test is a program, for joblib is set up once for a whole process."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import run_program

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("joblib") is None, reason="not installed: joblib (make test-integrations does)"
)

PRELUDE = """\
import os, sys, threading, time
from joblib import Parallel, cpu_count, delayed, parallel_config
import warmfork
import warmfork.integrations.joblib

def get_pids(parallel=None, count=20, **options):
    parallel = parallel or Parallel(n_jobs=2, batch_size=1, **options)
    return set(parallel(delayed(os.getpid)() for _ in range(count)))

def fail(error):
    raise error

def note_and_sleep(path):
    with open(path, "w") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(600)

def wait_for(path):
    '''Wait until a task has written its pid.'''
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if os.path.exists(path) and (text := open(path).read()).endswith("\\n"):
            return int(text)
        time.sleep(0.01)
    raise AssertionError("it does not begin")

def wait_for_end(pid):
    until = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < until, "it lives"
        time.sleep(0.01)
"""


@pytest.fixture
def ask(tmp_path: Path) -> Callable[[str], None]:
    """Run a program in which warmfork is joblib's backend."""

    def run(code: str) -> None:
        body = textwrap.indent(textwrap.dedent(code), " " * 8)
        head = "\nif __name__ == '__main__':\n    warmfork.integrations.joblib.register()\n"
        run_program(f"{PRELUDE}{head}    with parallel_config(backend='warmfork'):\n{body}", tmp_path, timeout=100)

    return run


def test_calls_run_in_workers_that_stay_for_the_next_parallel_and_go_when_the_settings_change(ask):
    ask(
        """
        assert Parallel(n_jobs=2)(delayed(pow)(number, 2) for number in range(10)) == [n * n for n in range(10)]
        first = get_pids()
        assert os.getpid() not in first and len(first) <= 2
        assert get_pids() | first <= first | get_pids() and len(first | get_pids()) <= 2
        other = get_pids(preload="wave")
        assert not other & first
        assert Parallel(n_jobs=2, preload="wave")([delayed(eval)("'wave' in __import__('sys').modules")] * 4) == [True] * 4
        for pid in first:
            wait_for_end(pid)
        """
    )


def test_minus_one_is_all_processors_and_one_is_none_but_the_program(ask):
    ask(
        """
        assert Parallel(n_jobs=-1)._effective_n_jobs() == cpu_count()
        assert get_pids(Parallel(n_jobs=1)) == {os.getpid()}
        assert Parallel(n_jobs=None)._effective_n_jobs() == 1
        try:
            get_pids(Parallel(n_jobs=0))
        except ValueError as error:
            assert "n_jobs == 0" in str(error)
        else:
            raise AssertionError
        """
    )


def test_short_calls_go_in_batches(ask):
    ask(
        """
        with Parallel(n_jobs=2) as parallel:
            for _ in range(3):
                assert parallel(delayed(abs)(-number) for number in range(5000)) == list(range(5000))
            done = parallel._backend.executor.stats()["done"]
        assert done < 3000, done
        """
    )


def test_functions_of_the_script_lambdas_and_closures_can_be_called_and_instances_of_local_classes_come_back(
    ask, tmp_path
):
    (tmp_path / "elsewhere.py").write_text(
        "def make_local():\n    class Local:\n        size = 0\n    return Local()\n"
        "def grow(value):\n    value.size += 1\n    return value\n"
    )
    ask(
        """
        base = 3
        def add(number):
            return base + number
        assert Parallel(n_jobs=2)(delayed(add)(number) for number in range(3)) == [3, 4, 5]
        assert Parallel(n_jobs=2)(delayed(lambda x: -x)(number) for number in range(3)) == [0, -1, -2]
        import elsewhere
        (there,) = Parallel(n_jobs=2)([delayed(elsewhere.grow)(elsewhere.make_local())])
        assert type(there).__name__ == "Local" and there.size == 1, "its class has no name that a worker could find"
        """
    )


def test_an_error_is_raised_as_what_it_is_and_ends_what_runs_beside_it(ask, tmp_path):
    ask(
        f"""
        path = {str(tmp_path / "pid")!r}
        def fail_later():
            wait_for(path)
            raise LookupError("on purpose")
        try:
            Parallel(n_jobs=2)([delayed(note_and_sleep)(path), delayed(fail_later)()])
        except LookupError as error:
            assert str(error) == "on purpose"
            assert "fail_later" in str(error.__cause__), "the worker's traceback"
        else:
            raise AssertionError
        wait_for_end(wait_for(path))
        assert Parallel(n_jobs=2)([delayed(abs)(-1)] * 3) == [1, 1, 1]
        """
    )


def test_a_crash_names_the_call_and_the_next_parallel_works(ask, tmp_path):
    ask(
        f"""
        def crash_once(path):
            if not os.path.exists(path):
                open(path, "w").close()
                os._exit(3)
            return "second"
        path = {str(tmp_path / "once")!r}
        try:
            Parallel(n_jobs=2)(delayed(crash_once)(path) for _ in range(1))
        except warmfork.WorkerDied as error:
            assert (error.task, error.outcome) == ("crash_once", warmfork.Exited(3))
        else:
            raise AssertionError
        assert Parallel(n_jobs=2)([delayed(abs)(-1)] * 3) == [1, 1, 1]
        os.unlink(path)
        assert Parallel(n_jobs=2, retries=1)(delayed(crash_once)(path) for _ in range(1)) == ["second"]
        """
    )


def test_what_cannot_be_pickled_is_an_error_and_no_hang(ask):
    ask(
        """
        for call in (delayed(len)(threading.Lock()), delayed(threading.Lock)()):
            try:
                Parallel(n_jobs=2)([call] * 20)
            except (TypeError, warmfork.ResultError) as error:
                assert "pickle" in str(error), error
            else:
                raise AssertionError
        """
    )


def test_a_parallel_in_a_worker_runs_in_its_threads_and_in_processes_where_it_says_so(ask):
    ask(
        """
        def nest():
            return os.getpid(), Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(4))
        def nest_deep():
            with parallel_config(backend="warmfork"):
                return os.getpid(), Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(4))
        for pid, inner in Parallel(n_jobs=2)(delayed(nest)() for _ in range(3)):
            assert set(inner) == {pid}
        for pid, inner in Parallel(n_jobs=2)(delayed(nest_deep)() for _ in range(3)):
            assert pid not in inner and os.getpid() not in inner
        """
    )


def test_results_come_as_a_generator_and_one_that_is_dropped_ends_what_runs(ask, tmp_path):
    ask(
        f"""
        made = Parallel(n_jobs=2, return_as="generator")(delayed(abs)(-number) for number in range(50))
        assert list(made) == list(range(50))
        made = Parallel(n_jobs=2, return_as="generator_unordered")(delayed(abs)(-number) for number in range(50))
        assert sorted(made) == list(range(50))
        path = {str(tmp_path / "pid")!r}
        import warnings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = Parallel(n_jobs=2, return_as="generator")([delayed(abs)(-1), delayed(note_and_sleep)(path)])
            assert next(made) == 1
            pid = wait_for(path)
            del made
        wait_for_end(pid)
        """
    )


def test_the_timeout_of_parallel_ends_what_runs(ask, tmp_path):
    ask(
        f"""
        import multiprocessing
        path = {str(tmp_path / "pid")!r}
        try:
            Parallel(n_jobs=2, timeout=0.3)([delayed(note_and_sleep)(path), delayed(note_and_sleep)(path + "2")])
        except multiprocessing.TimeoutError:
            pass
        else:
            raise AssertionError
        if os.path.exists(path):
            wait_for_end(wait_for(path))
        """
    )


def test_a_parallel_that_fails_leaves_one_of_another_thread_alone(ask, tmp_path):
    ask(
        f"""
        path = {str(tmp_path / "go")!r}
        def wait_and_answer():
            wait_for(path)
            return "good"
        found = []
        def run():
            with parallel_config(backend="warmfork"):
                found.extend(Parallel(n_jobs=2)([delayed(wait_and_answer)()]))
        thread = threading.Thread(target=run)
        thread.start()
        try:
            Parallel(n_jobs=2)([delayed(fail)(KeyError("bad"))] * 3)
        except KeyError:
            open(path, "w").write("1\\n")
        thread.join()
        assert found == ["good"]
        """
    )


def test_an_error_of_the_generator_of_calls_is_raised(ask):
    ask(
        """
        def give():
            for number in range(30):
                if number == 20:
                    raise KeyError("from the generator")
                yield delayed(abs)(number)
        try:
            Parallel(n_jobs=2)(give())
        except KeyError as error:
            assert "from the generator" in str(error)
        else:
            raise AssertionError
        """
    )


def test_a_memory_mapped_array_is_the_same_in_the_workers_and_a_plain_one_is_a_copy(ask, tmp_path):
    ask(
        f"""
        import numpy as np
        def fill(array, index):
            array[index] = index
            return float(array[index])
        mapped = np.memmap({str(tmp_path / "array")!r}, dtype=float, shape=8, mode="w+")
        Parallel(n_jobs=2)(delayed(fill)(mapped[2:], index) for index in range(6))
        assert mapped.tolist() == [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
        plain = np.zeros(1 << 20)
        assert Parallel(n_jobs=2)(delayed(fill)(plain, index) for index in range(4)) == [0.0, 1.0, 2.0, 3.0]
        assert not plain.any()
        """
    )


def test_a_worker_has_as_many_threads_of_libraries_as_it_is_told(ask):
    ask(
        """
        def look():
            return os.environ["OMP_NUM_THREADS"]
        wanted = os.environ.get("OMP_NUM_THREADS") or str(max(1, cpu_count() // 2))
        assert Parallel(n_jobs=2)([delayed(look)()] * 2) == [wanted] * 2
        with parallel_config(backend="warmfork", inner_max_num_threads=7):
            assert Parallel(n_jobs=2)([delayed(look)()] * 2) == ["7"] * 2
        """
    )


def test_an_option_that_there_is_none_of_is_refused(ask):
    ask(
        """
        try:
            Parallel(n_jobs=2, colour="red")([delayed(abs)(1)])
        except TypeError as error:
            assert "colour" in str(error)
        else:
            raise AssertionError
        """
    )


def test_it_can_be_the_default_of_a_program(tmp_path):
    run_program(
        f"""{PRELUDE}
if __name__ == "__main__":
    warmfork.integrations.joblib.register(make_default=True)
    with Parallel(n_jobs=2) as parallel:
        assert parallel([delayed(abs)(-1)] * 3) == [1, 1, 1]
        assert parallel._backend.executor.stats()["done"] > 0
""",
        tmp_path,
    )
