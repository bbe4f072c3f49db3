"""A tree of 84 processes: four children, each of which has four, each of which has four."""

from __future__ import annotations

from typing import Any

from contenders import check_exit, make_context, now, report, to_ms

LEVELS, WIDE = 3, 4


def grow(context: Any, levels: int) -> list[Any]:
    """Start four processes, which grow the levels below, and join them."""
    if levels == 0:
        return []
    started = [context.Process(target=grow, args=(context, levels - 1)) for _ in range(WIDE)]
    for process in started:
        process.start()
    for process in started:
        process.join()
        check_exit(process)
    return started


def main() -> None:
    """Grow the tree twice: the first brings servers and trackers up."""
    context = make_context()
    begin = now()
    started = grow(context, LEVELS)
    first = now()
    grow(context, LEVELS)
    end = now()
    report({"first tree": to_ms(begin, first), "second tree": to_ms(first, end)}, started)


if __name__ == "__main__":
    main()
