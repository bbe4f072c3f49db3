"""Large arguments and results: whole, writable, copied once, and an outcome where a process dies under them."""

from __future__ import annotations

import logging
import os
import pickle
import signal
from collections.abc import Iterator
from itertools import pairwise
from multiprocessing import shared_memory
from pathlib import Path

import pytest

import warmfork
from tests import large, targets
from tests.running import list_spares
from tests.signs import make_sign
from tests.support import doing_without, run_forked, run_program, wait_until
from warmfork._client import filling
from warmfork._machine import calls, memory, transfer

numpy = pytest.importorskip("numpy")

MB = 1_000_000
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.fixture(scope="module")
def shared() -> Iterator[warmfork.Template]:
    with warmfork.Template(preload=["tests.large", "numpy"], spares=0) as made:
        made.wait_ready()
        yield made


@pytest.fixture
def no_writev(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that lets nobody write to another process: a seccomp filter, or Yama's ptrace_scope 2."""

    def write(pid: int, pidfd: int, stretches: object) -> None:
        raise PermissionError(1, "Operation not permitted", "process_vm_writev")

    monkeypatch.setattr(transfer, "write", write)
    monkeypatch.setattr(filling, "is_refused", False)


ARRAYS = {
    "large": numpy.arange(3 * MB, dtype=numpy.float64),
    "just large enough": numpy.arange(65_536, dtype=numpy.uint8),
    "small": numpy.arange(65_535, dtype=numpy.uint8),
    "empty": numpy.empty((0, 5)),
    "in the order of Fortran": numpy.asfortranarray(numpy.arange(400_000.0).reshape(400, 1000)),
    "every second item": numpy.arange(400_000.0)[::2],
    "read-only": numpy.frombuffer(bytes(range(256)) * 1000, dtype=numpy.uint8),
    "of records": numpy.zeros(50_000, dtype=[("a", "i4"), ("b", "f8")]),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_arrives_as_it_is(template: warmfork.Template, name: str):
    array = ARRAYS[name]
    like = pickle.loads(pickle.dumps(array, 5))
    assert template.start(large.see_array, (array,)).result(30) == large.see_array(like)


@pytest.mark.parametrize("spares", [0, 2])
def test_arrays_arrive_with_spares_and_without(spares: int):
    array = numpy.arange(MB)
    with warmfork.Template(preload=["tests.large", "numpy"], spares=spares) as template:
        for _ in range(2):
            assert template.start(large.see_array, (array,)).result(30) == large.see_array(array)
            wait_until(lambda: len(list_spares(template.pid)) == spares)


@pytest.mark.parametrize("spares", [0, 2])
@pytest.mark.parametrize("without", [[], ["out_of_band"]], ids=["", "without"])
def test_a_process_has_its_large_arguments(tmp_path: Path, spares: int, without: list[str]):
    values = [numpy.arange(MB), b"x" * MB, bytearray(b"y" * 100_000), b"small"]
    with doing_without(*without):
        context = warmfork.get_context(preload=["tests.large", "numpy"], spares=spares)
    for number in range(3):
        path = str(tmp_path / f"digests-{number}")
        process = context.Process(target=large.write_digests, args=(path, *values))
        process.start()
        process.join(30)
        assert process.exitcode == 0
        assert targets.read_text(path).split() == [large.digest(value) for value in values]
        process.close()
    context.stop_template()


def test_many_buffers_of_all_sizes_arrive_in_their_places(template: warmfork.Template):
    random = numpy.random.default_rng(5)
    values = [random.integers(0, 255, size, dtype=numpy.uint8) for size in random.integers(1, 300_000, 300)]
    values += [random.integers(0, 255, 3 * MB, dtype=numpy.uint8), b"z" * 200_000]
    assert template.start(large.digest_all, tuple(values)).result(60) == large.digest_all(*values)


def test_bytes_of_100_mb_arrive(template: warmfork.Template):
    data = os.urandom(MB) * 100
    assert template.start(large.digest, (data,)).result(60) == large.digest(data)


def test_an_array_is_the_child_s_own_to_write_to_and_a_fork_s_copy_too(template: warmfork.Template):
    array = numpy.zeros(MB)
    assert template.start(large.write_and_see, (array,)).result(30) == (float(MB), 1.0)
    assert not array.any(), "and ours is ours"


def test_what_is_changed_after_start_does_not_reach_the_child(template: warmfork.Template, tmp_path: Path):
    array = numpy.zeros(3 * MB, dtype=numpy.uint8)
    with make_sign(tmp_path) as sign:
        child = template.start(targets.Late(sign.path, array).give)
        array[:] = 1
        os.write(sign.fd, b"go\n")
        assert not child.result(30).any()


def test_memory_is_freed_with_each_array_that_the_child_lets_go_of(template: warmfork.Template):
    arrays = [numpy.ones(4 * MB) for _ in range(3)]
    found = template.start(large.drop_one_by_one, (arrays,)).result(60)
    freed = [before - after for before, after in pairwise(found)]
    assert all(abs(size - 32 * MB) < 3 * MB for size in freed), freed


def test_an_array_is_never_there_twice_in_the_child(template: warmfork.Template):
    array = numpy.ones(25 * MB)  # 200 MB
    alone = template.start(large.measure_peak, (array[:1],)).result(30)
    assert template.start(large.measure_peak, (array,)).result(60) - alone < 220 * MB


def test_an_array_is_never_there_twice_in_the_client(template: warmfork.Template):
    def start_and_measure() -> int:
        array = numpy.ones(25 * MB)
        before = large.read_peak()
        template_of_copy = warmfork.Template(preload=["tests.large", "numpy"], spares=0)
        with template_of_copy as made:
            made.start(len, (array,)).result(60)
        return large.read_peak() - before

    assert run_forked(start_and_measure) < 20 * MB


def test_a_shared_memory_segment_is_passed_by_name_and_not_copied(template: warmfork.Template):
    """What lives in shared memory already is passed as such: both sides write to the same bytes."""
    segment = shared_memory.SharedMemory(create=True, size=200 * MB)
    try:
        segment.buf[0] = 5
        assert template.start(large.add_to_segment, (segment, 200 * MB)).result(30) < 100 * MB
        assert segment.buf[0] == 6
    finally:
        segment.close()
        segment.unlink()


def test_an_array_over_shared_memory_is_passed_by_value_as_every_array_is(template: warmfork.Template):
    segment = shared_memory.SharedMemory(create=True, size=8 * MB)
    try:
        array = numpy.ndarray((MB,), dtype=numpy.float64, buffer=segment.buf)
        array[:] = 3
        assert template.start(large.write_and_see, (array,)).result(30) == (float(MB), 1.0)
        assert (array == 3).all()
        del array
    finally:
        segment.close()
        segment.unlink()


# -- results


@pytest.mark.parametrize("without", [[], ["out_of_band"]], ids=["", "without"])
def test_results_come_back_whole_and_writable(without: list[str]):
    with doing_without(*without), warmfork.Template(preload=["tests.large", "numpy"], spares=0) as template:
        child = template.start(large.give_array, (3 * MB,))
        got = child.result(30)
        assert (got == numpy.arange(3 * MB)).all()
        got[:] = 1
        assert child.result(30) is got, "asked for again, it is the same object"
        arrays, text = template.start(large.give_many, (200, 70_000)).result(30)
        assert [int(one[0]) for one in arrays] == [n % 256 for n in range(200)] and text == "and a text"
        assert all((one == one[0]).all() and len(one) == 70_000 for one in arrays)


def test_an_exception_brings_its_array(template: warmfork.Template):
    with pytest.raises(ValueError, match="it has an array") as caught:
        template.start(large.raise_with_array, (MB,)).result(30)
    assert caught.value.args[1].sum() == MB


def test_a_result_outlives_its_child_its_handle_and_what_is_done_to_it(template: warmfork.Template):
    child = template.start(large.give_array, (MB,))
    child.wait(30)
    got = child.result(30)
    child.close()
    assert got[-1] == MB - 1


# -- switched off, and refused


def test_it_is_off_where_a_variable_says_so():
    def is_on(template: warmfork.Template) -> bool:
        return bool(template._make_payload((numpy.zeros(MB),)).buffers)

    assert is_on(warmfork.Template())
    with doing_without("out_of_band"):
        assert not is_on(warmfork.Template())


def test_what_may_not_be_written_goes_over_the_feed_and_that_is_logged_once(
    template: warmfork.Template, no_writev: None, caplog: pytest.LogCaptureFixture
):
    """Bad days: process_vm_writev refused costs speed only."""
    values = (numpy.arange(MB), b"x" * 300_001, numpy.zeros(70_000, dtype=numpy.uint8), bytearray(b"y" * 70_000))
    with caplog.at_level(logging.INFO, logger="warmfork"):
        for _ in range(3):
            assert template.start(large.digest_all, values).result(30) == large.digest_all(*values)
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith(
        "large arguments are sent to children through their socket, which is slower: [Errno 1] Operation not"
    )


def test_what_is_passed_over_the_feed_is_writable_too(template: warmfork.Template, no_writev: None):
    assert template.start(large.write_and_see, (numpy.zeros(MB),)).result(30) == (float(MB), 1.0)


@pytest.mark.skipif("[never]" in THP.read_text(), reason="huge pages are switched off on this machine")
def test_large_memory_is_in_huge_pages_unless_these_are_switched_off():
    array = numpy.ones(4 * MB)
    with warmfork.Template(preload=["tests.large"], spares=0, huge_pages=False) as template:
        assert template.start(large.count_huge, (array,)).result(20) < 4 * MB
    with warmfork.Template(preload=["tests.large"], spares=0) as template:
        assert template.start(large.count_huge, (array,)).result(20) > 24 * MB


# -- deaths


@pytest.mark.parametrize("spares", [0, 1])
@pytest.mark.parametrize("preload", ["die_where_room_is_made", "die_while_it_is_read"])
def test_a_child_that_dies_half_way_is_an_outcome_and_no_hang(
    preload: str, spares: int, request: pytest.FixtureRequest
):
    if preload == "die_while_it_is_read":
        request.getfixturevalue("no_writev")
    with warmfork.Template(preload=[f"tests.large:{preload}"], spares=spares) as template:
        template.wait_ready()
        for _ in range(3):
            child = template.start(len, (numpy.zeros(5 * MB),))
            assert child.wait(20) == warmfork.Signaled(signal.SIGKILL)
            with pytest.raises(warmfork.ChildError):
                child.result(20)
        assert template.start(len, (b"small",)).result(20) == 5


def test_a_child_that_stops_half_way_is_ended_and_said_to_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(filling, "BUFFERS_TIMEOUT", 0.3)
    with warmfork.Template(preload=["tests.large:stop_where_room_is_made"], spares=0) as template:
        template.wait_ready()
        with pytest.raises(warmfork.StartError, match=r"buffers: the child has taken nothing for 0\.3 s"):
            template.start(len, (numpy.zeros(MB),))
        assert template.start(len, (b"small",)).result(20) == 5


def test_an_interrupt_in_the_middle_leaves_no_child(template: warmfork.Template, monkeypatch: pytest.MonkeyPatch):
    def interrupt(pid: int, pidfd: int, stretches: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        template.start(len, (numpy.zeros(MB),))
    assert Path(f"/proc/{template.pid}/task/{template.pid}/children").read_text() == ""
    monkeypatch.undo()
    assert template.start(len, (numpy.zeros(MB),)).result(20) == MB


def test_memory_that_can_not_be_had_is_an_error_of_the_child():
    with warmfork.Template(preload=["tests.large:limit_children"], spares=0) as template:
        child = template.start(len, (numpy.zeros(300 * MB // 8),))
        with pytest.raises(warmfork.ChildError, match="no memory for 300,000,000 bytes of arguments: Cannot allocate"):
            child.result(20)
        assert child.outcome == warmfork.Exited(1)
        assert template.start(len, (b"small",)).result(20) == 5


def test_memory_for_a_result_that_can_not_be_had_is_an_error_of_the_caller(monkeypatch: pytest.MonkeyPatch):
    with warmfork.Template(preload=["tests.large:fill_memfds"], spares=0) as template:
        with pytest.raises(OSError, match="No space left on device"):
            template.start(large.give_array, (MB,)).result(20)


# -- a client that dies half-way

DYING = """
import os, select, signal, sys
import numpy, warmfork
from warmfork._machine import transfer

def die(pid, pidfd, stretches):
    print(pid, flush=True)
    if "fork" in sys.argv and os.fork() == 0:
        select.select([pidfd], [], [], 60)  # a copy that has our fds, the feed too, for as long as the child lives
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)

transfer.write = die
if __name__ == "__main__":
    array = numpy.zeros(1_000_000)
    if "process" in sys.argv:
        warmfork.get_context().Process(target=len, args=(array,), daemon="daemon" in sys.argv).start()
    else:
        warmfork.Template().start(len, (array,))
"""


@pytest.mark.parametrize("arguments", ["template", "process", "process daemon", "template fork", "process fork"])
def test_a_client_that_dies_half_way_leaves_nothing(tmp_path: Path, arguments: str):
    """M1: the child's feed need not end with its client, where a fork has a copy of it."""
    done = run_program(DYING, tmp_path, *arguments.split(), expect=-signal.SIGKILL, timeout=20)
    assert not Path(f"/proc/{int(done.stdout)}").exists()


SIZES = (100, 65_535, 65_536, 70_003, 100_001, 1 << 20, 3_000_001, 20_000_001)


@pytest.mark.parametrize("huge", ["auto", False])
@pytest.mark.parametrize("refused", [False, True], ids=["written", "over the feed"])
def test_a_buffer_is_all_there_is_of_the_object_behind_it(request: pytest.FixtureRequest, huge: object, refused: bool):
    """For arguments and for results. Whoever takes memoryview.obj would have its neighbours' bytes too."""
    if refused:
        request.getfixturevalue("no_writev")
    values = [large.Whole(bytes([number + 1]) * size) for number, size in enumerate(SIZES)]
    with warmfork.Template(preload=["tests.large"], huge_pages=huge) as template:
        came, back = template.start(large.give_back, values).result(30)
    assert came == [(len(value), large.digest(bytes(value))) for value in values]
    assert list(back) == values


def test_memory_in_huge_pages_is_as_large_as_was_asked_for():
    for size in (1, 4096, 65_536, (2 << 20) + 1, 20_000_001, 100_000_000):
        made = memory.map_private(size)
        assert len(made) == len(memoryview(made)) == size
        made[-1:] = b"x"
        assert size < memory.ALIGN_FROM or calls.get_address(made) % memory.HUGE_PAGE == 0
        made.close()
