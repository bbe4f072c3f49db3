"""Threads that a preload may leave: which library's they are, since which version, why they do no harm, and who says so."""

from __future__ import annotations


class Allowed:
    """A library's threads. `thread` is their name in /proc, or "" where they have none and a fork shows which they are."""

    __slots__ = ("project", "reason", "source", "thread", "version")

    def __init__(self, project: str, version: str, thread: str, reason: str, source: str) -> None:
        self.project, self.version, self.thread = project, version, thread
        self.reason, self.source = reason, source


ALLOWED = (
    Allowed(
        "OpenBLAS",
        "0.2.9 and newer, built with its own threads and not OpenMP's",
        "",
        "it ends its threads before a fork and starts them again at the next product: a throw-away fork shows that",
        "driver/others/memory.c: openblas_fork_handler()",
    ),
    Allowed(
        "jemalloc",
        "5.0 and newer",
        "jemalloc_bg_thd",
        "it takes its locks before a fork, and is set to do without the thread in the child",
        "src/background_thread.c: background_thread_postfork_child()",
    ),
)

NAMES = tuple(each.thread for each in ALLOWED if each.thread)
"""How the harmless ones are called that stay at a fork."""
