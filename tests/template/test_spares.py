"""Spares: single-use children forked ahead, and that nothing of the moment they were forked shows (M12, M13, M25)."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import threading

import psutil
import pytest

import warmfork
from tests import warm
from tests.running import ROOT, run_meanwhile
from tests.support import doing_without, fork, run_program, wait_until
from warmfork._client.channel import Channel
from warmfork._idle.idle import TRAFFIC
from warmfork._machine import memory
from warmfork._template import forking
from warmfork._template.spares import SparePolicy
from warmfork._words import board


def list_spares(template: warmfork.Template) -> list[psutil.Process]:
    """The spares of a template that are ready: a spare says so when it has nothing more to do but wait."""
    found = []
    template.wait_ready()
    for child in psutil.Process(template.pid).children():
        try:
            if " ".join(child.cmdline()).startswith("warmfork: spare "):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def has_heard_of_spares(template: warmfork.Template) -> bool:
    """Does this client know of a spare? The template tells it a moment after it forked one."""
    channel = template._get_channel(20.0)
    channel.catch_up()
    return bool(channel.children.spares)


def have_a_spare(template: warmfork.Template) -> psutil.Process:
    """Start children until the template has forked one ahead."""

    def look() -> list[psutil.Process]:
        if not list_spares(template):
            template.start(os.getpid).result(10)
        channel = template._get_channel(20)
        channel.catch_up()  # its title is there before we have heard of it
        return list_spares(template) if channel.children.spares else []

    spare = wait_until(look, 20.0, "a spare")[0]
    channel = template._get_channel(20.0)

    def has_arrived() -> bool:
        """The template tells us of it a moment after it forked it."""
        channel.catch_up()
        return any(answer.record.pid == spare.pid for answer in channel.children.spares)

    wait_until(has_arrived, 20.0, "word of the spare")
    return spare


def test_a_spare_that_is_dead_before_its_client_says_that_it_took_it_is_replaced(monkeypatch):
    """M25: it was taken for one that left since nobody needs it, no other was forked, and it was not counted."""
    tell = Channel.tell_spare_taken

    def tell_late(channel: Channel, pid: int, kill: bool, name: str) -> None:
        wait_until(lambda: not psutil.pid_exists(pid), 20.0, "its end")
        tell(channel, pid, kill, name)

    monkeypatch.setattr(Channel, "tell_spare_taken", tell_late)
    with warmfork.Template(spares=1) as template:
        for _ in range(3):
            spare, before = have_a_spare(template), read_starts(template)
            assert template.start(os.getpid).result(10) == spare.pid
            wait_until(lambda: list_spares(template), 20.0, "another spare")
            assert read_starts(template) == before + 1


def read_starts(template: warmfork.Template) -> int:
    """How many children were started, by the template's board."""
    fd = template._get_channel(20).board.fileno()
    return board.Board(memory.map_readable(fd, board.SIZE)).read_starts()


def test_a_fixed_number_of_spares_is_kept_and_zero_means_none():
    assert SparePolicy(3).lacks()
    assert not SparePolicy(0).lacks()
    with pytest.raises(ValueError, match="spares"):
        warmfork.Template(spares=-3)
    with pytest.raises(ValueError, match="spares"):
        warmfork.get_context(spares="many")


def test_a_spare_becomes_the_next_child():
    with warmfork.Template(spares=1, name="one") as template:
        spare = have_a_spare(template)
        child = template.start(os.getpid)
        assert child.pid == spare.pid
        assert child.result(10) == spare.pid


def test_a_start_from_a_spare_has_the_state_of_its_own_moment(tmp_path, monkeypatch):
    """Rows 1 to 6: what changed after the spare was forked is what the child has."""
    with warmfork.Template(spares=1) as template:
        spare = have_a_spare(template)
        monkeypatch.setenv("WARMFORK_TEST_MOMENT", "now")
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.chdir(tmp_path)
        before = os.umask(0o027)
        try:
            child = template.start(tell_state)
        finally:
            os.umask(before)
        assert child.pid == spare.pid
        assert child.result(10) == ("now", None, str(tmp_path), 0o027)


def tell_state() -> tuple[str | None, str | None, str, int]:
    mask = os.umask(0o77)
    return os.environ.get("WARMFORK_TEST_MOMENT"), os.environ.get("HOME"), os.getcwd(), mask


