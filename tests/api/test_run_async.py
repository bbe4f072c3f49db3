"""Template.arun(): many at once, no thread, and a loop that does not wait."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import threading
import time

import pytest

import warmfork
from tests.support import wait_until
from warmfork._machine import fds, pids

FOR_EVER = "import signal\nprint('up', flush=True)\nwhile True: signal.pause()\n"


def is_gone(pid: int) -> bool:
    return pids.read_stat(pid)[:1] in ([], [b"Z"])


def test_it_gives_what_run_gives(template):
    async def main():
        done = await template.arun("print(1)\n2", capture_output=True)
        assert (done.result, done.stdout, done.outcome) == (2, b"1\n", warmfork.Exited(0))
        with pytest.raises(warmfork.RunError):
            await template.arun("1/0", check=True, stderr=warmfork.DEVNULL)
        with pytest.raises(warmfork.TimeLimitExceeded):
            await template.arun("while True: pass", timeout=0.2)
        with pytest.raises(warmfork.LimitExceeded):
            await template.arun("x = []\nwhile True: x.append(bytes(1 << 20) + b'x')", memory_limit=50 << 20)
        data = b"x" * 1_000_000
        code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
        assert (await template.arun(code, input=data, capture_output=True)).stdout == data
        assert (await template.arun(sum, ([1, 2],))).result == 3
        with pytest.raises(TypeError):
            await template.arun("1", colour=1)

    asyncio.run(main())


def test_500_at_once_need_no_thread_and_no_more_fds_than_there_are(template):
    """N67: a thread for each stalls or fails; and each run takes five fds, of which there are 1,024 by default."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main():
        return await asyncio.gather(*(template.arun(f"print({n})\n{n}", capture_output=True) for n in range(500)))

    resource.setrlimit(resource.RLIMIT_NOFILE, (len(fds.list_fds()) + 60, before[1]))
    try:
        threads = threading.active_count()
        done = asyncio.run(main())
        assert threading.active_count() == threads
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert [one.result for one in done] == list(range(500))
    assert [one.stdout for one in done] == [b"%d\n" % n for n in range(500)]


def test_while_a_template_preloads_the_loop_goes_on(tmp_path, monkeypatch):
    """N67: start() waits for seconds while a template preloads. Here the loop's own work unblocks the preload."""
    os.mkfifo(tmp_path / "sign")
    (tmp_path / "waits.py").write_text(f"open({str(tmp_path / 'sign')!r}).read()\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    async def main():
        with warmfork.Template(["waits"], spares=0) as made:
            task = asyncio.create_task(made.arun("7"))
            while True:  # until the template is at its preload: an open for writing waits for nobody then
                await asyncio.sleep(0.01)
                try:
                    os.close(os.open(tmp_path / "sign", os.O_WRONLY | os.O_NONBLOCK))
                    break
                except OSError:
                    assert not task.done()
            return (await task).result

    assert asyncio.run(main()) == 7


def test_a_preload_that_fails_is_told(tmp_path):
    async def main():
        with warmfork.Template(["no_such_module"]) as made:
            with pytest.raises(warmfork.PreloadError):
                await made.arun("7")

    asyncio.run(main())


def test_who_is_cancelled_has_its_child_ended_first(template):
    """N69: the task was gone, and its process ran on."""

    async def main():
        up = asyncio.Event()
        task = asyncio.create_task(template.arun(FOR_EVER + "#", on_output=lambda *_: up.set()))
        await up.wait()
        running = [child for child in template._children if child.is_running()]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert all(is_gone(child.pid) for child in running)

    asyncio.run(main())


def test_who_is_cancelled_before_its_child_exists_leaves_none(template):
    async def main():
        tasks = [asyncio.create_task(template.arun(FOR_EVER)) for _ in range(5)]
        for _ in range(3):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in done)

    asyncio.run(main())


def test_a_group_of_which_one_fails_ends_the_others(template):
    """N71: one failure in a TaskGroup cancels the rest: processes that run are ended, and no more than those."""

    async def main():
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(template.arun(FOR_EVER, capture_output=True))
            group.create_task(template.arun("1/0", check=True, capture_output=True))

    with pytest.raises(ExceptionGroup):
        asyncio.run(main())


def test_a_loop_that_is_closed_leaves_no_process(template):
    """N69: a closed loop hears of nothing any more, so whoever is dropped with it ends its child itself."""
    loop = asyncio.new_event_loop()
    up = asyncio.Event()
    task = loop.create_task(template.arun(FOR_EVER, on_output=lambda *_: up.set()))
    loop.run_until_complete(up.wait())
    running = [child.pid for child in template._children if child.is_running()]
    assert running
    loop.close()
    task._log_destroy_pending = False
    del task
    gc.collect()
    wait_until(lambda: all(map(is_gone, running)), what="the end of what the closed loop had started")


def test_no_reader_is_left_in_a_loop(template):
    """N68: an fd that is closed while a loop watches it gives ghosts: it is taken out first, by one function."""

    async def main():
        loop = asyncio.get_running_loop()
        before = set(loop._selector.get_map())
        await asyncio.gather(*(template.arun("print(1)", capture_output=True) for _ in range(10)))
        assert set(loop._selector.get_map()) == before

    asyncio.run(main())


def test_other_event_loops_need_only_an_fd(template):
    """N70: a child's fileno() is all that uvloop or trio ask for; we bring no code of theirs, and touch no child watcher."""
    child = template.start(int)
    assert fds.wait_readable(child.fileno(), 20)
    assert child.wait() == warmfork.Exited(0)


def test_a_template_that_dies_under_runs_is_replaced_for_the_next(template):
    async def main():
        with warmfork.Template(["tests.targets"], spares=0) as made:
            assert (await made.arun("1")).result == 1
            os.kill(made.pid, 9)
            assert (await made.arun("2")).result == 2

    asyncio.run(main())


def test_the_loop_is_not_kept_while_a_child_is_killed(template):
    """N67: to stop and kill a tree takes several looks at /proc; between two of them the loop goes on."""

    async def main():
        gaps = []

        async def tick():
            while True:
                before = time.perf_counter()
                await asyncio.sleep(0)
                gaps.append(time.perf_counter() - before)

        ticking = asyncio.create_task(tick())
        with pytest.raises(warmfork.TimeLimitExceeded):
            await template.arun("import os\nfor _ in range(4): os.fork()\nwhile True: pass", timeout=0.2)
        ticking.cancel()
        return len(gaps)

    assert asyncio.run(main()) > 10
