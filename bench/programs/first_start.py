"""The first start of a program: servers, trackers, preload and child, until the child is joined."""

from __future__ import annotations

import os

from contenders import check_exit, make_context, now, report, to_ms

MODULES = os.environ.get("BENCH_MODULES", "").split()
for name in MODULES:
    __import__(name)


def work() -> None:
    """What the child does."""


def main() -> None:
    """Start one process, and join it."""
    context = make_context(*MODULES)
    begin = now()
    process = context.Process(target=work)
    process.start()
    process.join()
    joined = now()
    check_exit(process)
    report({"start and join": to_ms(begin, joined)}, [process])


if __name__ == "__main__":
    main()
