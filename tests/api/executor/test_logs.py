"""forward_logs=True: what workers log goes to the loggers of the program."""

from __future__ import annotations

import itertools
import logging
import os
import threading

import pytest

from tests.support import run_forked, run_program, wait_until
from warmfork._tasks import logs as worker_logs
from warmfork._tasks import values
from warmfork.api.executor import logs


def log(text: str, level: int = logging.WARNING, name: str = "tests.shop", **extra: object) -> int:
    logging.getLogger(name).log(level, text, extra=extra)
    return os.getpid()


def log_object() -> None:
    logging.getLogger("tests.shop").warning("holds %r", threading.Lock(), extra={"lock": threading.Lock(), "size": 3})


def log_exception() -> None:
    try:
        raise LookupError("no such thing")
    except LookupError:
        logging.getLogger("tests.shop").exception("it failed")


def log_many(count: int) -> None:
    for number in range(count):
        logging.getLogger("tests.shop").warning("%d", number)


def say(data: bytes) -> None:
    logging.root.handlers[0].socket.send(data)


def shut() -> None:
    logging.root.handlers[0].socket.shutdown(2)


@pytest.mark.parametrize("fresh", [False, True], ids=["used again", "fresh for each task"])
def test_a_record_of_a_worker_comes_to_the_logger_of_its_name(make, caplog, fresh):
    executor = make(1, forward_logs=True, tasks_per_worker=1 if fresh else None)
    pid = executor.submit(log, "sold %", size=7).result(10)
    executor.shutdown()
    (record,) = caplog.records
    assert (record.name, record.levelno, record.getMessage()) == ("tests.shop", logging.WARNING, "sold %")
    assert (record.process, record.size) == (pid, 7)
    assert record.processName.startswith("executor-")
    assert record.funcName == "log" and record.pathname == __file__


def test_what_can_not_be_pickled_is_text(make, caplog):
    executor = make(1, forward_logs=True)
    executor.submit(log_object).result(10)
    executor.shutdown()
    (record,) = caplog.records
    assert record.getMessage().startswith("holds <unlocked _thread.lock")
    assert record.size == 3 and not hasattr(record, "lock")


def test_an_exception_s_traceback_comes_with_it(make, caplog):
    executor = make(1, forward_logs=True)
    executor.submit(log_exception).result(10)
    executor.shutdown()
    assert "it failed\nTraceback" in caplog.text and "LookupError: no such thing" in caplog.text


def test_a_worker_sends_what_some_logger_here_lets_through_and_only_that_is_shown(make, caplog):
    caplog.set_level(logging.ERROR)
    caplog.set_level(logging.DEBUG, "tests.shop")
    executor = make(1, forward_logs=True)
    for name in ("tests.shop.till", "tests.other"):
        executor.submit(log, name, logging.DEBUG, name).result(10)
    executor.submit(log, "error", logging.ERROR, "tests.other").result(10)
    executor.shutdown()
    assert [record.getMessage() for record in caplog.records] == ["tests.shop.till", "error"]


def test_a_worker_makes_up_no_loggers_of_the_program(make, caplog):
    executor = make(1, forward_logs=True)
    executor.submit(log, "from afar", name="made.up.by.a.worker").result(10)
    executor.shutdown()
    (record,) = caplog.records
    assert record.name == "made.up.by.a.worker"
    assert not any(name.startswith("made") for name in logging.root.manager.loggerDict)


