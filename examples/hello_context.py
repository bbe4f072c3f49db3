"""The context: in the place of multiprocessing's own, with the modules that children need already imported.

python examples/hello_context.py
"""

from __future__ import annotations

import os
import sys

import warmfork


def greet(name: str, answers) -> None:  # type: ignore[no-untyped-def]
    """Runs in the child. `decimal` is there before its first line: the template has imported it."""
    answers.put(f"hello {name}, from process {os.getpid()}; decimal is loaded: {'decimal' in sys.modules}")


if __name__ == "__main__":
    ctx = warmfork.get_context(preload=["decimal"])
    answers = ctx.Queue()
    child = ctx.Process(target=greet, args=("world", answers))
    child.start()
    print(answers.get())
    child.join()
    print(f"the program is process {os.getpid()}; the child exited with {child.exitcode}")
