"""Sessions: one child, many snippets."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import threading

import pytest

import warmfork
from tests.support import run_forked
from warmfork._machine import pids


def test_variables_live_on_and_the_last_expressions_value_comes_back(template):
    with template.session() as session:
        assert session.run("x = 20").result is None
        assert session.run("x + 1").result == 21
        assert session.run("def f(): return x\nx = 3").result is None
        assert session.run("f()").result == 3
        assert session.run("x").outcome is None


def test_each_snippet_has_its_own_output(template):
    with template.session() as session:
        assert session.run("print('one', end='')").stdout == "one"
        done = session.run("import sys; print('two', file=sys.stderr)")
        assert (done.stdout, done.stderr) == ("", "two\n")


def test_no_stream_is_read_of_a_snippet_that_writes_nothing(template, monkeypatch):
    """To find a stream empty by reading it took a sixth of a round trip."""
    read, reads = os.read, []
    with template.session() as session:
        session.run("x = 1")
        monkeypatch.setattr(os, "read", lambda *given: reads.append(given) or read(*given))
        session.run("x")
        assert not reads
        assert session.run("print('seen')").stdout == "seen\n"
        assert reads
    monkeypatch.undo()


def test_output_streams_while_it_runs(template):
    """Code that never ends by itself is interrupted when its first line is seen."""
    with template.session() as session:
        seen = []

        def answer(name, data):
            seen.append(data)
            if "\n" in data:
                session.interrupt()

        done = session.run("print('up')\nwhile True: pass", on_output=answer)
        assert "".join(seen) == "up\n"
        assert done.error.type == "KeyboardInterrupt"


def test_an_error_is_told_and_the_session_lives(template):
    with template.session() as session:
        done = session.run("y = 1\ny / 0")
        assert done.error.type == "ZeroDivisionError"
        assert "    y / 0" in done.error.traceback
        with pytest.raises(warmfork.ResultError, match="division by zero"):
            _ = done.result
        assert session.run("y").result == 1
        assert session.run("def f(:").error.type == "SyntaxError"
        with pytest.raises(warmfork.RunError):
            session.run("nothing", check=True)
        assert session.run("y").result == 1


def test_an_interrupt_ends_the_snippet_and_not_the_session(template):
    with template.session() as session:
        session.run("z = 5")
        done = session.run("print('up')\nwhile True: pass", on_output=lambda *_: session.interrupt())
        assert done.error.type == "KeyboardInterrupt"
        assert session.run("z").result == 5


def test_an_interrupt_that_comes_between_two_snippets_hits_neither(template):
    """It was meant for what ran before, and is dropped."""
    with template.session() as session:
        session.run("1")
        watched = session._watched
        watched.child.send_signal(signal.SIGINT)
        assert session.run("2").result == 2
        session.interrupt()
        assert session.run("3").result == 3


def test_from_another_thread_an_interrupt_works_too(template):
    with template.session() as session:
        seen = threading.Event()
        results = []
        thread = threading.Thread(
            target=lambda: results.append(session.run("print('up')\nwhile True: pass", on_output=lambda *_: seen.set()))
        )
        thread.start()
        assert seen.wait(20)
        session.interrupt()
        thread.join(20)
        assert results[0].error.type == "KeyboardInterrupt"


def test_a_reset_gives_a_fresh_child(template):
    with template.session() as session:
        session.run("x = 1")
        before = session.pid
        session.reset()
        assert session.pid != before
        assert session.run("x").error.type == "NameError"


def test_limits_are_each_snippets_own_and_end_the_session(template):
    """A snippet is not charged for the processor time of those before it (N36b)."""
    with template.session() as session:
        busy = "import time\nuntil = time.process_time() + {}\nwhile time.process_time() < until: pass"
        session.run(busy.format(0.4), cpu_limit=5)
        assert session.run(busy.format(0.1), cpu_limit=0.3).ok()
        with pytest.raises(warmfork.TimeLimitExceeded) as caught:
            session.run("print('partly')\nwhile True: pass", timeout=0.2)
        assert caught.value.completed.stdout == "partly\n"
        assert not session.is_alive()
        with pytest.raises(warmfork.SessionEnded, match=r"reset\(\)"):
            session.run("1")
        session.reset()
        with pytest.raises(warmfork.LimitExceeded, match="memory"):
            session.run("held = []\nwhile True: held.append(b'x' * 1_000_000)", memory_limit=50 << 20)
        session.reset()
        with pytest.raises(warmfork.LimitExceeded, match="output"):
            session.run("while True: print('x' * 100)", output_limit=5000)
        session.reset()
        assert session.run("1").result == 1


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("import os; os._exit(3)", warmfork.Exited(3)),
        ("raise SystemExit(4)", warmfork.Exited(4)),
        ("import os; os.kill(os.getpid(), 9)", warmfork.Signaled(9)),
    ],
)
def test_the_childs_end_is_the_outcome_of_the_snippet_that_ended_it(template, code, outcome):
    with template.session() as session:
        done = session.run(code)
        assert done.outcome == outcome
        said = re.escape(f"this session's child has ended: {done.outcome}; reset() starts another")
        with pytest.raises(warmfork.SessionEnded, match=said):
            session.run("1")
        with pytest.raises(warmfork.SessionEnded, match=said):
            _ = session.pid


def test_a_session_whose_code_was_broken_off_says_so(template):
    async def main():
        seen = asyncio.Event()
        async with template.session() as session:
            task = asyncio.create_task(session.arun("print(1)\nwhile True: pass", on_output=lambda *_: seen.set()))
            await seen.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(warmfork.SessionEnded, match=r"its last code was broken off; areset\(\)"):
                await session.arun("1")

    asyncio.run(main())


def test_large_code_and_large_results_go_both_ways(template):
    with template.session() as session:
        assert session.run("x = '" + "é" * 3_000_000 + "'\nlen(x)").result == 3_000_000
        assert len(session.run("x").result) == 3_000_000
        assert session.run("b'x' * (100 << 20)").outcome is None
        with pytest.raises(warmfork.ResultError, match="too many"):
            _ = session.run("b'x' * (100 << 20)").result


def test_a_reply_with_another_number_is_not_taken_for_this_ones(template):
    """N58: a snippet may write to the stream itself; what it says there of itself is a claim, and of others nothing."""
    forged = """
