"""What a handle shows, and what a program is told of its children's ends."""

from __future__ import annotations

import logging
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.support import run_program, wait_until

PUBLIC = {
    "pid", "name", "wait", "result", "outcome", "usage", "is_running", "terminate", "kill", "send_signal", "fileno",
    "close", "stdin", "stdout", "stderr",
}  # fmt: skip


@pytest.fixture(scope="module")
def template():
    with warmfork.Template(preload=["tests.targets"]) as made:
        yield made


def test_a_child_shows_what_is_for_users(template: warmfork.Template):
    child = template.start(targets.give, (1,))
    assert {name for name in dir(child) if not name.startswith("_")} == PUBLIC
    assert child.result(20) == 1


def test_a_block_closes_the_handle_and_the_child_runs_on(template: warmfork.Template):
    with template.start(targets.wait) as child:
        pid = child.pid
    with pytest.raises(ValueError, match="closed"):
        child.fileno()
    os.kill(pid, 0)
    os.kill(pid, signal.SIGKILL)


def test_a_result_is_the_same_object_at_each_call(template: warmfork.Template):
    child = template.start(targets.give, ([1, 2],))
    assert child.result(20) is child.result()
    failing = template.start(targets.raise_error, (KeyError("key"),))
    found = []
    for _ in range(3):
        with pytest.raises(KeyError) as caught:
            failing.result(20)
        found.append(caught.value)
        assert type(caught.value.__cause__).__name__ == "RemoteTraceback"
    assert found[0] is found[1] is found[2]
    assert not getattr(found[0], "__notes__", [])


@pytest.mark.parametrize("ask", ["wait", "result"])
@pytest.mark.parametrize(
    ("timeout", "error"), [(-1, ValueError), (float("nan"), ValueError), ("5", TypeError), (True, TypeError)]
)
def test_a_time_that_is_none_is_refused_by_its_name(template: warmfork.Template, ask: str, timeout, error: type):
    child = template.start(targets.give, (1,))
    with pytest.raises(error, match="timeout is"):
        getattr(child, ask)(timeout)
    child.result(20)


# -- deaths that nobody asked for


def list_deaths(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "warmfork" and record.levelno == logging.ERROR
    ]


def test_a_crash_is_logged_once_with_name_signal_and_stack(template: warmfork.Template, caplog):
    child = template.start(targets.crash, name="import-of-prices")
    with pytest.raises(warmfork.ChildError, match="killed by SIGSEGV"):
        child.result(20)
    child.wait()
    (text,) = list_deaths(caplog)
    assert text.startswith(f"import-of-prices (pid {child.pid}) was killed by SIGSEGV") and "in crash" in text


def test_a_crash_of_a_process_of_a_pool_and_of_an_executor_is_logged_once(caplog):
    context = warmfork.get_context(preload=["tests.targets"])
    process = context.Process(target=targets.crash, name="one")
    process.start()
    process.join(20)
    assert process.exitcode == -11
    with ProcessPoolExecutor(1, mp_context=context) as executor, pytest.raises(BrokenProcessPool):
        executor.submit(targets.crash).result(20)
    with context.Pool(1) as pool:
        pool.apply_async(targets.crash)
        wait_until(lambda: len(list_deaths(caplog)) >= 3)
        pool.terminate()
    texts = list_deaths(caplog)
    assert len(texts) == 3 and all("SIGSEGV" in text and "in crash" in text for text in texts)
    context.stop_template()


def test_a_death_by_our_own_signal_is_not_logged_and_one_by_another_s_is(template: warmfork.Template, caplog):
    for end in (warmfork.Child.kill, warmfork.Child.terminate):
        child = template.start(targets.wait)
        end(child)
        child.wait(20)
    assert list_deaths(caplog) == []
    child = template.start(targets.wait)
    os.kill(child.pid, signal.SIGTERM)
    child.wait(20)
    assert [text.split(" was ")[1] for text in list_deaths(caplog)] == ["killed by SIGTERM"]


# -- what is dropped


@pytest.mark.parametrize("flags", [["-X", "dev"], ["-X", "dev", "-W", "error"]])
@pytest.mark.parametrize(
    "use",
    [
        "child = template.start(int)",
        "template.start(int)",
        "children = template.start_many(int, [(), ()])",
        "child = template.start(int); child.wait()",
        "child = template.start(int); child.close()",
    ],
)
def test_nothing_of_ours_is_reported_as_unclosed(tmp_path: Path, flags: list[str], use: str):
    code = f"""
        import warmfork
        def program():
            with warmfork.Template() as template:
                {use}
        program()
        template = warmfork.Template()
        child = template.start(int)
    """
    done = run_program(code, tmp_path, flags=flags)
    assert done.stderr == ""
