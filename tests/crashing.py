"""What children do to come to a bad end. It stands alone, as tests.targets does."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time


def signal_self(number: int) -> None:
    os.kill(os.getpid(), number)


def crash_here() -> None:
    os.abort()


def crash_in_thread() -> None:
    thread = threading.Thread(target=crash_here)
    thread.start()
    thread.join()


def take_own_abort() -> list[int]:
    """Handle SIGABRT, and give what was handled."""
    taken: list[int] = []
    signal.signal(signal.SIGABRT, lambda number, frame: taken.append(number))
    os.kill(os.getpid(), signal.SIGABRT)
    return taken


def crash_under_file_limit() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    os.kill(os.getpid(), signal.SIGSEGV)


def take_memory(size: int) -> None:
    """Take so much memory that it does not end well."""
    kept = [b"x" * (1 << 20) for _ in range(size >> 20)]
    time.sleep(len(kept))


def run_for(seconds: float) -> None:
    time.sleep(seconds)
