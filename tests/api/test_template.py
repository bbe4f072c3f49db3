"""The template door: results and failures of children, their handles, and the template's own life."""

from __future__ import annotations

import os
import select
import signal
import threading
import traceback
from pathlib import Path

import pytest

import warmfork
from tests import targets
from tests.running import run_meanwhile
from tests.signs import give, make_sign
from tests.support import wait_until


def test_a_result_is_what_the_function_returned(either: warmfork.Template):
    child = either.start(targets.give, ({"a": [1, None, "é"]},))
    assert child.result(10) == {"a": [1, None, "é"]}
    assert child.outcome == warmfork.Exited(0)


def test_keyword_arguments_arrive(template: warmfork.Template):
    assert template.start(targets.give, kwargs={"value": 7}).result(10) == 7


def test_a_result_may_be_asked_for_twice(template: warmfork.Template):
    child = template.start(targets.give, (3,))
    assert [child.result(10), child.result(10)] == [3, 3]


def test_a_large_result_arrives_whole(template: warmfork.Template):
    assert template.start(targets.give_bytes, (100_000_000,)).result(60) == bytes(100_000_000)


def test_a_large_argument_arrives_whole_and_start_does_not_wait_until_it_is_read(
    either: warmfork.Template, tmp_path: Path
):
    """Row 46: the stdlib's start() blocks on a pipe until the child has read all but 64 KiB."""
    with make_sign(tmp_path) as sign:
        child = either.start(targets.Late(sign.path, b"\xa5" * 100_000_000).give)
        # It can't have read its payload: unpickling it needs a word from us, which comes after start().
        give(sign.path)
        assert child.result(60) == b"\xa5" * 100_000_000


def test_an_exception_comes_back_as_itself_with_the_frames_of_the_child(either: warmfork.Template):
    child = either.start(targets.raise_error, (LookupError("nothing there"),))
    with pytest.raises(LookupError, match="nothing there") as caught:
        child.result(10)
    said = str(caught.value.__cause__)
    assert f"In {child.name} (pid {child.pid})" in said and f'File "{targets.__file__}", line' in said
    assert said.count("raise error") == said.count("Traceback") == 1 and "_tasks/call.py" not in said
    with pytest.raises(LookupError) as again:
        child.result()
    assert again.value is caught.value
    assert "".join(traceback.format_exception(again.value)).count("line") < 8, "it does not grow"
    assert child.outcome == warmfork.Exited(1)


def test_an_exception_whose_constructor_takes_two_arguments_comes_back_with_them(template: warmfork.Template):
    with pytest.raises(targets.Two) as caught:
        template.start(targets.raise_two).result(10)
    assert (caught.value.left, caught.value.right, str(caught.value)) == ("salt", "pepper", "salt and pepper")


def test_an_exception_brings_its_cause(template: warmfork.Template):
    with pytest.raises(targets.Two) as caught:
        template.start(targets.raise_from_cause).result(10)
    assert "KeyError: 'the cause'" in str(caught.value.__cause__)
    cause = caught.value.__cause__.__context__
    assert isinstance(cause, KeyError) and cause.args == ("the cause",)


def test_an_exception_that_can_not_be_pickled_comes_back_as_its_text(template: warmfork.Template):
    with pytest.raises(warmfork.ChildError) as caught:
        template.start(targets.raise_stubborn).result(10)
    text = str(caught.value)
    assert "with a part that can't be pickled" in text and "a Stubborn stays where it is" in text
    assert "raise_stubborn" in text


def test_a_result_that_can_not_be_pickled_is_an_error_that_says_so(template: warmfork.Template):
    child = template.start(targets.give_stubborn)
    with pytest.raises(TypeError, match="a Stubborn stays where it is"):
        child.result(10)
    assert child.outcome == warmfork.Exited(1)


def test_a_function_may_be_a_result(template: warmfork.Template):
    made = template.start(targets.give_function).result(10)
    assert made(2) == 3


def test_a_lambda_and_a_nested_function_start_by_value(template: warmfork.Template):
    offset = 40

    def add(number: int) -> int:
        return number + offset

    assert template.start(add, (2,)).result(10) == 42
    assert template.start(lambda: offset).result(10) == 40


