"""install(): code that cannot be changed, and only knows the name "forkserver", runs on warmfork.

    python examples/install_forkserver.py

`warmfork run FILE` does the same without a line in the program.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import warmfork


def some_library(numbers: list[int]) -> list[int]:
    """Code from somewhere else: it asks for "forkserver" and does not know who answers."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        return list(executor.map(pow, numbers, numbers))


if __name__ == "__main__":
    warmfork.install(preload=["decimal"])
    try:
        print(some_library([1, 2, 3, 4, 5]))
    finally:
        warmfork.uninstall()