import os, socket
from warmfork._tasks.frames import Reply
for number in map(int, os.listdir("/proc/self/fd")):
    try:
        s = socket.socket(fileno=os.dup(number))
        if s.type == socket.SOCK_STREAM:
            s.sendall(Reply(7, b"D", b"T", None).encode())
    except OSError:
        pass
'mine'
"""
    with template.session() as session:
        assert session.run(forged).result == "mine"
        assert session.run("'next'").result == "next"


def test_a_session_that_is_dropped_ends(template):
    session = template.session().__enter__()
    pid = session.pid
    del session
    gc.collect()
    assert pids.read_stat(pid)[:1] in ([], [b"Z"])


def test_a_forked_copy_of_the_program_does_not_end_the_originals_session(template):
    with template.session() as session:
        session.run("x = 1")
        run_forked(session.close)
        assert session.run("x").result == 1


def test_after_its_block_a_session_runs_nothing(template):
    with template.session() as session:
        pass
    with pytest.raises(warmfork.SessionEnded):
        session.run("1")
    with pytest.raises(TypeError, match="no option"):
        template.session(colour=1)


def test_a_session_works_with_async_with(template):
    async def main():
        async with template.session() as session:
            await session.arun("x = 1")
            assert (await session.arun("x + 1")).result == 2
            task = asyncio.create_task(session.arun("print(1)\nwhile True: pass", on_output=lambda *_: seen.set()))
            seen = asyncio.Event()
            await seen.wait()
            with pytest.raises(RuntimeError, match="another piece of code"):
                await session.arun("1")
            session.interrupt()
            assert (await task).error.type == "KeyboardInterrupt"
            with pytest.raises(warmfork.TimeLimitExceeded):
                await session.arun("while True: pass", timeout=0.2)
            with pytest.raises(warmfork.SessionEnded, match=r"child has ended: killed by SIGKILL.*; areset\(\)"):
                await session.arun("1")
            await session.areset()
            assert (await session.arun("3")).result == 3
            with pytest.raises(warmfork.SessionEnded):
                session.run("1")
            return session.pid

    pid = asyncio.run(main())
    assert pids.read_stat(pid)[:1] in ([], [b"Z"])