def test_a_killed_spare_costs_no_start():
    with warmfork.Template(spares=1) as template:
        spare = have_a_spare(template)
        pidfd = os.pidfd_open(spare.pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert select.select([pidfd], [], [], 10)[0]
        os.close(pidfd)
        assert template.start(sum, ([1, 2],)).result(10) == 3


def test_a_spare_that_was_learnt_leaves_when_nobody_needs_it():
    with warmfork.Template(preload=["tests.warm:shorten_lives"], spares="auto") as template:
        spare = have_a_spare(template)
        wait_until(lambda: not list_spares(template), 20.0, "its end")
        # Who is about to end has no command line any longer, and is not listed.
        wait_until(lambda: not psutil.pid_exists(spare.pid) or spare.status() == psutil.STATUS_ZOMBIE)
        assert template.start(sum, ([1, 2],)).result(10) == 3


def test_a_start_that_meets_a_leaving_spare_is_served_all_the_same():
    """M25: who takes a spare at the moment it leaves gets that one or another, and loses nothing."""
    with warmfork.Template(preload=["tests.warm:shorten_lives"], spares="auto") as template:
        for _ in range(3):
            have_a_spare(template)
            for pause in (0.185, 0.195, 0.2, 0.205, 0.215):
                select.select((), (), (), pause)
                assert template.start(sum, ([1, 2],)).result(10) == 3


def test_a_spare_has_most_of_its_page_faults_before_it_is_taken():
    """The throw-away child that finds out which goes all the way that a spare goes: 57 faults were left when it did not
    come to its end, and 12 are."""

    def count(template: warmfork.Template, faults: list[int]) -> float:
        """Give the median of the last six starts, once it is so many more."""
        for _ in range(6):
            faults.append(template.start(warm.count_faults).result(20))
            wait_until(lambda: has_heard_of_spares(template))
        return sorted(faults[-6:])[3] if min(faults[-6:]) >= 0 else float("inf")  # these were spares

    with doing_without("pretouch"), warmfork.Template(preload=["tests.warm:note_faults"], spares=1) as template:
        faults: list[int] = []
        untouched = [count(template, faults) for _ in range((TRAFFIC + 12) // 6)][-1]
    assert untouched < float("inf")
    with warmfork.Template(preload=["tests.warm:note_faults"], spares=1) as template:
        # A busy machine has it wait for its idle moment.
        wait_until(lambda: count(template, []) < untouched / 4, 20)


def test_what_can_not_be_pickled_costs_no_spare():
    with warmfork.Template(spares=1) as template:
        spare = have_a_spare(template)
        with pytest.raises(TypeError):
            template.start(print, (threading.Lock(),))
        assert template.start(os.getpid).result(10) == spare.pid


def test_a_signal_of_the_client_right_after_a_start_from_a_spare_is_taken():
    with warmfork.Template(spares=1) as template:
        have_a_spare(template)
        child = template.start(signal.pause)
        child.terminate()
        assert child.wait(10) == warmfork.Signaled(signal.SIGTERM)


def test_a_signal_to_the_group_while_a_spare_waits_does_not_reach_the_next_child(tmp_path):
    """^C, and what a program sends to its own group and survives (M12)."""
    code = """
        import os, signal, warmfork
        from tests.template.test_spares import have_a_spare
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: None)
        with warmfork.Template(spares=1) as template:
            for number in (signal.SIGINT, signal.SIGTERM):
                spare = have_a_spare(template)
                assert os.getpgid(spare.pid) == spare.pid != os.getpgrp()
                os.killpg(0, number)
                child = template.start(os.getpgrp)
                assert child.pid == spare.pid
                assert child.result(10) == os.getpgrp()
    """
    run_program(code, tmp_path, env={"PYTHONPATH": ROOT}, start_new_session=True)


def test_a_spare_is_never_in_the_group_of_its_template_not_even_for_a_moment(tmp_path):
    """What is sent to the group between its fork and its own first call would wait for the child that it becomes."""
    group = os.getpgrp()
    reader, writer = os.pipe()

    def look() -> None:
        os.write(writer, b"%d %d" % (os.getpgrp(), os.getpid()))

    pid = fork()
    if pid == 0:
        os.register_at_fork(after_in_child=look)
        child, *_ = forking.fork_child((reader, writer), apart=True)
        if child == 0:
            os.write(writer, b" %d" % os.getpgrp())
            os._exit(0)
        os.waitpid(child, 0)
        os._exit(os.getpgrp() != group)
    assert os.waitpid(pid, 0)[1] == 0, "the template is back in its group"
    at_first, me, then = map(int, os.read(reader, 100).split())
    os.close(reader)
    os.close(writer)
    assert at_first == pid, "the template was in a group of its own at the fork"
    assert then == me


def test_where_the_group_of_the_program_is_in_another_pid_namespace_no_process_leaves_it(tmp_path):
    """As in a sandbox without a session of its own. Nobody can join it there: who has left it does not come back."""
    probe = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*probe, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespace can be made here")
    code = """
        import logging, os, warmfork
        from warmfork._child import ending
        logging.basicConfig(level=logging.INFO, format="%(message)s")

        def change_group():
            os.setpgid(0, 0)
            return ending.may_outlive()

        if __name__ == "__main__":
            assert os.getpgrp() == 0
            with warmfork.Template(spares=2) as template:
                for _ in range(3):
                    assert template.start(os.getpgrp).result(20) == 0
                assert os.getpgid(template.pid) == 0
                assert template.start(change_group).result(20) is False
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(code))
    done = subprocess.run([*probe, sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("without spares: the process group") == 1, done.stderr


def test_a_signal_of_anybody_right_after_a_start_from_a_spare_is_taken():
    with warmfork.Template(spares=1) as template:
        for _ in range(3):
            spare = have_a_spare(template)
            child = template.start(signal.pause)
            assert child.pid == spare.pid
            subprocess.run(["kill", "-TERM", str(child.pid)], check=True)  # another process than its client
            assert child.wait(10) == warmfork.Signaled(signal.SIGTERM)


def test_the_death_of_a_client_ends_its_spares(tmp_path):
    done = run_program(
        """
        import os, signal, warmfork
        template = warmfork.Template(spares=2)
        template.start(sum, ([1, 2],)).result()
        template.start(sum, ([1, 2],)).result()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
        expect=-signal.SIGKILL,
    )
    assert done.stderr == ""


def have_a_leaving_spare(template: warmfork.Template) -> psutil.Process:
    """Give a spare that has decided to leave, and can still be sent something."""
    spare = have_a_spare(template)
    wait_until(lambda: spare.name() == "leaving", 10.0, "the end of its life")
    return spare


@pytest.mark.parametrize("size", [10, 200_000, 3_000_000])
def test_a_spare_that_leaves_while_it_is_fed_is_no_child_that_ended_well(tmp_path, size):
    """It takes what was sent before it says that it leaves, and that may be the half."""
    sign = tmp_path / "ran"
    with warmfork.Template(preload=["tests.warm:leave_slowly"], spares="auto") as template:
        for _ in range(2):
            have_a_leaving_spare(template)
            child = template.start(write_length, (str(sign), bytearray(size)))
            assert child.wait(20) == warmfork.Exited(0)
            assert sign.read_text() == str(size)
            sign.unlink()


def write_length(path: str, data: bytearray) -> None:
    with open(path, "w") as file:
        file.write(str(len(data)))


def test_a_child_that_ends_before_it_was_fed_is_an_error_and_no_success():
    with warmfork.Template(preload=["tests.warm:end_before_the_feed"], spares=0) as template:
        template.wait_ready()
        with pytest.raises(warmfork.StartError, match="ended before it had taken what it was to do"):
            template.start(write_length, ("", bytearray(3_000_000)))


def test_a_spare_that_was_handed_over_ends_with_its_client_though_the_template_was_never_told(tmp_path):
    """The template has another client, and so lives on; the one that dies has nothing else that ends with it."""
    code = """
        import os, signal, sys, time, warmfork
        from warmfork._client import channel

        context = warmfork.get_context(spares=2)

        def die(self, pid, kill, name):
            time.sleep(0.3)  # the child has read its feed by then
            os.kill(os.getpid(), signal.SIGKILL)

        def stay(writer):
            other = context.Process(target=os.getpid)
            other.start()
            other.join()
            os.write(writer.fileno(), b".")
            os.read(0 if sys.stdin else writer.fileno(), 1)
            time.sleep(60)

        if __name__ == "__main__":
            reader, writer = context.Pipe(duplex=False)
            stays = context.Process(target=stay, args=(writer,))
            stays.start()
            os.read(reader.fileno(), 1)
            while not context._prepared.get_channel().children.spares:
                context._prepared.get_channel().catch_up()
            channel.Channel.tell_spare_taken = die
            spare = context._prepared.get_channel().children.spares[0].record.pid
            print(stays.pid, spare, flush=True)
            context.Process(target=time.sleep, args=(60,), daemon=True).start()
    """
    with run_meanwhile(code, tmp_path) as program:
        stays, spare = map(int, program.stdout.readline().split())
        watched = os.pidfd_open(spare)
        try:
            assert program.wait(20) == -signal.SIGKILL
            assert select.select([watched], [], [], 10)[0], "it lives on without its client"
        finally:
            os.close(watched)
            os.kill(stays, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP, signal.SIGRTMIN])
def test_a_spare_that_waits_dies_of_a_signal_and_the_next_start_has_another_process(number):
    """It was taken by the child that the spare became: a start that nobody had done anything to was killed."""
    with warmfork.Template(preload=["tests.warm:handle_signals"], spares=1) as template:
        spare = have_a_spare(template)
        pidfd = os.pidfd_open(spare.pid)
        os.kill(spare.pid, number)
        assert select.select([pidfd], [], [], 10)[0], "it has not taken it"
        os.close(pidfd)
        child = template.start(os.getpid)
        assert child.result(20) == child.pid != spare.pid
        assert child.wait(20) == warmfork.Exited(0)


def test_a_spare_that_waits_stays_through_what_ends_nobody():
    with warmfork.Template(spares=1) as template:
        spare = have_a_spare(template)
        for number in (signal.SIGWINCH, signal.SIGURG, signal.SIGCHLD):
            os.kill(spare.pid, number)
        os.kill(spare.pid, signal.SIGTSTP)
        wait_until(lambda: spare.status() == psutil.STATUS_STOPPED, 10.0, "its stop")
        os.kill(spare.pid, signal.SIGCONT)
        wait_until(lambda: spare.status() == psutil.STATUS_SLEEPING, 10.0, "its going on")
        assert template.start(os.getpid).result(20) == spare.pid
