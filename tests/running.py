"""Programs that run while a test does something to them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.leftovers import read_lock_holder
from tests.support import make_environment
from warmfork._client.client import get_client

if TYPE_CHECKING:
    import multiprocessing

    from warmfork.mp.client.context import Context

ROOT = str(Path(__file__).parent.parent)
"""The folder to be on PYTHONPATH of programs that use tests.targets."""


@contextmanager
def run_meanwhile(
    code: str, folder: Path, *arguments: str, name: str = "program.py", flags: Sequence[str] = (), **options: object
) -> Iterator[subprocess.Popen[str]]:
    """Start a program text as a file in `folder`. It is killed at the end of the block if it still runs.

    Its stdout and stderr are pipes; whoever needs them reads them.
    """
    path = folder / name
    path.write_text(textwrap.dedent(code))
    env = options.pop("env", None)
    program = subprocess.Popen(
        [sys.executable, *flags, str(path), *arguments],
        **{
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "cwd": folder,
            "env": make_environment({"PYTHONPATH": ROOT, **(env or {})}),
            **options,
        },
    )
    try:
        yield program
    finally:
        program.kill()
        for stream in (program.stdin, program.stdout, program.stderr):
            if stream is not None:
                stream.close()
        program.wait(10)


def list_spares(template: int) -> list[int]:
    """The spares of the template with this pid: its children that wait to be used."""
    found = []
    for pid in Path(f"/proc/{template}/task/{template}/children").read_text().split():
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"warmfork: spare "):
                found.append(int(pid))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def get_tracker() -> int:
    """The pid of this process's tracker, the first one or a successor; 0 where none lives."""
    tree = get_client().tree
    return read_lock_holder(tree.ledger.fileno()) if tree is not None else 0


def start(context: Context, target: object, *args: object, **options: object) -> multiprocessing.Process:
    """Start a process of this context."""
    process = context.Process(target=target, args=args, **options)
    process.start()
    return process
