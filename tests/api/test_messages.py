"""What users write first and wrong is refused at once, with what to write instead."""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

import warmfork
from tests import targets
from tests.support import wait_until
from warmfork._child import ending
from warmfork._client.handle import Child


@pytest.fixture(scope="module")
def template():
    with warmfork.Template(preload=["tests.targets"]) as made:
        yield made


def give_generator():
    yield 1


async def give_coroutine():
    return 1


def f(*arguments: object) -> int:
    return len(arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("hello",), r"args is a tuple with the arguments of f: \('hello',\), not 'hello'"),
        ((b"hello",), r"args is a tuple .*\(b'hello',\)"),
        ((1,), r"\(1,\), not 1"),
        ((None,), r"\(None,\), not None"),
        ((1, 2), r"start\(f, \(1, 2\)\), not start\(f, 1, 2\)"),
        ((1, 2, 3), r"start\(f, \(1, 2, 3\)\), not start\(f, 1, 2, 3\)"),
    ],
)
def test_arguments_that_are_no_tuple_are_refused_and_it_is_said_what_to_write(template, arguments, words):
    with pytest.raises(TypeError, match=words):
        template.start(f, *arguments)


@pytest.mark.parametrize(
    ("arguments", "words"), [([1, 2], r"\(1,\), not 1"), (["ab"], r"\('ab',\), not 'ab'"), ("ab", "list"), (5, "list")]
)
def test_start_many_says_what_each_item_is(template, arguments, words):
    with pytest.raises(TypeError, match=words):
        template.start_many(f, arguments)


@pytest.mark.parametrize("arguments", [[1, 2], (), (n for n in range(3)), {4: 5}])
def test_what_can_be_gone_through_is_right(template, arguments):
    assert template.start(f, arguments).result(20) in (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (give_generator, "give_generator returned a generator, which can't be sent: .*list"),
        (give_coroutine, "give_coroutine returned a coroutine, which can't be sent: .*asyncio.run"),
    ],
)
def test_a_result_that_runs_on_is_refused_by_its_name_and_shortly(template, function, words):
    child = template.start(function)
    with pytest.raises(TypeError, match=words) as caught:
        child.result(20)
    assert len(str(caught.value.__cause__).splitlines()) < 8


def test_what_sys_exit_said_is_in_the_error(template):
    child = template.start(targets.raise_error, (SystemExit("no such customer"),))
    with pytest.raises(warmfork.ChildError, match="no such customer"):
        child.result(20)


def test_a_lambda_that_holds_a_lock_names_the_variable(template):
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"cannot pickle '_thread.lock' object .*a variable of the function: \"lock\""):
        template.start(lambda: lock)


@pytest.mark.parametrize(
    "argument", [sys.__stderr__, threading.Lock(), (n for n in range(3))], ids=["file", "lock", "generator"]
)
def test_what_multiprocessing_refuses_is_refused_on_every_door(template, argument):
    process = warmfork.get_context().Process(target=f, args=(argument,))
    for start in (process.start, lambda: template.start(f, (argument,)), lambda: template.start(lambda: argument)):
        with pytest.raises(TypeError, match="cannot pickle"):
            start()


# -- stop()


def be_stubborn(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(path, "w").close()
    time.sleep(60)


def test_stop_has_one_deadline_for_all(tmp_path):
    template = warmfork.Template(preload=["tests.targets"])
    children = [template.start(be_stubborn, (str(tmp_path / str(number)),)) for number in range(5)]
    wait_until(lambda: len(list(tmp_path.iterdir())) == 5)
    began = time.monotonic()
    template.stop()
    assert time.monotonic() - began < 3
    assert [child.outcome for child in children] == [warmfork.Signaled(9)] * 5


def test_stop_ends_the_others_where_one_may_not_be_signaled(monkeypatch: pytest.MonkeyPatch):
    template = warmfork.Template()
    children = [template.start(time.sleep, (60,)) for _ in range(3)]
    real = Child.send_signal

    def send_signal(self: Child, number: int) -> None:
        if self is children[0]:
            raise PermissionError(1, "Operation not permitted")
        real(self, number)

    monkeypatch.setattr(Child, "send_signal", send_signal)
    with pytest.raises(PermissionError, match=f"sleep-1 .pid {children[0].pid}"):
        template.stop()
    assert [child.is_running() for child in children] == [True, False, False]
    assert template.pid is None
    real(children[0], 9)
    children[0].wait(10)


def test_a_child_that_was_asked_how_it_ended_is_let_go_of():
    with warmfork.Template() as template:
        child = template.start(int)
        assert child in template._children
        child.wait(20)
        assert template._children == set()


def test_a_child_that_asks_at_its_stdin_is_told_what_that_is():
    import warmfork

    with warmfork.Template() as template:
        with pytest.raises(EOFError) as caught:
            template.start(input).result(20)
    assert caught.value.__notes__ == [ending.NO_STDIN]
