"""Many at once: all or none, from threads and nested clients in parallel, and no dearer where thousands live."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import process as process_
from pathlib import Path

import pytest

import warmfork
from tests import crowd, targets
from tests.signs import make_sign
from tests.support import wait_until
from warmfork._client.channel import Channel
from warmfork._client.client import get_client
from warmfork.api import many


@pytest.fixture
def context() -> Iterator[warmfork.Context]:
    made = warmfork.get_context(preload=["tests.crowd", "tests.targets"], spares=0)
    yield made
    made.stop_template()


def list_children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def read_lines(path: Path) -> list[str]:
    return sorted(path.read_text().split()) if path.exists() else []


def make_all(context: warmfork.Context, path: Path, count: int) -> list[process_.BaseProcess]:
    return [context.Process(target=crowd.exit_with, args=(str(path), n), name=f"p-{n}") for n in range(count)]


def join_all(processes: list[process_.BaseProcess]) -> list[int | None]:
    for process in processes:
        process.join(60)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.close()
    return codes


@pytest.mark.parametrize("wave", [200, 4], ids=["one wave", "waves of 4"])
def test_all_are_started_and_each_is_itself(
    context: warmfork.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wave: int
):
    monkeypatch.setattr(many, "WAVE", wave)
    processes = make_all(context, tmp_path / "lines", 10)
    context.start_many(processes)
    assert all(process.is_alive() or process.exitcode is not None for process in processes)
    assert len({process.pid for process in processes}) == 10
    assert join_all(processes) == list(range(10))
    assert read_lines(tmp_path / "lines") == sorted(map(str, range(10)))


def test_all_are_asked_for_before_an_answer_is_waited_for(
    context: warmfork.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    done = []
    for name in ("request", "wait_answer"):
        function = getattr(Channel, name)
        monkeypatch.setattr(
            Channel, name, lambda *rest, name=name, function=function: done.append(name) or function(*rest)
        )
    processes = make_all(context, tmp_path / "lines", 5)
    context.start_many(iter(processes))
    assert done == ["request"] * 5 + ["wait_answer"] * 5
    assert join_all(processes) == list(range(5))


def test_daemons_are_ended_with_the_program_and_others_not(context: warmfork.Context, tmp_path: Path):
    with make_sign(tmp_path) as sign:
        processes = [
            context.Process(target=targets.sign_and_wait, args=(sign.path,), daemon=daemon) for daemon in (True, False)
        ]
        context.start_many(processes)
        sign.wait(2)
        assert [process.daemon for process in process_.active_children() if process in processes].count(True) == 1
        for process in processes:
            process.kill()
        assert join_all(processes) == [-signal.SIGKILL] * 2


def test_none_is_started_where_one_can_not_be_pickled_and_all_can_be_started_again(
    context: warmfork.Context, tmp_path: Path
):
    context.wait_ready()
    processes = make_all(context, tmp_path / "lines", 5)
    processes[3]._args = (targets.Stubborn(),)
    with pytest.raises(TypeError, match="a Stubborn stays where it is"):
        context.start_many(processes)
    wait_until(lambda: list_children(context.template_pid) == [])  # they are dead, and reaped in a moment
    assert all(process.pid is None for process in processes)
    assert not (tmp_path / "lines").exists()
    processes[3]._args = (str(tmp_path / "lines"), 3)
    context.start_many(processes)
    assert join_all(processes) == list(range(5))


@pytest.mark.parametrize("wave", [200, 2], ids=["one wave", "waves of 2"])
def test_none_is_left_where_the_kernel_refuses_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wave: int):
    """Rows 29, 30. What a wave before it has started is ended; in its own wave nothing has run."""
    monkeypatch.setattr(many, "WAVE", wave)
    context = warmfork.get_context(preload=["tests.crowd:refuse_the_fourth_fork"], spares=0)
    context.wait_ready()
    processes = make_all(context, tmp_path / "lines", 6)
    with pytest.raises(warmfork.StartError, match="fork: Resource temporarily unavailable"):
        context.start_many(processes)
    wait_until(lambda: list_children(context.template_pid) == [])
    assert set(read_lines(tmp_path / "lines")) <= ({"0", "1"} if wave == 2 else set())
    (tmp_path / "lines").unlink(missing_ok=True)
    context.start_many(processes)
    assert join_all(processes) == list(range(6))
    context.stop_template()


def test_a_template_that_dies_under_it_is_replaced_and_each_runs_once(
    context: warmfork.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """M2: nothing was fed, so all can be asked for again."""
    context.wait_ready()
    wait, killed = Channel.wait_answer, []

    def kill_first(channel: Channel, request: int, deadline: float | None) -> object:
        if not killed:
            killed.append(channel.pid)
            os.kill(channel.pid, signal.SIGKILL)
        return wait(channel, request, deadline)

    monkeypatch.setattr(Channel, "wait_answer", kill_first)
    processes = make_all(context, tmp_path / "lines", 8)
    context.start_many(processes)
    assert join_all(processes) == list(range(8))
    assert read_lines(tmp_path / "lines") == sorted(map(str, range(8)))
    assert context.template_pid not in killed


def test_an_interrupt_leaves_none(context: warmfork.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    context.wait_ready()
    wait, waited = Channel.wait_answer, []

    def interrupt(channel: Channel, request: int, deadline: float | None) -> object:
        waited.append(request)
        if len(waited) == 3:
            raise KeyboardInterrupt
        return wait(channel, request, deadline)

    monkeypatch.setattr(Channel, "wait_answer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        context.start_many(make_all(context, tmp_path / "lines", 6))
    monkeypatch.undo()
    channel = get_client().get_channel(context._get_prepared().get_spec(), 10)
    wait_until(lambda: channel.catch_up() or list_children(context.template_pid) == [])
    assert not channel.children.answers and not channel.children.waiting
    assert not (tmp_path / "lines").exists()


def test_what_can_not_be_started_is_refused_and_nothing_is(context: warmfork.Context, tmp_path: Path):
    class Own(context.Process):  # type: ignore[name-defined,misc]
        def start(self) -> None:
            super().start()

    good = context.Process(target=targets.give, args=(1,))
    other = warmfork.get_context(name="other").Process(target=targets.give)
    for bad, error, text in (
        (other, ValueError, "is no process of this context"),
        (Own(target=targets.give), TypeError, "Own has a start\\(\\) of its own"),
        (good, AssertionError, "cannot start a process twice"),
    ):
        with pytest.raises(error, match=text):
            context.start_many([good, bad])
    context.start_many([])
    assert good.pid is None and context.template_pid is None
    context.start_many([good])
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        context.start_many([good])
    assert join_all([good]) == [0]


def test_a_template_starts_many_and_gives_their_handles_in_order(tmp_path: Path):
    with warmfork.Template(preload=["tests.crowd"], spares=0) as template:
        path = str(tmp_path / "lines")
        children = template.start_many(crowd.append_and_give, [(path, n) for n in range(7)], name="seven")
        assert [child.result(30) for child in children] == list(range(7))
        assert [child.name for child in children] == [f"seven-{n}" for n in range(1, 8)]
        assert template.start_many(print, []) == []
        with pytest.raises(TypeError, match="a Stubborn stays where it is"):
            template.start_many(targets.give, [(1,), (targets.Stubborn(),)])
        wait_until(lambda: list_children(template.pid) == [])
        (variable,) = template.start_many(os.getenv, [("ONLY",)], env={"ONLY": "this"}, cwd=tmp_path)
        assert variable.result(30) == "this"


# -- in parallel


def test_eight_threads_start_at_once_and_none_takes_another_s_child():
    with warmfork.Template(preload=["tests.targets"]) as template:
        found: list[list[object]] = [[] for _ in range(8)]

        def start_some(number: int) -> None:
            for turn in range(12):
                child = template.start(targets.give, ((number, turn),))
                found[number].append(child.result(60))
            many_children = template.start_many(targets.give, [((number, turn),) for turn in range(12, 20)])
            found[number] += [child.result(60) for child in many_children]

        threads = [threading.Thread(target=start_some, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert found == [[(number, turn) for turn in range(20)] for number in range(8)]
        assert template.generation == 1


def test_nested_clients_start_at_once(context: warmfork.Context, tmp_path: Path):
    """Row 37: they all come from the one template."""
    path = tmp_path / "lines"
    processes = [context.Process(target=crowd.start_more, args=(context, str(path), n, 4)) for n in range(6)]
    context.start_many(processes)
    assert join_all(processes) == [0] * 6
    assert read_lines(path) == sorted(f"{n}.{more}" for n in range(6) for more in range(4))


# -- many alive


def test_a_child_costs_its_client_one_fd_and_its_template_none(context: warmfork.Context, tmp_path: Path):
    with make_sign(tmp_path) as sign:
        make = lambda: context.Process(target=targets.sign_and_wait, args=(sign.path,))  # noqa: E731
        processes = [make()]
        processes[0].start()
        sign.wait(1)

        def count(pid: int) -> int:
            get_client().tidy()
            return len(os.listdir(f"/proc/{pid}/fd"))

        mine, theirs = count(os.getpid()), count(context.template_pid)
        processes += [make() for _ in range(40)]
        context.start_many(processes[1:])
        sign.wait(40)
        wait_until(lambda: count(os.getpid()) == mine + 40)
        wait_until(lambda: count(context.template_pid) <= theirs)  # it has some more while it rehearses
        for process in processes:
            process.kill()
        join_all(processes)


def test_a_start_does_not_look_at_every_process_that_lives(
    context: warmfork.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with make_sign(tmp_path) as sign:
        processes = [context.Process(target=targets.sign_and_wait, args=(sign.path,)) for _ in range(40)]
        context.start_many(processes)
        looks = []
        cleanup = process_._cleanup
        monkeypatch.setattr(process_, "_cleanup", lambda: looks.append(len(process_._children)) or cleanup())
        for _ in range(20):
            process = context.Process(target=targets.give, args=(1,))
            process.start()
            assert join_all([process]) == [0]
        assert len(looks) <= 1
        for process in processes:
            process.kill()
        join_all(processes)


def test_processes_that_nobody_joins_are_let_go_of(context: warmfork.Context, monkeypatch: pytest.MonkeyPatch):
    """Their handles would otherwise stay, with an fd each."""
    monkeypatch.setattr("warmfork.mp.shared.process._looked_at", 0)
    for _ in range(40):
        process = context.Process(target=targets.give, args=(1,))
        process.start()
        process._popen.child.wait(20)
    assert len(process_._children) < 10
    del process
    assert len(process_.active_children()) == 0


def test_handles_of_the_dead_are_let_go_of_while_many_live(tmp_path: Path):
    with make_sign(tmp_path) as sign, warmfork.Template(preload=["tests.targets"], spares=0) as template:
        living = template.start_many(targets.sign_and_wait, [(sign.path,)] * 20)
        sign.wait(20)
        for _ in range(30):
            template.start(targets.give, (1,)).result(20)
        assert len(template._children) < 20 + 10
        assert {child.pid for child in living} <= {child.pid for child in template._children}