@pytest.mark.parametrize(("argument", "code"), [(None, 0), (3, 3), (256 + 4, 4), (0, 0), (True, 1), (2**40, 255)])
def test_sys_exit_is_an_exit_code_and_no_result(template: warmfork.Template, argument: object, code: int):
    child = template.start(targets.raise_error, (SystemExit(argument),))
    with pytest.raises(warmfork.ChildError, match="ended without a result") as caught:
        child.result(10)
    assert child.outcome == caught.value.outcome == warmfork.Exited(code)


def test_the_message_of_sys_exit_goes_to_stderr(template: warmfork.Template, capfd: pytest.CaptureFixture[str]):
    child = template.start(targets.raise_error, (SystemExit("no such file"),))
    assert child.wait(10) == warmfork.Exited(1)
    assert capfd.readouterr().err == "no such file\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGSEGV])
def test_a_child_that_a_signal_ends_says_which(either: warmfork.Template, number: int):
    """Row 43: never an invented number."""
    child = either.start(targets.end_by, (number,))
    outcome = child.wait(10)
    assert isinstance(outcome, warmfork.Signaled) and outcome.signal == number
    with pytest.raises(warmfork.ChildError, match=f"killed by {signal.Signals(number).name}"):
        child.result(10)


def test_what_can_not_be_unpickled_in_the_child_is_told_with_its_traceback(either: warmfork.Template):
    child = either.start(targets.give, (targets.Explosive(),))
    with pytest.raises(warmfork.ChildError, match="on arrival") as caught:
        child.result(10)
    assert "explode" in caught.value.detail
    assert child.outcome == warmfork.Exited(1)


