"""share_readonly(): what is put where all can map it, and travels as a handle."""

from __future__ import annotations

import gc
import mmap
import os
import pickle
from array import array
from collections.abc import Iterator

import pytest

import warmfork
from tests.api import sharing_jobs as jobs
from tests.support import wait_until
from warmfork._tasks import shared as shared_

SIZE = 3 << 20


@pytest.fixture(scope="module")
def template() -> Iterator[warmfork.Template]:
    with warmfork.Template(preload=[jobs.__name__], spares=0, name="sharing") as made:
        made.wait_ready()
        yield made


@pytest.fixture(params=[None, 1], ids=["workers that stay", "a process for each task"])
def executor(template, request) -> Iterator[warmfork.Executor]:
    made = warmfork.Executor(1, template=template, tasks_per_worker=request.param)
    yield made
    made.kill_workers()


@pytest.fixture
def data() -> bytes:
    return os.urandom(SIZE)


def test_a_task_gets_a_view_of_the_bytes_that_nobody_can_write(executor, data):
    shared = warmfork.share_readonly(data)
    assert shared.nbytes == SIZE
    assert executor.submit(jobs.describe, shared).result(10) == ("memoryview", True, SIZE, data[:9])
    assert executor.submit(jobs.try_to_write, shared).result(10) == "TypeError"


def test_it_may_be_anywhere_in_the_arguments_and_there_may_be_several(executor, data):
    one, two = warmfork.share_readonly(data), warmfork.share_readonly(bytearray(data[::-1]))
    call = executor.submit(jobs.join, [one, {"two": two}], one, large=bytes(100_000))
    assert call.result(10) == (data[:4], data[::-1][:4], data[:4], 100_000)


def test_a_process_maps_it_once_and_lets_go_when_nothing_there_refers_to_it(template, data):
    shared = warmfork.share_readonly(data)
    executor = warmfork.Executor(1, template=template)
    try:
        before = executor.submit(jobs.list_files).result(10)
        assert executor.submit(jobs.keep, [shared, shared]).result(10) == 1
        assert executor.submit(jobs.keep, shared).result(10) == 1
        assert executor.submit(jobs.list_maps).result(10) == 1
        executor.submit(jobs.let_go).result(10)
        assert executor.submit(jobs.list_maps).result(10) == 0
        assert executor.submit(jobs.list_files).result(10) == before
    finally:
        executor.kill_workers()


def test_it_is_freed_when_the_last_holder_lets_go(template, data):
    executor = warmfork.Executor(1, template=template)
    try:
        shared = warmfork.share_readonly(data)
        number = os.fstat(shared.fileno()).st_ino
        watched = os.open(f"/proc/self/fd/{shared.fileno()}", os.O_PATH)  # this keeps it: only its number is asked for
        os.close(watched)
        executor.submit(jobs.keep, shared).result(10)
        del shared
        gc.collect()
        pid = executor.submit(os.getpid).result(10)
        assert number in list_inodes(pid) and number not in list_inodes(os.getpid())
        executor.submit(jobs.let_go).result(10)
        wait_until(lambda: number not in list_inodes(pid))
    finally:
        executor.kill_workers()


