"""Signal handlers in the middle of a start: that start processes themselves, and that raise, wherever a handler can."""

from __future__ import annotations

from pathlib import Path

import pytest

import warmfork
from tests.running import ROOT
from tests.support import run_program
from warmfork._client import channel as channel_module
from warmfork._client.channel import Channel

ENV = {"PYTHONPATH": ROOT}


@pytest.mark.parametrize("spares", [0, 2])
def test_a_signal_handler_may_start_a_process_while_a_start_is_under_way(tmp_path: Path, spares: int):
    """With a lock that is not re-entrant it waits for itself, and with one poll object for all it raises."""
    code = """
        import os, signal, sys, warmfork
        from tests import targets

        with warmfork.Template(preload=["tests.targets"], spares=int(sys.argv[1])) as template:
            template.wait_ready()
            given = []

            def start(*_):
                child = template.start(targets.give, (len(given),))
                given.append((child.result(20), child.outcome, child.usage is not None))
                template.start(targets.give, (0,)).wait(20)

            signal.signal(signal.SIGALRM, start)
            number = 0
            while len(given) < 60:
                signal.setitimer(signal.ITIMER_REAL, 0.00003 * (number % 40 + 1))
                child = template.start(targets.give, (number,))
                assert child.result(20) == number
                assert child.outcome == warmfork.Exited(0) and child.usage is not None
                number += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert [value for value, _, _ in given] == list(range(len(given)))
            assert {(outcome, used) for _, outcome, used in given} == {(warmfork.Exited(0), True)}
            assert template.generation == 1
    """
    run_program(code, tmp_path, str(spares), env=ENV)


def test_a_signal_handler_may_start_a_process_of_multiprocessing_while_one_is_pickled(tmp_path: Path):
    code = """
        import os, signal, sys, warmfork
        from tests import targets

        class Interrupted:
            def __reduce__(self):
                os.kill(os.getpid(), signal.SIGUSR1)
                return str, ("interrupted",)

        context = warmfork.get_context()

        def start(*_):
            inner = context.Process(target=targets.use_lock, args=(context.Lock(),))
            inner.start()
            inner.join(20)
            codes.append(inner.exitcode)

        if __name__ == "__main__":
            codes = []
            signal.signal(signal.SIGUSR1, start)
            outer = context.Process(target=targets.use_lock, args=(context.Lock(), Interrupted(), context.Lock()))
            outer.start()
            outer.join(20)
            print(outer.exitcode, codes)
    """
    done = run_program(code, tmp_path, env=ENV)
    assert done.stdout.split() == ["0", "[0]"], done.stderr
    assert "spawning" not in done.stderr


@pytest.mark.parametrize("spares", [0, 1])
def test_wherever_a_signal_handler_raises_in_a_start_no_child_stays_and_no_fd(tmp_path: Path, spares: int):
    """Python runs handlers when a function begins and when a call of C has returned. A profile function is called at
    these places too, and may raise: here at the first, the second, the third ... of a start, until it runs through."""
    code = """
        import gc, os, signal, sys, warmfork
        from pathlib import Path
        from tests import targets
        from tests.support import wait_until

        class Raised(Exception): pass

        OURS = ("/warmfork/_client/", "/warmfork/_words/", "/warmfork/_machine/")

        class Raiser:
            def __init__(self, at):
                self.left = at

            def __call__(self, frame, event, argument):
                if event not in ("call", "c_return") or not any(part in frame.f_code.co_filename for part in OURS):
                    return
                self.left -= 1
                if self.left > 0:
                    return
                while frame is not None:
                    if frame.f_code.co_name == "__del__":
                        return  # what is raised there is told, and goes no further
                    frame = frame.f_back
                sys.setprofile(None)
                raise Raised

        def list_fds():
            gc.collect()
            return sorted(os.readlink(f"/proc/self/fd/{fd}").partition(":")[0] for fd in os.listdir("/proc/self/fd")
                          if os.path.exists(f"/proc/self/fd/{fd}"))

        def count_children(pid):
            return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

        def has_spare():
            # One that was let go of has a successor after the next start, and not before.
            return count_children(pid) == spares or template.start(targets.give, (0,)).result(20)

        spares = int(sys.argv[1])
        with warmfork.Template(preload=["tests.targets"], spares=spares) as template:
            for _ in range(5):
                assert template.start(targets.give, (0,)).result(20) == 0
            pid = template.pid
            wait_until(lambda: count_children(pid) == spares)
            before = list_fds()
            os.umask(0o27)
            raised, at = 0, 0
            while True:
                at += 1
                child = None
                if spares:
                    wait_until(has_spare, what=f"{at}: a spare")
                sys.setprofile(Raiser(at))
                try:
                    child = template.start(targets.give, (at,))
                except Raised:
                    raised += 1
                else:
                    sys.setprofile(None)
                    assert child.result(20) == at
                    break
                finally:
                    sys.setprofile(None)
                if at % 7 == 0:
                    assert template.start(targets.give, (-at,)).result(20) == -at
            del child
            assert os.umask(0o27) == 0o27
            assert template.start(targets.give, (0,)).result(20) == 0
            wait_until(has_spare, what="all children gone")
            # A spare may have been heard of, or not yet: a pidfd and a socket.
            assert abs(len(list_fds()) - len(before)) in (0, 2), (list_fds(), before)
            assert template.generation == 1
            print(raised)
    """
    done = run_program(code, tmp_path, str(spares), env=ENV)
    assert int(done.stdout) > 100
    assert "Exception ignored" not in done.stderr


def test_a_start_that_is_interrupted_before_it_has_asked_waits_for_nobody(monkeypatch: pytest.MonkeyPatch):
    """It was not to be told from one whose child is on its way, and each ^C there took a second."""
    with warmfork.Template(spares=0) as template:
        assert template.start(sum, ([1, 2],)).result(20) == 3
        ended = []
        with monkeypatch.context() as patch:
            patch.setattr(
                Channel, "forget_request", lambda channel, number: ended.append(channel.children.waiting.copy())
            )
            patch.setattr(channel_module.wire, "encode", interrupt)
            with pytest.raises(KeyboardInterrupt):
                template.start(sum, ([1, 2],))
        assert ended == [set()]
        assert template.start(sum, ([1, 2],)).result(20) == 3


def interrupt(*_: object) -> bytes:
    """As ^C would."""
    raise KeyboardInterrupt