def test_env_replaces_the_environment_of_the_child_alone(either: warmfork.Template, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET_OF_TEST", "s")
    state = either.start(targets.see_state, env={"ONLY": "1"}).result(10)
    assert state["environ"] == {"ONLY": "1"}
    assert os.environ["SECRET_OF_TEST"] == "s"
    assert either.start(targets.see_state).result(10)["environ"]["SECRET_OF_TEST"] == "s"


def test_cwd_is_the_working_directory_of_the_child_alone(either: warmfork.Template, tmp_path: Path):
    here = os.getcwd()
    assert either.start(os.getcwd, cwd=tmp_path).result(10) == str(tmp_path)
    assert os.getcwd() == here
    assert either.start(os.getcwd).result(10) == here


def test_name_is_in_the_title_and_the_handle(either: warmfork.Template):
    child = either.start(targets.wait, name="Sleeper-9")
    title = wait_until(lambda: "Sleeper-9" in read_cmdline(child.pid) and read_cmdline(child.pid))
    assert title.startswith("warmfork: Sleeper-9 ") and child.name == "Sleeper-9" and "Sleeper-9" in repr(child)
    child.kill()
    child.wait(10)


def read_cmdline(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_wait_times_out_and_the_child_runs_on(template: warmfork.Template):
    child = template.start(targets.wait)
    for timeout in (0, 0.05):
        with pytest.raises(TimeoutError, match="still runs"):
            child.wait(timeout)
        with pytest.raises(TimeoutError, match="still runs"):
            child.result(timeout)
    assert child.outcome is None and "running" in repr(child)
    child.terminate()
    assert child.wait(10) == warmfork.Signaled(signal.SIGTERM)
    assert child.outcome == warmfork.Signaled(signal.SIGTERM)


def test_a_handle_works_in_select_and_is_readable_when_the_child_is_dead(template: warmfork.Template):
    child = template.start(targets.wait)
    assert select.select([child], [], [], 0)[0] == []
    child.kill()
    assert select.select([child], [], [], 10)[0] == [child]
    assert child.wait(0) == warmfork.Signaled(signal.SIGKILL)


def test_a_dead_child_takes_signals_silently(template: warmfork.Template):
    """Row 44: signals go to a pidfd, never to a later process with the pid."""
    child = template.start(targets.give, (1,))
    child.wait(10)
    child.kill()
    child.terminate()
    child.send_signal(signal.SIGUSR1)
    assert child.outcome == warmfork.Exited(0)


def test_usage_is_what_the_child_used(either: warmfork.Template):
    """Row 45."""
    child = either.start(targets.use_memory, (64 << 20,))
    assert child.result(30) == 64 << 20
    assert child.usage.peak_rss >= 64 << 20
    assert child.usage.user + child.usage.system > 0.005


def test_the_children_are_forks_of_the_template(template: warmfork.Template):
    pid, parent = template.start(targets.get_pids).result(10)
    assert parent == template.pid and pid not in (parent, os.getpid())


def test_starts_from_several_threads_at_once_all_succeed(either: warmfork.Template):
    given: dict[int, object] = {}

    def start_some(number: int) -> None:
        for index in range(5):
            key = 10 * number + index
            given[key] = either.start(targets.give, (key,)).result(30)

    threads = [threading.Thread(target=start_some, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert given == {10 * number + index: 10 * number + index for number in range(8) for index in range(5)}


def test_the_first_start_may_come_from_several_threads_at_once():
    with warmfork.Template(name="contested") as contested:
        barrier = threading.Barrier(6)
        parents = []

        def start_one() -> None:
            barrier.wait(30)
            parents.append(contested.start(os.getppid).result(30))

        threads = [threading.Thread(target=start_one) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert parents == [contested.pid] * 6


def test_two_hundred_children_live_at_once(either: warmfork.Template):
    """Row 41: one fd for each in the client, and the feed of those that still owe a result."""
    children = [either.start(targets.wait) for _ in range(200)]
    assert all(child.outcome is None for child in children)
    assert len({child.pid for child in children}) == 200
    for child in children:
        child.kill()
    assert {child.wait(30) for child in children} == {warmfork.Signaled(signal.SIGKILL)}


def test_stop_ends_the_children_and_the_template():
    template = warmfork.Template(name="to-be-stopped")
    child = template.start(targets.wait)
    pidfd = os.pidfd_open(template.pid)
    template.stop()
    try:
        assert child.outcome == warmfork.Signaled(signal.SIGTERM)
        assert select.select([pidfd], [], [], 0)[0] == [pidfd], "the template was alive when stop() returned"
    finally:
        os.close(pidfd)
    template.stop()  # again: nothing


def test_stop_kills_a_child_that_ignores_sigterm(tmp_path: Path):
    with make_sign(tmp_path) as sign, warmfork.Template() as template:
        child = template.start(targets.sign_and_ignore_sigterm, (sign.path,))
        sign.wait()
        template.stop()
        assert child.outcome == warmfork.Signaled(signal.SIGKILL)


def test_leaving_the_with_block_ends_the_children():
    with warmfork.Template() as template:
        child = template.start(targets.wait)
    assert child.outcome == warmfork.Signaled(signal.SIGTERM)


def test_a_template_is_not_started_before_it_is_needed_and_a_stopped_one_never_again():
    template = warmfork.Template(name="lazy")
    template.stop()
    for use in (lambda: template.start(targets.wait), template.wait_ready):
        with pytest.raises(ValueError, match="was stopped"):
            use()


def test_the_generation_counts_deaths():
    """Row 34: the next start has a new template."""
    with warmfork.Template() as template:
        assert (template.pid, template.generation) == (None, None), "asking starts nothing"
        template.wait_ready()
        first, generation = template.pid, template.generation
        os.kill(first, signal.SIGKILL)
        assert template.start(os.getppid).result(20) == template.pid != first
        assert (generation, template.generation) == (1, 2)


def test_wait_ready_starts_the_template_and_a_start_after_it_uses_that():
    with warmfork.Template(preload=["json"]) as template:
        template.wait_ready(30)
        assert template.start(os.getppid).result(20) == template.pid
        assert "json" in template.start(targets.get_module_names).result(20)


def test_two_templates_are_two_processes_with_their_own_preload():
    """Row 20."""
    with warmfork.Template(preload=["colorsys"]) as one, warmfork.Template(preload=["wave"]) as two:
        seen = [set(template.start(targets.get_module_names).result(20)) for template in (one, two)]
        assert one.pid != two.pid
        assert [("colorsys" in names, "wave" in names) for names in seen] == [(True, False), (False, True)]


def test_a_preloaded_function_was_called_once_and_its_effect_is_in_the_children():
    with warmfork.Template(preload=["tests.warm:fill"]) as template:
        assert template.start(targets.get_attribute, ("tests.warm", "filled_by")).result(20) == [template.pid]


def test_children_are_ended_when_their_program_is_killed(tmp_path: Path):
    code = """
        import os, signal, sys, warmfork
        from tests import targets
        template = warmfork.Template()
        template.start(targets.sign_and_wait, (sys.argv[1],))
        signal.pause()
    """
    with make_sign(tmp_path) as sign, run_meanwhile(code, tmp_path, sign.path) as program:
        pidfd = os.pidfd_open(int(sign.wait()[0]))
        program.kill()
        dead = select.select([pidfd], [], [], 10)[0]
        os.close(pidfd)
        assert dead