def list_inodes(pid: int) -> set[int]:
    """The memory files that a process has open, or mapped."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            if "warmfork-buffer" in os.readlink(f"/proc/{pid}/fd/{fd}"):
                found.add(os.stat(f"/proc/{pid}/fd/{fd}").st_ino)
        except FileNotFoundError:
            continue
    with open(f"/proc/{pid}/maps") as file:
        found |= {int(line.split()[4]) for line in file if "warmfork-buffer" in line}
    return found


def test_a_task_has_it_though_the_program_has_let_go_before_that_began(executor, data, tmp_path):
    os.mkfifo(tmp_path / "gate")
    first = executor.submit(jobs.wait_for, str(tmp_path / "gate"))
    future = executor.submit(jobs.describe, warmfork.share_readonly(data))
    other, third = warmfork.share_readonly(data), warmfork.share_readonly(data)
    second = executor.submit(jobs.describe, other)
    last = [executor.submit(jobs.describe, third) for _ in range(3)]  # some are not handed out yet
    del other
    third.close()
    gc.collect()
    os.close(os.open(tmp_path / "gate", os.O_WRONLY))
    first.result(10)
    assert [task.result(10)[3] for task in (future, second, *last)] == [data[:9]] * 5
    assert not future._shared  # a future that is kept keeps no memory of its call


def test_the_initializer_gets_it_in_each_process(template, data):
    for tasks in (None, 1):
        shared = warmfork.share_readonly(data)
        executor = warmfork.Executor(
            2, template=template, tasks_per_worker=tasks, initializer=jobs.keep, initargs=(shared,)
        )
        shared.close()  # before a worker is there
        try:
            assert [executor.submit(jobs.read_kept).result(10) for _ in range(4)] == [data[:9]] * 4
            mixed = executor.submit(jobs.describe, warmfork.share_readonly(data[::-1]))
            assert mixed.result(10)[3] == data[::-1][:9]
        finally:
            executor.kill_workers()


def test_a_worker_that_forks_for_each_task_keeps_no_file_of_it(template, data):
    executor = warmfork.Executor(1, template=template, tasks_per_worker=1)
    try:
        for _ in range(3):
            executor.submit(jobs.get_byte, warmfork.share_readonly(data), 0).result(10)
        assert list_inodes(executor._core.slots[0].pid) == set()
    finally:
        executor.kill_workers()


def test_a_map_gives_it_to_each_item(executor, data):
    from functools import partial

    shared = warmfork.share_readonly(data)
    assert list(executor.map(partial(jobs.get_byte, shared), range(40))) == list(data[:40])
    assert list(executor.map(jobs.get_byte, [shared] * 5, range(5), chunksize=2)) == list(data[:5])


def test_a_child_of_a_template_gets_it(template, data):
    shared = warmfork.share_readonly(data)
    assert template.start(jobs.describe, (shared,)).result(10) == ("memoryview", True, SIZE, data[:9])
    children = template.start_many(jobs.describe, [(shared,)] * 3)
    assert [child.result(10)[3] for child in children] == [data[:9]] * 3
    assert template.start(jobs.list_files).result(10) == template.start(jobs.list_files_beside, (shared,)).result(10)


def test_a_function_of_the_script_takes_it_along_by_value(template, data):
    shared = warmfork.share_readonly(data)
    assert template.start(lambda: bytes(shared[:5])).result(10) == data[:5]  # what arrives is the view itself


def test_an_array_arrives_as_an_array_over_the_same_memory(executor):
    numpy = pytest.importorskip("numpy")
    matrix = numpy.arange(400_000, dtype="f8").reshape(500, 800)
    for shared in (warmfork.share_readonly(matrix), warmfork.share_readonly(numpy.asfortranarray(matrix))):
        kind, shape, writable, last = executor.submit(jobs.describe_array, shared).result(20)
        assert (kind, shape, writable, last) == ("ndarray", (500, 800), False, 399_999.0)
        assert (shared.value == matrix).all() and not shared.value.flags.writeable


def test_a_frame_arrives_as_a_frame(executor):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": range(1000), "b": [0.5] * 1000})
    assert executor.submit(jobs.sum_of, warmfork.share_readonly(frame)).result(30) == frame["a"].sum()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: array("d", data), mmap])
def test_any_buffer_can_be_shared(kind, data):
    if kind is mmap:
        value = mmap.mmap(-1, SIZE)
        value[:] = data
    else:
        value = kind(data)
    shared = warmfork.share_readonly(value)
    assert isinstance(shared.value, memoryview) and shared.value == data and shared.value.readonly


def test_what_has_no_buffers_is_refused_by_name():
    for wrong in ("text", [1, 2], 3, None):
        with pytest.raises(TypeError, match=f"a {type(wrong).__name__} has none"):
            warmfork.share_readonly(wrong)
    with pytest.raises(TypeError, match="needs memory in one piece"):
        warmfork.share_readonly(memoryview(bytes(100))[::2])
    with pytest.raises(TypeError, match="shared already"):
        warmfork.share_readonly(warmfork.share_readonly(b"abc"))


def test_by_itself_it_can_not_be_pickled_and_says_what_can_be_done():
    shared = warmfork.share_readonly(b"abc")
    with pytest.raises(TypeError, match=r"give it to Executor\.submit\(\)"):
        pickle.dumps(shared)


def test_after_close_it_is_refused_and_what_was_given_out_stays(executor, data):
    shared = warmfork.share_readonly(data)
    view = shared.value
    shared.close()
    with pytest.raises(ValueError, match="was closed"):
        executor.submit(len, shared).result(10)
    with pytest.raises(ValueError, match="was closed"):
        warmfork.share_readonly(data).close() or shared.fileno()
    assert view[:9] == data[:9]


def test_nobody_can_write_to_the_file(data):
    shared = warmfork.share_readonly(data)
    for refused in (lambda: os.pwrite(shared.fileno(), b"x", 0), lambda: os.ftruncate(shared.fileno(), 0)):
        with pytest.raises(PermissionError):
            refused()


def test_a_task_that_crashes_with_it_costs_itself(executor, data):
    shared = warmfork.share_readonly(data)
    with pytest.raises(warmfork.WorkerDied):
        executor.submit(jobs.crash_with, shared).result(10)
    assert executor.submit(jobs.describe, shared).result(10)[3] == data[:9]


def test_many_tasks_that_wait_keep_one_file_open(executor, data):
    shared = warmfork.share_readonly(data)
    before = len(os.listdir("/proc/self/fd"))
    futures = [executor.submit(jobs.get_byte, shared, 7) for _ in range(100)]
    assert len(os.listdir("/proc/self/fd")) < before + 40
    assert [future.result(30) for future in futures] == [data[7]] * 100


def test_a_task_that_has_more_of_them_than_one_message_takes_says_so_and_costs_itself(executor):
    shared = [warmfork.share_readonly(bytes([number % 256])) for number in range(252)]
    with pytest.raises(ValueError, match="252 shared buffers in one task: 251 are the most"):
        executor.submit(jobs.count_different, shared).result(10)
    assert executor.submit(jobs.count_different, shared[:251], large=bytes(100_000)).result(10) == 251


def test_without_memfds_a_file_without_a_name_stands_in(template, data, monkeypatch):
    monkeypatch.setattr("warmfork._machine.memfds.no_memfds", True)
    monkeypatch.setattr(
        "warmfork._machine.memfds.make_memfd",
        lambda name, sealable: __import__("warmfork._machine.memfds", fromlist=["x"]).make_nameless(name),
    )
    shared = warmfork.share_readonly(data)
    monkeypatch.undo()
    assert template.start(jobs.describe, (shared,)).result(10) == ("memoryview", True, SIZE, data[:9])


def test_nothing_is_kept_of_what_was_pickled(data):
    shared = warmfork.share_readonly(data)
    with pytest.raises(ZeroDivisionError):
        shared_.collect(lambda: 1 / 0)
    with pytest.raises(TypeError):
        pickle.dumps(shared)
