"""Somebody else has a copy of a socket, so its end is no sign of a death: a pidfd is (M1)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import warmfork
from tests import targets
from tests.support import run_program, wait_until

STAYS = """
import os, signal
pid = os.fork()
if pid == 0:
    while True:
        signal.pause()
with open({path!r}, "a") as file:
    file.write(f"{{pid}}\\n")
"""


def test_a_template_is_known_to_be_dead_though_a_process_that_its_preload_forked_has_its_sockets(
    tmp_path: Path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    pids = tmp_path / "pids"
    (tmp_path / "stays.py").write_text(STAYS.format(path=str(pids)))
    try:
        with warmfork.Template(preload=["stays"]) as template:
            child = template.start(targets.wait)
            os.kill(template.pid, signal.SIGKILL)
            child.kill()
            assert child.wait(5) == warmfork.Signaled(signal.SIGKILL)
            assert template.start(targets.give, (1,)).result(5) == 1
            assert template.generation == 2
    finally:
        for pid in map(int, pids.read_text().split()):
            os.kill(pid, signal.SIGKILL)


def test_spares_end_with_their_client_though_another_process_has_their_sockets(tmp_path: Path):
    done = run_program(
        """
        import os, signal, subprocess, warmfork
        from warmfork._client.client import get_client

        template = warmfork.Template(spares=2)
        for _ in range(2):
            template.start(sum, ([1, 2],)).result()
        (channel,) = get_client().channels.values()
        channel.wait_until(lambda: len(channel.children.spares) == 2, None)
        spares = channel.children.spares
        quiet = {name: subprocess.DEVNULL for name in ("stdin", "stdout", "stderr")}
        other = subprocess.Popen(["sleep", "100"], pass_fds=[fd for spare in spares for fd in spare.fds], **quiet)
        print(other.pid, *(spare.record.pid for spare in spares), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
        expect=-signal.SIGKILL,
        leaves=True,
        timeout=20,
    )
    other, *spares = map(int, done.stdout.split())
    try:
        assert len(spares) == 2
        wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in spares), 2.0, "the end of the spares")
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