def test_shutdown_waits_for_all_records_in_their_order(make, caplog):
    executor = make(2, forward_logs=True)
    for future in [executor.submit(log_many, 500) for _ in range(4)]:
        future.result(20)
    executor.shutdown()
    found = [(record.process, int(record.getMessage())) for record in caplog.records]
    assert len(found) == 2000
    for pid in {pid for pid, _ in found}:
        mine = [number for process, number in found if process == pid]
        assert mine == [*range(500)] * (len(mine) // 500)


def test_without_it_nothing_comes(executor, caplog):
    executor.submit(log, "not here").result(10)
    executor.shutdown()
    assert not caplog.records


@pytest.mark.parametrize(
    "data",
    [b"nonsense", values.encode(7), values.encode({}), values.encode((0, {"levelno": "x", "name": "tests.shop"})),
     values.encode(("x", {"levelno": 40, "name": "tests.shop"})),
     values.encode((0, {"name": "tests.shop", "levelno": 40, "getMessage": 1, "msg": "%d", "args": "x"}))],
    ids=["no data", "no record", "empty", "no level", "no number of lost ones", "hides a method"],
)  # fmt: skip
def test_nonsense_costs_nothing_but_itself(make, caplog, data):
    executor = make(1, forward_logs=True)
    for _ in range(2):
        executor.submit(say, data).result(10)
    executor.submit(log, "after it").result(10)
    executor.shutdown()
    *told, last = caplog.records
    assert last.getMessage() == "after it"
    assert all(callable(record.getMessage) for record in caplog.records)
    assert len([record for record in told if "was not handed on" in record.getMessage()]) <= 1


def say_many(levels: range) -> None:
    for level in levels:
        logging.root.handlers[0].socket.send(values.encode((0, {"name": "tests.shop", "levelno": level, "msg": "x"})))


def test_a_worker_that_makes_up_levels_takes_no_memory_of_the_program(make, caplog):
    logger = logging.getLogger("tests.shop")
    executor = make(1, forward_logs=True)
    executor.submit(say_many, range(51, 71)).result(10)
    executor.shutdown()
    assert [record.levelno for record in caplog.records] == [*range(51, 71)]
    assert not logger._cache.keys() & {*range(51, 71)}


@pytest.mark.parametrize("disabled", ["by its level", "all of them", "itself"])
def test_what_the_program_has_switched_off_meanwhile_is_not_shown(make, caplog, disabled):
    executor = make(1, forward_logs=True)
    executor.submit(log, "before").result(10)
    logger = logging.getLogger("tests.shop")
    wait_until(lambda: caplog.records)
    try:
        if disabled == "by its level":
            logger.setLevel(logging.ERROR)
        elif disabled == "all of them":
            logging.disable(logging.WARNING)
        else:
            logger.disabled = True
        executor.submit(log, "after").result(10)
        executor.shutdown()
    finally:
        logging.disable(logging.NOTSET)
        logger.setLevel(logging.NOTSET)
        logger.disabled = False
    assert [record.getMessage() for record in caplog.records] == ["before"]


def test_a_filter_that_raises_is_told_once_and_loses_its_records_alone(make, caplog):
    def refuse(record: logging.LogRecord) -> bool:
        if record.getMessage() == "bad":
            raise ZeroDivisionError("in a filter")
        return True

    logger = logging.getLogger("tests.shop")
    logger.addFilter(refuse)
    try:
        executor = make(1, forward_logs=True)
        for text in ("bad", "bad", "good"):
            executor.submit(log, text).result(10)
        executor.shutdown()
    finally:
        logger.removeFilter(refuse)
    told = [record.getMessage() for record in caplog.records]
    assert told[1:] == ["good"]
    assert "was not handed on: ZeroDivisionError: in a filter" in told[0]


def test_a_worker_that_shuts_its_socket_has_shut_its_own(make, caplog):
    executor = make(2, forward_logs=True)
    executor.warm()
    executor.submit(shut).result(10)
    executor.restart()
    pid = executor.submit(log, "the next worker").result(10)
    executor.shutdown()
    assert [record.process for record in caplog.records] == [pid]


def test_tasks_do_not_wait_for_a_handler_that_hangs_and_what_was_lost_is_counted(make, caplog, monkeypatch):
    goes_on = threading.Event()

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            goes_on.wait(20)

    handler = Slow()
    logging.getLogger("tests.shop").addHandler(handler)
    try:
        executor = make(1, forward_logs=True)
        executor.submit(log_many, 5000).result(20)
        logging.getLogger("tests.shop").removeHandler(handler)
        goes_on.set()
        wait_until(lambda: len(caplog.records) > 10, what="the handler has gone on")
        executor.submit(log, "the last").result(10)
        executor.shutdown()
    finally:
        goes_on.set()
        logging.getLogger("tests.shop").removeHandler(handler)
    told = [record.getMessage() for record in caplog.records if record.name == "warmfork.executor"]
    assert told and all("log records of a worker are lost" in text for text in told)
    came = sum(record.getMessage().isdigit() for record in caplog.records)
    assert came + sum(int(text.split()[0]) for text in told) == 5000


@pytest.mark.parametrize(
    ("text", "others", "left"),
    [("x" * 200_000, "", 10_000), ("x" * 100_000_000, "", 10_000), ("\u4e00" * 200_000, "\u4e00" * 20_000, 1000)],
    ids=["long", "longer than what data may be", "of many bytes"],
)
def test_a_record_that_is_too_large_is_cut(text, others, left):
    record = logging.makeLogRecord({"msg": text, "name": "a", "path": others, "stack_info": others})
    data = worker_logs.pack(record, "worker", 0)
    assert len(data) <= logs.LARGEST
    assert values.decode(data)[1]["msg"] == text[:left]


def test_a_fork_of_the_program_takes_nothing_from_it(make, caplog):
    executor = make(1, forward_logs=True)
    executor.submit(log, "before").result(10)
    (slot,) = executor._core.slots
    reader = slot.logs
    assert run_forked(reader.socket.fileno) == -1
    executor.submit(log, "after").result(10)
    executor.shutdown()
    assert [record.getMessage() for record in caplog.records] == ["before", "after"]


def test_all_that_was_logged_is_there_when_the_interpreter_ends(tmp_path):
    code = """
        import logging, time
        import warmfork

        def log(number):
            logging.getLogger("app").warning("%d", number)

        class Slow(logging.StreamHandler):
            def emit(self, record):
                time.sleep(0.01)
                super().emit(record)

        if __name__ == "__main__":
            logging.root.addHandler(Slow())
            executor = warmfork.Executor(1, forward_logs=True)
            executor.map(log, range(50))
            SHUT
    """
    for last in ("", "executor.shutdown(wait=False)"):
        said = run_program(code.replace("SHUT", last), tmp_path).stderr.split()
        assert sorted(map(int, said)) == [*range(50)]


def test_loggers_may_be_made_while_a_worker_is_started():
    class Odd(logging.Logger):
        @property
        def level(self) -> int:
            logging.getLogger(f"tests.made{next(numbers)}")  # as another thread may in this moment
            return 0

        @level.setter
        def level(self, _: int) -> None:
            pass

    numbers = itertools.count()
    known = logging.root.manager.loggerDict
    known["tests.odd"] = Odd("tests.odd")
    try:
        assert logs.find_level() >= 1
    finally:
        for name in [name for name in known if name.startswith(("tests.odd", "tests.made"))]:
            del known[name]


def test_an_attribute_may_have_any_name(make, caplog):
    executor = make(1, forward_logs=True)
    executor.submit(log, "sold", lost=7).result(10)
    executor.shutdown()
    assert [(record.getMessage(), record.lost) for record in caplog.records] == [("sold", 7)]


def test_a_program_that_has_gone_costs_a_worker_no_task():
    ours, theirs = worker_logs.sockets.make_pair()
    ours.close()
    handler = worker_logs.Forwarder(theirs, "worker")
    handler.handle(logging.makeLogRecord({"msg": "x"}))
    assert handler.lost == 1
    theirs.close()
